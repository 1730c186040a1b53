"""The Segment Editor's editable area, which holds for what the module writes as well."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import slicer

from SAMLungSegSlicer.bridge.layers import stampOfSegment

_Node = slicer.vtkMRMLSegmentationNode


def editableArea(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    written: Collection[str],
    read: Callable[[str], np.ndarray],
    values: Callable[[slicer.vtkMRMLScalarVolumeNode], np.ndarray | None],
) -> np.ndarray | None:
    """Where segments may change: bool, of the shape that `read` gives; None for everywhere.

    Args:
        segmentationNode: that an editor may be set up for.
        written: IDs of the segments that are written; they do not bar themselves.
        read: bool mask of a segment by its ID.
        values: of a volume, of the same shape; None where that lies otherwise, so that its range plays no part.
    """
    area = None
    for editorNode in _editorsOf(segmentationNode):
        limits = [_inRange(editorNode, values)]
        chosen = _chosen(editorNode, segmentationNode, written)
        if chosen is not None:
            ids, isInside = chosen
            inIds = np.logical_or.reduce([read(one) for one in ids]) if ids else np.array(False)
            limits.append(inIds if isInside else ~inIds)
        for allowed in limits:
            if allowed is not None:
                area = allowed if area is None else area & allowed
    return area


def stampOfArea(segmentationNode: slicer.vtkMRMLSegmentationNode, written: Collection[str]) -> tuple:
    """What changes when `editableArea` does; the same for everywhere."""
    segmentation, stamps = segmentationNode.GetSegmentation(), []
    for editorNode in _editorsOf(segmentationNode):
        chosen, volumeNode = _chosen(editorNode, segmentationNode, written), editorNode.GetSourceVolumeNode()
        if chosen is not None:
            ids, isInside = chosen
            stamps.append((isInside, *((one, stampOfSegment(segmentation, one)) for one in ids)))
        if editorNode.GetSourceVolumeIntensityMask() and volumeNode is not None:
            image = volumeNode.GetImageData()
            when = image and image.GetMTime()
            stamps.append((volumeNode.GetID(), when, *editorNode.GetSourceVolumeIntensityMaskRange()))
    return tuple(stamps)


def _editorsOf(segmentationNode: slicer.vtkMRMLSegmentationNode) -> list[slicer.vtkMRMLSegmentEditorNode]:
    """Nodes of the editors that are set up for a segmentation."""
    editors = slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode")
    return [one for one in editors if one.GetSegmentationNode() is segmentationNode]


def overwrittenSegments(
    editorNode: slicer.vtkMRMLSegmentEditorNode, segmentationNode: _Node, written: Collection[str]
) -> list[str]:
    """IDs of the segments, without those `written`, that lose the voxels that these gain, as an editor is set up."""
    display, mode = segmentationNode.GetDisplayNode(), editorNode.GetOverwriteMode()
    others = [one for one in segmentationNode.GetSegmentation().GetSegmentIDs() if one not in written]
    if mode == editorNode.OverwriteNone:
        return []
    if mode == editorNode.OverwriteVisibleSegments:
        return [one for one in others if display is None or display.GetSegmentVisibility(one)]
    return others


def _inRange(
    editorNode: slicer.vtkMRMLSegmentEditorNode,
    values: Callable[[slicer.vtkMRMLScalarVolumeNode], np.ndarray | None],
) -> np.ndarray | None:
    """Where the source volume is in the editor's intensity range; None for everywhere."""
    volumeNode = editorNode.GetSourceVolumeNode()
    grey = values(volumeNode) if editorNode.GetSourceVolumeIntensityMask() and volumeNode is not None else None
    if grey is None:
        return None
    lowest, highest = editorNode.GetSourceVolumeIntensityMaskRange()
    return (grey >= lowest) & (grey <= highest)


def _chosen(
    editorNode: slicer.vtkMRMLSegmentEditorNode, segmentationNode: _Node, written: Collection[str]
) -> tuple[list[str], bool] | None:
    """Segments, and whether inside or outside of them may be edited; None for everywhere."""
    mode, display = editorNode.GetMaskMode(), segmentationNode.GetDisplayNode()
    everything = list(segmentationNode.GetSegmentation().GetSegmentIDs())
    visible = [one for one in everything if display is None or display.GetSegmentVisibility(one)]
    others = [one for one in everything if one not in written]
    if mode == _Node.EditAllowedInsideAllSegments:
        return everything, True
    if mode == _Node.EditAllowedInsideVisibleSegments:
        return visible, True
    if mode == _Node.EditAllowedOutsideAllSegments:
        return others, False
    if mode == _Node.EditAllowedOutsideVisibleSegments:
        return [one for one in visible if one in others], False
    if mode == _Node.EditAllowedInsideSingleSegment and editorNode.GetMaskSegmentID() in everything:
        return [editorNode.GetMaskSegmentID()], True
    return None

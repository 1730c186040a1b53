"""The Segment Editor's editable area, which holds for what the module writes as well."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import slicer

_Node = slicer.vtkMRMLSegmentationNode


def editableArea(
    segmentationNode: slicer.vtkMRMLSegmentationNode, written: Collection[str], read: Callable[[str], np.ndarray]
) -> np.ndarray | None:
    """Where segments may change: bool, of the shape that `read` gives; None for everywhere.

    Args:
        segmentationNode: that an editor may be set up for.
        written: IDs of the segments that are written; they do not bar themselves.
        read: bool mask of a segment by its ID.
    """
    area = None
    for editorNode in slicer.util.getNodesByClass("vtkMRMLSegmentEditorNode"):
        if editorNode.GetSegmentationNode() is not segmentationNode:
            continue
        chosen = _chosen(editorNode, segmentationNode, written)
        if chosen is None:
            continue
        ids, isInside = chosen
        inIds = np.logical_or.reduce([read(one) for one in ids]) if ids else np.array(False)
        allowed = inIds if isInside else ~inIds
        area = allowed if area is None else area & allowed
    return area


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

"""Right and left lung as segments: found or made, written, read."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk

from SAMLungSegLib.boxes import IndexBox, box_of
from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegSlicer.bridge.editable import editableArea, stampOfArea
from SAMLungSegSlicer.bridge.grids import GEOMETRY, Grid, gridOf, referenceGrid
from SAMLungSegSlicer.bridge.layers import (
    announce,
    boxOfSegments,
    checkedSegmentation,
    hasVoxels,
    readSegment,
    readSegmentCut,
    setVoxels,
    withLabelmaps,
)
from SAMLungSegSlicer.bridge.lungs import HIDDEN, ensureLungSegments, extentOf, findLungSegments, lungLabels
from SAMLungSegSlicer.bridge.regions import BoxRegion, CutRegion
from SAMLungSegSlicer.bridge.transforms import ijkToWorldMatrix, nodeToWorldMatrix
from SAMLungSegSlicer.bridge.volumes import volumeFromNode

if TYPE_CHECKING:
    from SAMLungSegLib.actions import Action
    from SAMLungSegLib.volume import Volume
    from SAMLungSegLib.volume.reformat import ReformattedSlice

logger = logging.getLogger(__name__)


def ensureSegmentation(
    volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode | None = None
) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation that lungs of a volume can be written to.

    Args:
        volumeNode: what is segmented.
        segmentationNode: taken as it is where given; it gets the volume's geometry only where it has none, and then
            goes into the volume's study unless it has a place already. None makes a new one, likewise, under the
            volume's parent transform.
    Raises:
        VolumeError: the segmentation is kept as surfaces or contours, or the volume has no voxels.
        GeometryError: a non-linear transform.
    """
    if segmentationNode is None:
        gridOf(volumeNode, volumeNode)  # refuses the volume before a node is made
        name = slicer.mrmlScene.GenerateUniqueName(f"{volumeNode.GetName()} lungs")
        segmentationNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    gridOf(volumeNode, segmentationNode)
    segmentation = checkedSegmentation(segmentationNode)
    if not segmentation.GetConversionParameter(GEOMETRY):
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        _putIntoStudyOf(volumeNode, segmentationNode)
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    return segmentationNode


def writeLabelmap(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    labelmap_kji: np.ndarray,
    volumeNode: slicer.vtkMRMLVolumeNode,
    lungs: str = "both",
    insideMask_kji: np.ndarray | None = None,
    box: IndexBox | None = None,
) -> None:
    """Replace the lungs of a segmentation on the grid of a volume; what lies beyond the volume stays as it is.

    All other segments keep every voxel, overlapping ones too.

    Args:
        segmentationNode: under any linear transform.
        labelmap_kji: integer, on the grid of the volume; 1 right, 2 left, 3 and 4 what is hidden of them. A lung
            without a voxel stays as an empty segment.
        volumeNode: what was segmented.
        lungs: 'both', 'right' or 'left', with their hidden parts; the other lung stays as it is.
        insideMask_kji: bool, the voxels that may change; None for all.
        box: where the labelmap differs from the segments, as far as that is known; nothing else is looked at.
    Raises:
        GeometryError: the labelmap has another size than the volume, or a non-linear transform.
        VolumeError: the segmentation is kept as surfaces or contours.
        SettingsError: `lungs` is something else.
    """
    labels = lungLabels(lungs)
    grid = gridOf(volumeNode, segmentationNode)
    if labelmap_kji.shape != grid.size_kji:
        raise GeometryError(
            f"The labelmap has shape {labelmap_kji.shape}; expected {grid.size_kji} as volume {volumeNode.GetName()}."
        )
    segmentation = checkedSegmentation(segmentationNode)
    ids = _idsFor(labelmap_kji if box is None else labelmap_kji[box.within(grid.box)], segmentationNode)
    written = {label: ids[label] for label in labels if label in ids}
    if box is None:
        box = box_of(labelmap_kji).joined(boxOfSegments(segmentation, written.values(), grid))
    region = BoxRegion(box, labelmap_kji, insideMask_kji)
    announce(segmentationNode, setVoxels(segmentation, written, region, grid))


def writeLabels(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    labelmap_kji: np.ndarray,
    ids: Mapping[int, str],
    volumeNode: slicer.vtkMRMLVolumeNode,
) -> None:
    """Give segments the voxels of a labelmap on the grid of a volume, whatever they are segments of.

    Args:
        segmentationNode: under any linear transform.
        labelmap_kji: integer, of the size of the volume.
        ids: segment IDs by label.
        volumeNode: whose grid counts.
    Raises:
        GeometryError: a non-linear transform.
        VolumeError: the segmentation is kept as surfaces or contours.
    """
    segmentation, grid = checkedSegmentation(segmentationNode), gridOf(volumeNode, segmentationNode)
    region = BoxRegion(box_of(labelmap_kji), labelmap_kji, None)
    announce(segmentationNode, setVoxels(segmentation, ids, region, grid))


def noteAction(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLVolumeNode, lungs: str, action: Action
) -> None:
    """Add to lungs that are about to be written how they were found, in a tag of each segment.

    Slicer saves tags with the scene and in a .seg.nrrd, and undoes them together with the voxels.

    Args:
        segmentationNode: as it is before the writing.
        volumeNode: what was segmented.
        lungs: as of `writeLabelmap`.
        action: the writing.
    """
    from SAMLungSegLib.actions import Actions
    from SAMLungSegLib.provenance import METADATA_NAME

    segmentation, ids = checkedSegmentation(segmentationNode), ensureLungSegments(segmentationNode)
    for segmentId in (ids[label] for label in lungLabels(lungs) if label in ids):
        segment, earlier = segmentation.GetSegment(segmentId), vtk.reference("")
        if segment.GetTag(METADATA_NAME, earlier):
            before = Actions.from_json(str(earlier))
        else:
            grid = gridOf(volumeNode, segmentationNode)
            before = Actions(is_complete=action.replaces_all or not hasVoxels(segmentation, segmentId, grid))
        text = before.then(action).to_json()
        if text is None:
            segment.RemoveTag(METADATA_NAME)
        else:
            segment.SetTag(METADATA_NAME, text.replace("|", "\\u007c"))  # where Slicer saves tags, a | ends one


def writeCut(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    labels_hw: np.ndarray,
    cut: ReformattedSlice,
    volumeNode: slicer.vtkMRMLVolumeNode,
    lungs: str = "both",
    insideMask_hw: np.ndarray | None = None,
) -> None:
    """Replace the lungs in one slice; no voxel of another slice, another segment or another lung changes.

    A lung that is kept on another grid than the volume's is brought onto it first, by nearest neighbour.

    Args:
        segmentationNode: under any linear transform.
        labels_hw: integer (H, W), pixels of the cut; 1 right, 2 left.
        cut: of the volume.
        volumeNode: what was segmented.
        lungs: 'both', 'right' or 'left'.
        insideMask_hw: bool (H, W), the pixels that may change; None for all.
    Raises:
        GeometryError: the pixels do not fit the cut or the cut the volume, or a non-linear transform.
        VolumeError: the segmentation is kept as surfaces or contours.
        SettingsError: `lungs` is something else.
    """
    labels = lungLabels(lungs)
    grid = gridOf(volumeNode, segmentationNode)
    inside = _changeable(labels_hw, cut, insideMask_hw, grid)
    segmentation, ids = checkedSegmentation(segmentationNode), _idsFor(labels_hw, segmentationNode)
    written = {label: ids[label] for label in labels if label in ids}
    announce(segmentationNode, setVoxels(segmentation, written, CutRegion(cut, labels_hw, inside), grid))


def editableVoxels(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLVolumeNode, lungs: str = "both"
) -> np.ndarray | None:
    """Where the Segment Editor lets lungs be written: bool, fits (K, J, I) of the volume; None for everywhere.

    Raises:
        VolumeError, GeometryError, SettingsError: as `writeLabelmap`.
    """
    grid, segmentation = gridOf(volumeNode, segmentationNode), segmentationNode.GetSegmentation()
    written = _written(segmentationNode, lungs)
    return editableArea(
        segmentationNode,
        written,
        lambda one: readSegment(segmentation, one, grid),
        lambda source: slicer.util.arrayFromVolume(source) if source is volumeNode else None,
    )


def editableStamp(segmentationNode: slicer.vtkMRMLSegmentationNode, lungs: str = "both") -> tuple:
    """What changes when `editableVoxels` does."""
    return stampOfArea(segmentationNode, _written(segmentationNode, lungs))


def editableCut(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    cut: ReformattedSlice,
    volumeNode: slicer.vtkMRMLVolumeNode,
    lungs: str = "both",
) -> np.ndarray | None:
    """Where the Segment Editor lets lungs be written in one slice: bool, fits (H, W); None for everywhere.

    Raises:
        VolumeError, GeometryError, SettingsError: as `writeCut`.
    """
    grid, segmentation = gridOf(volumeNode, segmentationNode), segmentationNode.GetSegmentation()

    def values(source: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray | None:
        return cut.take(slicer.util.arrayFromVolume(source)) if source is volumeNode else None

    written = _written(segmentationNode, lungs)
    return editableArea(segmentationNode, written, lambda one: readSegmentCut(segmentation, one, cut, grid), values)


def eraseCut(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    segmentIds: Collection[str],
    mask_hw: np.ndarray,
    cut: ReformattedSlice,
    volumeNode: slicer.vtkMRMLVolumeNode,
) -> None:
    """Take pixels of one slice out of segments.

    Args:
        segmentationNode: under any linear transform.
        segmentIds: of any segments.
        mask_hw: bool (H, W), pixels of the cut.
        cut: of the volume.
        volumeNode: whose grid counts.
    Raises:
        VolumeError, GeometryError: as `writeCut`.
    """
    grid, segmentation = gridOf(volumeNode, segmentationNode), checkedSegmentation(segmentationNode)
    inside = _changeable(mask_hw, cut, mask_hw, grid)
    nothing = CutRegion(cut, np.zeros(cut.size_hw, np.uint8), inside)
    changed: list[str] = []
    for one in segmentIds:  # they may overlap
        if (readSegmentCut(segmentation, one, cut, grid) & inside).any():
            changed += setVoxels(segmentation, {1: one}, nothing, grid)
    announce(segmentationNode, changed)


def _written(segmentationNode: slicer.vtkMRMLSegmentationNode, lungs: str) -> list[str]:
    """IDs of the segments that are there of the lungs that are written."""
    ids = findLungSegments(segmentationNode)
    return [ids[label] for label in lungLabels(lungs) if label in ids]


def labelmapFromNode(
    node: slicer.vtkMRMLSegmentationNode | slicer.vtkMRMLVolumeNode,
    volumeNode: slicer.vtkMRMLVolumeNode | None = None,
) -> Volume:
    """A segmentation or a labelmap volume as a labelmap; 1 right, 2 left lung, 3 and 4 what is hidden of them.

    Args:
        node: a segmentation, whose lungs are found by terminology or name, comes as uint8; a voxel in both lungs is
            right. A labelmap volume, or a volume of whole numbers, comes with its own grid, values and type.
        volumeNode: the grid for a segmentation; None for the segmentation's own reference geometry.
    Raises:
        VolumeError: the segmentation has no lung segment, no voxels, or there is no node.
        GeometryError: a non-linear transform.
    """
    from SAMLungSegLib.volume import Volume
    from SAMLungSegLib.volume.extents import with_extent

    if node is None:
        raise VolumeError("No labelmap is given; choose a segmentation or a labelmap volume.")
    if not node.IsA("vtkMRMLSegmentationNode"):
        return volumeFromNode(node)
    ids = findLungSegments(node)
    if not ids:
        raise VolumeError(_withoutLungs(node))
    grid = referenceGrid(node) if volumeNode is None else gridOf(volumeNode, node)
    segmentation = withLabelmaps(node.GetSegmentation(), grid)
    labelmap = np.zeros(grid.size_kji, np.uint8)
    for label in sorted(ids, reverse=True):
        np.putmask(labelmap, readSegment(segmentation, ids[label], grid), label)
    extent = "both" if labelmap.max() > HIDDEN else extentOf(segmentation, ids.values())
    toWorld = nodeToWorldMatrix(node) @ grid.ijkToSegmentation if volumeNode is None else ijkToWorldMatrix(volumeNode)
    return with_extent(Volume(labelmap, toWorld, node.GetName()), extent)


def _idsFor(labels: np.ndarray, segmentationNode: slicer.vtkMRMLSegmentationNode) -> dict[int, str]:
    """Segment IDs by label for all that is to be written."""
    return ensureLungSegments(segmentationNode, withHidden=labels.max(initial=0) > HIDDEN)


def _putIntoStudyOf(volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
    """Beside the volume in the subject hierarchy, as the Segment Editor does; not out of a place that it has there."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    top = hierarchy.GetSceneItemID()
    study, present = (_parentItem(hierarchy, node) or top for node in (volumeNode, segmentationNode))
    if study != top and present == top:
        hierarchy.CreateItem(study, segmentationNode)  # moves the item that Slicer has made with the node


def _parentItem(hierarchy: slicer.vtkMRMLSubjectHierarchyNode, node: slicer.vtkMRMLNode) -> int:
    """What the node's item lies in; 0 without an item."""
    item = hierarchy.GetItemByDataNode(node)
    return hierarchy.GetItemParent(item) if item else 0


def _changeable(
    labels_hw: np.ndarray, cut: ReformattedSlice, insideMask_hw: np.ndarray | None, grid: Grid
) -> np.ndarray:
    """Bool (H, W): the pixels that have a voxel and may change."""
    for name, pixels in (("labels", labels_hw), ("mask", insideMask_hw)):
        if pixels is not None and pixels.shape != cut.size_hw:
            raise GeometryError(f"The slice's {name} have shape {pixels.shape}; expected (H, W) {cut.size_hw}.")
    if cut.plane.size_kji != grid.size_kji:
        raise GeometryError(f"The slice is of a volume of {cut.plane.size_kji} voxels, this one has {grid.size_kji}.")
    return cut.inside_hw if insideMask_hw is None else cut.inside_hw & insideMask_hw


def _withoutLungs(node: slicer.vtkMRMLSegmentationNode) -> str:
    segmentation = node.GetSegmentation()
    names = [segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()]
    found = f"only {', '.join(names)}" if names else "no segment at all"
    return (
        f"Segmentation {node.GetName()} has {found}; expected segments named 'right lung' and 'left lung' "
        "(or with that terminology), rename them."
    )

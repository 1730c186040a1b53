"""The labelmaps inside a segmentation: voxels of one segment read and written in place on a volume's grid.

Several segments may share one labelmap, a layer, each with a label value of its own. The layer may be cropped, lie on
another grid, be empty, or share its memory with a labelmap volume that it was imported from. Here only the voxels of
the segments asked for change; where that is impossible in their layer, they get one of their own.

Slicer's own SetBinaryLabelmapToSegment goes through the whole labelmap on every call, resamples neighbours that lie
on another grid, and needs one call to add voxels and one to remove them. A layer that has to be another image is
replaced, not changed: Slicer drops the surfaces of all segments when an image says that it was modified.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import slicer

from SAMLungSegLib.boxes import IndexBox
from SAMLungSegLib.errors import VolumeError
from SAMLungSegSlicer.bridge.grids import (
    GEOMETRY,
    Grid,
    emptyLike,
    extentOf,
    filled,
    gridOf,
    isEmpty,
    overlapOf,
    resampled,
    voxelsOf,
)
from SAMLungSegSlicer.bridge.regions import Redraw, Region

if TYPE_CHECKING:
    from SAMLungSegLib.volume.reformat import ReformattedSlice

_LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
_REFERENCES_OF_UNSHARED_MEMORY = 2  # the image's point data and Python's own


def withLabelmaps(segmentation: slicer.vtkSegmentation, grid: Grid) -> slicer.vtkSegmentation:
    """The segmentation itself where it has labelmaps, else a copy whose surfaces or contours were filled on the grid.

    Raises:
        VolumeError: they cannot be filled.
    """
    if segmentation.ContainsRepresentation(_LABELMAP):
        return segmentation
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    matrix = slicer.util.vtkMatrixFromArray(grid.ijkToSegmentation)
    geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, grid.newImage())
    copy.SetConversionParameter(GEOMETRY, geometry)
    if not copy.CreateRepresentation(_LABELMAP):
        kind = segmentation.GetSourceRepresentationName().lower()
        raise VolumeError(f"A segmentation kept as {kind} could not be turned into voxels; export it as a labelmap.")
    return copy


def checkedSegmentation(segmentationNode: slicer.vtkMRMLSegmentationNode) -> slicer.vtkSegmentation:
    """The segmentation of a node, which voxels can be written to.

    Raises:
        VolumeError: it is kept as surfaces or contours.
    """
    segmentation = segmentationNode.GetSegmentation()
    kind = segmentation.GetSourceRepresentationName()
    if kind != _LABELMAP:
        raise VolumeError(
            f"Segmentation {segmentationNode.GetName()} is kept as {kind.lower()}, where voxels cannot be written; "
            "choose another one, or make binary labelmap its source representation in the Segmentations module."
        )
    return segmentation


def readSegment(segmentation: slicer.vtkSegmentation, segmentId: str, grid: Grid) -> np.ndarray:
    """Bool (K, J, I): a segment on the grid, by nearest neighbour where it lies on another one."""
    image = imageOf(segmentation, segmentId)
    mask = np.zeros(grid.size_kji, bool)
    if isEmpty(image):
        return mask
    offset = grid.offsetIn(image)
    if offset is None:
        image, offset = resampled(image, grid), np.zeros(3, int)
    inImage, inGrid = overlapOf(image, offset, grid.size_kji)
    mask[inGrid] = voxelsOf(image)[inImage] == segmentation.GetSegment(segmentId).GetLabelValue()
    return mask


def segmentFromNode(
    segmentationNode: slicer.vtkMRMLSegmentationNode, segmentId: str, volumeNode: slicer.vtkMRMLVolumeNode
) -> np.ndarray:
    """Bool (K, J, I): a segment of any kind on the grid of a volume.

    Raises:
        VolumeError: the segmentation is kept in a way that cannot be turned into voxels, or the volume has none.
        GeometryError: a non-linear transform.
    """
    grid = gridOf(volumeNode, segmentationNode)
    return readSegment(withLabelmaps(segmentationNode.GetSegmentation(), grid), segmentId, grid)


def readSegmentCut(
    segmentation: slicer.vtkSegmentation, segmentId: str, cut: ReformattedSlice, grid: Grid
) -> np.ndarray:
    """Bool (H, W): a segment in one slice of the grid, by nearest neighbour where it lies on another one."""
    image = imageOf(segmentation, segmentId)
    if isEmpty(image):
        return np.zeros(cut.size_hw, bool)
    offset = grid.offsetIn(image)
    if offset is None:
        image, offset = resampled(image, grid), np.zeros(3, int)
    pixels_hw = cut.take_part(voxelsOf(image), _boxOf(image, offset))
    return pixels_hw == segmentation.GetSegment(segmentId).GetLabelValue()


def hasVoxels(segmentation: slicer.vtkSegmentation, segmentId: str, grid: Grid) -> bool:
    """Whether a segment has a voxel on the grid."""
    image = imageOf(segmentation, segmentId)
    if isEmpty(image):
        return False
    offset = grid.offsetIn(image)
    if offset is None:
        image, offset = resampled(image, grid), np.zeros(3, int)
    voxels = voxelsOf(image)[overlapOf(image, offset, grid.size_kji)[0]]
    value = segmentation.GetSegment(segmentId).GetLabelValue()
    return any((one == value).any() for one in voxels)


def boxOfSegments(segmentation: slicer.vtkSegmentation, segmentIds: Iterable[str], grid: Grid) -> IndexBox:
    """What the layers of segments hold of the grid; all of it where one of them lies on another grid."""
    box = IndexBox((0, 0, 0), (0, 0, 0))
    for image in (imageOf(segmentation, one) for one in segmentIds):
        if not isEmpty(image):
            offset = grid.offsetIn(image)
            box = box.joined(grid.box if offset is None else _boxOf(image, offset).clipped(grid.box))
    return box


def setVoxels(segmentation: slicer.vtkSegmentation, ids: Mapping[int, str], region: Region, grid: Grid) -> list[str]:
    """Give segments exactly the wanted voxels; a neighbour in the same layer that has some of them keeps them.

    Args:
        ids: of the segments that are written, by label.
        region: of the grid, with the wanted labels.
    Returns:
        IDs of the segments that have changed.
    """
    changed: set[str] = set()
    waiting = {label: one for label, one in ids.items() if not isEmpty(imageOf(segmentation, one)) or region.has(label)}
    while waiting:
        layer = _Layer(segmentation, next(iter(waiting.values())), grid)
        written = {label: one for label, one in waiting.items() if one in layer.ids}
        values = {label: segmentation.GetSegment(one).GetLabelValue() for label, one in written.items()}
        redraw = Redraw(values, set(layer.values).difference(values.values()))
        region.write(layer, redraw)
        layer.finish()
        changed.update(ids[label] for label in redraw.changed)
        if redraw.crowded is not None:
            segmentation.SeparateSegmentLabelmap(ids[redraw.crowded])
            continue
        waiting = {label: one for label, one in waiting.items() if label not in written}
    return [one for one in ids.values() if one in changed]


def announce(
    segmentationNode: slicer.vtkMRMLSegmentationNode, segmentIds: Iterable[str], stale: Iterable[str] | None = None
) -> None:
    """Tell Slicer that segments have changed.

    Args:
        segmentationNode: that they are in.
        segmentIds: of them.
        stale: of those whose surfaces, where there are any, are made anew; None for all of them.
    """
    ids = list(segmentIds)
    outdated = ids if stale is None else list(stale)
    segmentation = segmentationNode.GetSegmentation()
    if outdated:
        slicer.vtkSlicerSegmentationsModuleLogic.ReconvertAllRepresentations(segmentationNode, outdated)
    for segmentId in ids:
        segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified, segmentId)
        segmentation.InvokeEvent(slicer.vtkSegmentation.RepresentationModified, segmentId)


class _Layer:
    """What segments are written through: it grows to what is written, in memory of its own.

    A segment on another grid leaves its layer, and comes onto this one by nearest neighbour.

    Attributes:
        ids: all segments of the layer.
        values: their label values; others that may occur in it are nobody's.
        box: what it holds of the grid; it may reach beyond it.
        voxels: label values (K, J, I) of the box.
    """

    def __init__(self, segmentation: slicer.vtkSegmentation, segmentId: str, grid: Grid) -> None:
        self._segmentation, self._grid = segmentation, grid
        self._isTouched = False
        image, self.ids = imageOf(segmentation, segmentId), _sharing(segmentation, segmentId)
        if not isEmpty(image) and grid.offsetIn(image) is None:
            segmentation.SeparateSegmentLabelmap(segmentId)
            image, self.ids = resampled(imageOf(segmentation, segmentId), grid, withWhole=True), [segmentId]
            segmentation.GetSegment(segmentId).AddRepresentation(_LABELMAP, image)
        self.values = [segmentation.GetSegment(one).GetLabelValue() for one in self.ids]
        self._use(image)

    def _use(self, image: slicer.vtkOrientedImageData | None) -> None:
        self._image = image
        if isEmpty(image):
            self.box, self.voxels = IndexBox((0, 0, 0), (0, 0, 0)), np.zeros((0, 0, 0), np.uint8)
            return
        self.box, self.voxels = _boxOf(image, self._grid.offsetIn(image)), voxelsOf(image)

    def makeWritable(self, box: IndexBox) -> None:
        """Grow to hold a box of the grid as well; from now on `voxels` may be changed."""
        self._isTouched, image = True, self._image
        if isEmpty(image):
            image = filled(self._grid.newImage(box))
        elif not self.box.holds(box):
            image = _grown(image, self.box, self.box.joined(box))
        image = withOwnMemory(image)
        slicer.vtkOrientedImageDataResample.CastImageForValue(image, max(self.values))
        if image is not self._image:
            for one in self.ids:
                self._segmentation.GetSegment(one).AddRepresentation(_LABELMAP, image)
        self._use(image)

    def finish(self) -> None:
        """Say that voxels have changed: by the scalars, for an image that says so itself drops all surfaces."""
        if self._isTouched:
            self._image.GetPointData().GetScalars().Modified()


def imageOf(segmentation: slicer.vtkSegmentation, segmentId: str) -> slicer.vtkOrientedImageData | None:
    """The labelmap that holds a segment; it may be shared with others."""
    return segmentation.GetSegment(segmentId).GetRepresentation(_LABELMAP)


def stampOfSegment(segmentation: slicer.vtkSegmentation, segmentId: str) -> tuple:
    """What changes when the voxels of a segment do; empty where it has none.

    Scripts are told to say by `segment.Modified()` that they have written into its voxels.
    """
    image = imageOf(segmentation, segmentId)
    if isEmpty(image):
        return ()
    return image.GetAddressAsString(""), image.GetMTime(), segmentation.GetSegment(segmentId).GetMTime()


def _sharing(segmentation: slicer.vtkSegmentation, segmentId: str) -> list[str]:
    """All segments of a segment's layer, itself included."""
    image = imageOf(segmentation, segmentId)
    if image is None:
        return [segmentId]
    return [one for one in segmentation.GetSegmentIDs() if imageOf(segmentation, one) is image]


def _boxOf(image: slicer.vtkOrientedImageData, offset: np.ndarray) -> IndexBox:
    """What an image holds of the grid; it may reach beyond it."""
    low, high = extentOf(image)
    return IndexBox(tuple((low - offset).tolist()), tuple((high - offset + 1).tolist()))


def _grown(image: slicer.vtkOrientedImageData, box: IndexBox, larger: IndexBox) -> slicer.vtkOrientedImageData:
    """A copy of an image that is in a box of the grid, with zeros around it."""
    low, high = extentOf(image)
    low, high = low + np.subtract(larger.start, box.start), high + np.subtract(larger.stop, box.stop)
    grown = emptyLike(image)
    grown.SetExtent(*(int(end) for axis in (2, 1, 0) for end in (low[axis], high[axis])))
    filled(grown, image.GetScalarType())
    voxelsOf(grown)[box.within(larger)] = voxelsOf(image)
    return grown


def withOwnMemory(image: slicer.vtkOrientedImageData) -> slicer.vtkOrientedImageData:
    """The image itself, or a copy where something else, such as a labelmap volume, uses the same array of voxels."""
    if image.GetPointData().GetScalars().GetReferenceCount() <= _REFERENCES_OF_UNSHARED_MEMORY:
        return image
    copy = slicer.vtkOrientedImageData()
    copy.DeepCopy(image)
    return copy

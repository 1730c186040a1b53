"""The labelmaps inside a segmentation: voxels of one segment read and written in place on a volume's grid.

Several segments may share one labelmap, a layer, each with a label value of its own. The layer may be cropped, lie on
another grid, be empty, or share its memory with a labelmap volume that it was imported from. Here only the voxels of
the segments asked for change; where that is impossible in their layer, they get one of their own.

Slicer's own SetBinaryLabelmapToSegment goes through the whole labelmap on every call, resamples neighbours that lie
on another grid, and needs one call to add voxels and one to remove them. A layer that has to be another image is
replaced, not changed: Slicer drops the surfaces of all segments when an image says that it was modified.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import slicer

from SAMLungSegLib.errors import VolumeError
from SAMLungSegSlicer.bridge.grids import (
    GEOMETRY,
    Grid,
    emptyLike,
    extentOf,
    filled,
    isEmpty,
    overlapOf,
    resampled,
    voxelsOf,
)

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


class Region(Protocol):
    """Some voxels of the grid; a `ReformattedSlice` is one."""

    def take(self, labelmap_kji: np.ndarray) -> np.ndarray:
        """Their values."""

    def put(self, values: np.ndarray, labelmap_kji: np.ndarray, where: np.ndarray) -> None:
        """Write values of the same shape into those of them where bool `where` says so."""


class WholeGrid:
    """All voxels."""

    def take(self, labelmap_kji: np.ndarray) -> np.ndarray:
        """The array itself."""
        return labelmap_kji

    def put(self, values: np.ndarray, labelmap_kji: np.ndarray, where: np.ndarray) -> None:
        """Write values of the same shape where bool `where` says so."""
        np.copyto(labelmap_kji, values, where=where)


def setVoxels(
    segmentation: slicer.vtkSegmentation,
    wanted: Mapping[str, np.ndarray],
    region: Region,
    grid: Grid,
    inside: np.ndarray | bool = True,
) -> list[str]:
    """Give segments exactly the wanted voxels; a neighbour in the same layer that has some of them keeps them.

    Args:
        wanted: bool masks by segment ID, of the shape of the region's values; they do not overlap.
        region: of the grid.
        inside: bool of the same shape, the voxels that may change; True for all.
    Returns:
        IDs of the segments that have changed.
    """
    changed = []
    waiting = [one for one, mask in wanted.items() if mask.any() or not isEmpty(imageOf(segmentation, one))]
    while waiting:
        layer = _layerOn(segmentation, waiting[0], grid)
        ids = {
            segmentation.GetSegment(one).GetLabelValue(): one
            for one in waiting
            if imageOf(segmentation, one) is layer.image
        }
        before = region.take(layer.voxels)
        after, crowded = _redrawn(before, {value: wanted[one] for value, one in ids.items()}, inside, layer.values)
        if crowded is not None:
            segmentation.SeparateSegmentLabelmap(ids[crowded])
            continue
        waiting = [one for one in waiting if one not in ids.values()]
        touched = after != before
        if touched.any():
            changed += [one for value, one in ids.items() if ((before == value) != (after == value)).any()]
            region.put(after, layer.voxels, touched)
            layer.image.GetPointData().GetScalars().Modified()
    return changed


def _redrawn(
    values: np.ndarray, masks: Mapping[int, np.ndarray], inside: np.ndarray | bool, taken: Collection[int]
) -> tuple[np.ndarray, int | None]:
    """A copy of label values with the wanted masks, and the label, if any, that one of the `taken` is in the way of."""
    redrawn = values.copy()
    for value, mask in masks.items():
        np.putmask(redrawn, (values == value) & ~mask & inside, 0)
    for value, mask in masks.items():
        entering = mask & inside & (redrawn != value)
        if np.isin(redrawn[entering], [other for other in taken if other != value]).any():
            return redrawn, value
        np.putmask(redrawn, entering, value)
    return redrawn, None


def announce(segmentationNode: slicer.vtkMRMLSegmentationNode, segmentIds: Iterable[str]) -> None:
    """Tell Slicer that segments have changed; surfaces that exist are made anew for these segments only."""
    ids = list(segmentIds)
    if not ids:
        return
    segmentation = segmentationNode.GetSegmentation()
    slicer.vtkSlicerSegmentationsModuleLogic.ReconvertAllRepresentations(segmentationNode, ids)
    for segmentId in ids:
        segmentation.InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified, segmentId)
        segmentation.InvokeEvent(slicer.vtkSegmentation.RepresentationModified, segmentId)


class _Layer(NamedTuple):
    """What segments are written through.

    Attributes:
        image: of the segmentation. After a change its scalars must be told, not itself, or all surfaces are dropped.
        voxels: view (K, J, I) of the image on the grid.
        values: label values of all segments of the layer; others that may occur in it are nobody's.
    """

    image: slicer.vtkOrientedImageData
    voxels: np.ndarray
    values: list[int]


def _layerOn(segmentation: slicer.vtkSegmentation, segmentId: str, grid: Grid) -> _Layer:
    """The layer of a segment, grown to the whole grid, in memory of its own; on another grid the segment leaves it."""
    image, sharing = imageOf(segmentation, segmentId), _sharing(segmentation, segmentId)
    if isEmpty(image):
        image = filled(grid.newImage())
    offset = grid.offsetIn(image)
    if offset is None:
        segmentation.SeparateSegmentLabelmap(segmentId)
        image, sharing = resampled(imageOf(segmentation, segmentId), grid, withWhole=True), [segmentId]
        offset = np.zeros(3, int)
    image = _withOwnMemory(_covering(image, offset, grid.size_kji))
    values = [segmentation.GetSegment(one).GetLabelValue() for one in sharing]
    slicer.vtkOrientedImageDataResample.CastImageForValue(image, max(values))
    for one in sharing:
        segmentation.GetSegment(one).AddRepresentation(_LABELMAP, image)
    inImage, _ = overlapOf(image, offset, grid.size_kji)
    return _Layer(image, voxelsOf(image)[inImage], values)


def imageOf(segmentation: slicer.vtkSegmentation, segmentId: str) -> slicer.vtkOrientedImageData | None:
    """The labelmap that holds a segment; it may be shared with others."""
    return segmentation.GetSegment(segmentId).GetRepresentation(_LABELMAP)


def _sharing(segmentation: slicer.vtkSegmentation, segmentId: str) -> list[str]:
    """All segments of a segment's layer, itself included."""
    image = imageOf(segmentation, segmentId)
    if image is None:
        return [segmentId]
    return [one for one in segmentation.GetSegmentIDs() if imageOf(segmentation, one) is image]


def _covering(
    image: slicer.vtkOrientedImageData, offset: np.ndarray, size_kji: tuple[int, int, int]
) -> slicer.vtkOrientedImageData:
    """The image itself, or a larger copy where the grid reaches beyond it."""
    low, high = extentOf(image)
    newLow, newHigh = np.minimum(low, offset), np.maximum(high, offset + size_kji - 1)
    if (newLow == low).all() and (newHigh == high).all():
        return image
    grown = emptyLike(image)
    grown.SetExtent(*(int(end) for axis in (2, 1, 0) for end in (newLow[axis], newHigh[axis])))
    filled(grown, image.GetScalarType())
    start = low - newLow
    voxelsOf(grown)[tuple(slice(a, a + n) for a, n in zip(start, high - low + 1, strict=True))] = voxelsOf(image)
    return grown


def _withOwnMemory(image: slicer.vtkOrientedImageData) -> slicer.vtkOrientedImageData:
    """The image itself, or a copy where something else, such as a labelmap volume, uses the same array of voxels."""
    if image.GetPointData().GetScalars().GetReferenceCount() <= _REFERENCES_OF_UNSHARED_MEMORY:
        return image
    copy = slicer.vtkOrientedImageData()
    copy.DeepCopy(image)
    return copy

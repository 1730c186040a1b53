"""Segments as they are at a moment, to be read on any thread later, and one slice of them at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import slicer

from SAMLungSegLib.boxes import IndexBox, box_of
from SAMLungSegLib.coding import CodedArray, CodedSlice
from SAMLungSegSlicer.bridge.grids import Grid, gridOf, isEmpty, overlapOf, resampled, voxelsOf
from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.bridge.layers import imageOf, readSegmentCut, stampOfSegment, withLabelmaps
from SAMLungSegSlicer.bridge.lungs import findLungSegments

if TYPE_CHECKING:
    from SAMLungSegLib.volume.reformat import ReformattedSlice


@dataclass(frozen=True, eq=False)
class _Part:
    """A labelmap with lungs.

    Attributes:
        voxels: label values, of any grid.
        inVoxels, inGrid: slices, along all axes, of what it has in common with the grid.
        values: label value of each lung in it, by label.
    """

    voxels: CodedArray | np.ndarray
    inVoxels: tuple[slice, ...]
    inGrid: tuple[slice, ...]
    values: dict[int, int]

    def slices(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number on the grid and label values (J, I) of each slice that it has in common with the grid."""
        slices = self.voxels.slices if isinstance(self.voxels, CodedArray) else self.voxels
        numbers = range(self.inGrid[0].start, self.inGrid[0].stop)
        for number, one in zip(numbers, slices[self.inVoxels[0]], strict=True):
            values = one.decoded() if isinstance(one, CodedSlice) else one
            yield number, values[self.inVoxels[1:]]


@dataclass(frozen=True, eq=False)
class StoredLungs:
    """The lungs of a segmentation on the grid of a volume.

    Attributes:
        size_kji: of the grid.
        stamp: changes when the segments do.
    """

    size_kji: tuple[int, int, int]
    stamp: tuple
    _parts: tuple[_Part, ...]

    def labelmap_kji(self) -> np.ndarray:
        """Uint8 (K, J, I): 1 right, 2 left; a voxel in both lungs is right."""
        labelmap = np.zeros(self.size_kji, np.uint8)
        for part in self._parts:
            for number, values in part.slices():  # slice by slice: others want the GIL too
                target = labelmap[number][part.inGrid[1:]]
                for label, value in part.values.items():
                    isLung = values == value
                    if len(self._parts) > 1:
                        isLung &= (target == 0) | (target > label)
                    np.copyto(target, label, where=isLung)
        return labelmap

    def boxOfChange(self, labelmap_kji: np.ndarray, labels: Collection[int]) -> IndexBox:
        """Outside of which the lungs of some labels are as in a labelmap, also where several lungs are now."""
        box = IndexBox((0, 0, 0), (0, 0, 0))
        for label in labels:
            box = box.joined(box_of(self._differing(labelmap_kji, label)))
        return box

    def _differing(self, labelmap_kji: np.ndarray, label: int) -> Iterator[np.ndarray]:
        """Bool (J, I) for each slice: where one lung is not as in a labelmap."""
        part = next((one for one in self._parts if label in one.values), None)
        stored = iter(part.slices()) if part is not None else iter(())
        following = next(stored, None)
        for number, wanted in enumerate(labelmap_kji):
            differs = wanted == label
            if following is not None and following[0] == number:
                differs[part.inGrid[1:]] ^= following[1] == part.values[label]
                following = next(stored, None)
            yield differs


def storedLungs(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLVolumeNode, *, copied: bool = True
) -> StoredLungs:
    """The lungs as they are now.

    Args:
        segmentationNode: under any linear transform.
        volumeNode: whose grid counts.
        copied: whether the voxels are copied, or shared with the segmentation for use at once. What the segmentation's
            history knows already is not copied again.
    Raises:
        VolumeError: the segmentation is kept in a way that cannot be turned into voxels.
        GeometryError: a non-linear transform.
    """
    grid = gridOf(volumeNode, segmentationNode)
    segmentation = withLabelmaps(segmentationNode.GetSegmentation(), grid)
    isOwn = copied and segmentation is segmentationNode.GetSegmentation()
    layers = historyOf(segmentationNode).state().layers if isOwn else []
    coded = {one: layer.voxels for layer in layers for one in layer.ids}
    parts: dict[str, _Part] = {}
    for label, segmentId in sorted(findLungSegments(segmentationNode).items()):
        image, value = imageOf(segmentation, segmentId), segmentation.GetSegment(segmentId).GetLabelValue()
        if isEmpty(image):
            continue
        key = image.GetAddressAsString("")
        if key not in parts:
            parts[key] = _partOf(image, grid, coded.get(segmentId), copied)
        parts[key].values[label] = value
    return StoredLungs(grid.size_kji, stampOf(segmentationNode), tuple(parts.values()))


def _partOf(image: slicer.vtkOrientedImageData, grid: Grid, coded: CodedArray | None, copied: bool) -> _Part:
    offset = grid.offsetIn(image)
    if offset is None:
        image, offset, coded = resampled(image, grid), np.zeros(3, int), None
    inImage, inGrid = overlapOf(image, offset, grid.size_kji)
    if coded is None and copied:
        coded = CodedArray.of(voxelsOf(image))
    return _Part(voxelsOf(image) if coded is None else coded, inImage, inGrid, {})


def stampOf(segmentationNode: slicer.vtkMRMLSegmentationNode) -> tuple:
    """What changes when a lung does."""
    segmentation = segmentationNode.GetSegmentation()
    stamps = {label: stampOfSegment(segmentation, one) for label, one in findLungSegments(segmentationNode).items()}
    return tuple((label, *stamp) for label, stamp in sorted(stamps.items()) if stamp)


def readCut(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    cut: ReformattedSlice,
    volumeNode: slicer.vtkMRMLVolumeNode,
    labels: Mapping[str, int] | None = None,
) -> np.ndarray:
    """The lungs in one slice, uint8 (H, W): 1 right, 2 left; or other segments by their ID with a label each.

    Raises:
        VolumeError, GeometryError: as `storedLungs`.
    """
    grid = gridOf(volumeNode, segmentationNode)
    segmentation = withLabelmaps(segmentationNode.GetSegmentation(), grid)
    if labels is None:
        labels = {one: label for label, one in findLungSegments(segmentationNode).items()}
    pixels = np.zeros(cut.size_hw, np.uint8)
    for segmentId, label in sorted(labels.items(), key=lambda item: -item[1]):
        np.putmask(pixels, readSegmentCut(segmentation, segmentId, cut, grid), label)
    return pixels

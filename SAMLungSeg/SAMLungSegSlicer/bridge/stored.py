"""Segments as they are at a moment, to be read on any thread later, and one slice of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import slicer

from SAMLungSegSlicer.bridge.grids import gridOf, isEmpty, overlapOf, resampled, voxelsOf
from SAMLungSegSlicer.bridge.layers import imageOf, readSegmentCut, withLabelmaps
from SAMLungSegSlicer.bridge.lungs import findLungSegments

if TYPE_CHECKING:
    from SAMLungSegLib.volume.reformat import ReformattedSlice

_Part = tuple[int, np.ndarray, tuple[slice, ...], int]  # label, voxels, where they lie on the grid, their value


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
        for label, voxels, where, value in self._parts:
            for target, one in zip(labelmap[where], voxels, strict=True):  # slice by slice: others want the GIL too
                target[one == value] = label
        return labelmap


def storedLungs(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLVolumeNode, *, copied: bool = True
) -> StoredLungs:
    """The lungs as they are now.

    Args:
        segmentationNode: under any linear transform.
        volumeNode: whose grid counts.
        copied: whether the voxels are copied, or shared with the segmentation for use at once.
    Raises:
        VolumeError: the segmentation is kept in a way that cannot be turned into voxels.
        GeometryError: a non-linear transform.
    """
    grid = gridOf(volumeNode, segmentationNode)
    segmentation = withLabelmaps(segmentationNode.GetSegmentation(), grid)
    parts, copies = [], {}
    for label, segmentId in sorted(findLungSegments(segmentationNode).items(), reverse=True):
        image, value = imageOf(segmentation, segmentId), segmentation.GetSegment(segmentId).GetLabelValue()
        if isEmpty(image):
            continue
        offset = grid.offsetIn(image)
        if offset is None:
            image, offset = resampled(image, grid), np.zeros(3, int)
        inImage, inGrid = overlapOf(image, offset, grid.size_kji)
        key = image.GetAddressAsString("")
        if key not in copies:
            voxels = voxelsOf(image)[inImage]
            copies[key] = voxels.copy() if copied else voxels
        parts.append((label, copies[key], inGrid, value))
    return StoredLungs(grid.size_kji, stampOf(segmentationNode), tuple(parts))


def stampOf(segmentationNode: slicer.vtkMRMLSegmentationNode) -> tuple:
    """What changes when a lung does."""
    segmentation = segmentationNode.GetSegmentation()
    images = {label: imageOf(segmentation, one) for label, one in findLungSegments(segmentationNode).items()}
    return tuple(
        (label, image.GetAddressAsString(""), image.GetPointData().GetScalars().GetMTime())
        for label, image in sorted(images.items())
        if not isEmpty(image)
    )


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

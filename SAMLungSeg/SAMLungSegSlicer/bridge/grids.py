"""Grids of voxels inside a segmentation, and vtkOrientedImageData as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SAMLungSegLib.boxes import IndexBox, box_of_size
from SAMLungSegLib.errors import VolumeError
from SAMLungSegSlicer.bridge.transforms import ijkToWorldMatrix, inverted, nodeToWorldMatrix, sizeKji, transformed

GEOMETRY = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
_SAME_VOXEL = 1e-2  # voxels; closer grids than this are one


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels of a volume in the coordinates of a segmentation.

    Attributes:
        size_kji: voxels along K, J and I.
        ijkToSegmentation: float64 (4, 4), voxel centre to the segmentation node's own coordinates.
    """

    size_kji: tuple[int, int, int]
    ijkToSegmentation: np.ndarray

    def offsetIn(self, image: slicer.vtkOrientedImageData) -> np.ndarray | None:
        """Int (3,), K, J, I: added to an index of the grid gives that of an image; None where their voxels differ."""
        gridToImage = inverted(imageToWorld(image), "A labelmap") @ self.ijkToSegmentation
        offset = np.rint(gridToImage[:3, 3])
        corners = _corners(np.zeros(3), np.array(self.size_kji[::-1]) - 1)
        if np.abs(transformed(gridToImage, corners) - corners - offset).max() > _SAME_VOXEL:
            return None
        return offset[::-1].astype(int)

    @property
    def box(self) -> IndexBox:
        """All its voxels."""
        return box_of_size(self.size_kji)

    def newImage(self, box: IndexBox | None = None) -> slicer.vtkOrientedImageData:
        """An image on the grid, or a box of it, without voxels yet."""
        start, stop = self.box if box is None else box
        image = slicer.vtkOrientedImageData()
        image.SetExtent(*(end for axis in (2, 1, 0) for end in (start[axis], stop[axis] - 1)))
        image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(self.ijkToSegmentation))
        return image


def gridOf(volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode) -> Grid:
    """The grid of a volume as a segmentation sees it, each under its own parent transforms.

    Raises:
        VolumeError: the volume has no voxels.
        GeometryError: one of them is under a non-linear transform.
    """
    segmentationToWorld = nodeToWorldMatrix(segmentationNode)
    worldToSegmentation = inverted(segmentationToWorld, f"Segmentation {segmentationNode.GetName()}")
    return Grid(sizeKji(volumeNode), worldToSegmentation @ ijkToWorldMatrix(volumeNode))


def referenceGrid(segmentationNode: slicer.vtkMRMLSegmentationNode) -> Grid:
    """The grid that a segmentation was made on, or, where it does not say, one that holds all its labelmaps.

    Raises:
        VolumeError: it has neither.
    """
    segmentation = segmentationNode.GetSegmentation()
    image = slicer.vtkOrientedImageData()
    segmentation.SetImageGeometryFromCommonLabelmapGeometry(image, None, segmentation.EXTENT_REFERENCE_GEOMETRY)
    if 0 in image.GetDimensions():
        raise VolumeError(
            f"Segmentation {segmentationNode.GetName()} does not say on which grid it lies; choose the volume as well."
        )
    low, _ = extentOf(image)
    toSegmentation = imageToWorld(image)
    toSegmentation[:3, 3] += toSegmentation[:3, :3] @ low[::-1]
    return Grid(image.GetDimensions()[::-1], toSegmentation)


def resampled(
    image: slicer.vtkOrientedImageData, grid: Grid, *, withWhole: bool = False
) -> slicer.vtkOrientedImageData:
    """An image on the grid by nearest neighbour; `withWhole` of it, also where it reaches beyond the grid.

    Slicer's own resampling takes the transform for a non-linear one, which is twenty times slower.
    """
    gridToImage = inverted(imageToWorld(image), "A labelmap") @ grid.ijkToSegmentation
    low, high = np.zeros(3, int), np.array(grid.size_kji[::-1]) - 1
    if withWhole:
        ends = np.reshape(image.GetExtent(), (3, 2))
        corners = transformed(inverted(gridToImage, "A labelmap"), _corners(ends[:, 0], ends[:, 1]))
        low = np.minimum(low, np.floor(corners.min(axis=0)).astype(int))
        high = np.maximum(high, np.ceil(corners.max(axis=0)).astype(int))
    onGrid = slicer.vtkOrientedImageData()
    onGrid.ShallowCopy(_resliced(image, gridToImage, np.stack([low, high], axis=1).ravel().tolist()))
    onGrid.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(grid.ijkToSegmentation))
    return onGrid


def _resliced(image: slicer.vtkOrientedImageData, outToImage: np.ndarray, extent: list[int]) -> vtk.vtkImageData:
    """Voxels of an image, whose own directions play no part, by nearest neighbour."""
    plain = vtk.vtkImageData()
    plain.SetExtent(image.GetExtent())
    plain.GetPointData().SetScalars(image.GetPointData().GetScalars())
    transform = vtk.vtkTransform()
    transform.SetMatrix(slicer.util.vtkMatrixFromArray(outToImage))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(plain)
    reslice.SetResliceTransform(transform)
    reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(extent)
    reslice.Update()
    return reslice.GetOutput()


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Float64 (8, 3): the corner voxels between two indices (i, j, k)."""
    return np.array(list(product(*zip(low, high, strict=True))), np.float64)


# ---- vtkOrientedImageData as numpy


def isEmpty(image: slicer.vtkOrientedImageData | None) -> bool:
    return image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None


def imageToWorld(image: slicer.vtkOrientedImageData) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def extentOf(image: slicer.vtkOrientedImageData) -> tuple[np.ndarray, np.ndarray]:
    """First and last index, int (3,) along K, J, I."""
    extent = np.array(image.GetExtent())
    return extent[4::-2], extent[5::-2]


def voxelsOf(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """View (K, J, I)."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def overlapOf(
    image: slicer.vtkOrientedImageData, offset: np.ndarray, size_kji: tuple[int, int, int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What an image and the grid have in common: slices of the image's array, and of an array on the grid."""
    low, high = extentOf(image)
    first, last = np.maximum(low, offset), np.minimum(high, offset + size_kji - 1)
    stop = np.maximum(last + 1, first)
    return tuple(
        tuple(slice(a, b) for a, b in zip(first - start, stop - start, strict=True)) for start in (low, offset)
    )


def emptyLike(image: slicer.vtkOrientedImageData) -> slicer.vtkOrientedImageData:
    empty = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    empty.SetGeometryFromImageToWorldMatrix(matrix)
    return empty


def filled(image: slicer.vtkOrientedImageData, scalarType: int = vtk.VTK_UNSIGNED_CHAR) -> slicer.vtkOrientedImageData:
    """The image itself, with zeros in its extent."""
    image.AllocateScalars(scalarType, 1)
    voxelsOf(image).fill(0)
    return image

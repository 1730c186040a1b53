"""Where nodes lie in the world: what the views show, parent transforms included."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from SAMLungSegLib.errors import GeometryError, VolumeError


def checkedImage(volumeNode: slicer.vtkMRMLVolumeNode | None) -> vtk.vtkImageData:
    """The voxels' container of a volume.

    Raises:
        VolumeError: no volume, or one without voxels.
    """
    if volumeNode is None:
        raise VolumeError("No volume is given; choose or load one.")
    image = volumeNode.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or 0 in image.GetDimensions():
        raise VolumeError(f"Volume {volumeNode.GetName()} has no voxels; load it again or choose another one.")
    return image


def sizeKji(volumeNode: slicer.vtkMRMLVolumeNode | None) -> tuple[int, int, int]:
    """Voxels along K, J and I.

    Raises:
        VolumeError: no volume, or one without voxels.
    """
    i, j, k = checkedImage(volumeNode).GetDimensions()
    return k, j, i


def nodeToWorldMatrix(node: slicer.vtkMRMLTransformableNode) -> np.ndarray:
    """Float64 (4, 4): a node's own coordinates to the world's, through all its parent transforms.

    Raises:
        GeometryError: one of the parents is not linear, or they squeeze space flat.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise GeometryError(
            f"{node.GetName()} is under the non-linear transform {parent.GetName()}, which bends its voxels' grid; "
            "harden the transform first (right-click in the Data module) or take it away."
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    toWorld = slicer.util.arrayFromVTKMatrix(matrix)
    inverted(toWorld, f"Transform {parent.GetName()}")
    return toWorld


def ijkToWorldMatrix(volumeNode: slicer.vtkMRMLVolumeNode | None) -> np.ndarray:
    """Float64 (4, 4): voxel centre (i, j, k, 1) to the world in mm, parent transforms included.

    Raises:
        VolumeError: no volume.
        GeometryError: a parent transform is not linear or degenerate.
    """
    if volumeNode is None:
        raise VolumeError("No volume is given; choose or load one.")
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return nodeToWorldMatrix(volumeNode) @ slicer.util.arrayFromVTKMatrix(matrix)


def worldToIjkMatrix(volumeNode: slicer.vtkMRMLVolumeNode | None) -> np.ndarray:
    """Float64 (4, 4): world in mm to voxels, with fractions.

    Raises:
        VolumeError: no volume.
        GeometryError: a parent transform is not linear, or the volume's directions are degenerate.
    """
    matrix = ijkToWorldMatrix(volumeNode)
    return inverted(matrix, f"Volume {volumeNode.GetName()}")


def inverted(matrix: np.ndarray, owner: str) -> np.ndarray:
    """The inverse of an affine matrix (4, 4).

    Raises:
        GeometryError: there is none; `owner` says whose matrix it is.
    """
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError as error:
        raise GeometryError(f"{owner} has degenerate directions (zero or parallel); repair its geometry.") from error


def transformed(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Float64 (..., 3): points (..., 3) through an affine matrix (4, 4)."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]

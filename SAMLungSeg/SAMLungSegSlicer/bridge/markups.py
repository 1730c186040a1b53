"""Prompts: control points and ROI boxes in the world become points and boxes in a volume's voxels."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import slicer
import vtk

from SAMLungSegSlicer.bridge.transforms import sizeKji, transformed, worldToIjkMatrix

if TYPE_CHECKING:
    from SAMLungSegLib import VolumeBox, VolumePoint

ROTATED_VOXELS = 0.5  # deviation of an edge from a voxel axis, over its whole length


class PointCounts(NamedTuple):
    """How many placed points lie in the volume, and how many outside, where they cannot be prompts."""

    inside: int
    outside: int


class BoxCounts(NamedTuple):
    """How many placed ROIs reach into the volume, how many of these are rotated against its voxels, how many do not."""

    inside: int
    rotated: int
    outside: int


def pointsFromMarkups(
    markupsNode: slicer.vtkMRMLMarkupsNode | None, volumeNode: slicer.vtkMRMLVolumeNode, positive: bool
) -> tuple[VolumePoint, ...]:
    """The points that a user has placed in a volume.

    Control points that are not placed yet and points outside the volume are left out (`countPoints` counts them).

    Args:
        markupsNode: under any transform; None gives no points.
        volumeNode: the image.
        positive: whether the points say 'this belongs to the lung'.
    Raises:
        VolumeError: the volume has no voxels.
        GeometryError: the volume is under a non-linear transform.
    """
    from SAMLungSegLib import VolumePoint

    ijk, inside = _placedIjk(markupsNode, volumeNode)
    return tuple(VolumePoint(tuple(point), positive) for point in ijk[inside].tolist())


def countPoints(markupsNode: slicer.vtkMRMLMarkupsNode | None, volumeNode: slicer.vtkMRMLVolumeNode) -> PointCounts:
    """How many of the placed points `pointsFromMarkups` takes, and how many it leaves out.

    Raises:
        VolumeError: the volume has no voxels.
        GeometryError: the volume is under a non-linear transform.
    """
    _, inside = _placedIjk(markupsNode, volumeNode)
    return PointCounts(int(inside.sum()), int((~inside).sum()))


def boxesFromRois(
    roiNodes: Iterable[slicer.vtkMRMLMarkupsROINode | None], volumeNode: slicer.vtkMRMLVolumeNode
) -> tuple[VolumeBox, ...]:
    """The voxels around each ROI, clipped to the volume; a ROI turned against the volume gives its bounding box.

    ROIs that are not placed yet and ROIs outside the volume are left out (`countBoxes` counts them).

    Raises:
        VolumeError: the volume has no voxels.
        GeometryError: the volume is under a non-linear transform.
    """
    from SAMLungSegLib import VolumeBox

    last = np.array(sizeKji(volumeNode)[::-1]) - 1.0
    corners = [one for one in _placedCornersIjk(roiNodes, volumeNode) if _reaches(one, last)]
    ends = [np.clip((one.min(axis=0), one.max(axis=0)), 0, last).tolist() for one in corners]
    return tuple(VolumeBox(tuple(first), tuple(end)) for first, end in ends)


def countBoxes(
    roiNodes: Iterable[slicer.vtkMRMLMarkupsROINode | None], volumeNode: slicer.vtkMRMLVolumeNode
) -> BoxCounts:
    """How many of the placed ROIs `boxesFromRois` takes, how many of these it does not take as they are, and the rest.

    Raises:
        VolumeError: the volume has no voxels.
        GeometryError: the volume is under a non-linear transform.
    """
    last = np.array(sizeKji(volumeNode)[::-1]) - 1.0
    corners = _placedCornersIjk(roiNodes, volumeNode)
    inside = [one for one in corners if _reaches(one, last)]
    return BoxCounts(len(inside), sum(map(_isRotated, inside)), len(corners) - len(inside))


def _reaches(corners: np.ndarray, last: np.ndarray) -> bool:
    """Whether the bounding box of corners in voxels meets a volume whose last voxel is `last`."""
    return bool((corners.max(axis=0) >= -0.5).all() and (corners.min(axis=0) <= last + 0.5).all())


def _isRotated(corners: np.ndarray) -> bool:
    """Whether an edge of a ROI deviates from the voxels' axes, by more than rounding to voxels hides."""
    grid = corners.reshape(2, 2, 2, 3)
    edges = np.abs(np.concatenate([np.diff(grid, axis=axis).reshape(-1, 3) for axis in range(3)]))
    return bool((edges.sum(axis=1) - edges.max(axis=1) > ROTATED_VOXELS).any())


def _placedIjk(
    markupsNode: slicer.vtkMRMLMarkupsNode | None, volumeNode: slicer.vtkMRMLVolumeNode
) -> tuple[np.ndarray, np.ndarray]:
    """Float64 (N, 3) voxels of the placed control points, and bool (N,) whether they lie in the volume."""
    size = np.array(sizeKji(volumeNode)[::-1])
    ijk = transformed(worldToIjkMatrix(volumeNode), _placedWorld(markupsNode))
    return ijk, ((ijk >= -0.5) & (ijk <= size - 0.5)).all(axis=1)


def _placedWorld(markupsNode: slicer.vtkMRMLMarkupsNode | None) -> np.ndarray:
    count = 0 if markupsNode is None else markupsNode.GetNumberOfControlPoints()
    placed = [n for n in range(count) if markupsNode.GetNthControlPointPositionStatus(n) == markupsNode.PositionDefined]
    points = np.zeros((len(placed), 3))
    for row, n in enumerate(placed):
        markupsNode.GetNthControlPointPositionWorld(n, points[row])
    return points


def _placedCornersIjk(
    roiNodes: Iterable[slicer.vtkMRMLMarkupsROINode | None], volumeNode: slicer.vtkMRMLVolumeNode
) -> list[np.ndarray]:
    """Float64 (8, 3) for each placed ROI, in voxels."""
    worldToIjk = worldToIjkMatrix(volumeNode)
    placed = [node for node in roiNodes if node is not None and node.GetNumberOfDefinedControlPoints()]
    return [transformed(worldToIjk, _cornersWorld(node)) for node in placed]


def _cornersWorld(roiNode: slicer.vtkMRMLMarkupsROINode) -> np.ndarray:
    """Float64 (8, 3), each taken through the parent transforms by itself, so non-linear ones count too."""
    objectToNode = slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToNodeMatrix())
    halves = np.array(list(product((-0.5, 0.5), repeat=3))) * roiNode.GetSize()
    nodeToWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(roiNode.GetParentTransformNode(), None, nodeToWorld)
    return np.array([nodeToWorld.TransformPoint(point) for point in transformed(objectToNode, halves)])

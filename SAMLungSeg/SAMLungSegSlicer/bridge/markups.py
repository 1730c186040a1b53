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


class PointCounts(NamedTuple):
    """How many placed points lie in the volume, and how many outside, where they cannot be prompts."""

    inside: int
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

    ROIs that are not placed yet and ROIs outside the volume are left out.

    Raises:
        VolumeError: the volume has no voxels.
        GeometryError: the volume is under a non-linear transform.
    """
    from SAMLungSegLib import VolumeBox

    last = np.array(sizeKji(volumeNode)[::-1]) - 1.0
    worldToIjk = worldToIjkMatrix(volumeNode)
    boxes = []
    for roiNode in roiNodes:
        if roiNode is None or roiNode.GetNumberOfDefinedControlPoints() == 0:
            continue
        corners = transformed(worldToIjk, _cornersWorld(roiNode))
        low, high = corners.min(axis=0), corners.max(axis=0)
        if (high >= -0.5).all() and (low <= last + 0.5).all():
            first, end = (tuple(np.clip(corner, 0, last).tolist()) for corner in (low, high))
            boxes.append(VolumeBox(first, end))
    return tuple(boxes)


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


def _cornersWorld(roiNode: slicer.vtkMRMLMarkupsROINode) -> np.ndarray:
    """Float64 (8, 3), each taken through the parent transforms by itself, so non-linear ones count too."""
    objectToNode = slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToNodeMatrix())
    halves = np.array(list(product((-0.5, 0.5), repeat=3))) * roiNode.GetSize()
    nodeToWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(roiNode.GetParentTransformNode(), None, nodeToWorld)
    return np.array([nodeToWorld.TransformPoint(point) for point in transformed(objectToNode, halves)])

"""The markups that hold a user's prompts: made when they are first needed, kept with the scene."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, addBoxNode, boxNodes

if TYPE_CHECKING:
    from SAMLungSegLib import VolumeBox, VolumePoint

GREEN = (0.17, 0.63, 0.17)
RED = (0.84, 0.15, 0.16)
AMBER = (0.88, 0.63, 0.0)

_SCRIBBLE = "scribble"  # begins the description of its points
_ALONG = 0.999  # cosine of the angle between a box and the view that it is drawn in

PROMPT_EVENTS = (
    slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
    slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
    slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    vtk.vtkCommand.ModifiedEvent,
)
VOLUME_EVENTS = (
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    vtk.vtkCommand.ModifiedEvent,
)


def viewOf(node: slicer.vtkMRMLMarkupsNode) -> str | None:
    """Layout name of the slice view in which the mouse moves a markup; a point that waits to be placed moves too."""
    return node.GetAttribute(slicer.vtkMRMLMarkupsDisplayNode.GetMovingInSliceViewAttributeName())


def firstViewOf(
    node: slicer.vtkMRMLMarkupsFiducialNode, views: Iterable[str | None], volumeNode: slicer.vtkMRMLVolumeNode | None
) -> str | None:
    """The first of the slice views, by layout name, that shows the newest point on its slice; None where none does."""
    if volumeNode is None or not node.GetNumberOfDefinedControlPoints():
        return None
    position = (0.0, 0.0, 0.0)
    for index in reversed(range(node.GetNumberOfControlPoints())):
        if node.GetNthControlPointPositionStatus(index) == node.PositionDefined:
            position = node.GetNthControlPointPositionWorld(index)
            break
    for view in filter(None, views):
        sliceNode = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")
        with suppress(SAMLungSegError):  # a view beside the volume
            ijk = np.linalg.inv(bridge.ijkToWorldMatrix(volumeNode)) @ [*position, 1.0]
            if sliceNode is not None and bridge.cutFromSliceNode(sliceNode, volumeNode).contains(ijk[:3]):
                return view
    return None


def ensurePoints(parameters: SAMLungSegParameterNode, positive: bool) -> slicer.vtkMRMLMarkupsFiducialNode:
    """The node of the positive or of the negative points; a new one if there is none yet."""
    role = "positivePoints" if positive else "negativePoints"
    node = getattr(parameters, role)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass(
            "vtkMRMLMarkupsFiducialNode", _("Lung +") if positive else _("Lung -")
        )
        node.CreateDefaultDisplayNodes()
        _paint(node, GREEN if positive else RED)
        setattr(parameters, role, node)
    return node


def addPoints(node: slicer.vtkMRMLMarkupsFiducialNode, positions: np.ndarray) -> None:
    """Add points (N, 3) in mm of the world, each as a click places it."""
    for position in positions.tolist():
        node.AddControlPointWorld(*position)


def addScribble(node: slicer.vtkMRMLMarkupsFiducialNode, positions: np.ndarray) -> None:
    """Add the points (N, 3) of one scribble, in mm of the world; `removeLast` removes them together."""
    name = f"{_SCRIBBLE} {uuid4().hex[:8]}"
    for position in positions.tolist():
        node.SetNthControlPointDescription(node.AddControlPointWorld(*position), name)


def removeLast(node: slicer.vtkMRMLMarkupsFiducialNode) -> None:
    """Remove the point that was placed last, or all points of the scribble that was drawn last."""
    placed = [
        index
        for index in range(node.GetNumberOfControlPoints())
        if node.GetNthControlPointPositionStatus(index) == node.PositionDefined
    ]
    if not placed:
        return
    name = node.GetNthControlPointDescription(placed[-1])
    for index in reversed(placed if name.startswith(_SCRIBBLE) else placed[-1:]):
        if node.GetNthControlPointDescription(index) == name:
            node.RemoveNthControlPoint(index)


def newBox(parameters: SAMLungSegParameterNode) -> slicer.vtkMRMLMarkupsROINode:
    """One more box, to be placed."""
    name = slicer.mrmlScene.GenerateUniqueName(_("Lung box"))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
    node.CreateDefaultDisplayNodes()
    _paint(node, AMBER)
    display = node.GetDisplayNode()
    display.SetFillOpacity(0.05)
    display.SetHandlesInteractive(True)
    display.SetRotationHandleVisibility(False)  # a prompt follows the voxels
    addBoxNode(parameters, node)
    return node


def newBoxBetween(
    parameters: SAMLungSegParameterNode,
    first: np.ndarray,
    last: np.ndarray,
    sliceNode: slicer.vtkMRMLSliceNode,
    volumeNode: slicer.vtkMRMLVolumeNode,
) -> slicer.vtkMRMLMarkupsROINode | None:
    """One more box: between two corners (3,) in mm in a slice view, as thick as its slice; None where they are one."""
    axes = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, :3]
    size = np.abs(axes.T @ (last - first))
    if not (size[:2] > 0).all():
        return None
    boxNode = newBox(parameters)
    toWorld = np.eye(4)
    toWorld[:3, :3], toWorld[:3, 3] = axes, (first + last) / 2
    boxNode.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(toWorld))
    boxNode.SetSize(*size[:2].tolist(), 1.0)
    thinToSlice(boxNode, sliceNode, volumeNode)
    return boxNode


def isPlaced(boxNode: slicer.vtkMRMLMarkupsROINode) -> bool:
    """Whether a box has its corners, rather than waiting for clicks; it may be flat."""
    return boxNode.GetControlPointPlacementComplete() and sum(size > 0 for size in boxNode.GetSize()) >= 2


def thinToSlice(
    boxNode: slicer.vtkMRMLMarkupsROINode, sliceNode: slicer.vtkMRMLSliceNode, volumeNode: slicer.vtkMRMLVolumeNode
) -> None:
    """Give a box that was drawn in a slice view the thickness of the slice; Slicer makes it as thick as it is wide.

    A box that is turned against the view stays as it is.
    """
    toWorld = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    normal, onSlice = toWorld[:3, 2] / np.linalg.norm(toWorld[:3, 2]), toWorld[:3, 3]
    axes = slicer.util.arrayFromVTKMatrix(boxNode.GetObjectToWorldMatrix())[:3, :3]
    along = np.abs(normal @ axes / np.linalg.norm(axes, axis=0))
    axis = int(along.argmax())
    if along[axis] < _ALONG:
        return
    center, thickness = _sliceAt(np.array(boxNode.GetCenterWorld()), normal, onSlice, volumeNode)
    size = list(boxNode.GetSize())
    size[axis] = thickness / float(np.linalg.norm(axes[:, axis]))
    boxNode.SetSize(size)
    boxNode.SetCenterWorld(center)


def _sliceAt(
    center: np.ndarray, normal: np.ndarray, onSlice: np.ndarray, volumeNode: slicer.vtkMRMLVolumeNode
) -> tuple[np.ndarray, float]:
    """A point moved along the normal into the slice of voxels that a plane shows, and how thick that slice is."""
    ijkToWorld = bridge.ijkToWorldMatrix(volumeNode)
    center = center + normal * ((onSlice - center) @ normal)
    steps = ijkToWorld[:3, :3]
    axis = int(np.abs(normal @ steps / np.linalg.norm(steps, axis=0)).argmax())
    thickness = float(abs(normal @ steps[:, axis]))
    index = (np.linalg.inv(ijkToWorld) @ [*center, 1])[axis]
    return center + normal * (np.rint(index) - index) * float(normal @ steps[:, axis]), thickness


def isWaiting(node: slicer.vtkMRMLMarkupsNode) -> bool:
    """Whether a part of a markup follows the mouse until a click places it."""
    if node.IsA("vtkMRMLMarkupsROINode"):
        return not isPlaced(node)
    return node.GetNumberOfControlPoints() > node.GetNumberOfDefinedControlPoints()


def countPoints(node: slicer.vtkMRMLMarkupsFiducialNode | None) -> int:
    """How many points are placed."""
    return node.GetNumberOfDefinedControlPoints() if node is not None else 0


def hasPrompts(parameters: SAMLungSegParameterNode) -> bool:
    """Whether there is any point or box."""
    points = countPoints(parameters.positivePoints) + countPoints(parameters.negativePoints)
    return points > 0 or any(isPlaced(node) for node in boxNodes(parameters))


def promptsIn(
    parameters: SAMLungSegParameterNode, volumeNode: slicer.vtkMRMLVolumeNode
) -> tuple[tuple[VolumePoint, ...], tuple[VolumeBox, ...]]:
    """The points and boxes that lie in a volume, in its voxels.

    Raises:
        SAMLungSegError: the volume has no voxels, or is under a non-linear transform.
    """
    points = (
        *bridge.pointsFromMarkups(parameters.positivePoints, volumeNode, True),
        *bridge.pointsFromMarkups(parameters.negativePoints, volumeNode, False),
    )
    return points, bridge.boxesFromRois(boxNodes(parameters), volumeNode)


def removeUnplacedBoxes(parameters: SAMLungSegParameterNode) -> None:
    """Remove the boxes whose placing was given up."""
    for node in boxNodes(parameters):
        if not isPlaced(node):
            slicer.mrmlScene.RemoveNode(node)


def clearPrompts(parameters: SAMLungSegParameterNode) -> None:
    """Remove all points and boxes; the points' nodes stay."""
    for node in (parameters.positivePoints, parameters.negativePoints):
        if node is not None:
            node.RemoveAllControlPoints()
    for node in boxNodes(parameters):
        slicer.mrmlScene.RemoveNode(node)


def _paint(node: slicer.vtkMRMLMarkupsNode, color: tuple[float, float, float]) -> None:
    display = node.GetDisplayNode()
    display.SetColor(color)
    display.SetSelectedColor(color)
    display.SetActiveColor(*(0.5 + 0.5 * part for part in color))
    display.SetPointLabelsVisibility(False)
    display.SetPropertiesLabelVisibility(False)

"""Widths of heart and chest on an X-ray: the heart as a segment, the widths as lines in the views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer.bridge.layers import segmentFromNode
from SAMLungSegSlicer.bridge.lungs import terminologyCodes
from SAMLungSegSlicer.bridge.transforms import ijkToWorldMatrix, transformed

if TYPE_CHECKING:
    from SAMLungSegLib.cardiothoracic import Width

_HEART_CODES = {("SCT", "80891009"), ("SRT", "T-32000")}
_HEART_NAME = "heart"
_HEART_ROLE, _CHEST_ROLE = "SAMLungSeg.heartWidth", "SAMLungSeg.chestWidth"
_RED, _GREEN = (0.9, 0.2, 0.15), (0.2, 0.75, 0.3)
_GLYPH_PERCENT = 1.5  # of the view


def findHeartSegment(segmentationNode: slicer.vtkMRMLSegmentationNode) -> str | None:
    """ID of the segment that is the heart, found by terminology, else by the name 'heart'."""
    segmentation = segmentationNode.GetSegmentation()
    ids = segmentation.GetSegmentIDs()
    byCode = [one for one in ids if terminologyCodes(segmentation.GetSegment(one))[0] in _HEART_CODES]
    byName = [one for one in ids if segmentation.GetSegment(one).GetName().strip().lower() == _HEART_NAME]
    return next(iter([*byCode, *byName]), None)


def heartFromNode(
    segmentationNode: slicer.vtkMRMLSegmentationNode, volumeNode: slicer.vtkMRMLVolumeNode
) -> np.ndarray | None:
    """The heart on the grid of a volume, bool (K, J, I); None where there is none, or an empty one.

    Raises:
        VolumeError: the segmentation is kept in a way that cannot be turned into voxels.
        GeometryError: a non-linear transform.
    """
    segmentId = findHeartSegment(segmentationNode)
    if segmentId is None:
        return None
    heart_kji = segmentFromNode(segmentationNode, segmentId, volumeNode)
    return heart_kji if heart_kji.any() else None


def showWidths(
    volumeNode: slicer.vtkMRMLVolumeNode, heart: Width, chest: Width, *, inMm: bool
) -> tuple[slicer.vtkMRMLMarkupsLineNode, slicer.vtkMRMLMarkupsLineNode]:
    """Lines of both widths, which move with the volume; those that it has already are moved.

    Args:
        volumeNode: the X-ray.
        heart, chest: in its voxels.
        inMm: whether their lengths mean something; else the labels have the names only.
    Raises:
        GeometryError: a parent transform is not linear.
    """
    heartLine = _line(volumeNode, _HEART_ROLE, _("Heart width"), _RED)
    chestLine = _line(volumeNode, _CHEST_ROLE, _("Chest width"), _GREEN)
    _place(heartLine, heart, volumeNode, 0, inMm)  # the label at its right end, that of the chest beside the chest
    _place(chestLine, chest, volumeNode, 1, inMm)
    return heartLine, chestLine


def setWidthsVisible(volumeNode: slicer.vtkMRMLVolumeNode | None, isVisible: bool) -> None:
    """Show or hide the lines that a volume has."""
    for role in (_HEART_ROLE, _CHEST_ROLE) if volumeNode is not None else ():
        line = volumeNode.GetNodeReference(role)
        if line is not None:
            line.SetDisplayVisibility(isVisible)


def _line(
    volumeNode: slicer.vtkMRMLVolumeNode, role: str, name: str, colour: tuple[float, float, float]
) -> slicer.vtkMRMLMarkupsLineNode:
    line = volumeNode.GetNodeReference(role)
    if line is None:
        line = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", name)
        volumeNode.SetNodeReferenceID(role, line.GetID())
        line.CreateDefaultDisplayNodes()
        display = line.GetDisplayNode()
        display.SetColor(colour)
        display.SetSelectedColor(colour)
        display.SetGlyphScale(_GLYPH_PERCENT)
        display.SetPropertiesLabelVisibility(False)  # in the middle, where those of both lines would overlap
        display.SetPointLabelsVisibility(True)
    return line


def _place(
    line: slicer.vtkMRMLMarkupsLineNode, width: Width, volumeNode: slicer.vtkMRMLVolumeNode, labelled: int, inMm: bool
) -> None:
    ends = transformed(ijkToWorldMatrix(volumeNode), np.array([width.right_ijk, width.left_ijk]))
    line.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    line.SetLocked(True)  # it is measured; dragged by accident it would say something else than the table
    line.RemoveAllControlPoints()
    for index, end in enumerate(ends):
        line.AddControlPointWorld(*end.tolist())
        line.SetNthControlPointLabel(index, "")
    label = _("{name}: {length:.0f} mm").format(name=line.GetName(), length=width.mm) if inMm else line.GetName()
    line.SetNthControlPointLabel(labelled, label)
    line.GetMeasurement("length").SetEnabled(inMm)
    line.SetDisplayVisibility(True)

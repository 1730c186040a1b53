"""Where the lungs of a volume go: remembered when a job starts, checked when it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable

import slicer
import vtk
from slicer.i18n import tr as _

from SAMLungSegLib.interaction import Session
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.sessions import oneStep

logger = logging.getLogger(__name__)


def isInScene(node: slicer.vtkMRMLNode) -> bool:
    """Whether a node is in the scene, and the scene is not about to go."""
    return bool(slicer.mrmlScene.IsNodePresent(node)) and not slicer.mrmlScene.IsClosing()


def segmentedVolume(node: slicer.vtkMRMLNode | None) -> slicer.vtkMRMLVolumeNode | None:
    """The volume that a segmentation has its geometry from; None for anything else."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return None
    return node.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


class Target:
    """The volume whose lungs are found and the segmentation that they are written into.

    Attributes:
        discarded: why a result was not written, for people; empty as long as none was refused.
    """

    def __init__(
        self, volumeNode: slicer.vtkMRMLVolumeNode, segmentationNode: slicer.vtkMRMLSegmentationNode | None
    ) -> None:
        bridge.ijkToWorldMatrix(volumeNode)  # refuses what is no volume
        self.volumeNode = volumeNode
        self.segmentationNode = segmentationNode
        self.discarded = ""
        self._grid = _gridOf(volumeNode)

    def write(
        self, fill: Callable[[slicer.vtkMRMLSegmentationNode, Session], None]
    ) -> slicer.vtkMRMLSegmentationNode | None:
        """Let `fill` change the segmentation, which is made if there was none, so that it can be undone.

        Returns:
            The segmentation; None, with nothing changed, when the nodes are not what they were when the job began.
        """
        self.discarded = self._obstacle()
        if self.discarded:
            logger.info("%s", self.discarded)
            return None
        with oneStep(self.volumeNode, self.segmentationNode) as (self.segmentationNode, session):
            fill(self.segmentationNode, session)
        return self.segmentationNode

    def isThere(self) -> bool:
        """Whether volume and segmentation are still what they were."""
        return not self._obstacle()

    def _obstacle(self) -> str:
        if not isInScene(self.volumeNode):
            return _("The volume was removed meanwhile: its lungs are not written.")
        if self.segmentationNode is not None and not isInScene(self.segmentationNode):
            return _("The output segmentation was removed meanwhile: the lungs are not written.")
        if _gridOf(self.volumeNode) != self._grid:
            return _("The volume has got another size or place meanwhile: the lungs are not written, start again.")
        return ""


def _gridOf(volumeNode: slicer.vtkMRMLVolumeNode) -> tuple:
    """Voxels and their place in the node's own coordinates; a parent transform moves volume and lungs together."""
    image = volumeNode.GetImageData()
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return image and image.GetDimensions(), slicer.util.arrayFromVTKMatrix(matrix).tobytes()

"""The node that shows what a propagation would change: never saved, never listed, in all views."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.interaction.corrections import ADDED, REMOVED
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.live.node import newUnsavedNode

FILL_OPACITY = 0.35
GREEN, RED = (0.17, 0.63, 0.17), (0.84, 0.15, 0.16)


class ChangeNode:
    """A segmentation with two segments: what becomes lung, or the other lung, and what is lung no more."""

    def __init__(self) -> None:
        self._node: slicer.vtkMRMLSegmentationNode | None = None

    @property
    def node(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The node, as long as it is in the scene."""
        return self._node if slicer.mrmlScene.IsNodePresent(self._node) else None

    def show(self, changes_kji: np.ndarray, volumeNode: slicer.vtkMRMLVolumeNode) -> None:
        """Show uint8 (K, J, I) on the grid of a volume, `ADDED` or `REMOVED`, in place of what was shown."""
        self.remove()
        self._node = node = newUnsavedNode(_("Propagation"), FILL_OPACITY)
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        segments = {ADDED: (_("becomes lung"), GREEN), REMOVED: (_("is no lung any more"), RED)}
        ids = {value: node.GetSegmentation().AddEmptySegment("", *one) for value, one in segments.items()}
        bridge.writeLabels(node, changes_kji, ids, volumeNode)

    def remove(self) -> None:
        """Take the node out of the scene."""
        if self.node is not None:
            slicer.mrmlScene.RemoveNode(self.node)
        self._node = None

"""The node that shows a preview: never saved, never listed, only in the view that it belongs to."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.interaction import SlicePrompts
from SAMLungSegSlicer import bridge

FILL_OPACITY = 0.2
OUTLINE_WIDTH = 3


class PreviewNode:
    """A segmentation with the lungs of one slice and nothing else."""

    def __init__(self) -> None:
        self._node: slicer.vtkMRMLSegmentationNode | None = None
        self._grid: tuple | None = None
        self._shown: SlicePrompts | None = None

    @property
    def node(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The node, as long as it is in the scene."""
        return self._node if slicer.mrmlScene.IsNodePresent(self._node) else None

    def show(
        self,
        labels_hw: np.ndarray,
        prompts: SlicePrompts,
        volumeNode: slicer.vtkMRMLVolumeNode,
        sliceNode: slicer.vtkMRMLSliceNode,
    ) -> None:
        """Show labels (H, W) of the slice that has these prompts, in a slice view, in place of what was shown."""
        node = self._onGridOf(volumeNode)
        if self._shown is not None and self._shown.place != prompts.place:
            nothing_hw = np.zeros(self._shown.reformat.size_hw, np.uint8)
            bridge.writeCut(node, nothing_hw, self._shown.reformat, volumeNode)
        bridge.writeCut(node, labels_hw, prompts.reformat, volumeNode)
        self._shown = prompts
        display = node.GetDisplayNode()
        display.SetViewNodeIDs([sliceNode.GetID()])
        display.SetVisibility(True)

    def hide(self) -> None:
        """Show nothing."""
        if self.node is not None:
            self.node.GetDisplayNode().SetVisibility(False)

    def remove(self) -> None:
        """Take the node out of the scene."""
        if self.node is not None:
            slicer.mrmlScene.RemoveNode(self.node)
        self._node = self._grid = self._shown = None

    def _onGridOf(self, volumeNode: slicer.vtkMRMLVolumeNode) -> slicer.vtkMRMLSegmentationNode:
        """The node for a volume; for another grid a new one, as emptying a large one takes longer."""
        size, matrix = volumeNode.GetImageData().GetDimensions(), bridge.ijkToWorldMatrix(volumeNode)
        grid = (volumeNode, size, matrix.tobytes())
        if self.node is None or self._grid != grid:
            self.remove()
            self._node, self._grid = newUnsavedNode(_("Lung preview"), FILL_OPACITY), grid
            self._node.GetDisplayNode().SetSliceIntersectionThickness(OUTLINE_WIDTH)
            self._node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
            self._node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        return self._node


def newUnsavedNode(name: str, fillOpacity: float) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation in the scene that is neither saved nor listed, and shown in slice views only."""
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName(name)
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetVisibility3D(False)
    display.SetOpacity2DFill(fillOpacity)
    return node

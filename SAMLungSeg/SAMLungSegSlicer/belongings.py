"""Output, prompts and reference belong to the volume that they were made for, and come and go with it.

Each volume node refers to its own, so that they are saved with the scene. Nothing is deleted when another volume is
chosen: its prompts are hidden, and its lungs as well where it is not shown any more.
"""

from __future__ import annotations

from typing import Any

import slicer

from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, boxNodes, setBoxNodes

OUTPUT_ROLE = "SAMLungSeg.output"
_ASIDE = "SAMLungSeg.aside"  # of an output that was hidden here, and is shown here again
_ROLES = {
    "outputSegmentation": OUTPUT_ROLE,
    "reference": "SAMLungSeg.reference",
    "positivePoints": "SAMLungSeg.positivePoints",
    "negativePoints": "SAMLungSeg.negativePoints",
}
_BOXES_ROLE = "SAMLungSeg.boxes"
_VOLUME_ROLE = "belongingsOf"  # of the parameter node: the volume whose belongings it holds


def followVolume(parameters: SAMLungSegParameterNode) -> None:
    """Put the chosen volume's own output, prompts and reference in the place of those of the volume chosen before.

    What the user has chosen himself since, stays: then it belongs to the present volume.
    """
    raw, volumeNode = parameters.parameterNode, parameters.inputVolume
    if volumeNode is None:
        return
    earlier = raw.GetNodeReferenceID(_VOLUME_ROLE)
    if not earlier:
        _adopt(parameters, volumeNode)
    elif earlier != volumeNode.GetID():
        _exchange(parameters, raw.GetNodeReference(_VOLUME_ROLE), volumeNode)
    if earlier != volumeNode.GetID():
        raw.SetNodeReferenceID(_VOLUME_ROLE, volumeNode.GetID())
    _remember(parameters, volumeNode)


def keepOutput(parameters: SAMLungSegParameterNode, volumeNode: Any, segmentationNode: Any) -> None:
    """A new segmentation of a volume becomes its output, unless the user has chosen another one meanwhile."""
    if parameters.inputVolume is not volumeNode:
        volumeNode.SetNodeReferenceID(OUTPUT_ROLE, segmentationNode.GetID())
    elif parameters.outputSegmentation is None:
        parameters.outputSegmentation = segmentationNode


def _exchange(parameters: SAMLungSegParameterNode, before: Any | None, volumeNode: Any) -> None:
    """Take what the volume has in the place of what `before` has, which is None where it was removed."""
    for name, role in _ROLES.items():
        node = getattr(parameters, name)
        if before is None or node is before.GetNodeReference(role):
            own = volumeNode.GetNodeReference(role)
            setattr(parameters, name, own)
            if name == "outputSegmentation":
                _changeOutput(node, own, before)
            elif name != "reference":
                _show(node, False)
                _show(own, True)
    boxes = boxNodes(parameters)
    if before is None or boxes == _boxesOf(before):
        setBoxNodes(parameters, _boxesOf(volumeNode))
        for node in boxes:
            _show(node, False)
        for node in _boxesOf(volumeNode):
            _show(node, True)


def _changeOutput(node: Any | None, own: Any | None, before: Any | None) -> None:
    """Hide the lungs of a volume that no slice view shows any more, and show those that were hidden before."""
    if node is own:
        return
    if node is not None and before is not None and not _isShown(before) and _isVisible(node):
        _show(node, False)
        node.SetAttribute(_ASIDE, "1")
    if own is not None and own.GetAttribute(_ASIDE):
        own.RemoveAttribute(_ASIDE)
        _show(own, True)


def _adopt(parameters: SAMLungSegParameterNode, volumeNode: Any) -> None:
    """Take what the volume has, where nothing is chosen yet."""
    for name, role in _ROLES.items():
        if getattr(parameters, name) is None:
            setattr(parameters, name, volumeNode.GetNodeReference(role))
    if not boxNodes(parameters):
        setBoxNodes(parameters, _boxesOf(volumeNode))


def _remember(parameters: SAMLungSegParameterNode, volumeNode: Any) -> None:
    for name, role in _ROLES.items():
        node = getattr(parameters, name)
        if node is not volumeNode.GetNodeReference(role):
            volumeNode.SetNodeReferenceID(role, node.GetID() if node else None)
    boxes = boxNodes(parameters)
    if boxes != _boxesOf(volumeNode):
        volumeNode.RemoveNodeReferenceIDs(_BOXES_ROLE)
        for node in boxes:
            volumeNode.AddNodeReferenceID(_BOXES_ROLE, node.GetID())


def _boxesOf(volumeNode: Any) -> list[slicer.vtkMRMLMarkupsROINode]:
    count = volumeNode.GetNumberOfNodeReferences(_BOXES_ROLE)
    nodes = [volumeNode.GetNthNodeReference(_BOXES_ROLE, index) for index in range(count)]
    return [node for node in nodes if node is not None]


def _isShown(volumeNode: Any) -> bool:
    """Whether a slice view has the volume, alone or over another one."""
    shown: set[str] = set()
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        shown |= {composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()}
    return volumeNode.GetID() in shown


def _isVisible(node: Any) -> bool:
    return node.GetDisplayNode() is not None and bool(node.GetDisplayNode().GetVisibility())


def _show(node: Any, isVisible: bool) -> None:
    if node is not None and node.GetDisplayNode() is not None:
        node.GetDisplayNode().SetVisibility(isVisible)

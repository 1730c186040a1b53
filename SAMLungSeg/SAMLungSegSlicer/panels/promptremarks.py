"""What is said of prompts that do not act as they are drawn."""

from __future__ import annotations

from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, boxNodes
from SAMLungSegSlicer.promptnodes import isPlaced


def promptRemarks(parameters: SAMLungSegParameterNode) -> list[str]:
    """A sentence about the points outside the volume, the boxes outside and the boxes that are rotated, if any.

    Raises:
        SAMLungSegError: the volume has no voxels, or is under a non-linear transform.
    """
    volumeNode = parameters.inputVolume
    if volumeNode is None:
        return []
    nodes = (parameters.positivePoints, parameters.negativePoints)
    points = sum(bridge.countPoints(node, volumeNode).outside for node in nodes)
    boxes = bridge.countBoxes(filter(isPlaced, boxNodes(parameters)), volumeNode)
    remarks = (
        (
            points,
            _("1 point lies outside the volume and has no effect."),
            _("{count} points lie outside the volume and have no effect."),
        ),
        (
            boxes.outside,
            _("1 box lies outside the volume and has no effect."),
            _("{count} boxes lie outside the volume and have no effect."),
        ),
        (
            boxes.rotated,
            _("1 box is rotated against the image: the box along the image's axes that encloses it is used."),
            _("{count} boxes are rotated against the image: the boxes along its axes that enclose them are used."),
        ),
    )
    return [one if count == 1 else many.format(count=count) for count, one, many in remarks if count]

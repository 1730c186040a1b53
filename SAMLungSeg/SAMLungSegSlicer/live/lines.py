"""What becomes of a line that was drawn in a slice view, whoever's pencil it was."""

from __future__ import annotations

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.live.pencil import Line
from SAMLungSegSlicer.live.preview import PreviewController
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode
from SAMLungSegSlicer.promptnodes import addPoints, addScribble, ensurePoints, newBoxBetween


def applyLine(line: Line, parameters: SAMLungSegParameterNode, preview: PreviewController) -> None:
    """Brush and lasso are previewed; all else becomes prompts of the slice.

    Raises:
        SAMLungSegError: the view shows no part of the volume.
    """
    from SAMLungSegLib.interaction import Stroke

    volumeNode, kind, adds = parameters.inputVolume, line.tip.kind, not line.erases
    cut = bridge.cutFromSliceNode(line.sliceNode, volumeNode)
    parameters.sliceView = line.sliceNode.GetLayoutName()
    if kind == "point":
        addPoints(ensurePoints(parameters, adds), line.points[-1:])
    elif kind == "box":
        newBoxBetween(parameters, line.points[0], line.points[-1], line.sliceNode, volumeNode)
    else:
        pixels = bridge.pixelsFromWorld(line.points, cut, volumeNode).tolist()
        stroke = Stroke(kind, tuple((x, y) for x, y in pixels), adds, line.tip.radiusMm)
        if kind == "scribble":
            points = [point.xy for point in stroke.points(cut)]
            addScribble(ensurePoints(parameters, adds), bridge.worldFromPixels(points, cut, volumeNode))
        else:
            preview.draw(line.sliceNode, stroke)

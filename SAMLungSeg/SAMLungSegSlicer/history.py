"""Undo and redo of what the module writes into a segmentation."""

from __future__ import annotations

import slicer

MAXIMUM_STATES = 10  # each holds a copy of the labelmap; the Segment Editor keeps as many


class SegmentationHistory:
    """States of the segments of one segmentation; edits made elsewhere in between are part of them.

    Example:
        >>> history = historyOf(segmentationNode)
        >>> history.save()
        >>> writeLabelmap(segmentationNode, labelmap_kji, volumeNode)
        >>> history.undo()
        True
    """

    def __init__(self, segmentation: slicer.vtkSegmentation) -> None:
        self.segmentation = segmentation
        self._earlier: list[_State] = []
        self._later: list[_State] = []

    def save(self) -> None:
        """Keep the present state, to come back to it by `undo`; called before each change."""
        self._earlier = [*self._past(), _State(self.segmentation)][-MAXIMUM_STATES:]
        self._later.clear()

    def undo(self) -> bool:
        """Go back to the state before the last change; whether there was one."""
        if not self.canUndo():
            return False
        self._earlier = self._past()
        self._later.append(_State(self.segmentation))
        self._earlier.pop().restore()
        return True

    def redo(self) -> bool:
        """Take the last `undo` back; whether there was one. What was edited since is kept as a state to undo to."""
        if not self.canRedo():
            return False
        self._earlier.append(_State(self.segmentation))
        self._later.pop().restore()
        return True

    def canUndo(self) -> bool:
        """Whether there is an earlier state."""
        return bool(self._past())

    def canRedo(self) -> bool:
        """Whether a state was undone, and nothing was saved since."""
        return bool(self._later)

    def _past(self) -> list[_State]:
        """The states that something has changed since."""
        return [state for state in self._earlier if state.isPast()]


class _State:
    """The segments as they are now.

    A vtkSegmentationHistory of this one state: it puts segments back in place, so that they keep their display. With
    several states it takes any event for a change, even the export of a segment, and then an undo may undo nothing.
    """

    def __init__(self, segmentation: slicer.vtkSegmentation) -> None:
        self._history = slicer.vtkSegmentationHistory()
        self._history.SetSegmentation(segmentation)
        self._history.SaveState()

    def isPast(self) -> bool:
        return self._history.IsRestorePreviousStateAvailable()

    def restore(self) -> None:
        if self.isPast():
            self._history.RestorePreviousState()


_histories: dict[str, SegmentationHistory] = {}


def historyOf(segmentationNode: slicer.vtkMRMLSegmentationNode) -> SegmentationHistory:
    """The one history of a segmentation node in the scene."""
    _forgetRemovedNodes()
    nodeId = segmentationNode.GetID()
    if nodeId not in _histories:
        _histories[nodeId] = SegmentationHistory(segmentationNode.GetSegmentation())
    return _histories[nodeId]


def forgetHistories() -> None:
    """Drop all states, as when the scene closes; none can be undone any more."""
    _histories.clear()


def _forgetRemovedNodes() -> None:
    """Drop histories whose node is gone or has another segmentation by now; a new scene uses IDs again."""
    for nodeId, history in list(_histories.items()):
        node = slicer.mrmlScene.GetNodeByID(nodeId)
        if node is None or node.GetSegmentation() is not history.segmentation:
            del _histories[nodeId]

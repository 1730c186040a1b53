"""Undo and redo of what the module writes into a segmentation."""

from __future__ import annotations

from itertools import count

import slicer

MAXIMUM_STATES = 10  # of one segmentation; the Segment Editor keeps as many
MAXIMUM_BYTES = 2**30  # of all segmentations together: each state is a copy of all voxels and surfaces

_numbers = count()


class SegmentationHistory:
    """States of the segments of one segmentation; edits made elsewhere in between are part of them.

    Where all histories together exceed MAXIMUM_BYTES, their oldest states are dropped; one step back and one forward
    stay in the segmentation that is being changed, however large they are.

    Attributes:
        mark: what the writer keeps with the present state; undo and redo bring that of the state back.

    Example:
        >>> history = historyOf(segmentationNode)
        >>> history.save()
        >>> writeLabelmap(segmentationNode, labelmap_kji, volumeNode)
        >>> history.undo()
        True
    """

    def __init__(self, segmentation: slicer.vtkSegmentation) -> None:
        self.segmentation = segmentation
        self.mark: int | None = None
        self._earlier: list[_State] = []
        self._later: list[_State] = []

    def save(self) -> None:
        """Keep the present state, to come back to it by `undo`; called before each change."""
        self._earlier = [*self._past(), self._present()][-MAXIMUM_STATES:]
        self._later.clear()
        _dropOldest(self)

    def undo(self) -> bool:
        """Go back to the state before the last change; whether there was one."""
        if not self.canUndo():
            return False
        self._earlier = self._past()
        self._later.append(self._present())
        self.mark = self._earlier.pop().restore()
        _dropOldest(self)
        return True

    def redo(self) -> bool:
        """Take the last `undo` back; whether there was one. What was edited since is kept as a state to undo to."""
        if not self.canRedo():
            return False
        self._earlier.append(self._present())
        self.mark = self._later.pop().restore()
        _dropOldest(self)
        return True

    def canUndo(self) -> bool:
        """Whether there is an earlier state."""
        return bool(self._past())

    def canRedo(self) -> bool:
        """Whether a state was undone, and nothing was saved since."""
        return bool(self._later)

    def stacks(self) -> tuple[list[_State], list[_State]]:
        """States to undo to and to redo to, each in the order in which they were saved."""
        return self._earlier, self._later

    def _present(self) -> _State:
        return _State(self.segmentation, self.mark)

    def _past(self) -> list[_State]:
        """The states that something has changed since."""
        return [state for state in self._earlier if state.isPast()]


class _State:
    """The segments as they are now.

    A vtkSegmentationHistory of this one state: it puts segments back in place, so that they keep their display. With
    several states it takes any event for a change, even the export of a segment, and then an undo may undo nothing.
    """

    def __init__(self, segmentation: slicer.vtkSegmentation, mark: int | None) -> None:
        self._mark = mark
        self._history = slicer.vtkSegmentationHistory()
        self._history.SetSegmentation(segmentation)
        self._history.SaveState()
        self.size = _bytesOf(segmentation)
        self.number = next(_numbers)

    def isPast(self) -> bool:
        return self._history.IsRestorePreviousStateAvailable()

    def restore(self) -> int | None:
        if self.isPast():
            self._history.RestorePreviousState()
        return self._mark


def _bytesOf(segmentation: slicer.vtkSegmentation) -> int:
    """What a copy takes: Slicer copies a labelmap that segments share once."""
    sizes: dict[str, int] = {}
    for segmentId in segmentation.GetSegmentIDs():
        segment, names = segmentation.GetSegment(segmentId), []
        segment.GetContainedRepresentationNames(names)
        for representation in map(segment.GetRepresentation, names):
            sizes[representation.GetAddressAsString("")] = 1024 * representation.GetActualMemorySize()
    return sum(sizes.values())


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


def _dropOldest(changed: SegmentationHistory) -> None:
    """Drop states of all histories until they fit, the oldest first, but not the last of a stack of `changed`."""
    saved = [(state, stack) for history in _histories.values() for stack in history.stacks() for state in stack]
    kept = [stack[-1] for stack in changed.stacks() if stack]
    excess = sum(state.size for state, _stack in saved) - MAXIMUM_BYTES
    for state, stack in sorted(saved, key=lambda pair: pair[0].number):
        if excess > 0 and state not in kept:
            stack.remove(state)
            excess -= state.size


def _forgetRemovedNodes() -> None:
    """Drop histories whose node is gone or has another segmentation by now; a new scene uses IDs again."""
    for nodeId, history in list(_histories.items()):
        node = slicer.mrmlScene.GetNodeByID(nodeId)
        if node is None or node.GetSegmentation() is not history.segmentation:
            del _histories[nodeId]

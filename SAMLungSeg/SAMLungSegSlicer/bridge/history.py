"""Undo and redo of what the module writes into a segmentation."""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

import slicer

from SAMLungSegSlicer.bridge.states import State, stampOf

MAXIMUM_STATES = 10  # of one segmentation; the Segment Editor keeps as many
MAXIMUM_BYTES = 2**28  # of all segmentations together; lungs of 512 x 512 x 400 voxels take 2 MB, their surfaces 30 MB

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

    def __init__(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
        self.segmentation = segmentationNode.GetSegmentation()
        self.mark: int | None = None
        self._nodeId = segmentationNode.GetID()
        self._latest: State | None = None
        self._earlier: list[_Saved] = []
        self._later: list[_Saved] = []

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
        self._restore(self._earlier.pop())
        _dropOldest(self)
        return True

    def redo(self) -> bool:
        """Take the last `undo` back; whether there was one. What was edited since is kept as a state to undo to."""
        if not self.canRedo():
            return False
        self._earlier.append(self._present())
        self._restore(self._later.pop())
        _dropOldest(self)
        return True

    def canUndo(self) -> bool:
        """Whether there is an earlier state."""
        return bool(self._past())

    def canRedo(self) -> bool:
        """Whether a state was undone, and nothing was saved since."""
        return bool(self._later)

    def stacks(self) -> tuple[list[_Saved], list[_Saved]]:
        """States to undo to and to redo to, each in the order in which they were saved."""
        return self._earlier, self._later

    def state(self) -> State:
        """The segments as they are now; what has not changed since the last time is not copied again."""
        if self._latest is None or self._latest.stamp != stampOf(self.segmentation):
            self._latest = State(self.segmentation, self._latest)
        return self._latest

    def forgetPresent(self) -> None:
        """Let go of what only `state` keeps."""
        self._latest = None

    def sizes(self) -> dict[int, int]:
        """Bytes of each part of all its states, by what identifies the part, as states share some."""
        states = [one.state for stack in self.stacks() for one in stack]
        return {
            key: size for state in [*states, self._latest] if state is not None for key, size in state.sizes().items()
        }

    def _present(self) -> _Saved:
        return _Saved(self.state(), self.mark, next(_numbers))

    def _past(self) -> list[_Saved]:
        """The states that something has changed since."""
        now = stampOf(self.segmentation)
        return [one for one in self._earlier if one.state.stamp != now]

    def _restore(self, saved: _Saved) -> None:
        present = self.state()
        saved.state.restore(slicer.mrmlScene.GetNodeByID(self._nodeId), present)
        self._latest = saved.state.restored(self.segmentation)
        self.mark = saved.mark


class _Saved(NamedTuple):
    state: State
    mark: int | None
    number: int  # its place among the states of all histories


_histories: dict[str, SegmentationHistory] = {}


def historyOf(segmentationNode: slicer.vtkMRMLSegmentationNode) -> SegmentationHistory:
    """The one history of a segmentation node in the scene."""
    _forgetRemovedNodes()
    nodeId = segmentationNode.GetID()
    if nodeId not in _histories:
        _histories[nodeId] = SegmentationHistory(segmentationNode)
    return _histories[nodeId]


def forgetHistories() -> None:
    """Drop all states, as when the scene closes; none can be undone any more."""
    _histories.clear()


def bytesOfHistories() -> int:
    """Memory that all histories take together, counted by their parts, as states share some."""
    sizes: dict[int, int] = {}
    for history in _histories.values():
        sizes.update(history.sizes())
    return sum(sizes.values())


def _dropOldest(changed: SegmentationHistory) -> None:
    """Drop states of all histories until they fit, the oldest first, but not the last of a stack of `changed`."""
    if bytesOfHistories() > MAXIMUM_BYTES:
        for history in _histories.values():
            history.forgetPresent()
    saved = [(one, stack) for history in _histories.values() for stack in history.stacks() for one in stack]
    kept = [stack[-1].number for stack in changed.stacks() if stack]
    for one, stack in sorted(saved, key=lambda pair: pair[0].number):
        if one.number not in kept:
            if bytesOfHistories() <= MAXIMUM_BYTES:
                return
            stack.remove(one)


def _forgetRemovedNodes() -> None:
    """Drop histories whose node is gone or has another segmentation by now; a new scene uses IDs again."""
    for nodeId, history in list(_histories.items()):
        node = slicer.mrmlScene.GetNodeByID(nodeId)
        if node is None or node.GetSegmentation() is not history.segmentation:
            del _histories[nodeId]

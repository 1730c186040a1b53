"""One person's work on the labels of one volume: what was predicted, accepted and written, and what can be undone.

A session knows what our own hand wrote. Where labels are changed by others as well, as segments in 3D Slicer are, the
caller says what is there now, and the session distinguishes the two.

Example:
    >>> session = Session(np.zeros(volume.size_kji, np.uint8))
    >>> session.hold(Predicted.of(prompts, found.labels_hw, (1, 2), needs_prompt=False))
    >>> session.preview().shown_hw  # what accepting will write
    >>> session.accept(session.preview())
    >>> session.undo()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.coding import CodedSlice
from SAMLungSegLib.interaction.changes import (
    Change,
    PreparedVolume,
    SliceChange,
    Step,
    VolumeChange,
    bytes_of_steps,
    is_back,
)
from SAMLungSegLib.interaction.locks import Locks, Place
from SAMLungSegLib.interaction.rules import UNKNOWN, MergedVolume, Predicted, Proposal, propose

if TYPE_CHECKING:
    from SAMLungSegLib.interaction.automatic import AutomaticLungs
    from SAMLungSegLib.interaction.prompts import Part, SlicePrompts
    from SAMLungSegLib.volume import ReformattedSlice, SlicePlane

MAXIMUM_BYTES = 2**26  # that the changes of one session take; lungs of 512 x 512 x 400 voxels take 3 MB

_numbers = count(1)  # of all sessions, so that none takes another's mark for its own


class Session:
    """Prompts in, labels out, step by step.

    Attributes:
        locks: slices that nothing but the user changes.
        automatic: what was found in the volume last; None where that is not known.
    """

    def __init__(
        self,
        labels_kji: np.ndarray,
        locks: Locks | None = None,
        plane: SlicePlane | None = None,
        automatic: AutomaticLungs | None = None,
    ) -> None:
        """Begin with labels, uint8 (K, J, I), which may be none yet; who made them plays no part, only what follows.

        The array is taken over: it changes with the session.

        Args:
            labels_kji: what is there.
            locks: of an earlier session; None where nothing is known.
            plane: of the slices that the locks tell by their digests; None where that is not known.
            automatic: of an earlier session.
        """
        self.locks = locks or Locks()
        self.automatic = automatic
        self._plane = plane
        self._write(labels_kji)
        self._predicted: Predicted | None = None
        self._done: set[Part] = set()
        self._undo: list[Step] = []
        self._redo: list[Step] = []
        self._start = next(_numbers)

    @classmethod
    def restored(
        cls,
        labels_kji: np.ndarray,
        locks: Locks,
        grid: str,
        plane: SlicePlane,
        automatic: AutomaticLungs | None = None,
    ) -> Session:
        """Go on with labels (K, J, I) that an earlier session wrote, of which only locks and automatic lungs are left.

        Slices that are not locked are as they were written; of the others that is not known any more.
        """
        known = locks.of_grid(grid, plane.size_nhw[0])
        session = cls(np.full_like(labels_kji, UNKNOWN), known, plane, automatic)
        for index, (labels_hw, written_hw) in enumerate(
            zip(plane.to_display(labels_kji), plane.to_display(session._written), strict=True)
        ):
            if known.is_automatic(index, labels_hw):
                written_hw[...] = labels_hw
        return session

    @property
    def size_kji(self) -> tuple[int, int, int]:
        """Of the volume."""
        return self._written.shape

    @property
    def plane(self) -> SlicePlane | None:
        """Of the slices that the volume is segmented by; None where that is not known yet."""
        return self._plane

    @property
    def labels_kji(self) -> np.ndarray:
        """View, read-only: what our own hand wrote, `UNKNOWN` where that is not known."""
        view = self._written.view()
        view.setflags(write=False)
        return view

    # ---- one slice

    @property
    def predicted(self) -> Predicted | None:
        """What is held for the preview."""
        return self._predicted

    def hold(self, predicted: Predicted) -> None:
        """Preview this from now on."""
        self._predicted = predicted

    def is_pending(self, prompts: SlicePrompts) -> bool:
        """Whether any part of the prompts was neither accepted nor discarded."""
        return not self._done.issuperset(prompts.parts())

    def preview(
        self, present_hw: np.ndarray | None = None, editable_hw: np.ndarray | None = None, *, keep: bool = True
    ) -> Proposal | None:
        """What accepting the held prediction would write; None where nothing is held. Arguments as of `proposal`."""
        if self._predicted is None:
            return None
        return self.proposal(self._predicted, present_hw, editable_hw, keep=keep, done=frozenset(self._done))

    def proposal(
        self,
        predicted: Predicted,
        present_hw: np.ndarray | None = None,
        editable_hw: np.ndarray | None = None,
        *,
        keep: bool = True,
        done: frozenset[Part] = frozenset(),
    ) -> Proposal:
        """What writing a prediction would change, see `propose`.

        Args:
            predicted: of a slice of this volume.
            present_hw: uint8 (H, W), what is there now; None where no other hand changes labels.
            editable_hw: bool (H, W), where anything may change at all.
            keep: whether what another hand has painted stays.
            done: parts of the prompts that play no part any more.
        """
        written_hw = predicted.prompts.reformat.take(self._written)
        present_hw = written_hw if present_hw is None else present_hw
        return propose(predicted, present_hw, written_hw, editable_hw=editable_hw, keep=keep, done=done)

    def accept(self, proposal: Proposal, present_kji: np.ndarray | None = None) -> SliceChange:
        """What was proposed is written: the change, to be applied to wherever labels are kept.

        What a person has drawn counts as painted by another hand from then on: no prediction replaces it.
        The slice is locked, unless it was segmented without prompts.

        Args:
            proposal: of this session.
            present_kji: uint8 (K, J, I), all labels once they are written, of use where the slice crosses those of the
                volume, and the caller's own; None where no other hand changes labels.
        """
        reformat = proposal.prompts.reformat
        before_hw = reformat.take(self._written)
        is_found_hw = proposal.inside_hw & ~proposal.prompts.drawn_hw()
        after_hw = np.where(is_found_hw, proposal.labels_hw, before_hw)
        labels = proposal.before_hw, proposal.labels_hw
        change = SliceChange(proposal.prompts, *labels, before_hw, after_hw, next(_numbers))
        place = Place.of_reformat(reformat) if proposal.is_of_person else None
        self._apply(change, change.redone(self._written), held=() if place is None else (place,))
        if self._plane is not None and place is not None and self.is_crossing(reformat):
            self._know_crossed(self._plane, proposal, self._written if present_kji is None else present_kji)
        self._finish(proposal.prompts)
        return change

    def is_crossing(self, reformat: ReformattedSlice) -> bool:
        """Whether a slice is one of the volume's own in another direction than those that it is segmented by."""
        return self._plane is not None and self._plane.axes[0] != reformat.plane.axes[0] and reformat.depth.is_flat

    def discard(self) -> None:
        """What is held is not wanted; the same prompts are not pending any more."""
        if self._predicted is not None:
            self._finish(self._predicted.prompts)

    # ---- the volume

    def prepare_volume(self, merged: MergedVolume) -> PreparedVolume:
        """Work out, on any thread, what `accept_volume` does; what stays of it is of whose hand it was."""
        revision, written = self._revision, merged.labelmap_kji.copy()
        stays = [*(Place.of(merged.plane, number) for number in merged.kept_slices), *merged.kept_across]
        for place in stays:
            written[place.where] = self._written[place.where]
        before, after = {}, {}
        for number, (old, new) in enumerate(zip(self._written, written, strict=True)):
            if merged.editable_kji is not None:
                np.copyto(new, old, where=~merged.editable_kji[number])
            if not np.array_equal(old, new):
                before[number], after[number] = CodedSlice.of(old), CodedSlice.of(new)
        return PreparedVolume(VolumeChange(before, after, next(_numbers)), written, revision)

    def accept_volume(self, merged: MergedVolume, prepared: PreparedVolume | None = None) -> VolumeChange:
        """A merged volume is written.

        Args:
            merged: with what stays.
            prepared: of the same volume; where the session has changed since, it is worked out anew.
        """
        if prepared is None or prepared.revision != self._revision:
            prepared = self.prepare_volume(merged)
        lifted = self.locks.held - merged.locks.held
        self.locks, self._plane = merged.locks.holding(lifted), merged.plane
        self._apply(prepared.change, prepared.written_kji, lifted=lifted, automatic=merged.automatic)
        return prepared.change

    # ---- locks

    def lock(self, place: Place) -> None:
        """Nothing but the user changes the slice from now on."""
        self.locks = self.locks.holding(added=[place])

    def lift(self, place: Place, labels_kji: np.ndarray) -> None:
        """The slice is not locked any more: the next automatic result or propagation replaces it.

        Args:
            place: of the slice.
            labels_kji: uint8 (K, J, I), what is there now.
        Raises:
            IndexError: the volume was never segmented, or has no such slice.
        """
        self.locks = self.locks.holding(removed=[place])
        if self._plane is not None and place.axis == self._plane.axes[0]:
            number = place.number_in(self._plane)
            self.locks = self.locks.with_automatic({number: self._plane.to_display(labels_kji)[number]})

    # ---- undo

    @property
    def mark(self) -> int:
        """Names the present state; see `go_to`."""
        return self._undo[-1].change.number if self._undo else self._start

    def undo(self) -> Change | None:
        """Take the last change back, and return it; None where there is none. Its prompts are pending again."""
        if not self._undo:
            return None
        step = self._undo.pop()
        self._write(step.change.undone(self._written))
        self.locks, self.automatic = self.locks.holding(step.lifted, step.held), step.before
        self._redo.append(step)
        if isinstance(step.change, SliceChange):
            self._done.difference_update(step.change.prompts.parts())
        else:
            self._done.clear()
        return step.change

    def redo(self) -> Change | None:
        """Make the last change that was undone again, and return it; None where there is none."""
        if not self._redo:
            return None
        step = self._redo.pop()
        self._write(step.change.redone(self._written))
        self.locks, self.automatic = self.locks.holding(step.held, step.lifted), step.after
        self._undo.append(step)
        if isinstance(step.change, SliceChange):
            self._done.update(step.change.prompts.parts())
        return step.change

    def go_to(self, mark: int) -> None:
        """Undo or redo up to the state of a mark, for callers who keep labels, and their history, elsewhere.

        Where that is too long ago, it is not known any more what was written.
        """
        if mark == self.mark:
            return
        if mark in (self._start, *(step.change.number for step in self._undo)):
            while self.mark != mark:
                self.undo()
        elif mark in (step.change.number for step in self._redo):
            while self.mark != mark:
                self.redo()
        else:
            self._forget(mark)

    def follow(self, read: Callable[[ReformattedSlice], np.ndarray]) -> None:
        """Undo or redo changes of slices whose labels another hand has brought back, as an editor's own undo does.

        Args:
            read: gives the labels, uint8 (H, W), that a slice has now.
        """
        while self._undo and is_back(self._undo[-1].change, read):
            self.undo()
        while self._redo and is_back(self._redo[-1].change, read, redone=True):
            self.redo()

    def _apply(
        self,
        change: Change,
        written_kji: np.ndarray,
        held: Iterable[Place] = (),
        lifted: Iterable[Place] = (),
        automatic: AutomaticLungs | None = None,
    ) -> None:
        added, gone = frozenset(held) - self.locks.held, frozenset(lifted) & self.locks.held
        step = Step(change, added, gone, self.automatic, automatic or self.automatic)
        self._write(written_kji)
        self.locks, self.automatic = self.locks.holding(added, gone), step.after
        self._redo.clear()
        self._undo.append(step)
        while self._undo and bytes_of_steps([*self._undo, *self._redo]) > MAXIMUM_BYTES:
            self._start = self._undo.pop(0).change.number

    def _write(self, written_kji: np.ndarray) -> None:
        self._written, self._revision = written_kji, next(_numbers)

    def _know_crossed(self, plane: SlicePlane, proposal: Proposal, present_kji: np.ndarray) -> None:
        """Slices that one of a person's crosses are not locked for being changed by it."""
        reformat, inside_hw = proposal.prompts.reformat, proposal.inside_hw
        changed = (inside_hw & (proposal.labels_hw != proposal.before_hw))[reformat.inside_hw]
        positions = np.unique(reformat.voxels_kji()[plane.axes[0]][changed])
        numbers = [Place(plane.axes[0], int(at)).number_in(plane) for at in positions]
        slices_nhw = plane.to_display(present_kji)
        reformat.put(proposal.before_hw, present_kji, inside_hw)
        unpainted = [n for n in numbers if not self.locks.is_painted(n, slices_nhw[n])]
        reformat.put(proposal.labels_hw, present_kji, inside_hw)
        self.locks = self.locks.with_automatic({n: slices_nhw[n] for n in unpainted})

    def _forget(self, mark: int) -> None:
        self._write(np.full(self.size_kji, UNKNOWN, np.uint8))
        self._undo, self._redo, self._start = [], [], mark
        self._done.clear()

    def _finish(self, prompts: SlicePrompts) -> None:
        self._done.update(prompts.parts())
        self._predicted = None

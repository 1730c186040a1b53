"""What a session has written, as values that are undone and redone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from SAMLungSegLib.coding import CodedSlice, bytes_of

if TYPE_CHECKING:
    from SAMLungSegLib.interaction.automatic import AutomaticLungs
    from SAMLungSegLib.interaction.locks import Place
    from SAMLungSegLib.interaction.prompts import SlicePrompts
    from SAMLungSegLib.volume import ReformattedSlice


@dataclass(frozen=True, eq=False)
class SliceChange:
    """A slice that was written.

    Attributes:
        prompts: on the slice.
        before_hw, after_hw: uint8 (H, W), its labels.
        written_before_hw, written_after_hw: likewise, what was known to be of our own hand.
        number: its place among all changes.
    """

    prompts: SlicePrompts
    before_hw: np.ndarray
    after_hw: np.ndarray
    written_before_hw: np.ndarray
    written_after_hw: np.ndarray
    number: int

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return 4 * self.before_hw.nbytes

    def undone(self, written_kji: np.ndarray) -> np.ndarray:
        """What was written before, changed in place."""
        self.prompts.reformat.put(self.written_before_hw, written_kji)
        return written_kji

    def redone(self, written_kji: np.ndarray) -> np.ndarray:
        """What was written after it, changed in place."""
        self.prompts.reformat.put(self.written_after_hw, written_kji)
        return written_kji


@dataclass(frozen=True, eq=False)
class VolumeChange:
    """A volume that was written.

    Attributes:
        before, after: what was known to be of our own hand, by slice (J, I) along K, where it changes.
        number: its place among all changes.
    """

    before: Mapping[int, CodedSlice]
    after: Mapping[int, CodedSlice]
    number: int

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return bytes_of([*self.before.values(), *self.after.values()])

    def undone(self, written_kji: np.ndarray) -> np.ndarray:
        """What was written before, changed in place."""
        for number, one in self.before.items():
            one.put(written_kji[number])
        return written_kji

    def redone(self, written_kji: np.ndarray) -> np.ndarray:
        """What was written after it, changed in place."""
        for number, one in self.after.items():
            one.put(written_kji[number])
        return written_kji


class PreparedVolume(NamedTuple):
    """What `Session.accept_volume` does, worked out on another thread.

    Attributes:
        change: of a session.
        written_kji: uint8 (K, J, I), what is of our own hand after it.
        revision: of the session that it is for.
    """

    change: VolumeChange
    written_kji: np.ndarray
    revision: int


Change = SliceChange | VolumeChange


@dataclass(frozen=True, eq=False)
class Step:
    """A change, and what it did to what the session knows.

    Attributes:
        held, lifted: slices that became locked by it, and that were locked until then.
        before, after: the automatic lungs.
    """

    change: Change
    held: frozenset[Place]
    lifted: frozenset[Place]
    before: AutomaticLungs | None
    after: AutomaticLungs | None


def bytes_of_steps(steps: Collection[Step]) -> int:
    """Memory that steps take together; automatic lungs are those of several."""
    automatic = {id(one): one.nbytes for step in steps for one in (step.before, step.after) if one is not None}
    return sum(step.change.nbytes for step in steps) + sum(automatic.values())


def is_back(change: Change, read: Callable[[ReformattedSlice], np.ndarray], *, redone: bool = False) -> bool:
    """Whether a slice has its labels of before a change, or of after it, which differ."""
    if not isinstance(change, SliceChange) or np.array_equal(change.before_hw, change.after_hw):
        return False
    return np.array_equal(read(change.prompts.reformat), change.after_hw if redone else change.before_hw)

"""What a session has written, as values that are undone and redone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
        before_kji, after_kji: uint8 (K, J, I), what was known to be of our own hand.
        number: its place among all changes.
    """

    before_kji: np.ndarray
    after_kji: np.ndarray
    number: int

    @property
    def nbytes(self) -> int:
        """Memory that it takes; its `after_kji` is the next one's `before_kji`."""
        return self.before_kji.nbytes

    def undone(self, _written_kji: np.ndarray) -> np.ndarray:
        """What was written before."""
        return self.before_kji

    def redone(self, _written_kji: np.ndarray) -> np.ndarray:
        """What was written after it."""
        return self.after_kji


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

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.change.nbytes + (self.after.nbytes if self.after is not None else 0)


def is_back(change: Change, read: Callable[[ReformattedSlice], np.ndarray], *, redone: bool = False) -> bool:
    """Whether a slice has its labels of before a change, or of after it, which differ."""
    if not isinstance(change, SliceChange) or np.array_equal(change.before_hw, change.after_hw):
        return False
    return np.array_equal(read(change.prompts.reformat), change.after_hw if redone else change.before_hw)

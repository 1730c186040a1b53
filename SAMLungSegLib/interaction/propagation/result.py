"""What a propagation gives back, and the call that every way to propagate answers to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from SAMLungSegLib.options import Progress

End = Literal["lock", "image", "distance", "volume end"]


@dataclass(frozen=True)
class Reach:
    """How far a correction went in one direction.

    Attributes:
        source: number of the corrected slice.
        step: +1 or -1, the direction.
        last: number of the last slice that it reached; `source` where it reached none.
        end: why it went no further: the next corrected or locked slice, an image that does not look like the corrected
            one any more, the distance, or the end of the volume.
    """

    source: int
    step: int
    last: int
    end: End


@dataclass(frozen=True, eq=False)
class Propagation:
    """What corrections make of the other slices; nothing is written.

    Attributes:
        labels: uint8 (H, W) by the number of the slice, of those slices that become other than they are automatically;
            corrected and locked slices are never among them.
        reaches: one for each corrected slice that was changed and each direction.
        automatic_nhw: uint8 (N, H, W), what it started from.
    """

    labels: Mapping[int, np.ndarray]
    reaches: tuple[Reach, ...]
    automatic_nhw: np.ndarray

    @property
    def slices(self) -> tuple[int, ...]:
        """Numbers of the slices that become another, ascending."""
        return tuple(sorted(self.labels))

    def changed_hw(self, index: int) -> np.ndarray:
        """Bool (H, W): the pixels of that slice which become another label than the automatic one."""
        if index not in self.labels:
            return np.zeros(self.automatic_nhw.shape[1:], bool)
        return self.labels[index] != self.automatic_nhw[index]

    def changed_pixels(self) -> dict[int, int]:
        """How many pixels become another, by the number of the slice."""
        return {index: int(self.changed_hw(index).sum()) for index in self.slices}


class Propagator(Protocol):
    """Any way to carry corrections to other slices: `propagate`, or a model with a memory of slices."""

    def __call__(
        self,
        automatic_nhw: np.ndarray,
        values_nhw: np.ndarray,
        spacing_nhw_mm: tuple[float, float, float],
        corrected: Mapping[int, np.ndarray],
        locked: Collection[int] = (),
        *,
        editable_nhw: np.ndarray | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Propagation:
        """Arguments, result and errors as of `propagate`."""

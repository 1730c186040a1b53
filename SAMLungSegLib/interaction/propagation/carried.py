"""All changes of all corrected slices, carried both ways and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.interaction.propagation.change import Tissue, changes_of
from SAMLungSegLib.interaction.propagation.result import End, Propagation, Reach
from SAMLungSegLib.interaction.propagation.walk import Stack, walk
from SAMLungSegLib.options import Progress

TISSUE_SLICES = 24


def carried(
    automatic: np.ndarray,
    values: np.ndarray,
    spacing_mm: tuple[float, float, float],
    corrected: Mapping[int, np.ndarray],
    fixed: Mapping[int, np.ndarray],
    progress: Progress | None,
    cancelled: Callable[[], bool],
) -> Propagation:
    """Slices that change, and how far each correction went; arguments as of `propagate`, `fixed` as of `Stack`."""
    stack = Stack(automatic, values, spacing_mm, fixed)
    tissue = _tissue(stack) if corrected else None
    flips: dict[int, dict[int, np.ndarray]] = {}
    reaches: list[Reach] = []
    for done, (index, labels_hw) in enumerate(sorted(corrected.items())):
        if tissue is not None:
            reaches += _carried_from(index, labels_hw, stack, tissue, flips, cancelled)
        if progress is not None:
            progress(done + 1, len(corrected))
    labels = {index: _flipped(automatic[index], by_label) for index, by_label in flips.items()}
    return Propagation(labels, tuple(reaches), automatic)


def _carried_from(
    index: int,
    labels_hw: np.ndarray,
    stack: Stack,
    tissue: Tissue,
    flips: dict[int, dict[int, np.ndarray]],
    cancelled: Callable[[], bool],
) -> Iterator[Reach]:
    """Carry one corrected slice both ways, and say how far what went farthest went; `flips` is added to."""
    arrays = stack.automatic[index], labels_hw, stack.values[index]
    ends: dict[int, list[tuple[int, End]]] = {-1: [], 1: []}
    for change in changes_of(index, *arrays, stack.spacing_hw_mm, tissue):
        if cancelled():
            raise CancelledError(f"Stopped while slice {index} was carried to the others; nothing was written.")
        for step, found in ends.items():
            found.append(walk(change, step, stack, _Flip(flips, change.label)))
    for step, found in ends.items():
        if found:
            last, end = max(found, key=lambda one: (abs(one[0] - index), one[1] != "image"))
            yield Reach(index, step, last, end)


@dataclass(frozen=True)
class _Flip:
    """Collects pixels that a label gains or loses."""

    flips: dict[int, dict[int, np.ndarray]]
    label: int

    def __call__(self, index: int, pixels_hw: np.ndarray) -> None:
        by_label = self.flips.setdefault(index, {})
        by_label[self.label] = by_label[self.label] | pixels_hw if self.label in by_label else pixels_hw


def _tissue(stack: Stack) -> Tissue | None:
    every = -(-len(stack.automatic) // TISSUE_SLICES)
    chosen = {index: stack.automatic[index] for index in range(0, len(stack.automatic), every)} | dict(stack.fixed)
    return Tissue.of((stack.values[index], labels_hw) for index, labels_hw in sorted(chosen.items()))


def _flipped(automatic_hw: np.ndarray, by_label: Mapping[int, np.ndarray]) -> np.ndarray:
    """Labels with the pixels that each loses, then those that it gains where none is left."""
    after = automatic_hw.copy()
    for label, pixels in by_label.items():
        after[pixels & (automatic_hw == label)] = 0
    for label, pixels in sorted(by_label.items()):
        after[pixels & (automatic_hw != label) & (after == 0)] = label
    return after

"""A person who corrects a volume, simulated: worst slice first, in it the largest error first, always to the reference.

Shared by `Testing/benchmarks/corrections.py` and the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from SAMLungSegLib.interaction import Propagator

VOLUME_DICE, SLICE_DICE = 0.98, 0.95
NOTICED = 0.01  # of Dice
MOST_STEPS = 150

Labels = dict[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class Case:
    """A volume as a stack of slices (N, H, W), its reference, and what was found automatically."""

    name: str
    automatic: np.ndarray
    reference: np.ndarray
    values: np.ndarray
    spacing_mm: tuple[float, float, float]

    def turned(self, plane: str) -> Case:
        """The same, of axial slices, as a stack of another plane."""
        order = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}[plane]
        arrays = (one.transpose(order) for one in (self.automatic, self.reference, self.values))
        near, rows, columns = (self.spacing_mm[axis] for axis in order)
        return Case(self.name, *map(np.ascontiguousarray, arrays), (near, rows, columns))


@dataclass(frozen=True)
class Step:
    """The volume after some corrections.

    Attributes:
        volume_dice: of all labels together.
        slice_dice: of the worst slice.
        changed, better, worse: how many slices are other than automatic by propagation, and of these, how many are
            better or worse by more than 0.01 than automatically.
    """

    volume_dice: float
    slice_dice: float
    changed: int
    better: int
    worse: int


@dataclass
class Person:
    """Corrects one case.

    Attributes:
        propagator: carries each correction on; None for a person who does all alone.
        corrected: labels (H, W) by the number of the slice.
        steps: the volume at first, and after each correction.
    """

    case: Case
    propagator: Propagator | None
    corrected: Labels = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def redraw(self) -> int:
        """How many slices are redrawn until volume and worst slice are good enough."""
        return self._work(self._redraw_worst, least_slice_dice=SLICE_DICE)

    def lasso(self) -> int:
        """How many strokes, each of which puts one connected error right, until the volume is good enough."""
        return self._work(self._lasso_worst, least_slice_dice=0.0)

    def _work(self, correct: Callable[[np.ndarray], None], least_slice_dice: float) -> int:
        present = self._present()
        while self._is_poor(least_slice_dice) and len(self.steps) <= MOST_STEPS:
            correct(present)
            present = self._present()
        return len(self.steps) - 1

    def _is_poor(self, least_slice_dice: float) -> bool:
        return self.steps[-1].volume_dice < VOLUME_DICE or self.steps[-1].slice_dice < least_slice_dice

    def _present(self) -> np.ndarray:
        """Labels (N, H, W) as they are shown now; a step is noted."""
        case, carried = self.case, {}
        if self.propagator is not None:
            carried = self.propagator(case.automatic, case.values, case.spacing_mm, self.corrected).labels
        present = case.automatic.copy()
        for index, labels_hw in (*carried.items(), *self.corrected.items()):
            present[index] = labels_hw
        by_slice, volume = agreement(present, case.reference)
        gains = (by_slice - agreement(case.automatic, case.reference)[0])[[*carried]]
        counts = len(carried), int((gains > NOTICED).sum()), int((gains < -NOTICED).sum())
        self.steps.append(Step(volume, float(by_slice.min()), *counts))
        return present

    def _redraw_worst(self, present: np.ndarray) -> None:
        by_slice = agreement(present, self.case.reference)[0]
        by_slice[[*self.corrected]] = np.inf
        worst = int(by_slice.argmin())
        self.corrected[worst] = self.case.reference[worst]

    def _lasso_worst(self, present: np.ndarray) -> None:
        worst = int(agreement(present, self.case.reference)[0].argmin())
        errors, _ = ndimage.label(present[worst] != self.case.reference[worst], np.ones((3, 3)))
        largest = 1 + int(np.bincount(errors.ravel())[1:].argmax())
        self.corrected[worst] = np.where(errors == largest, self.case.reference[worst], present[worst])


def agreement(labels: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, float]:
    """Dice of each slice and of the volume, where pixels of the reference's label agree; 1 where both are empty.

    Args:
        labels: uint8 (N, H, W).
        reference: likewise.
    """
    common = 2 * ((labels == reference) & (reference > 0)).sum(axis=(1, 2))
    sizes = (labels > 0).sum(axis=(1, 2)) + (reference > 0).sum(axis=(1, 2))
    return np.where(sizes > 0, common / np.maximum(sizes, 1), 1.0), float(common.sum() / max(sizes.sum(), 1))

"""The slices of a volume as a person goes through them: which are doubtful, locked, prompted, unlike a reference."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.interaction.locks import Locks, Place

if TYPE_CHECKING:
    from SAMLungSegLib.volume import SlicePlane

DOUBTFUL = 0.2  # of the slices that a volume shows as doubtful at most, the lowest by predicted quality
APART_MM = 15.0  # closer slices are doubtful for the same reason, and a correction of one is propagated to the others


@dataclass(frozen=True, eq=False)
class Timeline:
    """One entry for each displayed slice.

    Attributes:
        ranks: float (N,), predicted quality as a rank within the volume, 0 the most doubtful, 1 the least; NaN where it
            is not known or nothing was found. What is ranked is how much of a slice is expected to be wrong, its area
            times 1 - predicted IoU: small slices at the ends of the lungs have low IoU, and little in them is wrong.
            Absolute values mean little between volumes.
        locked: bool (N,).
        prompted: bool (N,), slices with a point or a box.
        disagreement: float (N,), 1 - Dice of both lungs with a reference; NaN where both are empty or there is none.
        places: of the slices in the volume.
        spacing_mm: of neighbouring slices.
    """

    ranks: np.ndarray
    locked: np.ndarray
    prompted: np.ndarray
    disagreement: np.ndarray
    places: tuple[Place, ...]
    spacing_mm: float

    @classmethod
    def of(
        cls,
        labelmap_kji: np.ndarray,
        plane: SlicePlane,
        locks: Locks,
        scores: Collection[float] = (),
        prompted: Collection[int] = (),
        reference_kji: np.ndarray | None = None,
    ) -> Timeline:
        """That of a volume as it is now.

        Args:
            labelmap_kji: uint8 (K, J, I), 1 right, 2 left.
            plane: of the slices.
            locks: of these slices.
            scores: predicted IoU by slice, NaN where the model was not used; empty where nothing is known.
            prompted: numbers of slices with prompts.
            reference_kji: uint8 (K, J, I), what the lungs are compared with.
        """
        count = plane.size_nhw[0]
        locked = np.zeros(count, bool)
        locked[list(locks.locked(labelmap_kji, plane))] = True
        has_prompt = np.zeros(count, bool)
        has_prompt[[n for n in prompted if 0 <= n < count]] = True
        labels_nhw = plane.to_display(labelmap_kji)
        disagreement = np.full(count, np.nan)
        if reference_kji is not None:
            disagreement = _disagreement(labels_nhw, plane.to_display(reference_kji))
        areas = np.count_nonzero(labels_nhw, axis=(1, 2))
        ranks = _ranks(np.asarray(list(scores), float), areas) if len(scores) == count else np.full(count, np.nan)
        places = tuple(Place.of(plane, n) for n in range(count))
        return cls(ranks, locked, has_prompt, disagreement, places, plane.slice_spacing_mm)

    @cached_property
    def doubtful(self) -> tuple[int, ...]:
        """Numbers of the slices to look at first, the most doubtful first; without locked ones and close neighbours."""
        candidates = [n for n in np.argsort(self.ranks, kind="stable") if not np.isnan(self.ranks[n])]
        chosen: list[int] = []
        for n in candidates[: int(np.ceil(DOUBTFUL * len(candidates)))]:
            if not self.locked[n] and all(abs(int(n) - one) * self.spacing_mm >= APART_MM for one in chosen):
                chosen.append(int(n))
        return tuple(chosen)

    def next_doubtful(self, number: int | None, step: int = 1) -> int | None:
        """The doubtful slice after (or, with step -1, before) a slice in the order of doubt; None where there is none.

        From a slice that is not among them, such as one that was locked since, the next one that is less doubtful than
        it; from one that never was, the first.
        """
        order = self.doubtful
        if not order:
            return None
        if number in order:
            return order[(order.index(number) + step) % len(order)]
        rank = np.inf if number is None else self.ranks[number]
        later = [n for n in order if self.ranks[n] > rank]
        if step > 0:
            return later[0] if later else order[0]
        earlier = [n for n in order if self.ranks[n] < rank]
        return earlier[-1] if later and earlier else order[0]


def _ranks(scores: np.ndarray, areas: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(~np.isnan(scores) & (areas > 0))
    expected_wrong = (1 - scores[known]) * areas[known]
    ranks = np.full(scores.shape, np.nan)
    order = known[np.argsort(-expected_wrong, kind="stable")]
    ranks[order] = np.arange(len(order)) / max(len(order) - 1, 1)
    return ranks


def _disagreement(labels_nhw: np.ndarray, reference_nhw: np.ndarray) -> np.ndarray:
    values = []
    for labels_hw, reference_hw in zip(labels_nhw, reference_nhw, strict=True):
        shared = int(((labels_hw == reference_hw) & (labels_hw > 0)).sum())
        total = int((labels_hw > 0).sum()) + int((reference_hw > 0).sum())
        values.append(1 - 2 * shared / total if total else np.nan)
    return np.array(values)

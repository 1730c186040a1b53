"""Changes carried from slice to slice, away from where a person made them, as long as the image supports it.

Where an added region differs from what lies beside it (lung that was missed), its values say what belongs to it in the
next slice, too: the pixels that are connected and near. Where it does not (a consolidation at the chest wall, and all
that was taken away), the border of the automatic mask is moved as it was moved in the corrected slice, less and less
with the distance; between two slices that stay, signed distances of both are interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SAMLungSegLib.interaction.propagation.change import Change, Interval
from SAMLungSegLib.interaction.propagation.regions import (
    EIGHT_CONNECTED,
    SpacingHW,
    box_with_margin,
    near,
    signed_distance_mm,
    smooth,
    without_threads,
)
from SAMLungSegLib.interaction.propagation.result import End

FARTHEST_MM = 40.0
DECAY_MM = 15.0
INTERPOLATED_MM = 30.0
LEAST_SUPPORT = 0.45
BLEND_MM, BORDER_MM = 4.0, 1.5
NEAR_MM, WINDOW_MM = 5.0, 24.0
LARGEST_GROWTH, GROWTH_MM2 = 3.0, 40.0


@dataclass(frozen=True, eq=False)
class Stack:
    """What the slices are, and which of them stay.

    Attributes:
        automatic: uint8 (N, H, W).
        values: (N, H, W).
        spacing_mm: between slices, rows, columns.
        fixed: labels (H, W) by the number of the slice, of those that stay.
    """

    automatic: np.ndarray
    values: np.ndarray
    spacing_mm: tuple[float, float, float]
    fixed: Mapping[int, np.ndarray]

    @property
    def spacing_hw_mm(self) -> SpacingHW:
        """Of rows and columns."""
        return self.spacing_mm[1:]

    def next_fixed(self, index: int, step: int) -> int | None:
        """The nearest slice in a direction that stays."""
        ahead = [other for other in self.fixed if (other - index) * step > 0]
        return min(ahead, key=lambda other: abs(other - index), default=None)


def walk(change: Change, step: int, stack: Stack, flip: Callable[[int, np.ndarray], None]) -> tuple[int, End]:
    """Carry one change in one direction.

    Args:
        change: from where it was made.
        step: +1 or -1.
        stack: of slices.
        flip: called with the number of a slice and its pixels, bool (H, W), which the label gains or loses there.
    Returns:
        The last slice that it reached, and why it went no further.
    """
    stop, last, region_hw = stack.next_fixed(change.index, step), change.index, change.region_hw
    while True:
        index = last + step
        if index == stop:
            return last, "lock"
        if not 0 <= index < len(stack.automatic):
            return last, "volume end"
        if abs(index - change.index) * stack.spacing_mm[0] > FARTHEST_MM:
            return last, "distance"
        if change.interval is None:
            found = _by_place(change, index, stop, stack)
        else:
            found = _by_values(change, change.interval, index, region_hw, stack)
        if found is None:
            return last, "image"
        flip(index, found)
        last, region_hw = index, found


def _by_values(
    change: Change, interval: Interval, index: int, before_hw: np.ndarray, stack: Stack
) -> np.ndarray | None:
    """Pixels, bool (H, W), that belong to an added region by their values; `before_hw` is it in the slice before."""
    spacing = stack.spacing_hw_mm
    box = box_with_margin(before_hw, WINDOW_MM, spacing)
    before, automatic = before_hw[box], stack.automatic[index][box]
    alike = (automatic == 0) & interval.holds(stack.values[index][box])
    beside = near(before, NEAR_MM, spacing)
    alike &= beside | without_threads(alike, spacing)
    components, _ = ndimage.label(alike, EIGHT_CONNECTED)
    belongs = np.isin(components, np.setdiff1d(components[beside], 0))
    slack = GROWTH_MM2 / (spacing[0] * spacing[1])
    if not belongs.any() or belongs.sum() > LARGEST_GROWTH * before.sum() + slack:
        return None
    return _whole(belongs, box, before_hw.shape)


def _by_place(change: Change, index: int, stop: int | None, stack: Stack) -> np.ndarray | None:
    """Pixels, bool (H, W), that a label gains or loses where its border moves as it did in the corrected slice."""
    spacing, box = stack.spacing_hw_mm, change.box
    automatic = stack.automatic[index][box] == change.label
    likeness = change.likeness(stack.values[index][box].astype(np.float32), spacing)
    supported = change.region & (automatic == change.automatic) & (likeness > 0.5)
    if supported.sum() < LEAST_SUPPORT * change.region.sum():
        return None
    away_mm = abs(index - change.index) * stack.spacing_mm[0]
    distance = signed_distance_mm(automatic, spacing)
    if stop is not None and abs(stop - change.index) * stack.spacing_mm[0] <= INTERPOLATED_MM:
        share = abs(index - change.index) / abs(stop - change.index)
        other = signed_distance_mm(stack.fixed[stop][box] == change.label, spacing)
        shift = (1 - share) * change.distance_mm + share * other - distance
    else:
        weight = np.float32(np.exp(-((away_mm / DECAY_MM) ** 2) / 2))
        weights = weight * np.minimum(likeness, smooth(likeness, BLEND_MM, spacing))
        shift = weights * change.shift_mm
    moved = np.where(change.zone, distance + smooth(shift, BORDER_MM, spacing) > 0, automatic)
    flipped = without_threads(moved != automatic, spacing)
    return _whole(flipped, box, stack.automatic.shape[1:]) if flipped.any() else None


def _whole(mask: np.ndarray, box: tuple[slice, ...], size_hw: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(size_hw, bool)
    whole[box] = mask
    return whole

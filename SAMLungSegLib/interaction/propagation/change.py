"""What a person changed in a slice: connected regions of one label, each with what the image is like there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SAMLungSegLib.interaction.propagation.regions import (
    EIGHT_CONNECTED,
    SpacingHW,
    box_with_margin,
    near,
    signed_distance_mm,
    smooth,
)
from SAMLungSegLib.masks import Box

ZONE_MM = 4.0
MARGIN_MM = 12.0
SMALLEST_MM2, MOST_REGIONS = 8.0, 16
TOLERANCE = 0.05  # of the contrast between labels and what surrounds them: 40 HU in a chest CT
NOISE_MM, LOCAL_MM = 2.0, 7.0
LEAST_CONTRAST, LARGEST_ERROR, LEAST_HELD = 0.25, 0.1, 0.5


@dataclass(frozen=True)
class Tissue:
    """Values of an image inside and outside the labels of the slices.

    Attributes:
        low, high: 2nd and 98th percentile inside.
        border: half way between inside and what surrounds it.
        contrast: difference of the two, positive.
    """

    low: float
    high: float
    border: float
    contrast: float

    @classmethod
    def of(cls, slices: Iterable[tuple[np.ndarray, np.ndarray]]) -> Tissue | None:
        """Of values and labels, (H, W) each; None where they hold no label, or nothing else."""
        inside, around = [], []
        for values_hw, labels_hw in slices:
            mask = labels_hw[::2, ::2] > 0
            ring = ndimage.binary_dilation(mask, iterations=3) & ~mask
            inside.append(values_hw[::2, ::2][mask])
            around.append(values_hw[::2, ::2][ring])
        values, others = (np.concatenate(one) if one else np.zeros(0) for one in (inside, around))
        if not len(values) or not len(others):
            return None
        low, middle, high = (float(one) for one in np.percentile(values, (2, 50, 98)))
        outside = float(np.median(others))
        return cls(low, high, (middle + outside) / 2, max(abs(middle - outside), 1e-3))


@dataclass(frozen=True)
class Interval:
    """Values that belong to a region, where the image tells it from what surrounds it."""

    low: float
    high: float

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Bool, of the shape of the values."""
        return (values >= self.low) & (values <= self.high)


@dataclass(frozen=True, eq=False)
class Change:
    """A connected region that a person added to a label, or took from it; arrays (h, w) are of a box of the slice.

    Attributes:
        index: number of the slice.
        label: which grew or shrank.
        grows: whether it grew.
        region_hw: bool (H, W), the pixels that were changed.
        box: around them, with a margin.
        region, automatic, corrected: bool, the pixels that were changed, the label before and after.
        zone: bool, the pixels near the region.
        distance_mm: float32, signed distance to the border of `corrected`.
        shift_mm: float32, how far the border moved outwards, 0 out of the zone.
        low, high: float32, range of the values around each pixel, in the region no wider than the region's.
        tolerance: how far out of that range a value looks different.
        interval: of the values, where these alone say what belongs to the region; None where place has to.
    """

    index: int
    label: int
    grows: bool
    region_hw: np.ndarray
    box: Box
    region: np.ndarray
    automatic: np.ndarray
    corrected: np.ndarray
    zone: np.ndarray
    distance_mm: np.ndarray
    shift_mm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    tolerance: float
    interval: Interval | None

    @classmethod
    def of(
        cls,
        index: int,
        label: int,
        region_hw: np.ndarray,
        labels: tuple[np.ndarray, np.ndarray],
        values_hw: np.ndarray,
        spacing_hw_mm: SpacingHW,
        tissue: Tissue,
    ) -> Change:
        """Of a region and the labels (H, W) before and after."""
        box = box_with_margin(region_hw, MARGIN_MM, spacing_hw_mm)
        region, automatic, corrected = region_hw[box], labels[0][box] == label, labels[1][box] == label
        grows = bool(corrected[region].all())
        zone = near(region, ZONE_MM, spacing_hw_mm)
        distance = signed_distance_mm(corrected, spacing_hw_mm)
        shift = np.where(zone, distance - signed_distance_mm(automatic, spacing_hw_mm), 0).astype(np.float32)
        values = values_hw[box].astype(np.float32)
        local = [2 * round(LOCAL_MM / 2 / spacing) + 1 for spacing in spacing_hw_mm]
        calm = smooth(values, NOISE_MM, spacing_hw_mm)
        low, high = ndimage.minimum_filter(calm, local), ndimage.maximum_filter(calm, local)
        low[region] = np.maximum(low[region], calm[region].min())
        high[region] = np.minimum(high[region], calm[region].max())
        interval = None
        if grows and not labels[0][box][region].any():
            interval = _interval(values[region], values[zone & ~corrected], tissue)
        return cls(
            *(index, label, grows, region_hw, box, region, automatic, corrected, zone, distance, shift, low, high),
            TOLERANCE * tissue.contrast,
            interval,
        )

    def likeness(self, values: np.ndarray, spacing_hw_mm: SpacingHW) -> np.ndarray:
        """Float32 (h, w), 0 to 1: how much another slice looks like this one in the box."""
        calm = smooth(values, NOISE_MM, spacing_hw_mm)
        outside = np.maximum(np.maximum(self.low - calm, calm - self.high), 0)
        return np.exp(-((outside / self.tolerance) ** 2) / 2)


def changes_of(
    index: int,
    automatic_hw: np.ndarray,
    corrected_hw: np.ndarray,
    values_hw: np.ndarray,
    spacing_hw_mm: SpacingHW,
    tissue: Tissue,
) -> Iterator[Change]:
    """The largest connected regions in which a slice, labels (H, W), was changed; specks are none."""
    least = max(2, SMALLEST_MM2 / (spacing_hw_mm[0] * spacing_hw_mm[1]))
    found: list[tuple[int, int, np.ndarray]] = []
    for label in np.union1d(automatic_hw[automatic_hw != corrected_hw], corrected_hw[automatic_hw != corrected_hw]):
        if label:
            before, after = automatic_hw == label, corrected_hw == label
            for changed in (after & ~before, before & ~after):
                components, _ = ndimage.label(changed, EIGHT_CONNECTED)
                sizes = np.bincount(components.ravel())[1:]
                found += [(int(sizes[at]), int(label), components == at + 1) for at in np.flatnonzero(sizes >= least)]
    found.sort(key=lambda one: -one[0])
    labels = automatic_hw, corrected_hw
    for _, label, region_hw in found[:MOST_REGIONS]:
        yield Change.of(index, label, region_hw, labels, values_hw, spacing_hw_mm, tissue)


def _interval(inside: np.ndarray, outside: np.ndarray, tissue: Tissue) -> Interval | None:
    """The values that tell an added region from what lies outside beside it; None where they overlap.

    Only what looks like the inside of the labels belongs, whatever else a few pixels at the end of a lung look like;
    a region of which too little does is left to its place.
    """
    if len(outside) < 3:
        return None
    middle, other = float(np.median(inside)), float(np.median(outside))
    if abs(middle - other) < LEAST_CONTRAST * tissue.contrast:
        return None
    sign = 1.0 if middle > other else -1.0
    candidates = np.quantile(np.concatenate([inside, outside]), np.linspace(0, 1, 65))
    errors = [((sign * inside < sign * one).mean() + (sign * outside >= sign * one).mean()) / 2 for one in candidates]
    if min(errors) > LARGEST_ERROR:
        return None
    slack = TOLERANCE * tissue.contrast
    low, high = np.quantile(inside, (0.02, 0.98))
    low, high = min(low, tissue.low) - slack, max(high, tissue.high) + slack
    limits = float(candidates[int(np.argmin(errors))]), tissue.border + sign * -slack
    interval = Interval(max(low, *limits), high) if sign > 0 else Interval(low, min(high, *limits))
    return interval if interval.holds(inside).mean() >= LEAST_HELD else None

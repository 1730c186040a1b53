"""What a segmentation is like without a reference: sizes, the model's own estimate, and what looks wrong.

`FLAGS` lists what may look wrong; tables and reports iterate it. A new one is one function and one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import nan

import numpy as np
from scipy import ndimage

from SAMLungSegLib.masks import box_around
from SAMLungSegLib.pipeline import LUNG_CHOICES, Segmentation
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.volumetry import LungSize, LungSizes

SIDES = {"right": RIGHT_LUNG, "left": LEFT_LUNG}

_COUNTED_SHARE = 0.1  # of the largest slice's lung: slices with less say little about the whole
_LOW_SCORE = 0.85
_LOW_SLICE_SCORE = 0.6
_PLAUSIBLE_ML = (800, 9000)  # both lungs of an adult
_PLAUSIBLE_SHARE = (0.06, 0.65)  # of an X-ray's area, both lungs
_PLAUSIBLE_RATIO = (0.5, 2.0)  # right to left; 1.1 to 1.2 is usual
_LARGEST_LOOSE_SHARE = 0.05
_LARGEST_EDGE_SHARE = 0.2  # of a slice's lung outline, along one edge of the image
_PENALTY = 0.1


@dataclass(frozen=True, eq=False)
class Measures:
    """One segmentation, counted once for all flags.

    Attributes:
        segmentation: the result.
        wanted: which labels were chosen.
        numbers: how large and how dense the lungs are.
        areas: lung pixels of each displayed slice.
        score: predicted IoU, the mean over slices weighted by their lung; NaN without lung.
        lowest_score: of the slices with much lung.
    """

    segmentation: Segmentation
    wanted: tuple[int, ...]
    numbers: LungSizes
    areas: np.ndarray
    score: float
    lowest_score: float

    @property
    def is_flat(self) -> bool:
        """Whether there is one slice."""
        return 1 in self.segmentation.volume.size_kji

    @property
    def voxels(self) -> dict[int, int]:
        """Of each lung, by label."""
        return {label: row.voxels for label, row in self._lungs}

    @property
    def ml(self) -> dict[int, float]:
        """Of each lung, by label; NaN where the image has no volume."""
        return {label: row.size if self.numbers.unit == "ml" else nan for label, row in self._lungs}

    @property
    def _lungs(self) -> Iterable[tuple[int, LungSize]]:
        return zip(SIDES.values(), self.numbers.rows, strict=False)


def measure(segmentation: Segmentation, lungs: str = "both") -> Measures:
    """Sizes and scores of a segmentation of 'both', the 'right' or the 'left' lungs, without hidden parts beside."""
    numbers = segmentation.statistics()
    if segmentation.extent == "both":
        lungs_kji = np.where(segmentation.labelmap_kji > LEFT_LUNG, 0, segmentation.labelmap_kji)
        segmentation = replace(segmentation, labelmap_kji=lungs_kji)
    labelmap = segmentation.labelmap_nhw
    areas = np.count_nonzero(labelmap, axis=(1, 2))
    counted = (areas > 0) & np.isfinite(segmentation.scores)
    scores, weights = segmentation.scores[counted], areas[counted]
    large = weights >= _COUNTED_SHARE * areas.max()
    return Measures(
        segmentation,
        LUNG_CHOICES[lungs],
        numbers,
        areas,
        float(np.average(scores, weights=weights)) if counted.any() else nan,
        float(scores[large].min()) if large.any() else nan,
    )


def _is_missing(one: Measures) -> bool:
    return any(one.voxels[label] == 0 for label in one.wanted)


def _has_low_score(one: Measures) -> bool:
    return one.score < _LOW_SCORE


def _has_poor_slice(one: Measures) -> bool:
    return one.lowest_score < _LOW_SLICE_SCORE


def _has_odd_size(one: Measures) -> bool:
    """Both lungs too small or too large for an adult, or for an X-ray of a chest."""
    if len(one.wanted) < len(SIDES) or not one.areas.any():
        return False
    if one.is_flat:
        is_xray = one.segmentation.modality == "XRAY"
        return is_xray and not _within(one.areas.max() / one.segmentation.labelmap_nhw[0].size, _PLAUSIBLE_SHARE)
    return not _within(sum(one.ml.values()), _PLAUSIBLE_ML)


def _has_odd_ratio(one: Measures) -> bool:
    return not _within(one.numbers.right_to_left, _PLAUSIBLE_RATIO)


def _is_in_pieces(one: Measures) -> bool:
    """A lung with more than a few voxels apart from its largest piece."""
    return any(_loose_share(one.segmentation.labelmap_nhw == label) > _LARGEST_LOOSE_SHARE for label in one.wanted)


def _is_cut_off_at_the_side(one: Measures) -> bool:
    """Much of a lung's outline lies along an edge of the image."""
    lung = one.segmentation.labelmap_nhw > 0
    edges = [lung[:, 0], lung[:, -1], lung[:, :, 0], lung[:, :, -1]]
    widest = np.sqrt(one.areas.max(initial=0))
    return any(edge.sum(axis=1).max(initial=0) > _LARGEST_EDGE_SHARE * widest for edge in edges)


def _is_cut_off_at_the_end(one: Measures) -> bool:
    """The scan begins or ends inside the lungs."""
    return not one.is_flat and max(one.areas[0], one.areas[-1]) > _COUNTED_SHARE * one.areas.max()


def _is_uncertain(one: Measures) -> bool:
    return bool(one.segmentation.notes)


def _within(value: float, limits: tuple[float, float]) -> bool:
    """NaN counts as within."""
    return not (value < limits[0] or value > limits[1])


def _loose_share(mask: np.ndarray) -> float:
    """Share of the voxels of a mask (N, H, W) that are not in its largest component."""
    pieces, count = ndimage.label(mask[box_around(mask)], np.ones((3, 3, 3)))
    if count < 2:
        return 0.0
    sizes = np.bincount(pieces.ravel())[1:]
    return float(1 - sizes.max() / sizes.sum())


@dataclass(frozen=True)
class Flag:
    """Something that may be wrong with a result.

    Attributes:
        name: in tables.
        title: in reports.
        is_set: whether it is so.
    """

    name: str
    title: str
    is_set: Callable[[Measures], bool]


FLAGS = (
    Flag("lung_missing", "a lung was not found", _is_missing),
    Flag("low_score", f"the model's own estimate is below {_LOW_SCORE}", _has_low_score),
    Flag("poor_slice", f"its estimate of a slice is below {_LOW_SLICE_SCORE}", _has_poor_slice),
    Flag("odd_size", "lungs too small or too large", _has_odd_size),
    Flag("odd_ratio", "one lung more than twice the other", _has_odd_ratio),
    Flag("in_pieces", "a lung is in pieces", _is_in_pieces),
    Flag("cut_off_side", "cut off at an edge of the image", _is_cut_off_at_the_side),
    Flag("cut_off_end", "the scan begins or ends inside the lungs", _is_cut_off_at_the_end),
    Flag("assumed", "something was assumed or is uncertain, see its notes", _is_uncertain),
)


def flags_of(measures: Measures) -> list[str]:
    """Names of the flags that are set."""
    return [flag.name for flag in FLAGS if flag.is_set(measures)]


def predicted_quality(score: float, flags: int) -> float:
    """From 0, look at it first, to 1: the model's own estimate, less a tenth for each flag; 0 without lung."""
    return 0.0 if np.isnan(score) else max(0.0, score - _PENALTY * flags)

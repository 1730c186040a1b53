"""Masks of one slice: kept in little memory, cleaned, numbered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.measure import label


@dataclass(frozen=True, eq=False)
class AutomaticMask:
    """One object that a model has found in a slice.

    Attributes:
        box_xyxy: its first column, first row, last column and last row.
        runs: pixels within the box, row by row, as lengths of runs outside and inside the mask in turn.
        predicted_iou: intersection over union with the true object, as the model expects it.
        stability: see `AutomaticSettings`.
        point_xy: the point that it was predicted from, in pixels of the slice.
    """

    box_xyxy: tuple[int, int, int, int]
    runs: np.ndarray
    predicted_iou: float
    stability: float
    point_xy: tuple[float, float]

    @classmethod
    def of(
        cls, mask_hw: np.ndarray, predicted_iou: float, stability: float, point_xy: tuple[float, float]
    ) -> AutomaticMask:
        """Of a bool mask (H, W) with at least one pixel."""
        rows, columns = (np.flatnonzero(mask_hw.any(axis=axis)) for axis in (1, 0))
        left, top, right, bottom = (int(value) for value in (columns[0], rows[0], columns[-1], rows[-1]))
        inside = mask_hw[top : bottom + 1, left : right + 1].ravel()
        changes = np.flatnonzero(np.diff(inside, prepend=False))
        runs = np.diff([0, *changes, inside.size]).astype(np.int32)
        return cls((left, top, right, bottom), runs, predicted_iou, stability, point_xy)

    @property
    def area_px(self) -> int:
        """Number of its pixels."""
        return int(self.runs[1::2].sum())

    def on(self, size_hw: tuple[int, int]) -> np.ndarray:
        """Bool (H, W) of the slice."""
        left, top, right, bottom = self.box_xyxy
        inside = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        mask_hw = np.zeros(size_hw, bool)
        mask_hw[top : bottom + 1, left : right + 1] = inside.reshape(bottom + 1 - top, right + 1 - left)
        return mask_hw


def without_small_parts(mask_hw: np.ndarray, least_px: int) -> np.ndarray:
    """Fill holes, then drop islands, of fewer than `least_px` pixels; both are 8-connected, as in segment_anything."""
    filled = mask_hw | _small_parts(~mask_hw, least_px)
    return filled & ~_small_parts(filled, least_px)


def _small_parts(mask_hw: np.ndarray, least_px: int) -> np.ndarray:
    parts = label(mask_hw, connectivity=2)
    is_small = np.bincount(parts.ravel()) < least_px
    is_small[0] = False
    return is_small[parts]


def numbered(masks: Sequence[AutomaticMask], size_hw: tuple[int, int]) -> np.ndarray:
    """Int32 (H, W): mask n of `masks` has the number n + 1; of several at a pixel the smallest is on top."""
    labels_hw = np.zeros(size_hw, np.int32)
    for index in sorted(range(len(masks)), key=lambda index: -masks[index].area_px):
        labels_hw[masks[index].on(size_hw)] = index + 1
    return labels_hw

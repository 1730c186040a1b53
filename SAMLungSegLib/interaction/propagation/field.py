"""What one corrected slice says about its neighbours: a field of shifts of the border, and the values there.

The field is the signed distance of the corrected mask minus that of the automatic one, in mm, around what was changed.
Added to the signed distance of another slice's automatic mask it moves that slice's border as this one's was moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SAMLungSegLib.masks import Box, box_around

ZONE_MM = 6.0
MARGIN_MM = 16.0
LARGEST_MM = 40.0
SMOOTHING_MM = 4.0
TOLERANCE = 0.05  # of the contrast between inside and outside: 40 HU in a chest CT


@dataclass(frozen=True, eq=False)
class CorrectionField:
    """The correction of one label in one slice.

    Attributes:
        box: of the slice, in which the arrays (h, w) are.
        corrected: bool, the corrected mask.
        shift_mm: float32, positive where the mask grows; 0 further than a little away from what was changed.
        low, high: float32, range of the values around each pixel.
        tolerance: difference in values at which a pixel counts by 0.6 only.
    """

    box: Box
    corrected: np.ndarray
    shift_mm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    tolerance: float

    @classmethod
    def of(
        cls,
        automatic_hw: np.ndarray,
        corrected_hw: np.ndarray,
        values_hw: np.ndarray,
        spacing_hw_mm: tuple[float, float],
        tolerance: float,
    ) -> CorrectionField | None:
        """Of masks, bool (H, W); None where nothing was changed."""
        changed = automatic_hw != corrected_hw
        if not changed.any():
            return None
        box = padded(box_around(changed), MARGIN_MM, spacing_hw_mm, changed.shape)
        before, after = automatic_hw[box], corrected_hw[box]
        shift = signed_distance_mm(after, spacing_hw_mm) - signed_distance_mm(before, spacing_hw_mm)
        near = ndimage.distance_transform_edt(~changed[box], sampling=spacing_hw_mm) <= ZONE_MM
        values = values_hw[box].astype(np.float32)
        low, high = ndimage.minimum_filter(values, 3), ndimage.maximum_filter(values, 3)
        return cls(box, after, np.where(near, shift, 0).astype(np.float32), low, high, tolerance)

    def alike(self, values: np.ndarray, spacing_hw_mm: tuple[float, float]) -> np.ndarray:
        """Float32 (h, w), 0 to 1: how much another slice looks like this one at each pixel of the box."""
        outside = np.maximum(np.maximum(self.low - values, values - self.high), 0)
        gate = np.exp(-((outside / self.tolerance) ** 2) / 2)
        return np.minimum(gate, ndimage.gaussian_filter(gate, [SMOOTHING_MM / spacing for spacing in spacing_hw_mm]))


def padded(box: Box, margin_mm: float, spacing_hw_mm: tuple[float, float], size_hw: tuple[int, ...]) -> Box:
    """A box with a margin on all sides, within the slice."""
    margins = (int(np.ceil(margin_mm / spacing)) for spacing in spacing_hw_mm)
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, margin, size in zip(box, margins, size_hw, strict=True)
    )


def signed_distance_mm(mask: np.ndarray, spacing_hw_mm: tuple[float, float]) -> np.ndarray:
    """Float32 (h, w): distance to the border of a mask, positive inside, up to a largest one."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, LARGEST_MM if mask.any() else -LARGEST_MM, np.float32)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_hw_mm)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_hw_mm)
    half = min(spacing_hw_mm) / 2  # the border lies between pixels
    signed = np.where(mask, inside - half, half - outside)
    return np.clip(signed, -LARGEST_MM, LARGEST_MM).astype(np.float32)

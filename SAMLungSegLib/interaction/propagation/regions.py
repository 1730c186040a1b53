"""Masks of a slice in mm: boxes with margins, signed distances, openings, whatever the pixels' spacing."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from SAMLungSegLib.masks import Box, box_around

SpacingHW = tuple[float, float]

EIGHT_CONNECTED = np.ones((3, 3), bool)
LARGEST_MM = 40.0
THINNEST_MM = 1.0


def box_with_margin(mask_hw: np.ndarray, margin_mm: float, spacing_hw_mm: SpacingHW) -> Box:
    """The smallest window that holds a mask and what is near it, within the slice."""
    margins = (int(np.ceil(margin_mm / spacing)) for spacing in spacing_hw_mm)
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, size))
        for side, margin, size in zip(box_around(mask_hw), margins, mask_hw.shape, strict=True)
    )


def near(mask: np.ndarray, reach_mm: float, spacing_hw_mm: SpacingHW) -> np.ndarray:
    """Bool (h, w): a mask, not empty, and all pixels up to that far from it."""
    return ndimage.distance_transform_edt(~mask, sampling=spacing_hw_mm) <= reach_mm


def signed_distance_mm(mask: np.ndarray, spacing_hw_mm: SpacingHW) -> np.ndarray:
    """Float32 (h, w): distance to the border of a mask, positive inside, up to 40 mm."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, LARGEST_MM if mask.any() else -LARGEST_MM, np.float32)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_hw_mm)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_hw_mm)
    half = min(spacing_hw_mm) / 2  # the border lies between pixels
    return np.clip(np.where(mask, inside - half, half - outside), -LARGEST_MM, LARGEST_MM).astype(np.float32)


def smooth(image: np.ndarray, sigma_mm: float, spacing_hw_mm: SpacingHW) -> np.ndarray:
    """A Gaussian filter."""
    return ndimage.gaussian_filter(image, [sigma_mm / spacing for spacing in spacing_hw_mm], truncate=3)


def without_threads(mask: np.ndarray, spacing_hw_mm: SpacingHW) -> np.ndarray:
    """A mask without what is thinner than a disc of 1 mm radius, or of 1 pixel; corners stay."""
    element = disc(max(THINNEST_MM, min(spacing_hw_mm)), spacing_hw_mm)
    return mask & ndimage.binary_dilation(ndimage.binary_opening(mask, element), element)


def disc(radius_mm: float, spacing_hw_mm: SpacingHW) -> np.ndarray:
    """Bool (h, w), odd sizes: the pixels up to that far from the middle one."""
    y, x = (np.arange(-(reach := int(radius_mm / one)), reach + 1) * one for one in spacing_hw_mm)
    return y[:, None] ** 2 + x**2 <= radius_mm**2 * (1 + 1e-6)

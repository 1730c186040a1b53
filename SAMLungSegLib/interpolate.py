"""Slices between those that a model has seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage

from SAMLungSegLib.errors import GeometryError


def fill_between(labelmap_nhw: np.ndarray, known: Sequence[int]) -> np.ndarray:
    """Labels of the slices between known ones, by the shape of their outlines.

    Between two known slices the signed distance to each label's outline is interpolated linearly, so that an outline
    moves evenly from one to the other. A label that only one of them has reaches half way. Slices before the first
    and after the last known one stay as they are.

    Args:
        labelmap_nhw: integer (N, H, W), labels in the known slices.
        known: their numbers, ascending.
    Returns:
        A filled copy.
    Raises:
        GeometryError: the numbers are not ascending or not slices of the labelmap.
    Source: shape-based interpolation, Raya and Udupa (1990), doi:10.1109/42.52980.
    """
    if list(known) != sorted(set(known)) or any(not 0 <= number < len(labelmap_nhw) for number in known):
        raise GeometryError(f"Known slices {list(known)} are not ascending numbers below {len(labelmap_nhw)}.")
    filled = labelmap_nhw.copy()
    for first, last in pairwise(known):
        if last - first > 1:
            filled[first + 1 : last] = _between(labelmap_nhw[first], labelmap_nhw[last], last - first)
    return filled


def _between(first_hw: np.ndarray, last_hw: np.ndarray, steps: int) -> np.ndarray:
    """The `steps` - 1 slices between two labelled ones: each pixel gets the label it is deepest in."""
    labels = np.setdiff1d(np.union1d(first_hw, last_hw), [0])
    depths = np.full((len(labels) + 1, steps - 1, *first_hw.shape), -1.0, np.float32)
    depths[0] = 0  # stands for 'no label'
    weights = (np.arange(1, steps, dtype=np.float32) / steps)[:, None, None]
    for row, label in enumerate(labels, start=1):
        near, far = first_hw == label, last_hw == label
        box = _grown_box(near | far)  # beyond it is outside both outlines, and distances are those of the whole slice
        near, far = near[box], far[box]
        if near.any() and far.any():
            depth = (1 - weights) * _signed_distance(near) + weights * _signed_distance(far)
        else:
            is_reached = weights <= 0.5 if near.any() else weights >= 0.5
            depth = np.where((near | far) & is_reached, 1.0, -1.0)
        depths[(row, slice(None), *box)] = depth
    return np.concatenate([[0], labels]).astype(first_hw.dtype)[np.argmax(depths, axis=0)]


def _grown_box(mask: np.ndarray) -> tuple[slice, slice]:
    """The box around a mask (H, W) and one pixel more where the image goes on."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(max(0, int(held[0]) - 1), int(held[-1]) + 2) for held in (rows, columns))


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Pixels to the outline of a mask (H, W), positive inside; never 0."""
    inside, outside = (ndimage.distance_transform_edt(part).astype(np.float32) for part in (mask, ~mask))
    return np.where(mask, inside - 0.5, 0.5 - outside)

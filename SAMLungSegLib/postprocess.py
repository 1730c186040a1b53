"""From a model's labels, slice by slice, to the lungs of a volume: slices between, airway, sides, components, holes.

Slices are in radiological display orientation: the patient's right is at the left edge of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage

from SAMLungSegLib.air import without_airway
from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.laterality import Tissue, with_sides_told
from SAMLungSegLib.masks import Box, box_around, components_at, keep_large_components
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

STEADY_REACH_MM = 3.1  # 3 mm, and what files round
SMALLEST_ISLAND = 0.02
LARGEST_HOLE_SHARE = 0.02


def clean_up(
    labelmap: np.ndarray,
    spacing_mm: tuple[float, float, float],
    *,
    lung_hu: Callable[[Box], np.ndarray] | None = None,
    tissue: Callable[[], Tissue] | None = None,
    frontal_grey: np.ndarray | None = None,
    steady: bool = True,
    clicked: Mapping[int, Sequence[tuple[float, float]]] | None = None,
) -> tuple[np.ndarray, str]:
    """Lungs as the image has them: each of one side, without islands and holes; in a CT, steady and without airway.

    Args:
        labelmap: uint8 (N, H, W), 1 right lung, 2 left lung, in display orientation; it is overwritten.
        spacing_mm: between slices, rows, columns.
        lung_hu: of a CT, Hounsfield units (n, h, w) in a box, at least in the range of the lung window.
        tissue: of an axial CT, which tells sides.
        frontal_grey: of one frontal X-ray, uint8 (1, H, W), which tells sides.
        steady: whether neighbouring slices decide where a CT's lungs end; not where boxes of the user's do.
        clicked: XY of the user's points by the number of the slice: neighbours do not change it, `as_clicked` holds.
    Returns:
        The lungs, uint8 (N, H, W), and a note on their sides, empty where nothing is to be said.
    """
    clicked = clicked or {}
    predicted = {number: labelmap[number].copy() for number in clicked}
    if lung_hu is not None:
        if steady:
            labelmap = majority_filter_slices(labelmap, spacing_mm[0], clicked)
        box = box_around(labelmap)
        labelmap[box] = without_airway(labelmap[box], lung_hu(box), spacing_mm)
    labelmap, note = with_sides_told(labelmap, spacing_mm, tissue, frontal_grey)
    labelmap = clean_lungs(labelmap)
    for number, raw in predicted.items():
        labelmap[number] = as_clicked(raw, labelmap[number], clicked[number])
    return labelmap, note


def as_clicked(raw: np.ndarray, cleaned: np.ndarray, points_xy: Sequence[tuple[float, float]]) -> np.ndarray:
    """The cleaned labels (H, W); where a point lies in what cleaning took away or filled, the raw ones."""
    return np.where(components_at((raw > 0) != (cleaned > 0), points_xy), raw, cleaned)


def majority_filter_slices(labelmap: np.ndarray, slice_spacing_mm: float, fixed: Iterable[int] = ()) -> np.ndarray:
    """Have most of the slices within 3 mm decide what is lung, and which.

    A model that sees slices one by one wavers from slice to slice where lung is as dense as the tissue beside it.

    Args:
        labelmap: uint8 (N, H, W), 1 right lung, 2 left lung, in display orientation.
        slice_spacing_mm: from slice to slice; thick slices stay as they are.
        fixed: numbers of slices that stay as they are, but count for their neighbours.
    Returns:
        uint8 (N, H, W).
    """
    reach = min(int(STEADY_REACH_MM / slice_spacing_mm), len(labelmap) - 1)
    if reach == 0:
        return labelmap
    result = labelmap.copy()
    steady = result[(slice(None), *box_around(labelmap)[1:])]
    right, left = (_slices_around(steady == side, reach) for side in (RIGHT_LUNG, LEFT_LUNG))
    steady[right > left] = RIGHT_LUNG
    steady[left > right] = LEFT_LUNG
    steady[right + left <= reach] = 0
    for number in fixed:
        result[number] = labelmap[number]
    return result


def _slices_around(mask: np.ndarray, reach: int) -> np.ndarray:
    """How many of the slices up to `reach` before and after each one hold a pixel; the ends go on as they are."""
    padded = np.pad(mask, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    counts = np.zeros(mask.shape, np.uint16)
    for first in range(2 * reach + 1):
        counts += padded[first : first + len(mask)]
    return counts


def clean_lungs(labelmap: np.ndarray, smallest_share: float = SMALLEST_ISLAND) -> np.ndarray:
    """Drop islands, give stray patches of one lung inside the other to their surroundings, fill holes.

    Args:
        labelmap: uint8 (N, H, W), 1 right lung, 2 left lung, in display orientation.
        smallest_share: components (connected in three dimensions) below this share of the largest are islands among
            all lung, or stray patches among one lung.
    Returns:
        uint8 (N, H, W). Holes up to the size of a vessel are filled slice by slice, not the dome of the liver; a hole
        is never taken from the other lung.
    """
    result = np.zeros_like(labelmap)
    box = box_around(labelmap)
    lungs = keep_large_components(labelmap[box] > 0, smallest_share)
    for side in (RIGHT_LUNG, LEFT_LUNG):
        result[box][keep_large_components((labelmap[box] == side) & lungs, smallest_share)] = side
    for lungs_hw, result_hw in zip(lungs, result[box], strict=True):
        stray = lungs_hw & (result_hw == 0)
        if stray.any() and result_hw.any():
            nearest = ndimage.distance_transform_edt(result_hw == 0, return_distances=False, return_indices=True)
            result_hw[stray] = result_hw[tuple(nearest)][stray]
        for side, other in ((RIGHT_LUNG, LEFT_LUNG), (LEFT_LUNG, RIGHT_LUNG)):
            result_hw[_small_holes(result_hw == side) & (result_hw != other)] = side
    return result


def _small_holes(mask: np.ndarray) -> np.ndarray:
    """Enclosed gaps of a bool mask (H, W) that are small beside it."""
    gaps, count = ndimage.label(~np.pad(mask, 1))
    if count <= 1:
        return np.zeros_like(mask)
    small = np.bincount(gaps.ravel()) <= LARGEST_HOLE_SHARE * mask.sum()
    small[[0, gaps[0, 0]]] = False  # the mask and what surrounds it
    return small[gaps[1:-1, 1:-1]]


def interpolate_slices(labelmap_nhw: np.ndarray, known: Sequence[int]) -> np.ndarray:
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

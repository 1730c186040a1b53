"""From raw masks to clean lungs: sides, components, holes, slices between.

Slices are in radiological display orientation: the patient's right is at the left edge of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops
from skimage.segmentation import watershed

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

STEADY_REACH_MM = 3.1  # 3 mm, and what files round
SMALLEST_ISLAND = 0.02
LARGEST_HOLE_SHARE = 0.02

AIR_HU = -1000
AERATED_LUNG_HU = -820
SMALLEST_POCKET_MM2 = 60.0
RING_OF_A_BULLA = 0.6
CENTRAL_SHARE = 0.5


def box_around(labelmap: np.ndarray) -> tuple[slice, ...]:
    """The smallest window that holds all labels of a labelmap, empty if there are none."""
    if not labelmap.any():
        return (slice(0),) * labelmap.ndim
    axes = range(labelmap.ndim)
    held = (np.flatnonzero(labelmap.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)
    return tuple(slice(int(where[0]), int(where[-1]) + 1) for where in held)


def split_sides(mask: np.ndarray) -> np.ndarray:
    """Tell the right lung from the left in a mask of both.

    Whole components are assigned by their side of the midline between the lungs; one component that reaches far over
    to both sides is cut by a watershed on its distance transform.

    Args:
        mask: bool (H, W), one displayed slice.
    Returns:
        uint8 (H, W): 0 background, 1 right lung, 2 left lung.
    """
    labelmap = np.zeros(mask.shape, np.uint8)
    if not mask.any():
        return labelmap
    columns = np.flatnonzero(mask.any(axis=0))
    middle = (columns[0] + columns[-1]) / 2
    components, _ = ndimage.label(mask, np.ones((3, 3)))
    for region in regionprops(components):
        window = region.slice
        left_edge, right_edge = region.bbox[1], region.bbox[3] - 1
        share_right = np.mean(region.coords[:, 1] < middle)
        crosses = min(share_right, 1 - share_right) > 0.2 and right_edge - left_edge > 0.6 * np.ptp(columns)
        if crosses:
            labelmap[window][region.image] = _cut_in_two(region.image)[region.image]
        else:
            labelmap[window][region.image] = RIGHT_LUNG if region.centroid[1] < middle else LEFT_LUNG
    return labelmap


def _cut_in_two(mask: np.ndarray) -> np.ndarray:
    """Watershed of one component from the thickest point of its left and of its right half."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    half = mask.shape[1] // 2
    markers = np.zeros(mask.shape, np.int32)
    markers[np.unravel_index(np.argmax(distance[:, :half]), (mask.shape[0], half))] = RIGHT_LUNG
    row, column = np.unravel_index(np.argmax(distance[:, half:]), (mask.shape[0], mask.shape[1] - half))
    markers[row, column + half] = LEFT_LUNG
    return watershed(-distance, markers, mask=mask).astype(np.uint8)


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


def keep_large_components(mask: np.ndarray, smallest_share: float) -> np.ndarray:
    """Components (26- or 8-connected) of a bool mask that hold at least `smallest_share` of its largest."""
    components, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    if count <= 1:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return (sizes >= smallest_share * sizes.max())[components] & mask


def pure_air_pockets(
    hu: np.ndarray, air: np.ndarray, lung_hu: float, spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Trachea, main bronchi, bowel gas, bullae: pockets nearer to air than to the typical lung of this patient.

    The limit lies midway between air and `lung_hu`, so emphysema, where that is low, stays lung.

    Args:
        hu: Hounsfield units (N, H, W).
        air: bool (N, H, W), the dark voxels to look at.
        lung_hu: median of the patient's lung.
        spacing_mm: between slices, rows, columns.
    Returns:
        bool (N, H, W), within `air`.
    """
    pure = np.zeros(hu.shape, bool)
    smallest_px = SMALLEST_POCKET_MM2 / (spacing_mm[1] * spacing_mm[2])
    margin = max(1, round(2.0 / spacing_mm[2]))
    for index in np.flatnonzero(air.any(axis=(1, 2))):
        smooth = ndimage.gaussian_filter(hu[index].astype(np.float32), 1.0)
        pockets = ndimage.binary_opening(air[index] & (smooth < (AIR_HU + lung_hu) / 2), iterations=margin)
        components, _ = ndimage.label(pockets)
        large = np.bincount(components.ravel()) >= smallest_px
        large[0] = False
        pure[index] = ndimage.binary_dilation(large[components], np.ones((3, 3)), iterations=margin + 1)
    return pure & air


def without_airway(labelmap: np.ndarray, hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Take trachea and main bronchi out of a CT's lungs: central pockets of pure air that lung does not surround.

    Bullae are pockets too; they lie inside the lung or at its outside and stay.

    Args:
        labelmap: uint8 (N, H, W), 1 right lung, 2 left lung.
        hu: Hounsfield units (N, H, W), at least in the range of the lung window.
        spacing_mm: between slices, rows, columns.
    Returns:
        uint8 (N, H, W).
    """
    lung = labelmap > 0
    if not lung.any():
        return labelmap
    box = box_around(labelmap)
    result = labelmap.copy()
    # where most of it is consolidated, aerated lung must not look like airway
    lung_hu = min(float(np.median(hu[lung])), AERATED_LUNG_HU)
    pockets = pure_air_pockets(hu[box], hu[box] < AIR_HU / 2, lung_hu, spacing_mm)
    for pocket_hw, lung_hw, result_hw in zip(pockets, lung[box], result[box], strict=True):
        components, _ = ndimage.label(pocket_hw)
        for number, window in enumerate(ndimage.find_objects(components), start=1):
            around = tuple(slice(max(0, part.start - 4), part.stop + 4) for part in window)
            pocket = components[around] == number
            ring = ndimage.binary_dilation(pocket, iterations=3) & ~pocket
            centre = (window[1].start + window[1].stop) / 2 / lung_hw.shape[1]
            if abs(centre - 0.5) < CENTRAL_SHARE / 2 and np.mean(lung_hw[around][ring]) < RING_OF_A_BULLA:
                result_hw[around][pocket] = 0
    return result


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

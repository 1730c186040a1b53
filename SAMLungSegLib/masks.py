"""Masks and labelmaps of lungs: where they are, which components count, which side is which.

Slices are in radiological display orientation: the patient's right is at the left edge of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops
from skimage.segmentation import watershed

from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

Box = tuple[slice, ...]

STABILITY_OFFSET = 1.0  # of logits


def box_around(labelmap: np.ndarray) -> Box:
    """The smallest window that holds all labels of a labelmap, empty if there are none."""
    if not labelmap.any():
        return (slice(0),) * labelmap.ndim
    axes = range(labelmap.ndim)
    held = (np.flatnonzero(labelmap.any(axis=tuple(other for other in axes if other != axis))) for axis in axes)
    return tuple(slice(int(where[0]), int(where[-1]) + 1) for where in held)


def keep_large_components(mask: np.ndarray, smallest_share: float) -> np.ndarray:
    """Components (26- or 8-connected) of a bool mask that hold at least `smallest_share` of its largest."""
    components, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    if count <= 1:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return (sizes >= smallest_share * sizes.max())[components] & mask


def components_at(mask: np.ndarray, points_xy: Sequence[tuple[float, float]]) -> np.ndarray:
    """The components (8-connected) of a bool mask (H, W) that hold a point; each lies in the pixel nearest to it."""
    components, _ = ndimage.label(mask, np.ones((3, 3)))
    last = np.array(mask.shape[::-1]) - 1
    numbers = [components[y, x] for x, y in (np.clip(np.rint(xy), 0, last).astype(int) for xy in points_xy)]
    return np.isin(components, [number for number in numbers if number])


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


def stability(logits: np.ndarray) -> float:
    """How little a mask depends on the threshold: pixels with logits above 1, of those above -1; 0 without any.

    As of SAM's automatic masks.
    """
    wide = np.count_nonzero(logits > -STABILITY_OFFSET)
    return np.count_nonzero(logits > STABILITY_OFFSET) / wide if wide else 0.0

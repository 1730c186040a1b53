"""Prompts without a user: boxes and points from a coarse mask.

On CT, classical means find the lungs well enough, for a prompt only says where to look. On X-rays they do not (lung and
the dark surroundings have the same grey); there the pipeline takes the coarse mask from lung-compact.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label, regionprops

from SAMLungSegLib.prompts.simulated import distance_transform_peak
from SAMLungSegLib.prompts.types import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

SMALLEST_SLICE_PART = 0.002


def automatic_prompts(coarse: np.ndarray) -> dict[int, PromptSet]:
    """Box, one positive point per part and one negative point for each lung of a slice.

    Args:
        coarse: uint8 (H, W), 1 right lung, 2 left lung, for example from `coarse_lungs_ct`.
    Returns:
        Prompt sets by label; a lung that is absent from the slice has no entry.
    """
    prompts = {}
    for side in (RIGHT_LUNG, LEFT_LUNG):
        mask = coarse == side
        if mask.sum() < SMALLEST_SLICE_PART * mask.size:
            continue
        rows, columns = np.nonzero(mask)
        box = BoxPrompt((columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5))
        points = [PointPrompt(distance_transform_peak(part)) for part in _parts(mask)]
        points += [PointPrompt(xy, positive=False) for xy in _between_the_lungs(coarse)]
        prompts[side] = PromptSet(points=tuple(points), box=box)
    return prompts


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    components = label(mask, connectivity=2)
    regions = sorted(regionprops(components), key=lambda region: -region.area)[:3]
    return [components == region.label for region in regions if region.area >= 0.1 * mask.sum()]


def _between_the_lungs(coarse: np.ndarray) -> list[tuple[float, float]]:
    """The mediastinal point farthest from lung, inside the box of both lungs; none where one lung is absent."""
    if not all((coarse == side).any() for side in (RIGHT_LUNG, LEFT_LUNG)):
        return []
    rows = np.flatnonzero(coarse.any(axis=1))
    inner = np.zeros(coarse.shape, bool)
    first, last = np.median(np.nonzero(coarse == RIGHT_LUNG)[1]), np.median(np.nonzero(coarse == LEFT_LUNG)[1])
    inner[rows[0] : rows[-1] + 1, int(min(first, last)) : int(max(first, last)) + 1] = True
    depth = ndimage.distance_transform_edt(coarse == 0) * inner
    row, column = np.unravel_index(np.argmax(depth), depth.shape)
    return [(float(column), float(row))] if depth[row, column] > 0 else []

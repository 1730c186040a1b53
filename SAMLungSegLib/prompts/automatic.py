"""Prompts without a user: boxes and points from a coarse mask.

On CT, classical means find the lungs well enough, for a prompt only says where to look. On X-rays they do not (lung and
the dark surroundings have the same grey); there the pipeline takes the coarse mask from lung-compact.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label, regionprops

from SAMLungSegLib.postprocess import AIR_HU, keep_large_components, pure_air_pockets, split_sides
from SAMLungSegLib.prompts.simulated import distance_transform_peak
from SAMLungSegLib.prompts.types import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

AIR_BELOW_HU = -320
SMALLEST_LUNG_ML = 100.0
SMALLEST_SLICE_PART = 0.002
LID_ROWS = 6


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


def coarse_lungs_ct(hu: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Aerated lung of a CT: inside the body, darker than tissue, large, without trachea and bowel gas.

    Args:
        hu: Hounsfield units (N, H, W), display orientation, inferior to superior.
        spacing_mm: between slices, rows, columns.
    Returns:
        uint8 (N, H, W), 1 right lung, 2 left lung.
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    air = _air_in_body(hu)
    if not air.any():
        return np.zeros(hu.shape, np.uint8)
    parenchyma = air & ~pure_air_pockets(hu, air, float(np.median(hu[air])), spacing_mm)
    candidate = _eroded(parenchyma, spacing_mm)
    components, count = ndimage.label(candidate)
    if count == 0:
        return np.zeros(hu.shape, np.uint8)
    keep = _lung_components(components, voxel_ml, is_single_slice=hu.shape[0] == 1)
    lungs = _regrown(keep[components], parenchyma)
    return np.stack([split_sides(mask) for mask in lungs])


def coarse_lungs_ct_slice(hu: np.ndarray, spacing_hw_mm: tuple[float, float], *, ends_in_body: bool) -> np.ndarray:
    """`coarse_lungs_ct` for a single slice of any orientation with about square pixels.

    Args:
        hu: Hounsfield units (H, W), display orientation.
        spacing_hw_mm: between rows and columns.
        ends_in_body: whether the first and last row may lie in the body, as on coronal and sagittal slices, where lung
            or bowel gas that reaches them would pass for the air outside.
    Returns:
        uint8 (H, W), 1 right lung, 2 left lung, told by position as in a frontal slice.
    """
    rows = LID_ROWS if ends_in_body else 0
    coarse = coarse_lungs_ct(_with_lids(hu, rows)[None], (1.0, *spacing_hw_mm))[0]
    return coarse[rows : rows + len(hu)]


def _with_lids(hu: np.ndarray, rows: int) -> np.ndarray:
    """A slice (H, W) with tissue beyond its first and last row, as wide as the body is there."""
    extended = np.pad(hu, ((rows, rows), (0, 0)), constant_values=AIR_HU)
    tissue = keep_large_components(ndimage.binary_opening(hu > AIR_BELOW_HU, iterations=2), 0.3)
    for edge, lid in ((tissue[0], extended[:rows]), (tissue[-1], extended[rows + len(hu) :])):
        columns = np.flatnonzero(edge)
        if columns.size:
            lid[:, columns[0] : columns[-1] + 1] = 0
    return extended


def _air_in_body(hu: np.ndarray) -> np.ndarray:
    """Dark voxels of each slice that the body encloses."""
    result = np.zeros(hu.shape, bool)
    for index, slice_hu in enumerate(hu):
        tissue = ndimage.binary_opening(slice_hu > AIR_BELOW_HU, iterations=2)
        body = ndimage.binary_fill_holes(keep_large_components(tissue, 0.3))
        result[index] = body & ~tissue & (slice_hu <= AIR_BELOW_HU)
    return result


def _eroded(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Slice-wise erosion by about 2 mm, which cuts thin bridges."""
    return ndimage.binary_erosion(mask, np.ones((1, 3, 3)), iterations=max(1, round(2.0 / spacing_mm[2])))


def _lung_components(components: np.ndarray, voxel_ml: float, *, is_single_slice: bool) -> np.ndarray:
    """Which component numbers are lung: large, and reaching as high as the lungs do (bowel gas lies below)."""
    sizes = np.bincount(components.ravel()).astype(float)
    sizes[0] = 0
    smallest = 0.05 * sizes.max() if is_single_slice else max(0.05 * sizes.max(), SMALLEST_LUNG_ML / voxel_ml)
    keep = sizes >= smallest
    if is_single_slice or not keep.any():
        return keep
    boxes = ndimage.find_objects(components)
    largest_box = boxes[int(np.argmax(sizes)) - 1][0]
    middle = (largest_box.start + largest_box.stop) / 2
    for number in np.flatnonzero(keep):
        keep[number] = boxes[number - 1][0].stop > middle
    return keep


def _regrown(core: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Grow back what the erosion took, slice by slice, closing small vessels."""
    grown = ndimage.binary_dilation(core, np.ones((1, 3, 3)), iterations=4) & within
    closed = ndimage.binary_closing(grown, np.ones((1, 3, 3)), iterations=3) | grown
    return np.stack([ndimage.binary_fill_holes(mask) for mask in closed])

"""What air shows in a CT: aerated lung, found by thresholds, and the airway that is no lung."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from SAMLungSegLib.masks import box_around, keep_large_components, split_sides

AIR_HU = -1000
AIR_BELOW_HU = -320
AERATED_LUNG_HU = -820
SMALLEST_LUNG_ML = 100.0
SMALLEST_POCKET_MM2 = 60.0
RING_OF_A_BULLA = 0.6
CENTRAL_SHARE = 0.5
LID_ROWS = 6


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

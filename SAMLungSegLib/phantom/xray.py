"""The phantom's radiograph: attenuation of the CT summed from back to front."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.phantom.ct import LEFT_LUNG, RIGHT_LUNG, Phantom

WATER_PER_MM = 0.018
BONE_PER_MM = 0.04
MOST_BONE = 0.32
VISIBLE_SHARE = 0.6
SHORTEST_SHARE = {"visible": 0.22, "whole": 0.12}


def chest_xray(
    phantom: Phantom, size_hw: tuple[int, int] = (512, 512), *, extent: str = "visible"
) -> tuple[np.ndarray, np.ndarray]:
    """A radiograph like a PA view, and the lungs a reader would outline on it.

    Rows run from superior, columns from the patient's right; bone is white; the image is isotropic, centred and
    padded with 0, collimated to the lungs with some margin. Visible lung fields leave out what heart and diaphragm
    hide: a lung counts where it takes up most of the ray's way through the chest. Whole lungs are all that the rays
    meet.

    Args:
        phantom: the chest to project.
        size_hw: rows and columns wanted.
        extent: 'visible' or 'whole'.

    Returns:
        uint8 image (H, W) and uint8 labelmap (H, W), 1 = the patient's right lung, 2 = left lung.

    Raises:
        GeometryError: `size_hw` is not positive.
    """
    if min(size_hw) < 1:
        raise GeometryError(f"X-ray of size {size_hw}: expected positive numbers; give (rows, columns)")
    spacing_i, spacing_j, spacing_k = np.abs(np.diag(phantom.ijk_to_ras)[:3])
    rng = np.random.default_rng(int(np.abs(phantom.hu_kji[:: max(1, len(phantom.hu_kji) // 8)]).sum(dtype=np.int64)))
    hu = np.where(_patient(phantom.hu_kji), phantom.hu_kji, -1000).astype(np.float32)
    depth = np.clip(hu / 1000 + 1, 0, None).sum(axis=1) * (spacing_j * WATER_PER_MM)
    bone = np.clip(hu - 150, 0, 1500).sum(axis=1) / 1000 * (spacing_j * BONE_PER_MM)
    depth += MOST_BONE * np.tanh(bone / MOST_BONE)
    paths, chest = _paths(phantom.labelmap_kji, spacing_j)
    view = _View(chest > 0, (spacing_k, spacing_i), size_hw, rng)
    image = _developed(view.show(depth, order=3), rng)
    labelmap = np.zeros(size_hw, np.uint8)
    for side in (RIGHT_LUNG, LEFT_LUNG):
        path = view.show(paths[side], order=1)
        labelmap[view.frame(_lung_field(path, view.show(chest, order=1), extent))] = side
    return view.frame(image), labelmap


class _View:
    """From the CT's coronal grid to an isotropic image, head up, centred in the frame."""

    def __init__(
        self, lungs: np.ndarray, spacing_mm: tuple[float, float], size_hw: tuple[int, int], rng: np.random.Generator
    ) -> None:
        below_above, beside = rng.uniform((20, 30), (90, 60)), rng.uniform((20, 20), (80, 80))
        self.window = tuple(
            _collimated(lungs.any(1 - axis), margins / spacing_mm[axis])
            for axis, margins in enumerate((below_above, beside))
        )
        extent = [(w.stop - w.start) * s for w, s in zip(self.window, spacing_mm, strict=True)]
        pixel = max(e / n for e, n in zip(extent, size_hw, strict=True))
        self.size = [min(max(1, round(e / pixel)), n) for e, n in zip(extent, size_hw, strict=True)]
        self.size_hw = size_hw

    def show(self, plane: np.ndarray, order: int) -> np.ndarray:
        part = plane[self.window][::-1]
        factors = [n / s for n, s in zip(self.size, part.shape, strict=True)]
        return ndimage.zoom(part, factors, order=order, mode="nearest", grid_mode=True)

    def frame(self, image: np.ndarray) -> np.ndarray:
        before = [(n - s) // 2 for n, s in zip(self.size_hw, self.size, strict=True)]
        after = [n - s - b for n, s, b in zip(self.size_hw, self.size, before, strict=True)]
        return np.pad(image, list(zip(before, after, strict=True)))


def _collimated(occupied: np.ndarray, margins: np.ndarray) -> slice:
    """The occupied stretch with a margin before and after it; everything where nothing is occupied."""
    where = np.flatnonzero(occupied)
    if not len(where):
        return slice(0, len(occupied))
    return slice(max(0, int(where[0] - margins[0])), min(len(occupied), int(where[-1] + 1 + margins[1])))


def _paths(labelmap_kji: np.ndarray, spacing_j: float) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Lengths in mm of the rays' ways through each lung and through the convex hull of both, (K, I) float32."""
    paths = {s: (labelmap_kji == s).sum(axis=1).astype(np.float32) * spacing_j for s in (RIGHT_LUNG, LEFT_LUNG)}
    step = max(1, labelmap_kji.shape[2] // 160)
    small = labelmap_kji[:, ::step, ::step] > 0
    hull = np.zeros((small.shape[0], small.shape[2]), np.float32)
    for k in np.flatnonzero(small.any(axis=(1, 2))):
        hull[k] = convex_hull_image(small[k]).sum(axis=0) * (spacing_j * step)
    columns = np.minimum(np.arange(labelmap_kji.shape[2]) // step, hull.shape[1] - 1)
    return paths, np.maximum(hull[:, columns], paths[RIGHT_LUNG] + paths[LEFT_LUNG])


def _patient(hu_kji: np.ndarray) -> np.ndarray:
    """The body without the table, each slice's holes filled: bool (K, J, I)."""
    dense = ndimage.binary_opening(hu_kji > -500, np.ones((1, 3, 3), bool))
    parts, count = ndimage.label(dense)
    if not count:
        return dense
    sizes = np.bincount(parts.ravel())[1:]
    body = parts == 1 + int(np.argmax(sizes))
    return ndimage.binary_dilation(np.stack([ndimage.binary_fill_holes(plane) for plane in body]), iterations=1)


def _developed(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scatter, quantum noise and the film's contrast curve; uint8."""
    size = max(depth.shape)
    depth = 0.85 * depth + 0.15 * ndimage.gaussian_filter(depth, size / 40)
    depth = ndimage.gaussian_filter(depth, size / 700)
    depth = depth + rng.normal(0, 0.012, depth.shape) * np.exp(np.clip(depth, 0, 5) / 4)
    lung, belly = np.percentile(depth[depth > 0.4], (12, 85)) if (depth > 0.4).any() else (0.0, 1.0)
    middle = lung + (belly - lung) * rng.uniform(0.35, 0.55)
    width = max(belly - lung, 0.1) * rng.uniform(0.17, 0.26)
    grey = 1 / (1 + np.exp(-(depth - middle) / width))
    grey = grey * np.clip(depth / 0.8, 0, 1)
    return np.round(255 * np.clip(grey, 0, 1)).astype(np.uint8)


def _lung_field(path_mm: np.ndarray, chest_mm: np.ndarray, extent: str) -> np.ndarray:
    """One lung's field, bool: its largest part, smooth, without holes."""
    if not path_mm.any():
        return np.zeros(path_mm.shape, bool)
    blur = max(path_mm.shape) / 170
    path_mm, chest_mm = ndimage.gaussian_filter(path_mm, blur), ndimage.gaussian_filter(chest_mm, blur)
    longest = np.percentile(path_mm[path_mm > 1], 98) if (path_mm > 1).any() else path_mm.max()
    field = path_mm > SHORTEST_SHARE[extent] * longest
    if extent == "visible":
        field &= path_mm > VISIBLE_SHARE * chest_mm
    field = ndimage.gaussian_filter(field.astype(np.float32), 1.5 * blur) > 0.5
    parts, count = ndimage.label(field)
    if count > 1:
        field = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return ndimage.binary_fill_holes(field)

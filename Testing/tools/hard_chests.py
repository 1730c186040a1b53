"""Generated chests with findings that are known to be hard: as CT and as X-ray, with their true lungs.

Each finding takes a chest and returns it changed; it is painted here, so that nothing of it was learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from SAMLungSegLib.phantom import Phantom, chest_ct, chest_xray
from SAMLungSegLib.volume import Volume

RIGHT, LEFT = 1, 2
TISSUE_HU, METAL_HU = 40, 3000
SIZE_KJI, SPACING_MM = (30, 144, 144), (10.0, 2.8, 2.8)
XRAY_SIZE_KJI, XRAY_SPACING_MM, XRAY_HW = (75, 144, 144), (4.0, 2.8, 2.8), (384, 384)
AS_DISPLAYED = np.diag([-1.0, -1.0, 1.0, 1.0])

Finding = Callable[[Phantom, np.random.Generator], Phantom]


@dataclass(frozen=True)
class Case:
    """An image, and the labelmap that is right."""

    finding: str
    seed: int
    image: Volume
    truth: Volume


def unchanged(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """As it is, with whatever disease this seed has."""
    return chest


def consolidated(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """The lower half of one lung, beyond a wavy border, as dense as tissue; it stays lung."""
    lung = chest.labelmap_kji == rng.choice((RIGHT, LEFT))
    height = np.arange(len(lung))[:, None, None] + 4 * _waves(lung.shape, rng)
    return _painted(chest, lung & (height < np.median(height[lung])), TISSUE_HU, rng)


def effusion(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """The lower third of one lung is fluid: no lung any more."""
    lung = chest.labelmap_kji == rng.choice((RIGHT, LEFT))
    planes, rows, _ = np.indices(lung.shape, sparse=True)
    height = np.broadcast_to(planes - 0.15 * rows, lung.shape)  # fluid is deepest behind
    fluid = lung & (height < np.quantile(height[lung], 1 / 3))
    return replace(
        _painted(chest, fluid, 10, rng), labelmap_kji=np.where(fluid, 0, chest.labelmap_kji).astype(np.uint8)
    )


def one_lung(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """One lung is gone, and its side full of tissue."""
    gone = chest.labelmap_kji == rng.choice((RIGHT, LEFT))
    return replace(
        _painted(chest, gone, TISSUE_HU, rng), labelmap_kji=np.where(gone, 0, chest.labelmap_kji).astype(np.uint8)
    )


def swapped_sides(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """All organs mirrored, as in situs inversus; the right lung is still the one on the patient's right."""
    sides = np.array([0, LEFT, RIGHT], np.uint8)
    return replace(chest, hu_kji=chest.hu_kji[:, :, ::-1].copy(), labelmap_kji=sides[chest.labelmap_kji[:, :, ::-1]])


def metal(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """A device as large as a pacemaker in front of a lung, and on CT the streaks that it throws."""
    k, j, i = (int(place) for place in _front_of_a_lung(chest, rng))
    hu = chest.hu_kji.astype(np.float32)
    planes, rows, columns = np.indices(hu.shape, sparse=True)
    near = np.abs(planes - k) <= max(1, round(20 / abs(chest.ijk_to_ras[2, 2])))
    away, angle = np.hypot(rows - j, columns - i), np.arctan2(rows - j, columns - i)
    hu = np.where(near, hu + 2500 * np.cos(14 * angle) / (3 + away), hu)
    hu = np.where(near & (away < 9), METAL_HU, hu)
    return replace(chest, hu_kji=hu.clip(-1024, 3071).astype(np.int16))


def cropped(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """The field of view ends within both lungs, at the sides and at the front and back."""
    at = np.argwhere(chest.labelmap_kji > 0)
    (_, top, first), (_, bottom, last) = at.min(axis=0), at.max(axis=0)
    cut, deep = round(0.18 * (last - first)), round(0.12 * (bottom - top))
    view = (slice(None), slice(top + deep, bottom - deep), slice(first + cut, last - cut))
    matrix = chest.ijk_to_ras.copy()
    matrix[:3, 3] = (chest.ijk_to_ras @ [first + cut, top + deep, 0, 1])[:3]
    return Phantom(chest.hu_kji[view].copy(), chest.labelmap_kji[view].copy(), matrix)


def small(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """As large as a child of a year: 0.45 of an adult in each direction."""
    return replace(chest, ijk_to_ras=chest.ijk_to_ras @ np.diag([0.45, 0.45, 0.45, 1.0]))


def noisy(chest: Phantom, rng: np.random.Generator) -> Phantom:
    """Noise with an SD of 250 HU, as of a very low dose."""
    hu = chest.hu_kji + rng.normal(0, 250, chest.hu_kji.shape)
    return replace(chest, hu_kji=hu.clip(-1024, 3071).astype(np.int16))


FINDINGS: dict[str, Finding] = {
    "as generated": unchanged,
    "large consolidation": consolidated,
    "large effusion": effusion,
    "one lung": one_lung,
    "sides swapped": swapped_sides,
    "metal device": metal,
    "cropped field of view": cropped,
    "as small as a child": small,
    "noise": noisy,
}


def hard_ct(finding: str, seed: int) -> Case:
    """A CT with a finding."""
    chest = FINDINGS[finding](chest_ct(seed, size_kji=SIZE_KJI, spacing_mm=SPACING_MM), np.random.default_rng(seed))
    image = Volume(chest.hu_kji, chest.ijk_to_ras, f"{finding}, {seed}", "CT")
    return Case(finding, seed, image, replace(image, array_kji=chest.labelmap_kji))


def hard_xray(finding: str, seed: int) -> Case:
    """The X-ray of a chest with a finding, and its visible lung fields; noise is of the picture."""
    rng = np.random.default_rng(seed)
    whole = chest_ct(seed, size_kji=XRAY_SIZE_KJI, spacing_mm=XRAY_SPACING_MM)
    chest = whole if finding in ("noise", "cropped field of view") else FINDINGS[finding](whole, rng)
    picture, truth = chest_xray(chest, XRAY_HW)
    if finding == "noise":
        picture = (picture + rng.normal(0, 50, picture.shape)).clip(0, 255).astype(np.uint8)
    if finding == "cropped field of view":
        at = np.argwhere(truth > 0)
        (top, first), (bottom, last) = at.min(axis=0), at.max(axis=0)
        cut, deep = round(0.12 * (last - first)), round(0.15 * (bottom - top))
        view = (slice(top + deep, bottom - deep), slice(first + cut, last - cut))
        picture, truth = picture[view].copy(), truth[view].copy()
    image = Volume(picture[None], AS_DISPLAYED, f"{finding}, {seed}", "XRAY", has_physical_spacing=False)
    return Case(finding, seed, image, replace(image, array_kji=truth[None]))


def _painted(chest: Phantom, where: np.ndarray, hu: float, rng: np.random.Generator) -> Phantom:
    """Voxels of one density, with a soft border and the scan's noise."""
    share = ndimage.gaussian_filter(where.astype(np.float32), (0.3, 0.7, 0.7))
    density = hu + rng.normal(0, 20, where.shape)
    painted = np.where(where, share * density + (1 - share) * chest.hu_kji, chest.hu_kji)
    return replace(chest, hu_kji=painted.round().astype(np.int16))


def _front_of_a_lung(chest: Phantom, rng: np.random.Generator) -> np.ndarray:
    """A voxel a little in front of one lung, in its upper half."""
    lung = np.argwhere(chest.labelmap_kji == rng.choice((RIGHT, LEFT)))
    k = int(np.quantile(lung[:, 0], 0.65))
    plane = lung[lung[:, 0] == k]
    front = plane[plane[:, 1].argmin()]
    return front - (0, 6, 0)


def _waves(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise with an SD of 1."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 8, 8))
    return noise / noise.std()

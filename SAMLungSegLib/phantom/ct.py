"""The phantom's CT: anatomy painted as HU, then blurred, resampled and given noise like a scanner's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.phantom import anatomy
from SAMLungSegLib.phantom.anatomy import Anatomy, Grid
from SAMLungSegLib.phantom.findings import Findings, add_findings
from SAMLungSegLib.phantom.organs import Canvas, add_abdomen, add_airways, add_bones, add_mediastinum, add_vessels

RIGHT_LUNG, LEFT_LUNG = 1, 2
PADDING_HU = -3024
LUNG_CENTRE_Z = -36.0
FINEST_PAINTED_MM = 1.4
FULL_HEIGHT_MM = 300.0


@dataclass(frozen=True)
class Phantom:
    """A generated chest CT.

    Attributes:
        hu_kji: int16 (K, J, I), Hounsfield units; K toward superior, J toward posterior, I toward the patient's left.
        labelmap_kji: uint8 (K, J, I), 1 = the patient's right lung, 2 = left lung, 0 elsewhere.
        ijk_to_ras: float (4, 4), voxel centres (i, j, k, 1) to RAS in mm.
    """

    hu_kji: np.ndarray
    labelmap_kji: np.ndarray
    ijk_to_ras: np.ndarray


@dataclass(frozen=True)
class Scan:
    """How the examination was made: table, reconstruction circle, blur and noise."""

    table: str
    padding: bool
    noise_hu: float
    grain: float
    blur: float
    enhancement_hu: float
    lung_hu: float

    @classmethod
    def draw(cls, rng: np.random.Generator, variation: float) -> Scan:
        """A scan drawn at random."""
        return cls(
            table=str(rng.choice(["curved", "flat", "none"], p=[0.6, 0.25, 0.15])),
            padding=bool(rng.random() < 0.5),
            noise_hu=float(np.exp(rng.normal(np.log(22), 0.5 * variation)).clip(8, 70)),
            grain=float(rng.uniform(0.3, 0.9)),
            blur=float(rng.uniform(0.45, 0.9)),
            enhancement_hu=float(rng.choice([0, 0, 90, 200])),
            lung_hu=float(rng.uniform(-865, -800)),
        )


def chest_ct(
    seed: int = 0,
    *,
    size_kji: tuple[int, int, int] = (64, 192, 192),
    spacing_mm: tuple[float, float, float] = (5.0, 2.0, 2.0),
    variation: float = 1.0,
) -> Phantom:
    """A chest CT from the lower neck to the upper abdomen, the same for the same arguments.

    Args:
        seed: 0 is the standard case: one consolidation, bowel gas, table, padded reconstruction circle.
        size_kji: voxels along superior, posterior and left.
        spacing_mm: voxel size in the same order. A field of view under about 280 x 360 mm cuts the chest; a scan
            shorter than 300 mm gets a person up to a fifth shorter, so that it still reaches beyond the lungs.
        variation: 0 makes everybody average, 1 is the spread of adults.

    Raises:
        GeometryError: a size or spacing is not positive.
    """
    if min(size_kji) < 1 or min(spacing_mm) <= 0:
        raise GeometryError(
            f"phantom of size {size_kji} and spacing {spacing_mm}: expected positive numbers; give both as (K, J, I)"
        )
    rng = np.random.default_rng(seed)
    spread = variation * (0.25 if seed == 0 else 1.0)
    person, scan, findings = Anatomy.draw(rng, spread), Scan.draw(rng, spread), Findings.draw(rng)
    if seed == 0:
        person, scan, findings = _standard(person, scan)
    centres = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size_kji, spacing_mm, strict=True)]
    coarse = [_thinned(centres[0], 0.0), *(_thinned(axis, FINEST_PAINTED_MM) for axis in centres[1:])]
    shorter = float(np.clip(size_kji[0] * spacing_mm[0] / FULL_HEIGHT_MM, 0.8, 1))
    person = replace(person, height=person.height * shorter)
    grid = _grid(coarse, person, 3.0 * spread, rng)
    canvas, lung = _paint(grid, coarse, person, scan, findings, rng)
    hu, labelmap = _resampled(canvas, lung, size_kji)
    hu = _scanned(hu, centres, scan, rng)
    return Phantom(hu, labelmap, _ijk_to_ras(centres, spacing_mm))


def _standard(person: Anatomy, scan: Scan) -> tuple[Anatomy, Scan, Findings]:
    person = replace(person, breast=0.0, arms_down=False, bowel_gas=5, oesophagus_air=True, fat=13.0)
    scan = replace(scan, table="curved", padding=True, noise_hu=18.0, lung_hu=-845.0, enhancement_hu=60.0)
    return person, scan, Findings(consolidations=1, ground_glass=0, nodules=1, effusion=0.0)


def _thinned(axis: np.ndarray, finest_mm: float) -> np.ndarray:
    """Fewer positions over the same extent where the axis is sampled more finely than needed."""
    if len(axis) < 2 or axis[1] - axis[0] >= finest_mm:
        return axis
    count = int(np.ceil((axis[-1] - axis[0]) / finest_mm)) + 1
    return np.linspace(axis[0], axis[-1], count)


def _grid(centres: list[np.ndarray], person: Anatomy, warp_mm: float, rng: np.random.Generator) -> Grid:
    z, y, x = np.meshgrid(*(axis.astype(np.float32) for axis in centres), indexing="ij", sparse=True)
    z = z / np.float32(person.height) + np.float32(LUNG_CENTRE_Z)
    shape = (z.size, y.size, x.size)
    x = np.broadcast_to(x - np.float32(person.shift_x), shape)
    y = np.broadcast_to(y - np.float32(person.shift_y), shape)
    turned = Grid(x, y, z).turned(person.turn_deg, 0, 0)
    x, y = turned.x - np.float32(person.bend) * np.sin(z / 60), turned.y
    return Grid(x + warp_mm * _warp(shape, rng), y + warp_mm * _warp(shape, rng), z)


def _warp(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of about unit spread with a handful of features over the chest."""
    coarse = rng.standard_normal((7, 8, 8)).astype(np.float32)
    smooth = ndimage.zoom(coarse, 6, order=3)
    return ndimage.zoom(smooth, [n / c for n, c in zip(shape, smooth.shape, strict=True)], order=1)


def _paint(
    grid: Grid,
    centres: list[np.ndarray],
    person: Anatomy,
    scan: Scan,
    findings: Findings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """HU (K, J, I) float32, and the lungs as a uint8 labelmap."""
    skin, chest = anatomy.body(grid, person), anatomy.cavity(grid, person)
    septum, floor = anatomy.mediastinum(grid, person), anatomy.diaphragm(grid, person)
    lung = anatomy.lungs(grid, person, (chest + 1.5, septum, floor))
    canvas = Canvas.blank(grid)
    canvas.fill(skin < 0, -100)
    canvas.fill((skin < -person.fat) | ((chest < 3 + person.muscle) & (skin < -2.5)), 45)
    canvas.fill((skin < 0) & (skin > -2.2), 20)
    if person.arms_down:
        _add_arms(canvas, person)
    add_mediastinum(canvas, person, (chest, lung), scan.enhancement_hu)
    add_abdomen(canvas, person, (chest, floor), rng)
    add_bones(canvas, person, chest, skin)
    inside = lung < 0
    gradient = np.float32(0.35) * grid.y
    canvas.hu[inside] = (scan.lung_hu + gradient + _texture(inside.shape, rng))[inside]
    inside &= ~add_airways(canvas, person)
    left = grid.x > grid.profile(((-220, 6), (-40, 6), (0, 0), (140, 0)))
    labelmap = np.where(inside, np.where(left, LEFT_LUNG, RIGHT_LUNG), 0).astype(np.uint8)
    add_vessels(canvas, labelmap, rng, 40 + scan.enhancement_hu)
    add_findings(canvas, labelmap, lung, findings, rng)
    if scan.table != "none":
        _add_table(canvas, centres, person, scan.table)
    return canvas.hu, labelmap


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    coarse = rng.standard_normal([max(2, -(-n // 6)) for n in shape]).astype(np.float32)
    return 22 * ndimage.zoom(coarse, [n / c for n, c in zip(shape, coarse.shape, strict=True)], order=1)


def _add_arms(canvas: Canvas, person: Anatomy) -> None:
    for side in (-1, 1):
        x = side * (158 * person.width + person.fat)
        above = np.clip(canvas.grid.z - 70, 0, 200)
        limb = np.sqrt((canvas.grid.x - x) ** 2 + (canvas.grid.y - 14) ** 2 / 1.4 + above**2)
        for radius, value in ((36, -100), (29, 50), (11, 900), (7, 150)):
            canvas.fill((limb < radius) & (canvas.hu < value), value)


def _add_table(canvas: Canvas, centres: list[np.ndarray], person: Anatomy, kind: str) -> None:
    """Two thin plates behind the body, in scanner coordinates: the table does not turn with the patient."""
    back = (84 * person.depth + 0.8 * (person.fat + person.muscle + 7)) + person.shift_y + 14
    y, x = np.meshgrid(centres[1], centres[2], indexing="ij", sparse=True)
    sag = 0.0011 * x**2 if kind == "curved" else 0.0 * x
    for depth, thickness, half, value in ((back, 1.6, 200, -300), (back + 22, 2.4, 150, 0), (back + 34, 2.4, 130, -50)):
        plate = (np.abs(y - depth + sag) < thickness) & (np.abs(x) < half)
        free = plate[None] & (canvas.hu < -950) & (canvas.grid.y > 30)
        canvas.hu[free] = value


def _resampled(hu: np.ndarray, labelmap: np.ndarray, size_kji: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    if hu.shape == tuple(size_kji):
        return hu, labelmap
    factors = [n / c for n, c in zip(size_kji, hu.shape, strict=True)]
    shares = [ndimage.zoom((labelmap == v).astype(np.float32), factors, order=1) > 0.5 for v in (RIGHT_LUNG, LEFT_LUNG)]
    fine = np.where(shares[1], LEFT_LUNG, np.where(shares[0], RIGHT_LUNG, 0)).astype(np.uint8)
    return ndimage.zoom(hu, factors, order=1), fine


def _scanned(hu: np.ndarray, centres: list[np.ndarray], scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """Blur, correlated noise, clipping to the scanner's range and the reconstruction circle; int16."""
    hu = ndimage.gaussian_filter(hu, (0.35, scan.blur, scan.blur))
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0, scan.grain, scan.grain))
    hu = np.clip(hu + noise * np.float32(scan.noise_hu / max(noise.std(), 1e-6)), -1024, 3071)
    if scan.padding:
        radius = min(abs(centres[1][0]), abs(centres[2][0]))
        hu[:, np.hypot(centres[1][:, None], centres[2][None]) > radius] = PADDING_HU
    return np.round(hu).astype(np.int16)


def _ijk_to_ras(centres: list[np.ndarray], spacing_mm: tuple[float, float, float]) -> np.ndarray:
    matrix = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    matrix[:3, 3] = [-centres[2][0], -centres[1][0], centres[0][0]]
    return matrix

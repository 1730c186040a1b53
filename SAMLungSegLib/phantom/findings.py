"""Disease in the phantom's lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from SAMLungSegLib.phantom.anatomy import Grid, ellipsoid
from SAMLungSegLib.phantom.organs import Canvas, soft_noise


@dataclass(frozen=True)
class Findings:
    """How much of each disease; effusion is its depth in mm, of one side."""

    consolidations: int
    ground_glass: int
    nodules: int
    effusion: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Findings:
        """Disease drawn at random; a fifth of the chests are healthy."""
        if rng.random() < 0.2:
            return cls(0, 0, 0, 0.0)
        counts = [int(n) for n in rng.integers(0, (4, 4, 4))]
        return cls(*counts, float(rng.uniform(15, 45)) if rng.random() < 0.25 else 0.0)


def add_findings(
    canvas: Canvas, labelmap: np.ndarray, lung: np.ndarray, findings: Findings, rng: np.random.Generator
) -> None:
    """Paint disease into the lungs; an effusion is taken out of the labelmap, all else stays lung.

    Args:
        canvas: painted in place.
        labelmap: uint8 (K, J, I), changed in place.
        lung: signed distance to the lungs' surface in mm, negative inside.
        findings: what to paint.
        rng: source of places, sizes and shapes.
    """
    pleura = np.flatnonzero((labelmap > 0) & (lung > -6) & (canvas.grid.y > -15) & (np.abs(canvas.grid.x) > 50))
    inner = np.flatnonzero((labelmap > 0) & (lung < -8))
    if not len(pleura) or not len(inner):
        return
    for _ in range(findings.ground_glass):
        _add_patch(canvas, labelmap, rng, rng.choice(inner), (18, 42), (-620, -430))
    for _ in range(findings.consolidations):
        place, size = rng.choice(pleura), rng.uniform(20, 42)
        _add_patch(canvas, labelmap, rng, place, (size * 1.3, size * 1.4), (-600, -450))
        _add_patch(canvas, labelmap, rng, place, (size, size * 1.05), (-60, 45))
    for _ in range(findings.nodules):
        _add_patch(canvas, labelmap, rng, rng.choice(inner), (4, 12), (0, 60), ragged=0.05)
    if findings.effusion:
        _add_effusion(canvas, labelmap, int(rng.integers(1, 3)), findings.effusion)


def _place(canvas: Canvas, index: int) -> np.ndarray:
    k, j, i = np.unravel_index(index, canvas.hu.shape)
    return np.array([canvas.grid.x[k, j, i], canvas.grid.y[k, j, i], canvas.grid.z[k, 0, 0]])


def _add_patch(
    canvas: Canvas,
    labelmap: np.ndarray,
    rng: np.random.Generator,
    index: int,
    size: tuple[float, float],
    hu_range: tuple[float, float],
    ragged: float = 0.3,
) -> None:
    """A lobulated region with a soft edge that only ever makes lung denser."""
    centre, radius = _place(canvas, index), rng.uniform(*size)
    found = canvas.near(centre[None], radius * 1.7)
    if found is None:
        return
    box, grid = found
    field = _lobes(grid, centre, radius, rng) + ragged * radius * soft_noise(grid.x.shape, rng, 4)
    cover = np.clip(0.5 - field / max(0.25 * radius, 3.0), 0, 1)
    part, value = canvas.hu[box], rng.uniform(*hu_range) + 40 * soft_noise(grid.x.shape, rng, 3)
    denser = np.maximum(part, part + cover * (value - part))
    part[...] = np.where(labelmap[box] > 0, denser, part)


def _lobes(grid: Grid, centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    field = ellipsoid(grid, tuple(centre), (radius, radius, radius * 1.1))
    for _ in range(3):
        lobe = centre + rng.normal(0, radius * 0.5, 3)
        field = np.minimum(field, ellipsoid(grid, tuple(lobe), (radius * 0.55,) * 3))
    return field


def _add_effusion(canvas: Canvas, labelmap: np.ndarray, side: int, depth: float) -> None:
    """Fluid layered behind the lung, thinning upward."""
    present = labelmap == side
    position = np.where(present, canvas.grid.y, -np.inf)
    back = position.max(axis=(1, 2), keepdims=True)
    thickness = depth * np.clip((20 - canvas.grid.z) / 120, 0, 1)
    fluid = present & (canvas.grid.y > back - thickness + 0.0025 * (np.abs(canvas.grid.x) - 65) ** 2)
    canvas.fill(fluid, 12)
    labelmap[fluid] = 0

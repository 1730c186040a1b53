"""Organs painted on a canvas of HU."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from SAMLungSegLib.phantom import anatomy
from SAMLungSegLib.phantom.anatomy import Anatomy, Grid, ellipsoid


@dataclass
class Canvas:
    """HU being painted, float32 (K, J, I), with the anatomical coordinates of its voxels."""

    grid: Grid
    hu: np.ndarray

    @classmethod
    def blank(cls, grid: Grid) -> Canvas:
        """Air everywhere."""
        return cls(grid, np.full(grid.x.shape, -1000, np.float32))

    def fill(self, where: np.ndarray, value: float) -> None:
        """Set the HU of a region, bool (K, J, I) or broadcastable to it."""
        np.putmask(self.hu, np.broadcast_to(where, self.hu.shape), np.float32(value))

    def near(self, points: np.ndarray, margin: float) -> tuple[tuple[slice, ...], Grid] | None:
        """The box of voxels about points (N, 3) in x, y, z, and its coordinates; None where it is off the canvas."""
        low, high = points.min(0) - margin, points.max(0) + margin
        rows = _span(self.grid.z[:, 0, 0], low[2], high[2])
        if rows is None:
            return None
        middle = (rows.start + rows.stop) // 2
        x, y = self.grid.x[middle], self.grid.y[middle]
        inside = (x > low[0] - 5) & (x < high[0] + 5) & (y > low[1] - 5) & (y < high[1] + 5)
        columns, lines = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
        if not len(columns):
            return None
        box = (rows, slice(lines[0], lines[-1] + 1), slice(columns[0], columns[-1] + 1))
        return box, Grid(self.grid.x[box], self.grid.y[box], self.grid.z[rows])

    def tube(self, points: np.ndarray, radii: tuple[float, float]) -> tuple[tuple[slice, ...], np.ndarray] | None:
        """Box and field of one tapering tube from points[0] to points[1]."""
        found = self.near(points, max(radii) + 4)
        if found is None:
            return None
        box, grid = found
        axis = points[1] - points[0]
        steps = [value - start for value, start in zip((grid.x, grid.y, grid.z), points[0], strict=True)]
        share = np.clip(sum(s * a for s, a in zip(steps, axis, strict=True)) / max(axis @ axis, 1e-6), 0, 1)
        gaps = [s - share * a for s, a in zip(steps, axis, strict=True)]
        distance = np.sqrt(gaps[0] ** 2 + gaps[1] ** 2 + gaps[2] ** 2)
        return box, distance - (radii[0] + (radii[1] - radii[0]) * share)


def _span(axis: np.ndarray, low: float, high: float) -> slice | None:
    first, last = np.searchsorted(axis, low), np.searchsorted(axis, high, side="right")
    return slice(int(first), int(last)) if last > first else None


def add_mediastinum(canvas: Canvas, person: Anatomy, fields: tuple[np.ndarray, np.ndarray], enhancement: float) -> None:
    """Fat between the lungs with heart, great vessels and oesophagus in it."""
    chest, lung = fields
    grid, blood = canvas.grid, 40 + enhancement
    between = (chest < 0) & (lung > 0)
    canvas.fill(between, -85)
    canvas.fill(between & (grid.y > 5 + 0.03 * grid.x**2) & (grid.z < 95), 20)
    canvas.fill((grid.z > 80) & (np.hypot(grid.x, grid.y - 5) < 38), 45)
    field = anatomy.heart(grid, person)
    canvas.fill((field < -2) & between, 45)
    canvas.fill((field < -13) & between, blood)
    canvas.fill(anatomy.aorta(grid, person) < -1, blood)
    for centre, radii in (
        ((-16, -16, -5), (15, 15, 38)),
        ((8, -22, -15), (18, 16, 24)),
        ((-22, -10, 40), (9, 9, 55)),
        ((20, 2, 22), (12, 30, 12)),
        ((-32, 12, -22), (16, 9, 14)),
        ((32, 14, -14), (15, 9, 14)),
        ((24, 0, 70), (7, 7, 40)),
    ):
        canvas.fill((ellipsoid(grid, centre, radii) < 0) & between, blood)


def add_abdomen(
    canvas: Canvas, person: Anatomy, fields: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    """Diaphragm, liver, spleen, stomach with its bubble, and bowel with gas below."""
    chest, floor = fields
    grid = canvas.grid
    below = (floor > 0) & (chest < 0) & (anatomy.spine(grid, person) > 0)
    heart = anatomy.heart(grid, person) < 2
    canvas.fill(below & ~heart, 45)
    belly = below & ~heart & (floor > 3.5) & (chest < -3)
    canvas.fill(belly, -95)
    _add_bowel(canvas, belly, rng, 14, gas=False)
    for side in (-1, 1):
        canvas.fill(belly & (ellipsoid(grid, (side * 58, 46, -205), (26, 24, 44)) < 0), 40)
    lobes = ellipsoid(grid, (-58, 4, -150), (92, 84, 84)), ellipsoid(grid, (14, -46, -132), (66, 40, 40))
    canvas.fill(belly & (anatomy.smooth_min(*lobes, 12) < 0), 62)
    canvas.fill(belly & (ellipsoid(grid, (88 * person.width, 42, -158), (34, 42, 44)) < 0), 55)
    stomach = ellipsoid(grid, (62 * person.width, -12, -152), (44, 52, 46))
    canvas.fill(belly & (stomach < 0), 40)
    level = -24 + person.stomach_gas
    canvas.fill(belly & (stomach < -4), 15)
    canvas.fill(belly & (stomach < -4) & (grid.y < level), -990)
    _add_bowel(canvas, belly, rng, person.bowel_gas, gas=True)
    canvas.fill((anatomy.aorta(grid, person) < -1) & (grid.z < -80), 60)


def _add_bowel(canvas: Canvas, belly: np.ndarray, rng: np.random.Generator, count: int, gas: bool) -> None:
    for _ in range(count):
        _add_loop(canvas, belly, rng, gas)


def _add_loop(canvas: Canvas, belly: np.ndarray, rng: np.random.Generator, gas: bool) -> None:
    start = np.array([rng.uniform(-40, 100), rng.uniform(-68, -15), rng.uniform(-215, -165)])
    end = start + rng.normal(0, (32, 14, 8))
    radius = rng.uniform(9, 20)
    found = canvas.tube(np.stack([start, end]), (radius, radius * rng.uniform(0.7, 1.2)))
    if found is None:
        return
    box, field = found
    part, y = canvas.hu[box], canvas.grid.y[box]
    part[(field < 2.5) & belly[box]] = 45
    part[(field < 0) & belly[box]] = 10
    level = start[1] + radius * rng.uniform(-0.2, 1.0)
    if gas:
        part[(field < 0) & belly[box] & (y < level)] = -985


def add_bones(canvas: Canvas, person: Anatomy, chest: np.ndarray, skin: np.ndarray) -> None:
    """Ribs, spine with canal, sternum, clavicles and shoulder blades."""
    grid, within = canvas.grid, skin < -3
    ribs = anatomy.ribs(grid, person, chest)
    shown = within & (grid.z < 105)
    canvas.fill((ribs < 0) & shown, 650)
    canvas.fill((ribs < -2.2) & shown, 250)
    _add_spine(canvas, person)
    front = grid.profile(anatomy.CAVITY_CENTRE) - grid.profile(anatomy.CAVITY_DEPTH) * person.depth - 6
    sternum = np.maximum(np.hypot(grid.x / 2.6, grid.y - front) - 6.5, np.abs(grid.z + 20) - 75)
    canvas.fill((sternum < 0) & within, 420)
    canvas.fill((sternum < -2.5) & within, 150)
    for side in (-1, 1):
        blade = np.abs(grid.y - 62 - 0.5 * (115 - side * grid.x)) - 2.6
        outline = ellipsoid(grid, (side * 112, 62, 30), (42, 60, 62))
        canvas.fill((np.maximum(blade, outline) < 0) & (chest > 11) & within, 500)
        _add_clavicle(canvas, side)
        _add_humerus(canvas, side, within)


def _add_spine(canvas: Canvas, person: Anatomy) -> None:
    grid, y = canvas.grid, canvas.grid.y - person.spine_y
    disc = np.abs(np.mod(grid.z / 24 + person.rib_phase, 1) - 0.5) < 0.1
    body = np.hypot(grid.x / 1.2, y) - 15
    canvas.fill(body < 0, 420)
    canvas.fill(body < -2, 170)
    canvas.fill((body < 0) & disc, 80)
    arch = np.hypot(grid.x, y - 21) - 13
    process = np.maximum(np.abs(grid.x) - 4, np.abs(y - 38) - 12)
    transverse = np.maximum(np.abs(y - 24 - 0.15 * np.abs(grid.x)) - 5, np.abs(grid.x) - 32)
    level = np.mod(grid.z / 24 + person.rib_phase, 1) < 0.6
    canvas.fill((arch < 0) | ((process < 0) & level) | ((transverse < 0) & level), 480)
    canvas.fill(np.hypot(grid.x, y - 21) < 8.5, 30)


def _add_clavicle(canvas: Canvas, side: int) -> None:
    points = np.array([[side * 18, -38, 58], [side * 70, -32, 74], [side * 128, 8, 92]], float)
    for ends in pairwise(points):
        found = canvas.tube(np.stack(ends), (7.0, 6.0))
        if found is not None:
            box, field = found
            canvas.hu[box][field < 0] = 650
            canvas.hu[box][field < -3] = 300


def _add_humerus(canvas: Canvas, side: int, within: np.ndarray) -> None:
    head = ellipsoid(canvas.grid, (side * 152, 14, 84), (23, 22, 24))
    canvas.fill((head < 0) & within, 600)
    canvas.fill((head < -3) & within, 230)


def add_airways(canvas: Canvas, person: Anatomy) -> np.ndarray:
    """Trachea, main bronchi and oesophagus; returns the region that is no lung, bool (K, J, I)."""
    carina = person.carina()
    taken = np.zeros(canvas.hu.shape, bool)
    larynx, neck, right, left = carina + np.array([[0, -22, 150], [1, -14, 80], [-34, 6, -24], [42, 8, -26]], float)
    main = [
        (np.stack([larynx, neck]), (8.5, 8.5)),
        (np.stack([neck, carina]), (8.5, 9.0)),
        (np.stack([carina, right]), (7.5, 6.0)),
        (np.stack([carina, left]), (7.0, 5.5)),
    ]
    for points, radii in main:
        found = canvas.tube(points, radii)
        if found is not None:
            box, field = found
            part = canvas.hu[box]
            part[(field < 2) & (part > -900)] = np.maximum(part[(field < 2) & (part > -900)], 20)
            taken[box] |= field < 1.5
    for points, radii in main:
        found = canvas.tube(points, radii)
        if found is not None:
            canvas.hu[found[0]][found[1] < 0] = -990
    _add_oesophagus(canvas, person)
    return taken


def _add_oesophagus(canvas: Canvas, person: Anatomy) -> None:
    grid = canvas.grid
    x = grid.x - grid.profile(((-220, 30), (-130, 14), (-60, 6), (20, 5), (140, 2)))
    distance = np.hypot(x, (grid.y - person.spine_y + 22) * 1.2)
    above = grid.z > -140
    canvas.fill((distance < 8) & above, 38)
    if person.oesophagus_air:
        canvas.fill((distance < 3.6) & above & (np.sin(grid.z / 13 + person.rib_phase * 6) > 0.2), -900)


def add_vessels(canvas: Canvas, labelmap: np.ndarray, rng: np.random.Generator, blood_hu: float) -> None:
    """A vessel tree per lung, grown from the hilum to points spread over the lung."""
    for side, hilum in ((1, (-36.0, 12.0, -18.0)), (2, (36.0, 14.0, -12.0))):
        where = np.flatnonzero(labelmap == side)
        if len(where) < 500:
            continue
        chosen = rng.choice(where, 340, replace=False)
        z = canvas.grid.z[np.unravel_index(chosen, labelmap.shape)[0], 0, 0]
        ends = np.stack([canvas.grid.x.ravel()[chosen], canvas.grid.y.ravel()[chosen], z], 1)
        nodes, parents, radii = _grown_tree(np.array(hilum), ends)
        for child in range(1, len(nodes)):
            _add_vessel(canvas, labelmap, nodes[[parents[child], child]], radii[[parents[child], child]], blood_hu)


def _grown_tree(root: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each end joined, from near to far, to the node that makes its way from the root short."""
    ends = ends[np.argsort(np.linalg.norm(ends - root, axis=1))]
    nodes, parents, lengths = [root], [0], [0.0]
    for end in ends:
        gaps = np.linalg.norm(np.array(nodes) - end, axis=1)
        parent = int(np.argmin(gaps + 0.75 * np.array(lengths)))
        parents.append(parent)
        lengths.append(lengths[parent] + gaps[parent])
        nodes.append(end)
    load = np.ones(len(nodes))
    for child in range(len(nodes) - 1, 0, -1):
        load[parents[child]] += load[child]
    radii = np.minimum(0.8 * load ** (1 / 2.4), 5.5)
    return np.array(nodes), np.array(parents), radii


def _add_vessel(canvas: Canvas, labelmap: np.ndarray, points: np.ndarray, radii: np.ndarray, blood_hu: float) -> None:
    found = canvas.tube(points, (min(radii[0], radii[1] * 1.5), radii[1]))
    if found is None:
        return
    box, field = found
    part = canvas.hu[box]
    cover = np.clip(0.5 - field / 2.0, 0, 1) * (labelmap[box] > 0)
    np.maximum(part, part + cover * (blood_hu - part), out=part)


def soft_noise(shape: tuple[int, ...], rng: np.random.Generator, cell: int) -> np.ndarray:
    """Smooth noise of unit spread whose features are about `cell` voxels wide."""
    coarse = rng.standard_normal([max(2, -(-n // cell)) for n in shape]).astype(np.float32)
    return ndimage.zoom(coarse, [n / c for n, c in zip(shape, coarse.shape, strict=True)], order=1)

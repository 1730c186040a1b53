"""The shapes of a chest as signed distance fields.

Anatomical coordinates in mm: x toward the patient's left, y toward the back, z toward the head; the origin lies in
the midline at the height of the carina, halfway through the chest. A field is negative inside its shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

# Half-widths, half-depths and centres of the rib cage's inner surface, by height: (z, value).
CAVITY_WIDTH = ((-220, 126), (-150, 130), (-90, 131), (-30, 124), (20, 114), (55, 100), (80, 82), (100, 64), (140, 52))
CAVITY_DEPTH = ((-220, 84), (-150, 88), (-90, 88), (-30, 82), (20, 68), (55, 50), (80, 38), (100, 30), (140, 25))
CAVITY_CENTRE = ((-220, -4), (-90, -2), (-30, 0), (20, 8), (55, 17), (80, 22), (140, 22))
MEDIASTINUM = ((-220, 22), (-90, 20), (-50, 24), (-10, 29), (20, 28), (50, 27), (85, 23), (140, 23))
JUNCTION = ((-220, 70), (-110, 40), (-75, 14), (-40, 4), (-10, 2.2), (25, 3), (50, 16), (75, 34), (140, 40))
SHOULDER = ((-220, 0), (20, 0), (50, 14), (75, 38), (92, 44), (108, 22), (128, -20), (150, -52))


@dataclass(frozen=True)
class Anatomy:
    """What distinguishes one person, and one examination, from the next; lengths in mm."""

    width: float
    depth: float
    height: float
    squareness: float
    fat: float
    muscle: float
    breast: float
    arms_down: bool
    heart: float
    heart_shift: float
    mediastinum: float
    junction: float
    dome_right: float
    dome_left: float
    dome_steepness: float
    rib_phase: float
    spine_y: float
    turn_deg: float
    bend: float
    shift_x: float
    shift_y: float
    stomach_gas: float
    bowel_gas: int
    oesophagus_air: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, variation: float) -> Anatomy:
        """A person drawn at random; `variation` 0 gives the average, 1 the spread of adults."""

        def about(mean: float, spread: float) -> float:
            return mean + variation * spread * float(np.clip(rng.standard_normal(), -2, 2))

        female = rng.random() < 0.5
        return cls(
            width=about(0.97, 0.06),
            depth=about(1.0, 0.08),
            height=about(1.0, 0.07),
            squareness=about(2.3, 0.15),
            fat=max(about(12.0, 8.0), 3.0),
            muscle=max(about(9.0, 3.0), 4.0),
            breast=max(about(14.0, 9.0), 0.0) if female else 0.0,
            arms_down=bool(rng.random() < 0.2 * variation),
            heart=about(1.0, 0.09),
            heart_shift=about(0.0, 6.0),
            mediastinum=about(1.0, 0.08),
            junction=about(1.0, 0.4),
            dome_right=about(-92.0, 10.0),
            dome_left=about(-106.0, 10.0),
            dome_steepness=about(1.0, 0.15),
            rib_phase=float(rng.random()),
            spine_y=about(54.0, 3.0),
            turn_deg=about(0.0, 4.0),
            bend=about(0.0, 5.0),
            shift_x=about(0.0, 7.0),
            shift_y=about(-8.0, 7.0),
            stomach_gas=about(0.0, 10.0),
            bowel_gas=int(rng.integers(2, 7)),
            oesophagus_air=bool(rng.random() < 0.4),
        )

    def carina(self) -> np.ndarray:
        """Point where the trachea divides, (3,) as x, y, z."""
        return np.array([-2.0, 8.0 * self.depth, 0.0])


@dataclass(frozen=True)
class Grid:
    """Anatomical coordinates of every voxel, x and y (K, J, I), z (K, 1, 1), all float32 mm."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def profile(self, points: tuple[tuple[float, float], ...]) -> np.ndarray:
        """A smooth curve over height through (z, value) points, (K, 1, 1)."""
        heights, values = np.array(points, float).T
        return PchipInterpolator(heights, values)(np.clip(self.z, heights[0], heights[-1])).astype(np.float32)

    def turned(self, degrees: float, about_x: float, about_y: float) -> Grid:
        """The same voxels in axes turned about the body's long axis."""
        cosine, sine = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
        x, y = self.x - np.float32(about_x), self.y - np.float32(about_y)
        return Grid(cosine * x + sine * y, cosine * y - sine * x, self.z)


def smooth_max(first: np.ndarray, second: np.ndarray, radius: float = 6.0) -> np.ndarray:
    """Intersection of two shapes whose common edge is rounded by about `radius` mm."""
    return 0.5 * (first + second + np.sqrt((first - second) ** 2 + radius * radius))


def smooth_min(first: np.ndarray, second: np.ndarray, radius: float = 6.0) -> np.ndarray:
    """Union of two shapes, the groove between them filled."""
    return -smooth_max(-first, -second, radius)


def ellipsoid(grid: Grid, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
    """Field of an ellipsoid; exact on the surface only."""
    terms = [((axis - c) / r) ** 2 for axis, c, r in zip((grid.x, grid.y, grid.z), centre, radii, strict=True)]
    return (np.sqrt(terms[0] + terms[1] + terms[2]) - 1) * np.float32(min(radii))


def superellipse(x: np.ndarray, y: np.ndarray, half: tuple[np.ndarray, np.ndarray], power: float) -> np.ndarray:
    """Field of a superellipse per slice, in mm."""
    width, depth = half
    ratio = (np.abs(x / width) ** power + np.abs(y / depth) ** power) ** np.float32(1 / power)
    return (ratio - 1) * np.minimum(width, depth)


def cavity(grid: Grid, person: Anatomy) -> np.ndarray:
    """The inner surface of the rib cage, open at the neck and going on as the abdominal wall."""
    width, depth = grid.profile(CAVITY_WIDTH) * person.width, grid.profile(CAVITY_DEPTH) * person.depth
    return superellipse(grid.x, grid.y - grid.profile(CAVITY_CENTRE), (width, depth), np.float32(person.squareness))


def body(grid: Grid, person: Anatomy) -> np.ndarray:
    """The skin, without arms."""
    wall = person.fat + person.muscle + 7
    width = grid.profile(CAVITY_WIDTH) * person.width * 0.4 + 0.6 * 126 * person.width + wall
    width = width + grid.profile(SHOULDER) * (1.0 if person.arms_down else 0.75)
    depth = (grid.profile(CAVITY_DEPTH) * 0.55 + 0.45 * 84) * person.depth + wall * 0.8
    depth = depth - np.float32(0.25) * np.clip(grid.z - 70, 0, 200)
    field = superellipse(grid.x, grid.y - 0.6 * grid.profile(CAVITY_CENTRE) - 3, (width, depth), np.float32(2.5))
    for side in (-1, 1) if person.breast > 8 else ():
        size = person.breast
        centre = (side * 74 * person.width, -66 * person.depth - size, -66.0)
        field = smooth_min(field, ellipsoid(grid, centre, (46 + size, 24 + size, 60 + size)), 18)
    return field


def spine(grid: Grid, person: Anatomy) -> np.ndarray:
    """Vertebral bodies and the soft tissue beside them."""
    return superellipse(grid.x, grid.y - person.spine_y - 12, (np.float32(23), np.float32(30)), np.float32(2.2))


def heart(grid: Grid, person: Anatomy) -> np.ndarray:
    """The heart with its apex to the left and front, the axis falling toward the apex."""
    centre = (16 + person.heart_shift, -24 * person.depth)
    turned = grid.turned(28, *centre)
    tilted = Grid(turned.x, turned.y, grid.z + 66 + np.float32(0.25) * turned.x)
    size = person.heart
    return ellipsoid(tilted, (0, 0, 0), (66 * size, 46 * size, 54 * size))


def aorta(grid: Grid, person: Anatomy) -> np.ndarray:
    """The descending aorta, left of the spine up to the arch and nearing the midline below."""
    x = grid.x - grid.profile(((-220, 8), (-120, 16), (-20, 25), (140, 26)))
    y = grid.y - (person.spine_y - 14)
    return smooth_max(np.hypot(x, y) - np.float32(13), np.broadcast_to(grid.z - 30, x.shape), 8)


def mediastinum(grid: Grid, person: Anatomy) -> np.ndarray:
    """Everything between the lungs: the septum, narrow in front, with heart, aorta, spine and hila."""
    front = grid.profile(CAVITY_CENTRE) - grid.profile(CAVITY_DEPTH) * person.depth
    share = np.clip((grid.y - front - 22) / 56, 0, 1)
    share = share * share * (3 - 2 * share)
    narrow = np.maximum(grid.profile(JUNCTION) * person.junction, 1.6)
    half = narrow + (grid.profile(MEDIASTINUM) * person.mediastinum - narrow) * share
    septum = np.abs(grid.x - grid.profile(((-220, 6), (-40, 6), (0, 0), (140, 0)))) - half
    field = smooth_min(septum, heart(grid, person), 10)
    field = smooth_min(smooth_min(field, spine(grid, person), 6), aorta(grid, person), 5)
    arch = ellipsoid(grid, (20, 4, 22), (24, 34, 15))
    hila = np.minimum(ellipsoid(grid, (-34, 12, -22), (20, 18, 24)), ellipsoid(grid, (34, 14, -14), (18, 18, 22)))
    return smooth_min(smooth_min(field, arch, 8), hila, 8)


def diaphragm(grid: Grid, person: Anatomy) -> np.ndarray:
    """The domes; negative above them, which is the chest's side."""
    right = grid.x < 6
    top = np.where(right, np.float32(person.dome_right), np.float32(person.dome_left))
    centre = np.where(right, np.float32(-62), np.float32(68)) * np.float32(person.width)
    reach = np.where(grid.y > 0, np.float32(76), np.float32(92)) * np.float32(person.depth)
    distance = ((grid.x - centre) / (76 * person.width)) ** 2 + (grid.y / reach) ** 2
    drop = np.float32(50 * person.dome_steepness) * distance ** np.float32(1.15)
    return (top - drop - grid.z) * np.float32(0.75)


def lungs(grid: Grid, person: Anatomy, walls: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Both lungs in one field, from cavity, mediastinum and diaphragm: between them and under the apex."""
    chest, septum, floor = walls
    apex = (np.abs(grid.x) - 44) ** 2 + (grid.y - grid.profile(CAVITY_CENTRE)) ** 2
    roof = (grid.z - 88 + np.float32(0.011) * apex) * np.float32(0.8)
    field = smooth_max(smooth_max(chest, -septum, 7), floor, 4)
    return smooth_max(field, roof, 6)


def ribs(grid: Grid, person: Anatomy, chest: np.ndarray) -> np.ndarray:
    """Ribs as bands of the chest wall that fall toward the front; pitch 26 mm."""
    height = grid.z - np.float32(0.5) * grid.y + np.float32(0.08) * np.abs(grid.x)
    phase = np.abs(np.mod(height / 26 + np.float32(person.rib_phase), 1) - np.float32(0.5)) * 26
    front = 26 - np.abs(grid.x) - 40 * (grid.y > -20 * person.depth)
    return np.maximum(np.hypot(np.maximum(phase - 2.5, 0), np.abs(chest - 6.5) * 1.3) - np.float32(3.8), front)

"""One slice of a volume along any plane, whose pixels are voxels: masks go in and out without resampling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from SAMLungSegLib.boxes import IndexBox, box_of
from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.volume.geometry import DISPLAYS, A, R, S, SlicePlane
from SAMLungSegLib.volume.types import check_affine

Orientation = Literal["axial", "coronal", "sagittal"]
ORIENTATIONS: dict[int, Orientation] = {S: "axial", A: "coronal", R: "sagittal"}
TIE = 1e-4  # voxels; matrices in files are float32, so planes through voxel centres or half way miss them by less


class Depth(NamedTuple):
    """Where a plane is along the stacked axis, in voxels: `start + per_x * x + per_y * y` at pixel (x, y)."""

    start: float
    per_x: float
    per_y: float

    @property
    def is_flat(self) -> bool:
        """Whether the plane runs along the volume's own slices."""
        return self.per_x == 0 and self.per_y == 0

    def at(self, x: ArrayLike, y: ArrayLike) -> np.ndarray:
        """Depth at pixels, broadcast; outside the volume too."""
        return self.start + self.per_x * np.asarray(x) + self.per_y * np.asarray(y)

    def over(self, size_hw: tuple[int, int]) -> np.ndarray:
        """Float64 (H, W)."""
        height, width = size_hw
        return self.at(np.arange(width), np.arange(height)[:, None])


@dataclass(frozen=True, eq=False)
class ReformattedSlice:
    """The voxels that a plane meets, as a slice displayed radiologically; made by `reformat_volume`.

    The volume is seen as a stack of slices along the array axis that lies closest to the plane's normal, in voxels.
    Each pixel (x, y) is a column of voxels along that axis, of which the plane picks the nearest; of two equally near
    ones that towards superior, anterior or right. So a pixel has at most one voxel and a voxel at most one pixel, and
    masks are never resampled. Grey values are interpolated linearly along the stacked axis only.

    Attributes:
        plane: the whole volume displayed in the reformat's orientation, slices along the stacked axis.
        orientation: what the plane is closest to in the patient.
        first_xy: display pixel of `plane` that is the reformat's pixel (0, 0).
        size_hw: the smallest rectangle that holds all pixels with a voxel.
        depth: slice of `plane`, with fractions, that the reformat has at its pixel (x, y).
    """

    plane: SlicePlane
    orientation: Orientation
    first_xy: tuple[int, int]
    size_hw: tuple[int, int]
    depth: Depth

    @property
    def key(self) -> tuple:
        """Hashable; equal for reformats of one volume that show the same, wherever on the plane their points were."""
        return self.plane.axes, self.plane.flips, self.first_xy, self.size_hw, tuple(round(v, 6) for v in self.depth)

    @property
    def steps_xy_mm(self) -> np.ndarray:
        """Float64 (2, 3): from a pixel to the next along x and along y, measured on the plane, in RAS."""
        steps_nxy = np.array([(self.depth.per_x, 1, 0), (self.depth.per_y, 0, 1)])
        return steps_nxy @ self.plane.nxy_to_ras_matrix[:3, :3].T

    @property
    def spacing_hw_mm(self) -> tuple[float, float]:
        """Distance of neighbouring rows and of neighbouring columns, measured on the plane."""
        width, height = np.linalg.norm(self.steps_xy_mm, axis=1)
        return float(height), float(width)

    @cached_property
    def inside_hw(self) -> np.ndarray:
        """Bool (H, W), read-only: the pixels that have a voxel."""
        inside = _meets(self._depth_hw, self._stacked)
        inside.setflags(write=False)
        return inside

    def sample(self, array_kji: np.ndarray, outside: float | None = None) -> np.ndarray:
        """Grey values on the plane.

        Args:
            array_kji: on the volume's grid.
            outside: value of the pixels without a voxel; the array's minimum where not given.
        Returns:
            (H, W) of the array's type; whole numbers are rounded to the nearest.
        """
        stack = self._stack(array_kji)
        if self.depth.is_flat and self.depth.start.is_integer():
            return stack[int(self.depth.start)].copy()
        depth = np.clip(self._depth_hw, 0, self._stacked - 1)
        values = _between(_picked(stack, np.floor(depth)), _picked(stack, np.ceil(depth)), depth % 1)
        if not self.inside_hw.all():
            values[~self.inside_hw] = np.nanmin(array_kji) if outside is None else outside
        return values

    def voxels_kji(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices (M,) along K, J and I of its voxels: `array[indices]` fits `pixels[inside_hw]`."""
        y, x = np.nonzero(self.inside_hw)
        points_nxy = np.stack([self._slices_hw[y, x], x + self.first_xy[0], y + self.first_xy[1]], axis=-1)
        i, j, k = self.plane.nxy_to_ijk(points_nxy).astype(np.intp).T
        return k, j, i

    def put(self, labels_hw: np.ndarray, labelmap_kji: np.ndarray, where_hw: np.ndarray | None = None) -> None:
        """Write pixels into their voxels of an array on the volume's grid; nothing else changes.

        Args:
            labels_hw: (H, W).
            labelmap_kji: changed in place.
            where_hw: bool (H, W), the pixels to write; None for all.
        Raises:
            GeometryError: the pixels or the array have another size.
        """
        if labels_hw.shape != self.size_hw:
            raise GeometryError(
                f"Pixels of shape {labels_hw.shape} do not fit the reformatted slice; expected (H, W) {self.size_hw}."
            )
        y, x = np.nonzero(self.inside_hw if where_hw is None else self.inside_hw & where_hw)
        self._stack(labelmap_kji)[self._slices_hw[y, x], y, x] = labels_hw[y, x]

    def take(self, labelmap_kji: np.ndarray) -> np.ndarray:
        """Pixels (H, W) read from their voxels, 0 without a voxel: the inverse of `put`."""
        labels = _picked(self._stack(labelmap_kji), self._slices_hw)
        return np.where(self.inside_hw, labels, np.zeros((), labels.dtype))

    def take_part(self, part_kji: np.ndarray, box_kji: IndexBox) -> np.ndarray:
        """As `take`, from the voxels of a box of the labelmap; pixels with a voxel elsewhere are 0."""
        labels = np.zeros(self.size_hw, part_kji.dtype)
        pixels, found, is_there = self._in_part(part_kji, box_kji)
        if labels[pixels].size:
            np.copyto(labels[pixels], found, where=is_there)
        return labels

    def put_part(self, labels_hw: np.ndarray, part_kji: np.ndarray, box_kji: IndexBox, where_hw: np.ndarray) -> None:
        """As `put`, into the voxels of a box of the labelmap; bool `where_hw` (H, W) is of pixels that are in it."""
        y, x = np.nonzero(self.inside_hw & where_hw)
        n, top, left = self.plane.box_to_display(box_kji).start
        stack = self.plane.part_to_display(part_kji)
        stack[self._slices_hw[y, x] - n, y + self.first_xy[1] - top, x + self.first_xy[0] - left] = labels_hw[y, x]

    def box_of(self, where_hw: np.ndarray) -> IndexBox:
        """The smallest box of the labelmap that holds the voxels of pixels, bool (H, W)."""
        where_hw = self.inside_hw & where_hw
        pixels = box_of([where_hw])
        if pixels.is_empty:
            return pixels
        slices = self._slices_hw[where_hw]
        (left, top), (_, y, x), (_, y_stop, x_stop) = self.first_xy, *pixels
        first, last = int(slices.min()), int(slices.max())
        box_nhw = IndexBox((first, y + top, x + left), (last + 1, y_stop + top, x_stop + left))
        return self.plane.box_from_display(box_nhw)

    def _in_part(self, part_kji: np.ndarray, box_kji: IndexBox) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Which pixels (h, w) may lie in a box, the values there, and which of them have their voxel in it."""
        (left, top), (height, width) = self.first_xy, self.size_hw
        (n, y, x), (n_stop, y_stop, x_stop) = box_nhw = self.plane.box_to_display(box_kji)
        rows = slice(max(y - top, 0), min(max(y_stop - top, 0), height))
        columns = slice(max(x - left, 0), min(max(x_stop - left, 0), width))
        slices = self._slices_hw[rows, columns]
        if slices.size == 0:
            return (rows, columns), slices, slices
        stack = self.plane.part_to_display(part_kji)[
            :, rows.start + top - y : rows.stop + top - y, columns.start + left - x : columns.stop + left - x
        ]
        is_there = self.inside_hw[rows, columns] & (slices >= n) & (slices < n_stop)
        found = _picked(stack, np.clip(slices - n, 0, n_stop - n - 1)) if box_nhw.size[0] else np.zeros_like(slices)
        return (rows, columns), found, is_there

    def ijk_to_xy(self, points_ijk: ArrayLike) -> np.ndarray:
        """Float64 (..., 2) pixels of voxel indices (..., 3), seen along the stacked axis; exact for whole voxels."""
        return self.plane.ijk_to_nxy(points_ijk)[..., 1:] - self.first_xy

    def xy_to_ijk(self, points_xy: ArrayLike) -> np.ndarray:
        """Float64 (..., 3) voxel indices, with fractions, of the plane at pixels (..., 2)."""
        x, y = np.moveaxis(np.asarray(points_xy, np.float64), -1, 0)
        left, top = self.first_xy
        return self.plane.nxy_to_ijk(np.stack([self.depth.at(x, y), x + left, y + top], axis=-1))

    def contains(self, points_ijk: ArrayLike) -> np.ndarray:
        """Bool (...): whether it has the voxel at points (..., 3), that is within half a voxel along the stack."""
        n, x, y = np.moveaxis(self.plane.ijk_to_nxy(points_ijk), -1, 0)
        depth = self.depth.at(x - self.first_xy[0], y - self.first_xy[1])
        highest = _upper_end(depth, self._stacked)
        _, height, width = self.plane.size_nhw
        in_volume = _meets(depth, self._stacked) & _meets(x, width) & _meets(y, height)
        return in_volume & (n <= highest) & (n > highest - 1)

    def box_xyxy(self, first_ijk: ArrayLike, last_ijk: ArrayLike) -> tuple[float, float, float, float] | None:
        """Rectangle (left, top, right, bottom) around what the reformat shows of a box; None where they do not meet.

        Args:
            first_ijk, last_ijk: two opposite voxels (3,) of the box, which belong to it.
        """
        corners = self.plane.ijk_to_nxy([first_ijk, last_ijk]) - (0, *self.first_xy)
        low, high = corners.min(axis=0), corners.max(axis=0)
        rows, columns = np.arange(self.size_hw[0])[:, None], np.arange(self.size_hw[1])
        shown = self.inside_hw & (self._slices_hw >= np.rint(low[0])) & (self._slices_hw <= np.rint(high[0]))
        shown &= (columns > low[1] - 0.5) & (columns < high[1] + 0.5) & (rows > low[2] - 0.5) & (rows < high[2] + 0.5)
        if not shown.any():
            return None
        pixels_xy = np.argwhere(shown)[:, ::-1]
        start = np.maximum(low[1:], pixels_xy.min(axis=0) - 0.5)
        stop = np.minimum(high[1:], pixels_xy.max(axis=0) + 0.5)
        return (*start.tolist(), *stop.tolist())

    @property
    def slice_number(self) -> int | None:
        """Of `plane`, the slice that all of its voxels lie in; None where it is oblique and crosses several."""
        return int(_upper_end(np.array(self.depth.start), self._stacked)) if self.depth.is_flat else None

    @property
    def _stacked(self) -> int:
        """Voxels along the stacked axis."""
        return self.plane.size_nhw[0]

    @property
    def _depth_hw(self) -> np.ndarray:
        return self.depth.over(self.size_hw)

    @property
    def _slices_hw(self) -> np.ndarray:
        """Int (H, W): slice of each pixel's voxel; without one, the closest slice."""
        return np.floor(_upper_end(self._depth_hw, self._stacked)).astype(np.intp)

    def _stack(self, array_kji: np.ndarray) -> np.ndarray:
        """View (N, H, W) of an array on the volume's grid, cropped to the reformat's pixels."""
        (left, top), (height, width) = self.first_xy, self.size_hw
        return self.plane.to_display(array_kji)[:, top : top + height, left : left + width]


def reformat_volume(
    size_kji: tuple[int, int, int], ijk_to_ras: ArrayLike, normal_ras: ArrayLike, point_ras: ArrayLike
) -> ReformattedSlice:
    """The slice of a volume that lies in a plane.

    Args:
        size_kji: of the volume.
        ijk_to_ras: of the volume, (4, 4). With its parent transforms included, 'RAS' means the world here.
        normal_ras: of the plane, (3,), of any length and either sign.
        point_ras: any point of the plane, (3,).
    Raises:
        GeometryError: the plane does not meet the volume, has no direction, or the matrix is degenerate.
    """
    matrix = np.array(ijk_to_ras, np.float64)
    check_affine(matrix, "in the slice view")
    normal, point = _checked_plane(normal_ras, point_ras)
    patient_axis = max((S, A, R), key=lambda axis: round(abs(normal[axis]), 6))
    normal *= np.sign(normal[patient_axis])
    plane = _displayed_along(tuple(size_kji), matrix, normal, patient_axis)
    depth = _depth(plane, normal, point)
    meets = _meets(depth.over(plane.size_nhw[1:]), plane.size_nhw[0])
    if not meets.any():
        place, direction = (", ".join(f"{value:g}" for value in vector.round(3)) for vector in (point, normal))
        raise GeometryError(
            f"The plane through ({place}) mm with normal ({direction}) does not meet the volume; move the slice view "
            "into the volume."
        )
    rows, columns = np.flatnonzero(meets.any(axis=1)), np.flatnonzero(meets.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    size_hw = (int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)
    moved = depth._replace(start=float(depth.at(left, top)))
    return ReformattedSlice(plane, ORIENTATIONS[patient_axis], (left, top), size_hw, moved)


def _checked_plane(normal_ras: ArrayLike, point_ras: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Unit normal and point, float64 (3,)."""
    normal, point = np.array(normal_ras, np.float64), np.array(point_ras, np.float64)
    for what, vector in (("normal", normal), ("point", point)):
        if vector.shape != (3,) or not np.isfinite(vector).all():
            raise GeometryError(f"The plane's {what} is {vector.tolist()}; expected three finite numbers.")
    if not normal.any():
        raise GeometryError("The plane's normal is 0, 0, 0; give the direction that the slice view looks along.")
    return normal / np.linalg.norm(normal), point


def _displayed_along(
    size_kji: tuple[int, int, int], ijk_to_ras: np.ndarray, normal: np.ndarray, patient_axis: int
) -> SlicePlane:
    """The volume as slices for a plane with that normal, displayed as what the plane is closest to in the patient."""
    steps = ijk_to_ras[:3, 2::-1]  # columns: to the next voxel along K, J, I, in RAS
    along = normal @ steps
    straight = np.abs(steps[patient_axis]) / np.linalg.norm(steps, axis=0)
    share = (np.abs(along) / np.abs(along).max()).round(6)
    stacked = max(range(3), key=lambda axis: (share[axis], straight[axis]))
    on_plane = steps - np.outer(steps[:, stacked], along / along[stacked])
    _, (to_row, row_sign), (to_column, column_sign) = DISPLAYS[patient_axis]
    rows, columns = max(  # by the product, which cannot mirror the display, however sheared the pixels are
        permutations(axis for axis in range(3) if axis != stacked),
        key=lambda axes: abs(on_plane[to_row, axes[0]] * on_plane[to_column, axes[1]]),
    )
    flips = (
        bool(along[stacked] < 0),
        bool(on_plane[to_row, rows] * row_sign < 0),
        bool(on_plane[to_column, columns] * column_sign < 0),
    )
    return SlicePlane(size_kji, ijk_to_ras, (stacked, rows, columns), flips)


def _depth(plane: SlicePlane, normal: np.ndarray, point: np.ndarray) -> Depth:
    """The plane as slices of the displayed volume; differences below `TIE` are taken as none."""
    matrix = plane.nxy_to_ras_matrix
    per_n, per_x, per_y = normal @ matrix[:3, :3]
    start, per_x, per_y = float(normal @ (point - matrix[:3, 3]) / per_n), float(-per_x / per_n), float(-per_y / per_n)
    _, height, width = plane.size_nhw
    per_x, per_y = (per if abs(per) * size > TIE else 0.0 for per, size in ((per_x, width), (per_y, height)))
    if per_x == per_y == 0 and abs(start - round(start)) < TIE:
        start = float(round(start))
    return Depth(start, per_x, per_y)


def _meets(index: np.ndarray, size: int) -> np.ndarray:
    """Whether an index along an axis of `size` voxels lies in one of them, their faces included."""
    return (index >= -0.5 - TIE) & (index <= size - 0.5 + TIE)


def _upper_end(depth: np.ndarray, size: int) -> np.ndarray:
    """The voxel picked at a depth is the highest whole number up to this."""
    return np.clip(depth, 0, size - 1) + 0.5 + TIE


def _picked(stack: np.ndarray, slices_hw: np.ndarray) -> np.ndarray:
    """(H, W): of each pixel of a stack (N, H, W) the value in its slice."""
    return np.take_along_axis(stack, slices_hw[None].astype(np.intp), axis=0)[0]


def _between(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values between two of the same type, rounded where that is whole numbers."""
    with np.errstate(invalid="ignore"):  # infinite values
        values = np.where(weight > 0, below * (1 - weight) + above * weight, below)
    return (values if below.dtype.kind == "f" else np.rint(values)).astype(below.dtype)

"""How a volume is cut into slices and displayed radiologically, whatever order it is stored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike

from SAMLungSegLib.boxes import IndexBox
from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.volume.types import Volume

R, A, S = 0, 1, 2

# What runs along (slices, rows, columns) for each axis of the patient that the slices are stacked along: (axis, sign).
DISPLAYS = {
    S: ((S, +1), (A, -1), (R, -1)),  # axial: rows to posterior, columns to the left
    A: ((A, +1), (S, -1), (R, -1)),  # coronal: rows to inferior, columns to the left
    R: ((R, +1), (S, -1), (A, -1)),  # sagittal: rows to inferior, columns to posterior
}


@dataclass(frozen=True, eq=False)
class SlicePlane:
    """Slices of a volume as displayed: (N, H, W), the patient's right at the image's left, anterior or head on top.

    Display pixels are (n, x, y): slice, column, row, integers at pixel centres. Displaying only permutes and flips
    axes, so it never resamples and undoing it is exact.

    Attributes:
        size_kji: of the volume.
        ijk_to_ras: of the volume.
        axes: array axes (0 is K) that become slices, rows and columns.
        flips: whether slices, rows and columns run against the array.
    """

    size_kji: tuple[int, int, int]
    ijk_to_ras: np.ndarray
    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def size_nhw(self) -> tuple[int, int, int]:
        """Number of slices, their height and width in pixels."""
        n, h, w = (self.size_kji[axis] for axis in self.axes)
        return n, h, w

    @property
    def spacing_hw_mm(self) -> tuple[float, float]:
        """Distance of neighbouring rows and of neighbouring columns."""
        return self._spacing_mm(1), self._spacing_mm(2)

    @property
    def slice_spacing_mm(self) -> float:
        """Distance of neighbouring slices."""
        return self._spacing_mm(0)

    def _spacing_mm(self, display_axis: int) -> float:
        return float(np.linalg.norm(self.ijk_to_ras[:3, 2 - self.axes[display_axis]]))

    @property
    def is_axial(self) -> bool:
        """Whether slices are stacked along the patient's inferior-superior axis, or nearly so."""
        return self._normal == S

    @property
    def is_sagittal(self) -> bool:
        """Whether slices are stacked along the patient's right-left axis, or nearly so."""
        return self._normal == R

    @property
    def _normal(self) -> int:
        return int(np.abs(self.nxy_to_ras_matrix[:3, 0]).argmax())

    def to_display(self, array_kji: np.ndarray) -> np.ndarray:
        """View (N, H, W) of an array on the volume's grid.

        Raises:
            GeometryError: the array has another size than the volume.
        """
        self._check_size(array_kji, self.size_kji, "(K, J, I)")
        return np.flip(array_kji.transpose(self.axes), self._flipped_axes)

    def from_display(self, array_nhw: np.ndarray) -> np.ndarray:
        """View (K, J, I) of an array of displayed slices, the exact inverse of `to_display`.

        Raises:
            GeometryError: the array has another size than the displayed volume.
        """
        self._check_size(array_nhw, self.size_nhw, "(N, H, W)")
        return np.flip(array_nhw, self._flipped_axes).transpose(np.argsort(self.axes))

    def part_to_display(self, part_kji: np.ndarray) -> np.ndarray:
        """View (n, h, w) of a part of an array on the volume's grid; where it lies, says `box_to_display`."""
        return np.flip(part_kji.transpose(self.axes), self._flipped_axes)

    def box_to_display(self, box_kji: IndexBox) -> IndexBox:
        """A box of the array as one of the displayed slices, (n, h, w)."""
        ends = [(box_kji.start[axis], box_kji.stop[axis]) for axis in self.axes]
        return _flipped(ends, self.size_nhw, self.flips)

    def box_from_display(self, box_nhw: IndexBox) -> IndexBox:
        """A box of the displayed slices as one of the array, the exact inverse of `box_to_display`."""
        flipped = _flipped(list(zip(*box_nhw, strict=True)), self.size_nhw, self.flips)
        order = np.argsort(self.axes)
        start, stop = (tuple(int(ends[axis]) for axis in order) for ends in flipped)
        return IndexBox(start, stop)

    @property
    def _flipped_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, flipped in enumerate(self.flips) if flipped)

    @staticmethod
    def _check_size(array: np.ndarray, expected: tuple[int, int, int], axes: str) -> None:
        if array.shape != expected:
            raise GeometryError(f"An array of shape {array.shape} does not fit the volume; expected {axes} {expected}.")

    @property
    def nxy_to_ijk_matrix(self) -> np.ndarray:
        """Float64 (4, 4) of whole numbers: display pixel (n, x, y, 1) to voxel (i, j, k, 1)."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for column, display_axis in enumerate((0, 2, 1)):
            array_axis, flipped = self.axes[display_axis], self.flips[display_axis]
            row = 2 - array_axis
            matrix[row, column] = -1 if flipped else 1
            matrix[row, 3] = self.size_kji[array_axis] - 1 if flipped else 0
        return matrix

    @property
    def nxy_to_ras_matrix(self) -> np.ndarray:
        """Float64 (4, 4): display pixel (n, x, y, 1) to patient RAS in mm."""
        return self.ijk_to_ras @ self.nxy_to_ijk_matrix

    def nxy_to_ijk(self, points_nxy: ArrayLike) -> np.ndarray:
        """Float64 (..., 3) voxel indices (i, j, k) of display pixels (..., 3); exact for whole pixels."""
        return _transformed(self.nxy_to_ijk_matrix, points_nxy)

    def ijk_to_nxy(self, points_ijk: ArrayLike) -> np.ndarray:
        """Float64 (..., 3) display pixels (n, x, y) of voxel indices (..., 3); exact for whole voxels."""
        matrix = self.nxy_to_ijk_matrix
        inverse = np.eye(4)
        inverse[:3, :3] = matrix[:3, :3].T
        inverse[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
        return _transformed(inverse, points_ijk)

    def nxy_to_ras(self, points_nxy: ArrayLike) -> np.ndarray:
        """Float64 (..., 3) patient RAS in mm of display pixels (..., 3)."""
        return _transformed(self.nxy_to_ras_matrix, points_nxy)

    def ras_to_nxy(self, points_ras: ArrayLike) -> np.ndarray:
        """Float64 (..., 3) display pixels (n, x, y), with fractions, of patient RAS in mm (..., 3)."""
        return _transformed(np.linalg.inv(self.nxy_to_ras_matrix), points_ras)


def axial_plane(volume: Volume) -> SlicePlane:
    """The plane in which a volume is segmented and displayed.

    Slices are stacked along the array axis closest to the patient's inferior-superior axis, from inferior to
    superior. A volume with an axis of size 1 is one slice, displayed in its own plane: axial, coronal or sagittal.
    """
    return axial_plane_of(volume.size_kji, volume.ijk_to_ras)


def axial_plane_of(size_kji: tuple[int, int, int], ijk_to_ras: np.ndarray) -> SlicePlane:
    """`axial_plane` of a volume of a size with a matrix (4, 4)."""
    directions = _directions(ijk_to_ras)
    array_axis_of = _array_axes_along_ras(directions)
    thin = [patient for patient in (S, A, R) if size_kji[array_axis_of[patient]] == 1]
    display = DISPLAYS[thin[0] if thin else S]
    axes = tuple(array_axis_of[patient] for patient, _ in display)
    flips = tuple(bool(directions[patient, array_axis_of[patient]] * sign < 0) for patient, sign in display)
    return SlicePlane(size_kji, ijk_to_ras, axes, flips)


def _directions(ijk_to_ras: np.ndarray) -> np.ndarray:
    """Unit directions in RAS, one column for each array axis K, J, I."""
    columns_kji = ijk_to_ras[:3, 2::-1]
    return columns_kji / np.linalg.norm(columns_kji, axis=0)


def _array_axes_along_ras(directions: np.ndarray) -> tuple[int, int, int]:
    """The array axes closest to R-L, A-P and S-I: of all assignments the best as a whole, so oblique ones work too."""
    return max(permutations(range(3)), key=lambda axes: sum(abs(directions[ras, axes[ras]]) for ras in range(3)))


def _flipped(ends: Sequence[tuple[int, int]], size: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> IndexBox:
    """A box of (start, stop) along three axes, of which some run backwards."""
    turned = [
        (count - stop, count - start) if is_flipped else (start, stop)
        for (start, stop), count, is_flipped in zip(ends, size, flips, strict=True)
    ]
    return IndexBox(*zip(*turned, strict=True))


def _transformed(matrix: np.ndarray, points: ArrayLike) -> np.ndarray:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != 3:
        raise GeometryError(f"Points have shape {array.shape}; expected three numbers each, (..., 3).")
    return array @ matrix[:3, :3].T + matrix[:3, 3]

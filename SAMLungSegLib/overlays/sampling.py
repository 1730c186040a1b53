"""A segmentation sampled at places in the patient, so that grids of any order, direction and spacing look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from SAMLungSegLib.boxes import box_of
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.volume import SlicePlane

_SAMPLES = 64  # along the longest side of the lungs: the surface keeps its shape and is drawn within a second


@dataclass(frozen=True)
class PatientBox:
    """A box along the patient's axes: the ends of R, A and S in mm."""

    low_ras: np.ndarray
    high_ras: np.ndarray

    @property
    def size_mm(self) -> np.ndarray:
        """Along R, A and S (3,)."""
        return self.high_ras - self.low_ras

    def places(self, axis: int, step_mm: float) -> np.ndarray:
        """Middles of steps along an axis, ascending, centred in the box."""
        count = max(1, round(float(self.size_mm[axis]) / step_mm))
        middle = (self.low_ras[axis] + self.high_ras[axis]) / 2
        return middle + (np.arange(count) - (count - 1) / 2) * step_mm


def box_around(plane: SlicePlane, start_nhw: ArrayLike = (0, 0, 0), stop_nhw: ArrayLike | None = None) -> PatientBox:
    """The smallest box that holds all voxels, or those of a box of displayed slices, whole."""
    first, last = np.asarray(start_nhw) - 0.5, np.asarray(plane.size_nhw if stop_nhw is None else stop_nhw) - 0.5
    corners_nhw = np.stack(np.meshgrid(*zip(first, last, strict=True)), axis=-1).reshape(-1, 3)
    corners_ras = plane.nxy_to_ras(corners_nhw[:, [0, 2, 1]])
    return PatientBox(corners_ras.min(axis=0), corners_ras.max(axis=0))


def sampled(array_nhw: np.ndarray, plane: SlicePlane, places_ras: Sequence[np.ndarray], *, order: int) -> np.ndarray:
    """Values at places in the patient, as many axes as these broadcast to; 0 outside the image.

    Args:
        array_nhw: in display orientation.
        plane: that displays it.
        places_ras: R, A and S in mm, three arrays that broadcast against each other.
        order: 0 takes the nearest voxel, as of labels, 1 interpolates linearly, as of grey.
    """
    matrix = np.linalg.inv(plane.nxy_to_ras_matrix)[[0, 2, 1]]  # rows: n, y, x
    nhw = [sum(part * place for part, place in zip(row[:3], places_ras, strict=True)) + row[3] for row in matrix]
    inside = np.logical_and.reduce(
        [(index >= -0.5) & (index < size - 0.5) for index, size in zip(nhw, array_nhw.shape, strict=True)]
    )
    return ndimage.map_coordinates(array_nhw, nhw, order=order, mode="nearest") * inside


@dataclass(frozen=True, eq=False)
class CoarseLungs:
    """Right and left lung on a coarse grid along the patient's axes.

    Attributes:
        labels_ras: labels on the grid (R, A, S).
        first_ras: middle of its first voxel, in mm.
        step_mm: of the grid, the same along all axes.
    """

    labels_ras: np.ndarray
    first_ras: np.ndarray
    step_mm: float

    @classmethod
    def of(cls, segmentation: Segmentation) -> CoarseLungs | None:
        """The lungs of a segmentation; None where it has none."""
        labels, plane = segmentation.labelmap_nhw, segmentation.plane
        found = box_of(labels)
        if found.is_empty:
            return None
        box = box_around(plane, found.start, found.stop)
        step_mm = float(box.size_mm.max()) / _SAMPLES
        axes = [box.places(axis, step_mm) for axis in range(3)]
        grid = np.meshgrid(*axes, indexing="ij", sparse=True)
        first_ras = np.array([axis[0] for axis in axes])
        return cls(sampled(labels, plane, grid, order=0), first_ras, step_mm)

    @property
    def middle_ras(self) -> np.ndarray:
        """Of both lungs, by volume, in mm (3,)."""
        return self._middle(self.labels_ras > 0)

    @property
    def middles_ras(self) -> dict[int, np.ndarray]:
        """Of each lung that there is, by label."""
        lungs = {label: self.labels_ras == label for label in (RIGHT_LUNG, LEFT_LUNG)}
        return {label: self._middle(mask) for label, mask in lungs.items() if mask.any()}

    def _middle(self, mask: np.ndarray) -> np.ndarray:
        return self.first_ras + self.step_mm * np.argwhere(mask).mean(axis=0)

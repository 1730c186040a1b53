"""The voxels of labels by cranio-caudal thirds: how many, how high, and which values of an image they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np

from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.volume import Volume
from SAMLungSegLib.volume.geometry import S

Part = Literal["whole", "lower_third", "middle_third", "upper_third"]
THIRDS: tuple[Part, ...] = ("lower_third", "middle_third", "upper_third")


def thin_axis(volume: Volume) -> int | None:
    """The axis of the array along which there is one slice only; None of a volume."""
    return volume.size_kji.index(1) if 1 in volume.size_kji else None


@dataclass(frozen=True, eq=False)
class Heights:
    """Where labels begin and end along the axis to the patient's head, as solids made of voxels.

    Attributes:
        lowest_mm, highest_mm: of the voxels' centres, by label, from an arbitrary level; infinite without a voxel.
        voxel_mm: height of a voxel itself.
        are_known: False where that axis is not in the image, as of an axial slice.
    """

    lowest_mm: np.ndarray
    highest_mm: np.ndarray
    voxel_mm: float
    are_known: bool

    def of(self, labels: Sequence[int]) -> float:
        """Height of some labels together in mm; NaN without a voxel."""
        wanted = list(labels)
        height = float(self.highest_mm[wanted].max() - self.lowest_mm[wanted].min()) + self.voxel_mm
        return height if self.are_known and np.isfinite(height) else nan

    def thirds_of(self, labels: np.ndarray, levels_mm: np.ndarray) -> np.ndarray:
        """Index into `THIRDS`, (N,), of voxels by label and level; 0 where heights are not known."""
        if not self.are_known:
            return np.zeros(labels.shape, np.intp)
        lowest = self.lowest_mm - self.voxel_mm / 2
        height = self.highest_mm + self.voxel_mm / 2 - lowest
        return np.clip(3 * (levels_mm - lowest[labels]) / height[labels], 0, 2).astype(np.intp)


@dataclass(frozen=True, eq=False)
class Thirds:
    """Labels cut into a lower, middle and upper third of their own height; a voxel is where its centre is.

    Attributes:
        heights: of the labels.
        counts: int64 (labels, 3), voxels by label and index into `THIRDS`.
        values: of the image, by label and third, where there are any.
    """

    heights: Heights
    counts: np.ndarray
    values: dict[tuple[int, Part], np.ndarray]

    def voxels(self, labels: Sequence[int], part: Part) -> int:
        """Of some labels together, or of that third of each."""
        thirds = [part == "whole" or third == part for third in THIRDS]
        return int(self.counts[list(labels)][:, thirds].sum())

    def values_of(self, labels: Sequence[int], part: Part) -> np.ndarray:
        """Of the image, (N,), in some labels together, or in that third of each."""
        wanted = [(label, third) for label in labels for third in THIRDS if part in ("whole", third)]
        found = [self.values[one] for one in wanted if one in self.values]
        return np.concatenate(found) if found else np.zeros(0)


def thirds_of(
    labelmap_kji: np.ndarray,
    volume: Volume,
    labels: Sequence[int],
    *,
    axis: int | None,
    with_values: bool,
    cancelled: Callable[[], bool],
) -> Thirds:
    """Cut labels into thirds.

    Args:
        labelmap_kji: integer (K, J, I) on the grid of the volume.
        volume: the image.
        labels: to count.
        axis: of RAS, that points to the head; None where none in the image does.
        with_values: whether the image's values are wanted.
        cancelled: asked for each slice of the array.
    Raises:
        CancelledError: `cancelled` said so.
    """
    steps_ijk = volume.ijk_to_ras[S if axis is None else axis, :3]
    slices, length = _Slices(labelmap_kji, steps_ijk, max(labels), cancelled), max(labels) + 1
    thin = thin_axis(volume)
    voxel_mm = sum(abs(float(steps_ijk[2 - one])) for one in range(3) if one != thin)
    heights = Heights(*_ends(slices, length), voxel_mm, axis is not None)
    counts = np.zeros((length, len(THIRDS)), np.int64)
    values: dict[tuple[int, Part], list[np.ndarray]] = {}
    for index, inside, found, levels in slices:
        codes = found * len(THIRDS) + heights.thirds_of(found, levels)
        numbers = np.bincount(codes, minlength=counts.size)
        counts += numbers.reshape(counts.shape)
        if with_values:
            stored = volume.array_kji[index][inside]
            for code in np.flatnonzero(numbers).tolist():
                label, third = divmod(code, len(THIRDS))
                values.setdefault((label, THIRDS[third]), []).append(stored[codes == code])
    return Thirds(heights, counts, {key: np.concatenate(parts) for key, parts in values.items()})


def _ends(slices: _Slices, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest level of each label's voxels."""
    lowest, highest = np.full(length, np.inf), np.full(length, -np.inf)
    for _, _, found, levels in slices:
        for label in np.flatnonzero(np.bincount(found)).tolist():
            mine = levels[found == label]
            lowest[label], highest[label] = min(lowest[label], mine.min()), max(highest[label], mine.max())
    return lowest, highest


class _Slices:
    """The labelled voxels of an array, slice by slice, to save memory."""

    def __init__(
        self, labelmap_kji: np.ndarray, steps_ijk: np.ndarray, highest_label: int, cancelled: Callable[[], bool]
    ) -> None:
        self._labelmap, self._highest, self._cancelled = labelmap_kji, highest_label, cancelled
        i, j, k = steps_ijk
        _, rows, columns = labelmap_kji.shape
        self._level_ji, self._step_k = np.arange(rows)[:, None] * j + np.arange(columns) * i, k

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """Of slices with labels: index, mask (J, I), and of its voxels labels (N,) and levels to the head in mm."""
        for index, labels in enumerate(self._labelmap):
            if self._cancelled():
                raise CancelledError("The measurement was stopped.")
            inside = (labels > 0) & (labels <= self._highest)
            if inside.any():
                yield index, inside, labels[inside].astype(np.intp), self._level_ji[inside] + index * self._step_k

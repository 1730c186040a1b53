"""Boxes of voxels by array index, so that a change costs what it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

Index = tuple[int, int, int]


class IndexBox(NamedTuple):
    """From `start` up to, but not including, `stop`, along the three axes of an array."""

    start: Index
    stop: Index

    @property
    def size(self) -> Index:
        """Voxels along each axis; 0 where it is empty."""
        k, j, i = (max(stop - start, 0) for start, stop in zip(self.start, self.stop, strict=True))
        return k, j, i

    @property
    def is_empty(self) -> bool:
        """Whether it holds no voxel."""
        return 0 in self.size

    def joined(self, other: IndexBox) -> IndexBox:
        """The smallest box that holds both."""
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        return IndexBox(_each(min, self.start, other.start), _each(max, self.stop, other.stop))

    def clipped(self, other: IndexBox) -> IndexBox:
        """What both have in common; it may be empty."""
        return IndexBox(_each(max, self.start, other.start), _each(min, self.stop, other.stop))

    def holds(self, other: IndexBox) -> bool:
        """Whether all voxels of the other are in it."""
        return other.is_empty or self.clipped(other) == other

    def within(self, outer: IndexBox) -> tuple[slice, slice, slice]:
        """Where it lies in an array of the voxels of `outer`, which holds it."""
        size = self.size
        k, j, i = (slice(a - b, a - b + n) for a, b, n in zip(self.start, outer.start, size, strict=True))
        return k, j, i


def box_of_size(size: Index) -> IndexBox:
    """All voxels of an array."""
    return IndexBox((0, 0, 0), size)


def box_of(masks: Iterable[np.ndarray]) -> IndexBox:
    """The smallest box around all voxels that are not 0 in slices (J, I), the first of which has index 0.

    Slice by slice, as other threads want the GIL, too. It is empty where all are 0.
    """
    numbers, rows, columns = [], None, None
    for number, mask in enumerate(masks):
        if not mask.any():
            continue
        numbers.append(number)
        in_rows, in_columns = mask.any(axis=1), mask.any(axis=0)
        rows = in_rows if rows is None else rows | in_rows
        columns = in_columns if columns is None else columns | in_columns
    if rows is None or columns is None:
        return IndexBox((0, 0, 0), (0, 0, 0))
    (j, j_stop), (i, i_stop) = _ends(rows), _ends(columns)
    return IndexBox((numbers[0], j, i), (numbers[-1] + 1, j_stop, i_stop))


def _ends(line: np.ndarray) -> tuple[int, int]:
    """First index where it is true, and the one after the last."""
    found = np.flatnonzero(line)
    return int(found[0]), int(found[-1]) + 1


def _each(choose: Callable[[int, int], int], first: Index, second: Index) -> Index:
    k, j, i = map(choose, first, second)
    return k, j, i

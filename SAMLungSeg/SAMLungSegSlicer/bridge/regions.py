"""What is written into a layer: wanted labels in a box of voxels, or in one slice, drawn over what is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from SAMLungSegLib.boxes import IndexBox, box_of, box_of_size

if TYPE_CHECKING:
    from SAMLungSegLib.volume.reformat import ReformattedSlice


class Layer(Protocol):
    """A labelmap on a grid, as large as it needs to be.

    Attributes:
        box: what it holds of the grid; it may reach beyond it.
        voxels: label values (K, J, I) of the box.
    """

    box: IndexBox
    voxels: np.ndarray

    def makeWritable(self, box: IndexBox) -> None:
        """Grow to hold a box of the grid as well; from now on `voxels` may be changed."""


class Redraw:
    """Label values of a layer in which some segments get exactly the wanted voxels.

    Attributes:
        changed: labels of the segments that have got or lost a voxel.
        crowded: the label of a segment that wants a voxel which another segment of the layer has; None as yet.
    """

    def __init__(self, values: Mapping[int, int], others: Collection[int]) -> None:
        """Begin.

        Args:
            values: label value in the layer of each label that is wanted.
            others: label values of the layer's other segments, which keep their voxels.
        """
        self._values, self._others = dict(values), [*others]
        self.changed: set[int] = set()
        self.crowded: int | None = None

    def __call__(self, before: np.ndarray | None, labels: np.ndarray, inside: np.ndarray | None) -> np.ndarray | None:
        """What label values become; None where they stay, or are `crowded`.

        Args:
            before: label values, of any shape; None where there are none.
            labels: the wanted labels, of the same shape; those of no segment that is written count as 0.
            inside: bool, what may change; None for all.
        """
        dtype = np.min_scalar_type(max(self._values.values()))
        wanted = self._wanted(labels, dtype if before is None else np.result_type(before, dtype))
        if before is None:
            after = wanted if inside is None else np.where(inside, wanted, np.zeros((), wanted.dtype))
            isSame = not after.any()
        else:
            after = self._over(before, wanted, inside)
            self.crowded = self._crowded(before, after)
            isSame = np.array_equal(after, before)
        if isSame or self.crowded is not None:
            return None
        for label, value in self._values.items():
            if label not in self.changed and _hasChanged(before, after, value):
                self.changed.add(label)
        return after

    def _wanted(self, labels: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Label values in the layer."""
        if labels.dtype == dtype and all(
            self._values.get(label) == label for label in range(1, int(labels.max(initial=0)) + 1)
        ):
            return labels
        wanted = np.zeros(labels.shape, dtype)
        for label, value in self._values.items():
            np.copyto(wanted, value, where=labels == label)
        return wanted

    def _over(self, before: np.ndarray, wanted: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
        if np.array_equal(wanted, before):
            return before
        if inside is None and set(self._values.values()).issuperset(range(1, int(before.max()) + 1)):
            return wanted  # nobody else can be there
        may = wanted != 0
        for value in self._values.values():
            may |= before == value
        if inside is not None:
            may &= inside
        return np.where(may, wanted, before)

    def _crowded(self, before: np.ndarray, after: np.ndarray) -> int | None:
        for other in self._others:
            taken = after[(before == other) & (after != other)]
            if taken.size:
                return next(label for label, value in self._values.items() if value == taken[0])
        return None


def _hasChanged(before: np.ndarray | None, after: np.ndarray, value: int) -> bool:
    """Whether a segment has got or lost a voxel."""
    has = after == value
    return bool(has.any()) if before is None else not np.array_equal(before == value, has)


class Region(Protocol):
    """Some voxels of the grid, and what is wanted there."""

    def has(self, label: int) -> bool:
        """Whether a label is wanted anywhere."""

    def write(self, layer: Layer, redraw: Redraw) -> None:
        """Redraw a layer; it stops where the redraw is crowded, and may then be repeated."""


class BoxRegion:
    """All voxels of a box; slice by slice, as other threads want the GIL, too."""

    def __init__(self, box: IndexBox, labels_kji: np.ndarray, inside_kji: np.ndarray | None) -> None:
        """Take parts of arrays.

        Args:
            box: of the grid.
            labels_kji: the wanted labels on the whole grid.
            inside_kji: bool, likewise, what may change; None for all.
        """
        here = box.within(box_of_size(labels_kji.shape))
        self._box, self._labels = box, labels_kji[here]
        self._inside = None if inside_kji is None else inside_kji[here]

    def has(self, label: int) -> bool:
        return any((labels == label).any() for labels in self._labels)

    def write(self, layer: Layer, redraw: Redraw) -> None:
        if layer.box.is_empty:
            layer.makeWritable(self._box)
            for target, (_, labels, inside) in zip(layer.voxels, self._slices(), strict=True):
                after = redraw(None, labels, inside)
                if after is not None:
                    target[...] = after
            return
        isGrown = False
        for sheet, labels, inside in self._slices():
            after = redraw(_read(layer, sheet), labels, inside)
            if redraw.crowded is not None:
                return
            if after is not None:
                if not isGrown:
                    layer.makeWritable(self._needed(layer))
                    isGrown = True
                common = sheet.clipped(layer.box)
                layer.voxels[common.within(layer.box)] = after[None][common.within(sheet)]

    def _slices(self) -> Iterator[tuple[IndexBox, np.ndarray, np.ndarray | None]]:
        """Box, labels and what may change of each."""
        (first, *low), (_, *high) = self._box
        for number, labels in enumerate(self._labels):
            inside = None if self._inside is None else self._inside[number]
            yield IndexBox((first + number, *low), (first + number + 1, *high)), labels, inside

    def _needed(self, layer: Layer) -> IndexBox:
        """What a layer has to hold."""
        if layer.box.holds(self._box):
            return self._box
        start, stop = box_of(self._labels)
        first = self._box.start
        return IndexBox(tuple(np.add(start, first).tolist()), tuple(np.add(stop, first).tolist()))


def _read(layer: Layer, sheet: IndexBox) -> np.ndarray | None:
    """Label values (J, I) of one slice of a box, 0 beyond the layer; None where it does not reach there."""
    common = sheet.clipped(layer.box)
    if common.is_empty:
        return None
    if common == sheet:
        return layer.voxels[sheet.within(layer.box)][0]
    values = np.zeros(sheet.size, layer.voxels.dtype)
    values[common.within(sheet)] = layer.voxels[common.within(layer.box)]
    return values[0]


class CutRegion:
    """The voxels of one slice."""

    def __init__(self, cut: ReformattedSlice, labels_hw: np.ndarray, inside_hw: np.ndarray) -> None:
        """Take pixels.

        Args:
            cut: of the grid.
            labels_hw: the wanted labels.
            inside_hw: bool, the pixels that may change; all of them have a voxel.
        """
        self._cut, self._labels, self._inside = cut, labels_hw, inside_hw

    def has(self, label: int) -> bool:
        return bool((self._labels == label).any())

    def write(self, layer: Layer, redraw: Redraw) -> None:
        before = self._cut.take_part(layer.voxels, layer.box)
        after = redraw(before, self._labels, self._inside)
        if after is not None:
            touched = after != before
            layer.makeWritable(self._cut.box_of(touched & (after != 0)))
            self._cut.put_part(after, layer.voxels, layer.box, touched)

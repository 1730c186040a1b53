"""Which slices nothing but the user changes: those that a person accepted, locked, or changed by other means.

What was accepted or locked here is held by its place, in any of the three planes. What was changed elsewhere is found
by comparison: each slice as it was written automatically is known by a digest, short enough to be kept with the
segmentation, and a slice that matches none of them was painted.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from SAMLungSegLib.volume import ReformattedSlice, SlicePlane

MOST_DIGESTS = 10  # of a slice: undo brings earlier automatic ones back
_DIGEST_LENGTH = 8


class Place(NamedTuple):
    """A slice of a volume by its array axis (0 is K) and its position along it, in voxels."""

    axis: int
    position: int

    @classmethod
    def of(cls, plane: SlicePlane, number: int) -> Place:
        """The slice of that number, as a plane displays the volume."""
        size = plane.size_nhw[0]
        return cls(plane.axes[0], size - 1 - number if plane.flips[0] else number)

    @classmethod
    def of_reformat(cls, reformat: ReformattedSlice) -> Place | None:
        """The slice of the volume that a reformatted slice is; None for an oblique one, which lies in several."""
        number = reformat.slice_number
        return None if number is None else cls.of(reformat.plane, number)

    def number_in(self, plane: SlicePlane) -> int:
        """Its number as a plane of the same axis displays it; numbers are their own mirror."""
        return Place.of(plane, self.position).position

    @property
    def where(self) -> tuple[slice | int, ...]:
        """Indexes an array (K, J, I): the voxels of the slice."""
        return tuple(self.position if axis == self.axis else slice(None) for axis in range(3))


@dataclass(frozen=True)
class Locks:
    """What is known of the slices of one grid.

    Attributes:
        grid: names the grid and the direction of its slices.
        digests: for each slice those of its automatic labels, the latest last, in one text; empty where it had none.
        held: slices, in any of the three planes, that were accepted or locked by a person.
    """

    grid: str = ""
    digests: tuple[str, ...] = ()
    held: frozenset[Place] = frozenset()

    @classmethod
    def from_text(cls, text: str | None, plane: SlicePlane) -> Locks:
        """What `to_text` has written; nothing is known where that is absent or damaged.

        Args:
            text: may be None.
            plane: in which the volume is segmented now; it may be stored in another order since.
        """
        try:
            fields = json.loads(text or "{}")
            held = frozenset(_as_stored(plane, int(axis), int(at)) for axis, at in fields["held"])
            return cls(str(fields["grid"]), tuple(str(one) for one in fields["slices"]), held)
        except (ValueError, TypeError, KeyError, IndexError):
            return cls()

    def to_text(self, plane: SlicePlane) -> str:
        """As text, to be kept with the segmentation; places as the plane displays them, however voxels are stored."""
        if not self.digests and not self.held:
            return "{}"
        held = sorted(_as_displayed(plane, one) for one in self.held)
        return json.dumps({"grid": self.grid, "slices": list(self.digests), "held": held})

    def of_grid(self, grid: str, count: int) -> Locks:
        """The same where they are of that grid with that many slices; of any other, nothing is known."""
        if self.grid == grid and len(self.digests) == count:
            return self
        return Locks(grid, ("",) * count, frozenset() if self.grid else self.held)

    def is_automatic(self, index: int, labels_hw: np.ndarray) -> bool:
        """Whether a slice with these labels is as it was found automatically."""
        return digest_of(labels_hw) in _split(self.digests[index])

    def is_painted(self, index: int, labels_hw: np.ndarray) -> bool:
        """Whether a slice with these labels was made by something else than automatic segmentation."""
        return not self.is_automatic(index, labels_hw) if self.digests[index] else bool(labels_hw.any())

    def with_automatic(self, slices: dict[int, np.ndarray]) -> Locks:
        """With labels (H, W) of some slices as automatic: they do not count as painted any more."""
        digests = list(self.digests)
        for index, labels_hw in slices.items():
            earlier = [one for one in _split(digests[index]) if one != digest_of(labels_hw)]
            digests[index] = "".join([*earlier, digest_of(labels_hw)][-MOST_DIGESTS:])
        return replace(self, digests=tuple(digests))

    def holding(self, added: Iterable[Place] = (), removed: Iterable[Place] = ()) -> Locks:
        """With some slices held, and others not any more."""
        return replace(self, held=(self.held - frozenset(removed)) | frozenset(added))

    def locked(self, labelmap_kji: np.ndarray, plane: SlicePlane) -> tuple[int, ...]:
        """Numbers of the slices that are held or painted; where there is no lung at all, everything was taken back.

        Args:
            labelmap_kji: uint8, as it is now.
            plane: of the slices whose digests are known (`of_grid`).
        """
        slices = plane.to_display(labelmap_kji) if labelmap_kji.any() else ()
        painted = {n for n, labels_hw in enumerate(slices) if self.is_painted(n, labels_hw)}
        return tuple(sorted(painted.union(self.held_in(plane))))

    def held_in(self, plane: SlicePlane) -> tuple[int, ...]:
        """Numbers of the slices of a plane that are held."""
        return tuple(sorted(one.number_in(plane) for one in self.held if one.axis == plane.axes[0]))

    def held_across(self, plane: SlicePlane) -> tuple[Place, ...]:
        """The held slices that cross those of a plane."""
        return tuple(sorted(one for one in self.held if one.axis != plane.axes[0]))


def numbers_with_lung(labelmap_kji: np.ndarray, numbers: Iterable[int], plane: SlicePlane) -> tuple[int, ...]:
    """Those of some slices of a plane that show visible lung, labels 1 and 2."""
    is_lung = (labelmap_kji == 1) | (labelmap_kji == 2)
    return tuple(number for number in numbers if is_lung[Place.of(plane, number).where].any())


def digest_of(labels_hw: np.ndarray) -> str:
    """Eight characters that tell a slice's labels from others."""
    return f"{zlib.crc32(np.ascontiguousarray(labels_hw, np.uint8).data):08x}"


def _as_displayed(plane: SlicePlane, place: Place) -> tuple[int, int]:
    """Display axis (0 is the slices) and position along it."""
    display_axis = plane.axes.index(place.axis)
    last = plane.size_nhw[display_axis] - 1
    return display_axis, last - place.position if plane.flips[display_axis] else place.position


def _as_stored(plane: SlicePlane, display_axis: int, position: int) -> Place:
    last = plane.size_nhw[display_axis] - 1
    return Place(plane.axes[display_axis], last - position if plane.flips[display_axis] else position)


def _split(digests: str) -> list[str]:
    return [digests[start : start + _DIGEST_LENGTH] for start in range(0, len(digests), _DIGEST_LENGTH)]

"""Which slices stay when a volume is segmented again: those that are not as they were found automatically.

What was found automatically is known by a digest of each slice, short enough to be kept with the segmentation. A slice
that matches none of them was painted, or accepted by a person.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_DIGESTS = 10  # of a slice: undo brings earlier automatic ones back
_DIGEST_LENGTH = 8


@dataclass(frozen=True)
class Locks:
    """What is known of the slices of one grid.

    Attributes:
        grid: names the grid and the direction of its slices.
        digests: for each slice those of its automatic labels, the latest last, in one text; empty where it had none.
    """

    grid: str = ""
    digests: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, text: str | None) -> Locks:
        """What `to_json` has written; nothing is known where that is absent or damaged."""
        try:
            fields = json.loads(text or "{}")
            return cls(str(fields["grid"]), tuple(str(one) for one in fields["slices"]))
        except (ValueError, TypeError, KeyError):
            return cls()

    def to_json(self) -> str:
        """As text, to be kept with the segmentation."""
        return json.dumps({"grid": self.grid, "slices": list(self.digests)} if self.digests else {})

    def of_grid(self, grid: str, count: int) -> Locks:
        """The same where they are of that grid with that many slices; of any other, nothing is known."""
        return self if self.grid == grid and len(self.digests) == count else Locks(grid, ("",) * count)

    def is_automatic(self, index: int, labels_hw: np.ndarray) -> bool:
        """Whether a slice with these labels is as it was found automatically."""
        return digest_of(labels_hw) in _split(self.digests[index])

    def is_locked(self, index: int, labels_hw: np.ndarray) -> bool:
        """Whether a slice with these labels was made by a person, or by something else than automatic segmentation."""
        return not self.is_automatic(index, labels_hw) if self.digests[index] else bool(labels_hw.any())

    def with_automatic(self, slices: dict[int, np.ndarray]) -> Locks:
        """With labels (H, W) of some slices as automatic: they are not locked any more."""
        digests = list(self.digests)
        for index, labels_hw in slices.items():
            earlier = [one for one in _split(digests[index]) if one != digest_of(labels_hw)]
            digests[index] = "".join([*earlier, digest_of(labels_hw)][-MOST_DIGESTS:])
        return Locks(self.grid, tuple(digests))

    def locked(self, slices_nhw: Sequence[np.ndarray]) -> tuple[int, ...]:
        """Numbers of the slices, of all slices of the grid, that are locked."""
        return tuple(index for index, labels_hw in enumerate(slices_nhw) if self.is_locked(index, labels_hw))


def digest_of(labels_hw: np.ndarray) -> str:
    """Eight characters that tell a slice's labels from others."""
    return f"{zlib.crc32(np.ascontiguousarray(labels_hw, np.uint8).data):08x}"


def _split(digests: str) -> list[str]:
    return [digests[start : start + _DIGEST_LENGTH] for start in range(0, len(digests), _DIGEST_LENGTH)]

"""Where in its volume a slice lies, for adapters that look at all of it; made by whoever has the volume."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SIDE = 64


class SmallVolume:
    """A volume drawn as a cube of 64 slices of 64 x 64 pixels, once somebody asks for it.

    Args:
        slices: gives all slices, uint8 (N, H, W) or a list of (H, W), as models see them; called once.
    """

    def __init__(self, slices: Callable[[], np.ndarray | Sequence[np.ndarray]]) -> None:
        self._slices = slices

    @cached_property
    def cube(self) -> np.ndarray:
        """Uint8 (64, 64, 64): slices, rows, columns, each linearly interpolated, with anti-aliasing."""
        import torch
        from torch.nn.functional import interpolate

        def resized(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
            return interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)

        flat = [torch.from_numpy(np.array(one, np.float32))[None, None] for one in self._slices()]
        small = torch.cat([resized(one, (SIDE, SIDE)).flatten(2) for one in flat], 2).unflatten(2, (-1, SIDE * SIDE))
        del self._slices  # which may be large
        return resized(small, (SIDE, SIDE * SIDE)).reshape(SIDE, SIDE, SIDE).round().clamp(0, 255).byte().numpy()

    @cached_property
    def digest(self) -> str:
        """Of the cube."""
        return hashlib.sha256(self.cube.tobytes()).hexdigest()


def small_volume(slices: Sequence[np.ndarray]) -> SmallVolume:
    """A volume drawn at once, of which no slice is kept; `slices` uint8 (H, W) each."""
    volume = SmallVolume(lambda: slices)
    _ = volume.cube
    return volume


@dataclass(frozen=True, eq=False)
class PlaceInVolume:
    """Which slice of a volume it is.

    Attributes:
        volume: that it lies in.
        index: its number.
        count: how many slices the volume has.
    """

    volume: SmallVolume
    index: int
    count: int

    @property
    def depth(self) -> int:
        """Which slice of the cube its middle lies in."""
        return min(SIDE - 1, int((self.index + 0.5) * SIDE / self.count))

    @property
    def digest(self) -> bytes:
        """Of the cube and the place in it."""
        return f"{self.volume.digest} {self.depth}".encode()

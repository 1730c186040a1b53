"""A slice of five by six pixels with prompts on it: for tests of what is written of a prediction."""

from __future__ import annotations

import numpy as np

from SAMLungSegLib import Volume
from SAMLungSegLib.interaction import Predicted, SlicePrompts
from SAMLungSegLib.prompts.volume import VolumeBox, VolumePoint, VolumePrompts
from SAMLungSegLib.volume import SlicePlane
from SAMLungSegLib.volume.reformat import ReformattedSlice, reformat_volume

SIZE_KJI = (3, 5, 6)
LPS = np.diag([-1.0, -1, 1, 1])  # pixel (x, y) of an axial slice is (i, j)


def volume(ijk_to_ras: np.ndarray = LPS, size_kji: tuple[int, int, int] = SIZE_KJI) -> Volume:
    return Volume(np.zeros(size_kji, np.int16), ijk_to_ras, "small")


def axial(k: int = 1) -> ReformattedSlice:
    return reformat_volume(SIZE_KJI, LPS, (0, 0, 1), (0, 0, k))


def planes_of(size_kji: tuple[int, int, int], ijk_to_ras: np.ndarray) -> list[SlicePlane]:
    """A volume as axial, coronal and sagittal slices."""
    centre = (ijk_to_ras @ [*((np.array(size_kji[::-1]) - 1) / 2), 1])[:3]
    return [reformat_volume(size_kji, ijk_to_ras, normal, centre).plane for normal in np.eye(3)[::-1]]


def prompts(points=(), boxes=(), k: int = 1) -> SlicePrompts:
    """Points are (i, j, positive), boxes (i, j, i, j), all in slice k."""
    placed = VolumePrompts(
        tuple(VolumePoint((float(i), float(j), float(k)), positive) for i, j, positive in points),
        tuple(VolumeBox((a, b, k - 0.5), (c, d, k + 0.5)) for a, b, c, d in boxes),
    )
    return SlicePrompts.of(axial(k), placed, volume())


def labels(text: str) -> np.ndarray:
    """Rows of digits, a dot for 0."""
    return np.array([[int(one) for one in row.replace(".", "0")] for row in text.split()], np.uint8)


def predicted(text: str, asked: SlicePrompts, automatic: str | None = None, wanted=(1, 2), needs_prompt=False):
    automatic_hw = None if automatic is None else labels(automatic)
    return Predicted.of(asked, labels(text), wanted, automatic_hw, needs_prompt=needs_prompt)

"""What a caller asks for: modality, window, prompts in voxels, which lungs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from SAMLungSegLib.errors import PromptError, SAMLungSegError
from SAMLungSegLib.intensity import WINDOW_PRESETS, Modality, Window, parse_window
from SAMLungSegLib.postprocess import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.prompts import BoxPrompt
from SAMLungSegLib.volume import Volume

Progress = Callable[[int, int], None]
MOST_PROMPTS = 1000  # of a kind in one image
LUNGS = {"both": (RIGHT_LUNG, LEFT_LUNG), "right": (RIGHT_LUNG,), "left": (LEFT_LUNG,)}


class CancelledError(SAMLungSegError):
    """The caller asked to stop; nothing was written."""


@dataclass(frozen=True)
class VolumePoint:
    """A click at voxel `ijk` of a volume's own grid; of an image with one slice (i, j) is enough."""

    ijk: tuple[float, ...]
    positive: bool = True

    def __post_init__(self) -> None:
        _check_voxel(self.ijk)


@dataclass(frozen=True)
class VolumeBox:
    """A box between two voxel corners of a volume's own grid; slices outside every box stay empty."""

    first_ijk: tuple[float, ...]
    last_ijk: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_voxel(self.first_ijk)
        _check_voxel(self.last_ijk)


def _check_voxel(ijk: tuple[float, ...]) -> None:
    if len(ijk) not in (2, 3) or not np.all(np.isfinite(ijk)):
        raise PromptError(f"Voxel {ijk} is not i,j,k; give two or three finite numbers.")


@dataclass(frozen=True)
class Options:
    """How a volume is segmented.

    Attributes:
        modality: 'CT' or 'XRAY', in any case; None to guess it.
        window: CT window or what `parse_window` reads; ignored for X-rays and for images that are windowed already.
        points, boxes: prompts in voxels of the volume, at most `MOST_PROMPTS` of each; without any the model or
            classical means find the lungs.
        threshold: probability above which a pixel is lung, in (0, 1).
        lungs: 'both', 'right' or 'left'.
        every: only each `every`-th slice of a volume, and those with prompts, is shown to the model; the slices
            between get their outlines by interpolation.
    """

    modality: Modality | None = None
    window: Window | str = WINDOW_PRESETS["lung"]
    points: tuple[VolumePoint, ...] = ()
    boxes: tuple[VolumeBox, ...] = ()
    threshold: float = 0.5
    lungs: str = "both"
    every: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, int | float) or not 0 < self.threshold < 1:
            raise PromptError(f"Threshold {self.threshold!r} is not a number between 0 and 1; 0.5 is usual.")
        if self.lungs not in LUNGS:
            raise PromptError(f"Lungs '{self.lungs}' is not one of {', '.join(LUNGS)}.")
        if not isinstance(self.every, int) or self.every < 1:
            raise PromptError(f"Every {self.every!r}-th slice is not possible; give a whole number from 1 on.")
        for kind, given in (("points", self.points), ("boxes", self.boxes)):
            if len(given) > MOST_PROMPTS:
                raise PromptError(f"{len(given)} {kind} were given; at most {MOST_PROMPTS} are possible in one image.")
        if self.modality is not None:
            object.__setattr__(self, "modality", self.modality.upper())
        if isinstance(self.window, str):
            object.__setattr__(self, "window", parse_window(self.window))


def voxel_of(ijk: tuple[float, ...], volume: Volume) -> tuple[float, ...]:
    """The three indices of a voxel of the volume.

    Raises:
        PromptError: it is outside, or has no k where there are several slices.
    """
    size_ijk = volume.size_kji[::-1]
    if len(ijk) == 2:
        if size_ijk[2] > 1:
            raise PromptError(f"Voxel {ijk} has no k, and {volume.name} has {size_ijk[2]} slices; give i,j,k.")
        ijk = (*ijk, 0.0)
    if not all(-0.5 <= value <= size - 0.5 for value, size in zip(ijk, size_ijk, strict=True)):
        given = ",".join(f"{value:g}" for value in ijk)
        last = ",".join(f"{size - 1}" for size in size_ijk)
        raise PromptError(f"Voxel {given} is outside {volume.name}, whose voxels i,j,k are 0,0,0 to {last}.")
    return ijk


def box_prompt(xyxy: tuple[float, float, float, float], box: VolumeBox) -> BoxPrompt:
    """The rectangle (left, top, right, bottom) of a slice that lies in `box`, as a prompt.

    Raises:
        PromptError: it has no width or no height.
    """
    left, top, right, bottom = xyxy
    if right <= left or bottom <= top:
        raise PromptError(f"The box from voxel {box.first_ijk} to {box.last_ijk} is flat in the slice; widen it.")
    return BoxPrompt(xyxy)

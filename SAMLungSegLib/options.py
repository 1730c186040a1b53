"""What a caller chooses: modality, window, prompts in voxels, which lungs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.intensity import WINDOW_PRESETS, Window, parse_window
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.prompts.volume import VolumeBox, VolumePoint, VolumePrompts
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

Progress = Callable[[int, int], None]
LUNG_CHOICES = {"both": (RIGHT_LUNG, LEFT_LUNG), "right": (RIGHT_LUNG,), "left": (LEFT_LUNG,)}


class OptionValues(TypedDict, total=False):
    """The fields of `Options` as keywords of a call."""

    modality: Modality | None
    window: Window | str
    points: tuple[VolumePoint, ...]
    boxes: tuple[VolumeBox, ...]
    threshold: float
    lungs: str
    every: int


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
    Raises:
        SettingsError: a threshold, choice of lungs or step is not possible.
        PromptError: too many prompts.
        IntensityError: the window is unknown.
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
            raise SettingsError(f"Threshold {self.threshold!r} is not a number between 0 and 1; 0.5 is usual.")
        if self.lungs not in LUNG_CHOICES:
            raise SettingsError(f"Lungs '{self.lungs}' is not one of {', '.join(LUNG_CHOICES)}.")
        if not isinstance(self.every, int) or self.every < 1:
            raise SettingsError(f"Every {self.every!r}-th slice is not possible; give a whole number from 1 on.")
        VolumePrompts(self.points, self.boxes)  # refuses too many
        if self.modality is not None:
            object.__setattr__(self, "modality", self.modality.upper())
        if isinstance(self.window, str):
            object.__setattr__(self, "window", self.ct_window)

    @property
    def ct_window(self) -> Window:
        """The window as such, whether it was given or named."""
        return self.window if isinstance(self.window, Window) else parse_window(self.window)

    @property
    def prompts(self) -> VolumePrompts:
        """Points and boxes together."""
        return VolumePrompts(self.points, self.boxes)

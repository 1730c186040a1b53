"""What a caller chooses: modality, window, prompts in voxels, which lungs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.intensity import WINDOW_PRESETS, Window, parse_window
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.prompts.volume import VolumeBox, VolumePoint, VolumePrompts
from SAMLungSegLib.structures import EXTENT_CHOICES, LEFT_LUNG, LUNGS_WITH_HIDDEN, RIGHT_LUNG, ExtentChoice

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
    extent: ExtentChoice


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
        extent: of lungs on X-rays: 'visible', the fields up to the borders of heart and diaphragm; 'whole', with what
            these hide; or 'both', which gives labels to the visible fields and to what is hidden, see
            `structures.LUNGS_WITH_HIDDEN`. CT shows lungs as they are, whatever is chosen.
    Raises:
        SettingsError: a threshold, choice of lungs, step or extent is not possible.
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
    extent: ExtentChoice = "visible"

    def __post_init__(self) -> None:
        if not isinstance(self.threshold, int | float) or not 0 < self.threshold < 1:
            raise SettingsError(f"Threshold {self.threshold!r} is not a number between 0 and 1; 0.5 is usual.")
        if self.lungs not in LUNG_CHOICES:
            raise SettingsError(f"Lungs '{self.lungs}' is not one of {', '.join(LUNG_CHOICES)}.")
        if not isinstance(self.every, int) or self.every < 1:
            raise SettingsError(f"Every {self.every!r}-th slice is not possible; give a whole number from 1 on.")
        if self.extent not in EXTENT_CHOICES:
            raise SettingsError(f"Extent {self.extent!r} of the lungs is not one of {', '.join(EXTENT_CHOICES)}.")
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
    def labels(self) -> tuple[int, ...]:
        """The label values that results may have."""
        return tuple(label for label, one in LUNGS_WITH_HIDDEN if self.lungs in ("both", one.side))

    @property
    def shown_extent(self) -> ExtentChoice | None:
        """The extent that a mask is of; None of a CT, whose lungs have no other."""
        return None if self.modality == "CT" else self.extent

    @property
    def prompts(self) -> VolumePrompts:
        """Points and boxes together."""
        return VolumePrompts(self.points, self.boxes)

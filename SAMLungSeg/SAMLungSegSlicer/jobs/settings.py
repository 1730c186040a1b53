"""What is asked for, in plain values that any thread may read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from SAMLungSegLib import Options, VolumeBox, VolumePoint


@dataclass(frozen=True)
class Settings:
    """How lungs are found; the defaults are those of the command line.

    Attributes:
        modality: 'CT' or 'XRAY', in any case; None or 'auto' to ask the image.
        window: CT window, a preset's name or 'width/level' in HU.
        model: a name of the model registry.
        weights: a checkpoint of the user's for that model.
        device: 'auto', 'cpu', 'cuda', 'mps'; None is 'auto'.
        lungs: 'both', 'right' or 'left': which lungs are found and written.
        threshold: probability above which a pixel is lung, in (0, 1).
    """

    modality: str | None = None
    window: str = "lung"
    model: str = "lung-compact"
    weights: Path | str | None = None
    device: str | None = None
    lungs: str = "both"
    threshold: float = 0.5

    def options(self, points: Sequence[VolumePoint] = (), boxes: Sequence[VolumeBox] = ()) -> Options:
        """The same for the library, with prompts.

        Raises:
            SAMLungSegError: a value is not one of those above.
        """
        from SAMLungSegLib import Options

        return Options(
            modality=None if self.modality in (None, "auto") else self.modality,
            window=self.window,
            points=tuple(points),
            boxes=tuple(boxes),
            threshold=self.threshold,
            lungs=self.lungs,
        )

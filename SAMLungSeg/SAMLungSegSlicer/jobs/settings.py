"""What is asked for, in plain values that any thread may read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegSlicer.runtime.imports import keepTritonApart

if TYPE_CHECKING:
    from SAMLungSegLib import Options, VolumeBox, VolumePoint
    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.models.choice import ModelChoice
    from SAMLungSegLib.structures import ExtentChoice


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
        extent: of lungs on X-rays: 'visible' fields, 'whole' lungs with what heart and diaphragm hide, or 'both', with
            segments of their own for what is hidden.
    """

    modality: str | None = None
    window: str = "lung"
    model: str = "lung-compact"
    weights: Path | str | None = None
    device: str | None = None
    lungs: str = "both"
    threshold: float = 0.5
    extent: ExtentChoice = "visible"

    @property
    def choice(self) -> ModelChoice:
        """The model; embeddings of one that encodes slowly are kept on disk, as by the command line."""
        from SAMLungSegLib.models.choice import ModelChoice

        return ModelChoice(self.model, Path(self.weights) if self.weights else None)

    def loadedModel(self) -> PromptableModel:
        """The model itself, loaded once; any thread may ask.

        Raises:
            ModelError: the model is unknown, or its weights are absent or do not fit.
        """
        from SAMLungSegLib.models.engines import chosen_engine
        from SAMLungSegLib.models.registry import model_spec

        if chosen_engine(model_spec(self.model), self.device or "auto") == "torch":
            keepTritonApart()
        return self.choice.load(self.device or "auto")

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
            extent=self.extent,
        )

"""Segmenting when the graphics memory runs out: slice by slice, then on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.pipeline import Options, Segmentation, segment_volume
from SAMLungSegLib.replay import ModelChoice

if TYPE_CHECKING:
    import numpy as np

    from SAMLungSegLib.prompts import PromptSet
    from SAMLungSegLib.volume import Volume

logger = logging.getLogger(__name__)


class OneByOne(PromptableModel):
    """A model that encodes one slice at a time, whatever it is given."""

    def __init__(self, model: PromptableModel) -> None:
        self.model = model
        for name in (
            "name",
            "device",
            "answers_without_prompt",
            "tells_sides_apart",
            "accepts_points",
            "accepts_masks",
        ):
            setattr(self, name, getattr(model, name))

    def encode(self, slices: Sequence[np.ndarray]) -> list[Embedding]:
        """As the model."""
        return [self.model.encode([one])[0] for one in slices]

    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """As the model."""
        return self.model.decode(embedding, prompts)

    def prompts_about_both(self, rough_hw: np.ndarray) -> PromptSet | None:
        """As the model."""
        return self.model.prompts_about_both(rough_hw)

    def check_prompts(self, prompts: PromptSet, size_hw: tuple[int, int]) -> None:
        """As the model."""
        self.model.check_prompts(prompts, size_hw)


def segment_within_memory(
    volume: Volume, choice: ModelChoice, device: str, options: Options, cancelled: Callable[[], bool]
) -> tuple[Segmentation, str]:
    """The segmentation and the device that made it; what had to be done for it is logged as a warning.

    Raises:
        SAMLungSegError: as `segment_volume`.
        RuntimeError: anything else that torch refuses.
    """
    model = choice.load(device)
    for attempt in (model, OneByOne(model)):
        try:
            return segment_volume(volume, attempt, options, cancelled=cancelled), str(model.device)
        except RuntimeError as error:
            if model.device.type == "cpu" or not is_out_of_memory(error):
                raise
        _release_memory()  # after the exception, which holds what filled it
        what_next = "slice by slice" if attempt is model else "on the CPU"
        logger.warning("The memory of %s does not suffice for %s: tried %s.", model.device, volume.name, what_next)
    return segment_volume(volume, choice.load("cpu"), options, cancelled=cancelled), "cpu"


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that a graphics card's memory is full."""
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()


def _release_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()

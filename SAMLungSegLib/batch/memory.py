"""Segmenting when the graphics memory runs out: once more with the memory released, then on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from SAMLungSegLib.errors import is_out_of_memory
from SAMLungSegLib.pipeline import Options, Segmentation, segment_volume
from SAMLungSegLib.replay import ModelChoice

if TYPE_CHECKING:
    from SAMLungSegLib.volume import Volume

logger = logging.getLogger(__name__)


def segment_within_memory(
    volume: Volume, choice: ModelChoice, device: str, options: Options, cancelled: Callable[[], bool]
) -> tuple[Segmentation, str]:
    """The segmentation and the device that made it; what had to be done for it is logged as a warning.

    Raises:
        SAMLungSegError: as `segment_volume`.
        RuntimeError: anything else that torch refuses.
    """
    model = choice.load(device)
    for what_next in ("again with its memory released", "on the CPU"):
        try:
            return segment_volume(volume, model, options, cancelled=cancelled), str(model.device)
        except RuntimeError as error:
            if model.device.type == "cpu" or not is_out_of_memory(error):
                raise
        _release_memory()  # after the exception, which holds what filled it
        logger.warning("The memory of %s does not suffice for %s: tried %s.", model.device, volume.name, what_next)
    return segment_volume(volume, choice.load("cpu"), options, cancelled=cancelled), "cpu"


def _release_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()

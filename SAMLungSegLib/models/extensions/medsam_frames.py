"""SAM's network seen as MedSAM sees slices: stretched to a square, min-max, boxes alone (Ma et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.capabilities import MEDSAM
from SAMLungSegLib.models.extensions.base import Extension, register_extension
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.trainable import TrainableModel


@register_extension("medsam-frames")
@dataclass(frozen=True)
class MedSamFrames(Extension):
    """Adds no weights: another preprocessing for the same network, which learns with it."""

    def added_to(self, model: TrainableModel) -> MedSamModel:
        """A `MedSamModel` with the network of a SAM.

        Raises:
            ModelError: the model is no SAM.
        """
        if not isinstance(model, SamModel):
            raise ModelError(
                f"Model {model.name} is no SAM, whose slices could be MedSAM's; choose a SAM or medsam-vit-b."
            )
        model.network.extension = nn.Module()
        capabilities = replace(model.capabilities, prompts=MEDSAM.prompts, window=MEDSAM.window)
        return MedSamModel(
            model.network, name=model.name, device=model.device, dtype=model.dtype, capabilities=capabilities
        )

"""The two that all others are compared with: the mask decoder alone, and the whole network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from SAMLungSegLib.adaptation.method import Group, Method, register_method
from SAMLungSegLib.models.capabilities import NETWORK_PARTS
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.training.parts import ENCODER_RATE


@register_method
@dataclass(frozen=True, kw_only=True)
class Decoder(Method):
    """Trains the mask decoder on embeddings that are computed once."""

    name = "decoder"
    title = "mask decoder alone"
    source = "as Carvalho and Almeida (2024) and MedSAM's predecessors tuned SAM"

    @property
    def parts(self) -> tuple[str, ...]:
        """The decoder."""
        return ("mask_decoder",)


@register_method
@dataclass(frozen=True, kw_only=True)
class Full(Method):
    """Trains all weights, the image encoder's at `encoder_scale` of the rate: what it knows is soon forgotten."""

    name = "full"
    title = "whole network"
    source = "full fine-tuning"

    encoder_scale: float = ENCODER_RATE

    @property
    def parts(self) -> tuple[str, ...]:
        """All three."""
        return NETWORK_PARTS

    def parameters(self, model: TrainableModel, trained: nn.ModuleDict, stage: int) -> list[Group]:
        """The image encoder apart."""
        return [
            {"params": [*part.parameters()], "scale": self.encoder_scale if name == "image_encoder" else 1.0}
            for name, part in trained.items()
        ]

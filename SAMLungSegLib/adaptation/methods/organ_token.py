"""A class token beside SAM's tokens and a head that names the organ of a mask; the masks stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adaptation.method import Method, embeddings, register_method
from SAMLungSegLib.adaptation.prompts import prompts_of
from SAMLungSegLib.adaptation.slices import ObjectExample
from SAMLungSegLib.models.base import Embedding
from SAMLungSegLib.models.extensions import extend
from SAMLungSegLib.models.extensions.organ_token import OrganTokenExtension
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.sam.organs import OrganHead
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PromptSet


@register_method
@dataclass(frozen=True, kw_only=True)
class OrganToken(Method):
    """Trains the token and the head by cross-entropy, on embeddings that are computed once."""

    name = "organ-token"
    title = "class token and head"
    source = "after Zhang, Term Project Report: SAM, who gives the token a decoder of its own"
    measures = "accuracy"
    chosen_by = "probability"

    learning_rate: float = 1e-3

    @property
    def parts(self) -> tuple[str, ...]:
        """Token and head."""
        return ("extension",)

    def prepare(self, model: TrainableModel, organs: Sequence[str]) -> nn.ModuleDict:
        """Adds the token."""
        extend(model, OrganTokenExtension(tuple(organs)))
        return super().prepare(model, organs)

    def loss(
        self, model: TrainableModel, examples: Sequence[ObjectExample], rng: np.random.Generator, stage: int
    ) -> Tensor:
        """Cross-entropy of the organs, each object prompted by one kind drawn for all of them."""
        kinds = self.kinds(model)
        kind = kinds[rng.integers(len(kinds))]
        encoded = embeddings(model, [one.slice for one in examples])
        prompts = [prompts_of(one.mask_hw, kind, rng) for one in examples]
        logits = cast(SamModel, model).organ_logits(encoded, prompts)
        return F.cross_entropy(logits, torch.tensor([one.organ - 1 for one in examples], device=logits.device))

    def measure(self, model: TrainableModel, embedding: Embedding, example: ObjectExample, prompts: PromptSet) -> float:
        """1 where the organ is the right one, else 0."""
        return float(model.decode(embedding, prompts).organ == _organ_of(model, example))

    def score(self, model: TrainableModel, embedding: Embedding, example: ObjectExample, prompts: PromptSet) -> float:
        """The probability of the right organ: finer than right or wrong where validation objects are few."""
        return model.decode(embedding, prompts).organ_probabilities[_organ_of(model, example)]


def _organ_of(model: TrainableModel, example: ObjectExample) -> str:
    return cast(OrganHead, model.part("extension")).organs[example.organ - 1]

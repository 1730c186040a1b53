"""A model that looks its embeddings up before it computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.embedding.cache import EmbeddingCache
from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel, check_slice
from SAMLungSegLib.prompts import PromptSet

if TYPE_CHECKING:
    import torch


class CachedModel(PromptableModel):
    """Any model, with its embeddings kept in an `EmbeddingCache`; it answers the same on a hit and on a miss.

    Embeddings are rounded to float16 on their way (relative error 2e-4 to 4e-4 with SAM).
    """

    def __init__(self, model: PromptableModel, cache: EmbeddingCache | None = None) -> None:
        self.model = model
        self.cache = cache or EmbeddingCache()
        self.name = model.name
        self.device = model.device
        self.answers_without_prompt = model.answers_without_prompt
        self.tells_sides_apart = model.tells_sides_apart
        self.accepts_points = model.accepts_points
        self.accepts_masks = model.accepts_masks

    @property
    def fingerprint(self) -> str:
        """The wrapped model's."""
        return self.model.fingerprint

    def encode(self, slices: Sequence[np.ndarray]) -> list[Embedding]:
        """Embeddings of slices (uint8 (H, W) each): stored ones where there are any, the others encoded in one call.

        Raises:
            IntensityError: a slice is not uint8 (H, W).
        """
        for array in slices:
            check_slice(array)
        keys = [self.cache.key(array, self.fingerprint) for array in slices]
        found = {key: self.cache.get(key) for key in dict.fromkeys(keys)}
        missing = {key: array for key, array in zip(keys, slices, strict=True) if found[key] is None}
        if missing:
            for key, embedding in zip(missing, self.model.encode(list(missing.values())), strict=True):
                found[key] = self.cache.put(key, embedding)
        return [self._on_device(found[key]) for key in keys]

    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """The wrapped model's answer."""
        return self.model.decode(embedding, prompts)

    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The wrapped model's answers."""
        return self.model.decode_points(embedding, points_xy)

    def to_slice(self, low_res: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
        """The wrapped model's."""
        return self.model.to_slice(low_res, size_hw)

    def prompts_about_both(self, rough_hw: np.ndarray) -> PromptSet | None:
        """The wrapped model's."""
        return self.model.prompts_about_both(rough_hw)

    def check_prompts(self, prompts: PromptSet, size_hw: tuple[int, int]) -> None:
        """The wrapped model's refusals."""
        self.model.check_prompts(prompts, size_hw)

    def _on_device(self, embedding: Embedding) -> Embedding:
        return Embedding(tuple(one.to(self.device) for one in embedding.features), embedding.size_hw)


def cached(model: PromptableModel, cache: EmbeddingCache | None = None) -> PromptableModel:
    """`model` with its embeddings kept on disk; a model that encodes about as fast as a disk reads stays as it is."""
    return CachedModel(model, cache) if model.encodes_slowly else model

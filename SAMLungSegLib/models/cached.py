"""A model that looks its embeddings up before it computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SAMLungSegLib.models.base import Embedding, ModelView, PromptableModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.models.wrapper import ModelWrapper


class CachedModel(ModelWrapper):
    """Any model, with its embeddings kept in an `EmbeddingCache`; it predicts the same on a hit and on a miss.

    Embeddings are rounded to float16 on their way (relative error 2e-4 to 4e-4 with SAM).
    """

    def __init__(self, model: PromptableModel, cache: EmbeddingCache | None = None) -> None:
        super().__init__(model)
        self.cache = cache or EmbeddingCache()

    def encode(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        """Embeddings of slices: stored ones where there are any, the others encoded in one call.

        Raises:
            IntensityError: a slice is not uint8 (H, W).
        """
        views = [ModelView.of(one) for one in views]
        keys = [self._key(view) for view in views]
        found = {key: self.cache.get(key) for key in dict.fromkeys(keys)}
        missing = {key: view for key, view in zip(keys, views, strict=True) if found[key] is None}
        if missing:
            for key, embedding in zip(missing, self.model.encode(list(missing.values())), strict=True):
                found[key] = self.cache.put(key, embedding)
        return [self._on_device(found[key]) for key in keys]

    def _key(self, view: ModelView) -> str:
        count, fingerprint = self.capabilities.slices_per_input, self.fingerprint
        if self.capabilities.sees_volume and view.place is not None:
            fingerprint = f"{fingerprint} {view.place.digest.decode()}"
        return self.cache.key(view.grey_hw if count == 1 else view.stack(count), fingerprint)

    def _on_device(self, embedding: Embedding) -> Embedding:
        """With features as the model itself has them."""
        if self.engine == "onnx":
            return embedding
        import torch

        return Embedding(tuple(torch.from_numpy(one).to(self.device) for one in embedding.features), embedding.size_hw)


def cached(model: PromptableModel, cache: EmbeddingCache | None = None) -> PromptableModel:
    """`model` with its embeddings kept on disk; a model that encodes about as fast as a disk reads stays as it is."""
    return CachedModel(model, cache) if model.capabilities.encodes_slowly else model

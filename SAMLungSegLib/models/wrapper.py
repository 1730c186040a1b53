"""A model around another one, of which a subclass changes what it must and forwards all else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.models.engines import Engine
from SAMLungSegLib.prompts import PromptSet


class ModelWrapper(PromptableModel):
    """Everything as the model inside has it.

    Attributes:
        model: the one inside.
    """

    def __init__(self, model: PromptableModel) -> None:
        self.model = model

    @property
    def name(self) -> str:  # type: ignore[override]  # read only here
        """The wrapped model's."""
        return self.model.name

    @property
    def engine(self) -> Engine:  # type: ignore[override]  # read only here
        """The wrapped model's."""
        return self.model.engine

    @property
    def device(self) -> Any:
        """The wrapped model's."""
        return self.model.device

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # read only here
        """The wrapped model's."""
        return self.model.capabilities

    @property
    def max_threads(self) -> int:  # type: ignore[override]  # read only here
        """The wrapped model's."""
        return self.model.max_threads

    @property
    def fingerprint(self) -> str:
        """The wrapped model's."""
        return self.model.fingerprint

    def encode(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        """The wrapped model's embeddings."""
        return self.model.encode(views)

    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """The wrapped model's prediction."""
        return self.model.decode(embedding, prompts)

    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The wrapped model's predictions."""
        return self.model.decode_points(embedding, points_xy)

    def to_slice(self, low_res: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """The wrapped model's."""
        return self.model.to_slice(low_res, size_hw)

    def template_prompts(self, coarse_hw: np.ndarray) -> PromptSet | None:
        """The wrapped model's."""
        return self.model.template_prompts(coarse_hw)

    def check_prompts(self, prompts: PromptSet, size_hw: tuple[int, int]) -> None:
        """The wrapped model's refusals."""
        self.model.check_prompts(prompts, size_hw)

    def check_extent(self, extent: str) -> None:
        """The wrapped model's refusals."""
        self.model.check_extent(extent)

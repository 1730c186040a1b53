"""What the trainings by a recipe have in common: which images are drawn, one score of an epoch, where figures go."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from SAMLungSegLib.training.config import TrainingConfig
from SAMLungSegLib.training.data.drawing import Drawing
from SAMLungSegLib.training.data.packs import is_trained_on
from SAMLungSegLib.training.figures import add_to_history
from SAMLungSegLib.training.trainer import Row, TrainingTask

logger = logging.getLogger(__name__)

Batch = TypeVar("Batch")


class RecipeTask(TrainingTask[Batch]):
    """A training on a pack whose validation gives nothing but scores.

    Attributes:
        config: the recipe.
        data: the pack, as `training.data.packs.read_pack` gives it.
        folder: where the history goes.
    """

    config: TrainingConfig
    data: Mapping[str, np.ndarray]
    folder: Path

    @cached_property
    def drawing(self) -> Drawing:
        """Of the images that the recipe trains on, each set with its weight."""
        chosen = np.flatnonzero(is_trained_on(self.data["sets"], self.data["splits"], self.config))
        sets = self.data["sets"][chosen]
        weight_of = self.config.sampling_weights or dict.fromkeys(map(str, np.unique(sets)), 1.0)
        return Drawing.by_group(self.data, chosen, sets, weight_of)

    def score(self, row: Row) -> float:
        """Mean over all of them; NaN where there is no validation part."""
        scores = [value for name, value in row.items() if name not in ("epoch", "loss")]
        return float(np.mean(scores)) if scores else float("nan")

    def record(self, row: Row) -> None:
        """Into the history's table and its curves."""
        rounded = {name: value if name == "epoch" else round(value, 5) for name, value in row.items()}
        add_to_history(self.folder, rounded)
        logger.info("epoch %d: %s", row["epoch"], rounded)

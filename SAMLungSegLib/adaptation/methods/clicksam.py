"""ClickSAM: the mask decoder learns from one click, then from clicks on what it finds rightly and wrongly."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from SAMLungSegLib.adaptation.method import Group, Method, embeddings, frame_targets, register_method
from SAMLungSegLib.adaptation.prompts import prompts_of
from SAMLungSegLib.adaptation.slices import ObjectExample
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.prompts.simulated_users import clicksam_user

ONE_CLICK, REFERENCE_CLICKS = "one click", "clicks from the reference (oracle)"
FIRST = "point"  # of `PROMPT_KINDS`


@register_method
@dataclass(frozen=True, kw_only=True)
class ClickSam(Method):
    """Stage 1: one click inside the object. Stage 2: ClickSAM's clicks on what the model predicts from it, one by one.

    Attributes:
        batch: objects in a step of stage 1; stage 2 has one.
    Raises:
        SettingsError: an empty batch.
    """

    name: ClassVar[str] = "clicksam"
    title: ClassVar[str] = "clicks on what is right and wrong"
    source: ClassVar[str] = "Guo et al. 2024, ClickSAM, arXiv:2402.05902"

    learning_rate: float = 1e-5
    prompts: tuple[str, ...] = (FIRST,)
    batch: int = 32

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise SettingsError(f"clicksam: a batch of {self.batch} objects is none; give one at least.")

    @property
    def parts(self) -> tuple[str, ...]:
        """The mask decoder."""
        return ("mask_decoder",)

    @property
    def stages(self) -> int:
        """One click, then many."""
        return 2

    def batch_size(self, given: int, stage: int) -> int:
        """As published, whatever is given."""
        return 1 if stage else self.batch

    def optimizer(self, groups: list[Group]) -> torch.optim.Optimizer:
        """Adam, as published."""
        return torch.optim.Adam(groups, lr=self.learning_rate, weight_decay=self.weight_decay)

    def loss(
        self, model: TrainableModel, examples: Sequence[ObjectExample], rng: np.random.Generator, stage: int
    ) -> Tensor:
        """Dice (sigmoid, squared) and cross-entropy on the decoder's grid."""
        encoded = embeddings(model, [one.slice for one in examples])
        prompts = [prompts_of(one.mask_hw, FIRST, rng) for one in examples]
        if stage > 0:
            trials = zip(encoded, examples, prompts, strict=True)
            prompts = [reference_clicks(model, embedding, one.mask_hw, first) for embedding, one, first in trials]
        logits = model.decode_batch(encoded, prompts)[0][:, :1].float()
        targets = frame_targets(model, examples, logits.shape[-1])[:, None]
        loss: Tensor = DiceCELoss(sigmoid=True, squared_pred=True)(logits, targets)
        return loss


def reference_clicks(model: PromptableModel, embedding: Embedding, mask_hw: np.ndarray, first: PromptSet) -> PromptSet:
    """ClickSAM's clicks on what a model predicts from a first click, or that click where nothing is to correct.

    Args:
        embedding: of the slice.
        mask_hw: the reference, bool (H, W).
        first: the click.
    """
    prediction = model.decode(embedding, first).logits > 0
    clicks = clicksam_user(prediction, mask_hw, [(one.xy, one.positive) for one in first.points])
    return PromptSet(tuple(PointPrompt(*click) for click in clicks))


def click_scores(model: PromptableModel, examples: Iterable[ObjectExample], seed: int = 0) -> pd.DataFrame:
    """How well a model segments objects by one click, none beyond it, and by ClickSAM's clicks after it.

    The latter know the reference: they say what a person who clicks perfectly would get, not what users get.

    Args:
        model: any that takes points.
        examples: objects that it did not learn from.
        seed: of the first click, a random pixel of the object; the same for every model.
    Returns:
        Columns subset, image, slice, organ, prompts (`ONE_CLICK`, `REFERENCE_CLICKS`), clicks (their number), dice and
        iou.
    Raises:
        PromptError: the model takes no points.
    """
    rows = []
    for one in examples:
        [embedding] = model.encode([one.slice.view])
        first = prompts_of(one.mask_hw, FIRST, np.random.default_rng([seed, zlib.crc32(one.name.encode())]))
        place = {"subset": one.slice.subset, "image": one.slice.image, "slice": one.slice.number, "organ": one.organ}
        after = reference_clicks(model, embedding, one.mask_hw, first)
        for kind, prompts in ((ONE_CLICK, first), (REFERENCE_CLICKS, after)):
            mask = model.decode(embedding, prompts).logits > 0
            scores = {"dice": dice(one.mask_hw, mask), "iou": jaccard(one.mask_hw, mask)}
            rows.append(place | {"prompts": kind, "clicks": len(prompts.points)} | scores)
    return pd.DataFrame(rows)

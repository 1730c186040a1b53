"""A mask decoder tuned on stored embeddings of slices and of changed copies of them, as the multi-organ study does it.

SGD on the Dice loss of each object with one kind of prompts; the gradients of many objects make a step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from SAMLungSegLib.adaptation.method import decoded, frame_targets, kept_embedding
from SAMLungSegLib.adaptation.prompts import prompts_of
from SAMLungSegLib.adaptation.slices import AdaptationData, ObjectExample, ObjectSlice, all_examples
from SAMLungSegLib.adaptation.task import fixed_prompts, with_embeddings
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.training.trainer import Row, TrainingTask

SMOOTH = 1e-5
FLIP_SHARE, TURN_SHARE, SHIFT_SHARE = 0.1, 0.1, 0.5
LARGEST_SHIFT = 0.1  # of the grey scale
AT_ONCE = 8  # objects whose gradients are computed together


@dataclass(frozen=True)
class OrganTuning:
    """How the decoder is tuned.

    Attributes:
        epochs: of all objects of the training part; the one with the best validation Dice is kept.
        learning_rate: of SGD.
        momentum: of SGD; 0.9 by the report's text, none by its code.
        weight_decay: of SGD; 1e-4 by the text, none by the code.
        accumulate: objects whose gradients are added up for a step.
        variants: changed copies of each slice that are encoded; 0 takes the slices as they are.
        seed: of draws and changes.
    Raises:
        SettingsError: a value is not possible.
    """

    epochs: int = 50
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    accumulate: int = 64
    variants: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.accumulate) < 1 or self.variants < 0 or self.learning_rate <= 0:
            raise SettingsError(
                f"{self.epochs} epochs of steps of {self.accumulate} objects, {self.variants} variants and a learning "
                f"rate of {self.learning_rate:g} are no tuning; give 1 or more, 0 or more, and a rate above 0."
            )


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - (2 sum pt + s) / (sum p + sum t + s) of each mask, with s = 1e-5.

    Args:
        logits: (B, h, w).
        target: (B, h, w), 0 to 1.
    Returns:
        (B,).
    """
    probability = logits.sigmoid()
    common, both = (probability * target).sum((1, 2)), (probability + target).sum((1, 2))
    return 1 - (2 * common + SMOOTH) / (both + SMOOTH)


def changed(one: ObjectSlice, rng: np.random.Generator) -> ObjectSlice:
    """A slice with its labels flipped along each axis (0.1), turned by right angles (0.1), its greys shifted (0.5).

    Greys move by up to a tenth of the scale. The third axis of the report's volumes is left as it is.
    """
    grey, labels = one.grey_hw, one.labels_hw
    for axis in (0, 1):
        if rng.random() < FLIP_SHARE:
            grey, labels = np.flip(grey, axis), np.flip(labels, axis)
    if rng.random() < TURN_SHARE:
        quarters = int(rng.integers(1, 4))
        grey, labels = np.rot90(grey, quarters), np.rot90(labels, quarters)
    if rng.random() < SHIFT_SHARE:
        shift = rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT) * 255
        grey = np.rint(np.clip(grey + shift, 0, 255)).astype(np.uint8)
    return replace(one, grey_hw=np.ascontiguousarray(grey), labels_hw=np.ascontiguousarray(labels))


def with_variants(encoder: PromptableModel, data: AdaptationData, tuning: OrganTuning) -> AdaptationData:
    """The data with the changed copies of each training slice in its place, all encoded.

    Embeddings are kept in memory in float16: with SAM at 1024 pixels 2 MB for each copy.
    """
    training = data.training
    if tuning.variants:
        training = tuple(
            changed(one, np.random.default_rng([tuning.seed, number, variant]))
            for number, one in enumerate(training)
            for variant in range(tuning.variants)
        )
    return replace(
        data,
        training=with_embeddings(encoder, tqdm(training, desc="encoding", unit="slice", disable=None)),
        validation=with_embeddings(encoder, data.validation),
        held_out=with_embeddings(encoder, data.held_out),
    )


@dataclass(frozen=True, eq=False)
class TunedBatch:
    """Objects of a step and their prompts' seed."""

    examples: Sequence[ObjectExample]
    seed: tuple[int, ...]


class OrganTuningTask(TrainingTask[TunedBatch]):
    """The mask decoder on objects with one kind of prompts.

    Args:
        model: whose decoder is tuned, in place.
        data: as of `with_variants`.
        kind: of prompts, in training and validation.
        tuning: how.
    """

    def __init__(self, model: TrainableModel, data: AdaptationData, kind: str, tuning: OrganTuning) -> None:
        self.model, self.kind, self.tuning = model, kind, tuning
        self.network, self.device = model.part("mask_decoder"), model.device
        self.training, self.validation = list(all_examples(data.training)), list(all_examples(data.validation))
        self.each_epoch = len(self.training) // max(1, tuning.variants)

    @property
    def fingerprint(self) -> str:
        """Of the settings, the slices and the weights."""
        digest = hashlib.sha256(json.dumps([asdict(self.tuning), self.kind]).encode())
        for one in (*self.training, *self.validation):
            digest.update(one.name.encode() + one.slice.grey_hw.tobytes() + np.packbits(one.mask_hw).tobytes())
        for value in self.model.network.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy())
        return digest.hexdigest()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """SGD on the decoder."""
        self.model.network.requires_grad_(False)
        tuning = self.tuning
        return torch.optim.SGD(
            self.network.requires_grad_(True).parameters(),
            lr=tuning.learning_rate,
            momentum=tuning.momentum,
            weight_decay=tuning.weight_decay,
        )

    def batches(self, epoch: int) -> Iterator[TunedBatch]:
        """As many objects as the slices have, of any of their variants, in random order."""
        rng = np.random.default_rng([self.tuning.seed, epoch])
        chosen = rng.permutation(len(self.training))[: self.each_epoch]
        for start in range(0, len(chosen), self.tuning.accumulate):
            some = chosen[start : start + self.tuning.accumulate]
            yield TunedBatch([self.training[index] for index in some], (self.tuning.seed, epoch, start))

    def pieces(self, batch: TunedBatch) -> Sequence[TunedBatch]:
        """A few objects at a time."""
        examples = batch.examples
        count = -(-len(examples) // AT_ONCE)
        return [TunedBatch(examples[first::count], (*batch.seed, first)) for first in range(count)]

    def weight(self, batch: TunedBatch) -> float:
        """Its objects."""
        return len(batch.examples)

    def predict(self, batch: TunedBatch) -> Tensor:
        """Logits (B, h, w)."""
        rng = np.random.default_rng(batch.seed)
        return decoded(self.model, batch.examples, [prompts_of(one.mask_hw, self.kind, rng) for one in batch.examples])

    def loss(self, predictions: Tensor, batch: TunedBatch) -> Tensor:
        """Mean over the objects."""
        return dice_loss(predictions, frame_targets(self.model, batch.examples, predictions.shape[-1])).mean()

    def validate(self) -> Row:
        """Mean Dice of the validation part."""
        scores = []
        for one in self.validation:
            prediction = self.model.decode(kept_embedding(self.model, one.slice), fixed_prompts(one, self.kind))
            scores.append(dice(one.mask_hw, prediction.logits > 0))
        return {"dice": float(np.mean(scores))}

    def score(self, row: Row) -> float:
        """Dice."""
        return row["dice"]

"""Tuning of a mask decoder on embeddings: everything else of the model is frozen and never computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.compact.network import INPUT_SIZE
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.training.config import check_limits
from SAMLungSegLib.training.data.examples import EncodedExample, Example, encoded_example
from SAMLungSegLib.training.example_changes import AUGMENTATIONS, NONE, ExampleChanges
from SAMLungSegLib.training.losses import LOSS_KINDS, LossKind, TuningLoss, on_grid
from SAMLungSegLib.training.prompt_policies import PromptPolicy
from SAMLungSegLib.training.renamed import in_earlier_names
from SAMLungSegLib.training.trainer import (
    Row,
    State,
    Trainer,
    TrainerSettings,
    TrainingTask,
    Watch,
    copied,
    with_state,
)

CHECKPOINT_NAME = "tuning.pt"
THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70)


@dataclass(frozen=True)
class TuningConfig:
    """How a decoder is tuned: Adam on `DiceFocalLoss`.

    Attributes:
        epochs: at most.
        batch: slices in one step.
        learning_rate: of Adam.
        weight_decay: of Adam.
        loss: 'sigmoid' or 'raw_logits', see `TuningLoss`.
        patience: stop after so many epochs without a better validation Dice, and keep the best epoch; 0 trains all
            epochs and keeps the last one, as in the paper.
        seed: of the order of slices, of the boxes' jitter and of the changes.
        augmentation: how slices are changed at random, one of `AUGMENTATIONS`; with any but 'none' every slice is
            encoded at every step.
        ema_decay: part that the moving average of the weights keeps at each step; 0 takes the weights themselves.
    Source: Carvalho and Almeida (2024): 100 epochs, batches of 2, 1e-5, no weight decay.
    """

    epochs: int = 100
    batch: int = 2
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    loss: LossKind = "sigmoid"
    patience: int = 10
    seed: int = 0
    augmentation: str = NONE
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.augmentation not in AUGMENTATIONS:
            raise SettingsError(
                f"There is no augmentation '{self.augmentation}'; choose one of {', '.join(AUGMENTATIONS)}."
            )
        check_limits(vars(self), "Tuning")
        if self.loss not in LOSS_KINDS:
            raise SettingsError(f"There is no loss '{self.loss}'; choose one of {', '.join(LOSS_KINDS)}.")


_CAME_LATER = {"augmentation": NONE, "ema_decay": 0.0}


def decisive_settings(config: TuningConfig) -> dict[str, Any]:
    """What a training was made with, as earlier versions wrote it; settings that came later only where they are on."""
    settings = asdict(config)
    off = [name for name, value in _CAME_LATER.items() if settings[name] == value]
    return in_earlier_names({name: value for name, value in settings.items() if name not in off})


@dataclass(frozen=True, eq=False)
class TunedDecoder:
    """What a tuning leaves.

    Attributes:
        state: weights of the mask decoder by name, on the CPU.
        history: for each epoch its number, the mean training and validation loss, and the mean validation Dice at each
            of `THRESHOLDS`, called 'dice_0.50' and so on.
        epoch: the one whose weights these are.
    """

    state: State
    history: list[Row] = field(default_factory=list)
    epoch: int = 0

    @property
    def threshold_dice(self) -> dict[float, float]:
        """Mean validation Dice at each threshold."""
        row = self.history[self.epoch]
        return {threshold: row[dice_column(threshold)] for threshold in THRESHOLDS}

    @property
    def threshold(self) -> float:
        """The one with the best validation Dice, the lowest of equals."""
        scores = self.threshold_dice
        return max(scores, key=scores.__getitem__)


def dice_column(threshold: float) -> str:
    """Name of the history's column of a threshold."""
    return f"dice_{threshold:.2f}"


def decoder_state(model: TrainableModel) -> State:
    """A copy of the mask decoder's weights on the CPU."""
    return copied(model.network.mask_decoder.state_dict(), "cpu")


@contextmanager
def with_decoder(model: TrainableModel, state: State) -> Iterator[None]:
    """Let a model predict with another mask decoder inside the block."""
    with with_state(model.network.mask_decoder, state):
        yield


def tune_decoder(
    model: TrainableModel,
    training: Sequence[EncodedExample],
    validation: Sequence[EncodedExample],
    policy: PromptPolicy,
    config: TuningConfig,
    folder: Path,
    *,
    title: str = "tuning",
    watch: Watch | None = None,
) -> TunedDecoder:
    """Tune the mask decoder of a model; the model itself is as before afterwards.

    After each epoch `tuning.pt` is written into `folder`; a run that stopped goes on from there and gives the same
    numbers. One that was made with other data or settings is made anew.

    Args:
        model: SAM, MedSAM or lung-compact.
        training: examples that the gradients come from.
        validation: examples that the epoch and the threshold are chosen by.
        policy: draws the prompts.
        config: the recipe.
        folder: where the run lies; made if it is not there.
        title: of the progress bar.
        watch: told of each epoch.
    Raises:
        CancelledError: the watch said so; the run goes on from its last epoch.
    """
    with model.threads(), with_decoder(model, decoder_state(model)):
        task = DecoderTask(model, training, validation, policy, config)
        settings = trainer_settings(config)
        try:
            trained = Trainer(task, settings, folder / CHECKPOINT_NAME, title=title, watch=watch).run()
        finally:
            model.network.mask_decoder.requires_grad_(False)
    return TunedDecoder(trained.state, trained.history, trained.epoch)


def trainer_settings(config: TuningConfig, *, mixed_precision: bool = False) -> TrainerSettings:
    """The best epoch where there is patience, else the last."""
    return TrainerSettings(
        config.epochs,
        "best" if config.patience else "last",
        config.patience,
        ema_decay=config.ema_decay or None,
        mixed_precision=mixed_precision,
    )


@dataclass(frozen=True, eq=False)
class DecoderBatch:
    """Examples and the prompts that were drawn for them."""

    examples: Sequence[EncodedExample]
    prompts: Sequence[PromptSet]


class DecoderTask(TrainingTask[DecoderBatch]):
    """A mask decoder on embeddings; the arguments are those of `tune_decoder`."""

    def __init__(
        self,
        model: TrainableModel,
        training: Sequence[EncodedExample],
        validation: Sequence[EncodedExample],
        policy: PromptPolicy,
        config: TuningConfig,
    ) -> None:
        self.model, self.policy, self.config = model, policy, config
        self.network, self.device = model.part("mask_decoder"), model.device
        self.training, self.validation = training, validation
        self.tuning_loss = TuningLoss(config.loss)
        side = model.input_size or INPUT_SIZE
        self.changes = None if config.augmentation == NONE else ExampleChanges(config.augmentation, side)

    @property
    def fingerprint(self) -> str:
        """Of examples, embeddings, prompts, settings and the decoder to start from."""
        digest = hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode())
        for one in (*self.training, *self.validation):
            digest.update(one.target.numpy())
            digest.update(one.halves[0].numpy() if one.halves else np.ascontiguousarray(one.example.grey_hw))
            digest.update(b"" if one.example.stack_nhw is None else np.ascontiguousarray(one.example.stack_nhw))
            digest.update(b"" if one.example.place is None else one.example.place.digest)
        for value in self.deciding_weights().values():
            digest.update(value.detach().cpu().contiguous().numpy())
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        """What the fingerprint is of, beside the examples and weights."""
        parts = (self.training, self.validation)
        weights = [one.example.weight for one in self.training]
        return {
            "config": decisive_settings(self.config),
            "prompts": asdict(self.policy),
            "parts": [
                [[one.example.name, one.example.number, *one.example.grey_hw.shape] for one in part] for part in parts
            ],
        } | ({"weights": weights} if len({*weights}) > 1 else {})

    def deciding_weights(self) -> Mapping[str, Tensor]:
        """Those to start from."""
        return self.network.state_dict()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """Adam on all of the decoder."""
        parameters = self.network.requires_grad_(True).parameters()
        return torch.optim.Adam(parameters, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    def batches(self, epoch: int) -> Iterator[DecoderBatch]:
        """All training slices once; where they have weights, as many as there are, drawn by these."""
        rng = np.random.default_rng([self.config.seed, epoch])
        weights = np.array([one.example.weight for one in self.training])
        order = rng.permutation(len(self.training))
        if np.ptp(weights) > 0:
            order = rng.choice(len(weights), len(weights), p=weights / weights.sum())
        for start in range(0, len(order), self.config.batch):
            batch = [self.drawn(self.training[index], rng) for index in order[start : start + self.config.batch]]
            yield DecoderBatch(batch, [self.policy.draw(one.example, rng) for one in batch])

    def drawn(self, one: EncodedExample, rng: np.random.Generator) -> EncodedExample:
        """A training slice as a batch has it: changed, if it shall be."""
        if self.changes is None:
            return one
        return self.encoded(self.changes(one.example, int(rng.integers(2**31))))

    def encoded(self, example: Example) -> EncodedExample:
        """By what is frozen of the model."""
        return encoded_example(self.model, self.model, example)

    def weight(self, batch: DecoderBatch) -> float:
        """Its slices."""
        return len(batch.examples)

    def predict(self, batch: DecoderBatch) -> tuple[Tensor, Tensor]:
        """Logits and IoU of the decoder's tokens."""
        embeddings = [one.embedding(self.device) for one in batch.examples]
        return self.model.decode_batch(embeddings, batch.prompts)

    def loss(self, predictions: tuple[Tensor, Tensor], batch: DecoderBatch) -> Tensor:
        """See `TuningLoss`."""
        targets = torch.stack([one.target for one in batch.examples]).to(self.device, torch.float32)
        sides_known = torch.tensor([one.sides_known for one in batch.examples]).to(targets.device)
        return self.tuning_loss(predictions, targets, sides_known)

    def validate(self) -> Row:
        """Mean loss and Dice at each threshold on the 256 x 256 grid."""
        losses, scores = [], []
        for one in self.validation:
            batch = DecoderBatch([one], [self.policy.fixed(one.example)])
            predictions = self.predict(batch)
            losses.append(float(self.loss(predictions, batch)))
            scores.append(_dice_at_thresholds(on_grid(predictions[0])[0, 0].cpu(), one.target.any(0)))
        means = np.mean(scores, axis=0)
        columns = {dice_column(threshold): float(mean) for threshold, mean in zip(THRESHOLDS, means, strict=True)}
        return {"validation_loss": float(np.mean(losses)), **columns}

    def score(self, row: Row) -> float:
        """Dice at the best threshold."""
        return max(row[dice_column(threshold)] for threshold in THRESHOLDS)

    def upgraded(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Earlier ones called the network the decoder, and kept weights whichever epoch they were of."""
        if "net" in checkpoint:
            return checkpoint
        kept = checkpoint["kept"] if self.config.patience else None
        return {**checkpoint, "net": checkpoint["decoder"], "kept": kept, "steps": 0}


def _dice_at_thresholds(logits_hw: Tensor, reference_hw: Tensor) -> list[float]:
    size = int(reference_hw.sum())
    masks = [logits_hw > np.log(threshold / (1 - threshold)) for threshold in THRESHOLDS]
    return [2 * int((mask & reference_hw).sum()) / max(1, int(mask.sum()) + size) for mask in masks]

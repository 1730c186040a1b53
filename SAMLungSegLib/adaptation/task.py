"""One training task for all methods: draws objects, adds up gradients, validates, and ends by steps or by the clock."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from SAMLungSegLib.adaptation.method import Method, kept_embedding
from SAMLungSegLib.adaptation.prompts import prompts_of
from SAMLungSegLib.adaptation.slices import AdaptationData, ObjectExample, ObjectSlice
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.training.trainer import Row, TrainingTask

LONGEST_EPOCH_STEPS, FEWEST_EPOCHS = 50, 10
VALIDATION_SLICES = 48
MOST_EPOCHS = 100_000
Predict = Callable[[Embedding, ObjectSlice, PromptSet], np.ndarray]


@dataclass(frozen=True)
class AdaptConfig:
    """How a method is trained.

    Attributes:
        steps: of the optimiser; None where `minutes` are given.
        minutes: of training, beginnings and validation apart; how many steps these are depends on the machine.
        batch: slices whose gradients are computed at once.
        accumulate: of so many batches gradients are added up before a step.
        checkpointing: whether the image encoder computes again, for its gradients, what it did not keep.
        patience: stop after so many epochs without a better validation Dice; 0 makes all steps.
        seed: of all draws, and of what a method adds.
    Raises:
        SettingsError: a value is not possible.
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int = 2
    accumulate: int = 1
    checkpointing: bool = False
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise SettingsError("A training has either steps or minutes; give one of both.")
        lengths = {"steps": self.steps, "minutes": self.minutes, "batch": self.batch, "accumulate": self.accumulate}
        for name, value in lengths.items():
            if value is not None and not 0 < value < float("inf"):
                raise SettingsError(f"{value} {name} are no training; give a positive number.")
        if self.patience < 0 or self.seed < 0:
            raise SettingsError("Patience and seed are not negative; give 0 or more.")

    @property
    def epoch_steps(self) -> int:
        """After which there is a validation and a checkpoint, at most; the last epoch may have fewer."""
        if self.steps is None:
            return LONGEST_EPOCH_STEPS
        return max(1, min(LONGEST_EPOCH_STEPS, -(-self.steps // FEWEST_EPOCHS)))

    @property
    def epochs(self) -> int:
        """At most."""
        return MOST_EPOCHS if self.steps is None else -(-self.steps // self.epoch_steps)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Objects of a step, and the seed of the prompts that are drawn for them."""

    examples: Sequence[ObjectExample]
    seed: tuple[int, ...]


class AdaptationTask(TrainingTask[Drawn]):
    """A method on data.

    Args:
        model: prepared by the method.
        method: what is trained, and how.
        trained: the parts that the method trains.
        data: slices, encoded where the method's encoder is frozen.
        config: how long, and how much at once.
    """

    def __init__(
        self, model: TrainableModel, method: Method, trained: nn.ModuleDict, data: AdaptationData, config: AdaptConfig
    ) -> None:
        self.model, self.method, self.data, self.config = model, method, data, config
        self.network, self.device = trained, model.device
        places = np.linspace(0, len(data.validation) - 1, min(VALIDATION_SLICES, len(data.validation)))
        self.validation = [data.validation[place] for place in places.round().astype(int)]
        self.epoch, self._steps, self._seconds, self._began = 0, 0, 0.0, time.monotonic()
        self._behind: Sequence[Row] = []

    @property
    def fingerprint(self) -> str:
        """Of the method, the settings, the slices and the weights."""
        facts = {
            "method": [self.method.name, self.method.settings],
            "config": asdict(self.config),
            "organs": self.data.organs,
            "validation": "kinds of prompts in turn",
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for part in (self.data.training, self.validation):
            for one in part:
                digest.update(f"{one.subset}/{one.image} {one.number} {one.weight} {one.grey_hw.shape}".encode())
                for array in (one.grey_hw, one.labels_hw, one.stack_nhw, one.stack_labels_nhw):
                    digest.update(b"" if array is None else np.ascontiguousarray(array).data)
                digest.update(b"" if one.place is None else one.place.digest)
        for value in self.model.network.state_dict().values():
            digest.update(value.detach().cpu().contiguous().float().numpy())
        return digest.hexdigest()

    def stage(self, epoch: int) -> int:
        """Of the method's, by how much of the training is behind."""
        return min(self.method.stages - 1, int(self._progress(epoch) * self.method.stages))

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """The method's; only what it trains in the stage has gradients."""
        self.model.network.requires_grad_(False)
        groups = []
        for group in self.method.parameters(self.model, self.network, stage):
            for one in group["params"]:
                one.requires_grad_(True)
            groups.append({"params": group["params"], "lr": group["scale"] * self.method.learning_rate})
        return self.method.optimizer(groups)

    def batches(self, epoch: int) -> Iterator[Drawn]:
        """Slices drawn by their weights, of each one organ at random."""
        self.epoch, self._seconds, self._steps = epoch, 0.0, 0
        self.network.train()
        config, slices = self.config, self.data.training
        rng = np.random.default_rng([config.seed, epoch])
        weights = np.array([one.weight for one in slices])
        weights = weights / weights.sum()
        count, steps = self._at_once(epoch) * config.accumulate, config.epoch_steps
        if config.steps is not None:
            steps = min(steps, config.steps - epoch * config.epoch_steps)
        self._began = time.monotonic()
        for step in range(steps):
            if self._is_epoch_over() and step > 0:
                break
            chosen = rng.choice(len(slices), count, replace=count > len(slices), p=weights)
            examples = [ObjectExample(slices[index], int(rng.choice(slices[index].organs))) for index in chosen]
            self._steps += 1
            yield Drawn(examples, (config.seed, epoch, step))
        self._seconds = time.monotonic() - self._began

    def _at_once(self, epoch: int) -> int:
        return self.method.batch_size(self.config.batch, self.stage(epoch))

    def _is_epoch_over(self) -> bool:
        """By the clock, where that counts: a tenth of the time at most is one epoch."""
        minutes = self.config.minutes
        return minutes is not None and time.monotonic() - self._began >= 60 * minutes / FEWEST_EPOCHS

    def pieces(self, batch: Drawn) -> Sequence[Drawn]:
        """As many objects as are computed at once."""
        size = self._at_once(self.epoch)
        starts = range(0, len(batch.examples), size)
        return [Drawn(batch.examples[start : start + size], (*batch.seed, start)) for start in starts]

    def predict(self, batch: Drawn) -> Tensor:
        """The method's loss: what it predicts and compares is its own affair."""
        rng = np.random.default_rng(batch.seed)
        return self.method.loss(self.model, batch.examples, rng, self.stage(self.epoch))

    def loss(self, predictions: Tensor, batch: Drawn) -> Tensor:
        """As it is."""
        return predictions.float()

    def rate(self, epoch: int, steps: int) -> float:
        """The method's."""
        if self.config.steps is not None:
            return self.method.rate(steps, steps / self.config.steps)
        return self.method.rate(steps, self._progress(epoch))

    def validate(self) -> Row:
        """What the method is chosen by, a mean over the objects of the validation part, and steps and their seconds.

        The first object is prompted by the method's first kind of prompts, the second one by its second, and so on.
        """
        self.network.eval()
        self.model.weights_changed()
        scores, kinds = [], itertools.cycle(self.method.kinds(self.model))
        for one in self.validation:
            embedding = embedding_of(self.model, self.model, one)
            for example in one.examples():
                prompts = fixed_prompts(example, next(kinds))
                scores.append(self.method.score(self.model, embedding, example, prompts))
        return {self.method.chosen_by: float(np.mean(scores)), "seconds": self._seconds, "steps": self._steps}

    def score(self, row: Row) -> float:
        """What the method is chosen by."""
        return row[self.method.chosen_by]

    def is_over(self, history: Sequence[Row]) -> bool:
        """By the clock, where that counts."""
        self._behind = history
        return self.config.minutes is not None and self._progress(len(history)) >= 1

    def resumed(self, history: Sequence[Row]) -> None:
        """Stages go by the time that these took."""
        self._behind = history

    def _progress(self, epoch: int) -> float:
        """Part 0..1 of the training that is behind when an epoch begins."""
        if self.config.minutes is None:
            return epoch / self.config.epochs
        seconds = sum(row["seconds"] for row in self._behind[:epoch])
        return min(1.0, seconds / (60 * self.config.minutes))


def fixed_prompts(example: ObjectExample, kind: str) -> PromptSet:
    """The same prompts for an object every time, drawn by its name: for measuring."""
    seed = hashlib.sha256(f"{example.name} {kind}".encode()).digest()
    return prompts_of(example.mask_hw, kind, np.random.default_rng([*seed[:8]]))


def embedding_of(model: TrainableModel, encoder: PromptableModel, one: ObjectSlice) -> Embedding:
    """Of a slice: the one that was made before, or a new one."""
    return kept_embedding(model, one) if one.halves else encoder.encode([one.view])[0]


def with_embeddings(encoder: PromptableModel, slices: Sequence[ObjectSlice]) -> tuple[ObjectSlice, ...]:
    """Slices with their embeddings, in float16 on the CPU, for methods whose encoder is frozen."""
    encoded = []
    for one in slices:
        (embedding,) = encoder.encode([one.view])
        halves = tuple(part.to("cpu", torch.float16, copy=True).contiguous() for part in embedding.features)
        encoded.append(replace(one, halves=halves))
    return tuple(encoded)

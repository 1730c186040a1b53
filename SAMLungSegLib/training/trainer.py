"""The one loop of all trainings: epochs, optimiser, averaging, precision, early stopping, and going on after a stop."""

from __future__ import annotations

import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from SAMLungSegLib.errors import CancelledError, SettingsError
from SAMLungSegLib.files import move_into_place, writable_folder, write_bytes

logger = logging.getLogger(__name__)

SLOW_EPOCH_S = 3.0  # from which on the batches of an epoch have a progress bar of their own
Batch = TypeVar("Batch")
Row = dict[str, float]
State = Mapping[str, Tensor]


class TrainingTask(ABC, Generic[Batch]):
    """What is trained on what: all that differs between trainings.

    Attributes:
        network: whose weights are trained and kept.
        device: that it is on.
    """

    network: nn.Module
    device: torch.device = torch.device("cpu")

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes with all that decides the numbers: data, settings, weights; looked at once, before the training."""

    @abstractmethod
    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """A new one for a stage, at the highest learning rates; freezes what the stage does not train."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterable[Batch]:
        """The batches of an epoch, the network set to training; all randomness is seeded by the epoch's number."""

    @abstractmethod
    def predict(self, batch: Batch) -> Any:
        """What the network makes of a batch, with gradients; in mixed precision where that is on."""

    @abstractmethod
    def loss(self, predictions: Any, batch: Batch) -> Tensor:
        """How wrong that is, a mean over the batch."""

    @abstractmethod
    def validate(self) -> Row:
        """The figures of the validation part, with the weights that `network` has now; without gradients."""

    @abstractmethod
    def score(self, row: Row) -> float:
        """Of an epoch's row, higher where it is better."""

    def pieces(self, batch: Batch) -> Sequence[Batch]:
        """A batch in parts of equal size, of which one at a time is predicted; their gradients are added up."""
        return [batch]

    def weight(self, batch: Batch) -> float:
        """How much a batch counts in the mean loss of an epoch."""
        return 1.0

    def stage(self, epoch: int) -> int:
        """Which stage an epoch belongs to, from 0; a new one starts from the averaged weights with a new optimiser."""
        return 0

    def rate(self, epoch: int, steps: int) -> float:
        """Factor of the learning rates in a step of an epoch, of which `steps` were made before, in all epochs."""
        return 1.0

    def is_over(self, history: Sequence[Row]) -> bool:
        """Whether the training ends after the epochs behind, though there may be more."""
        return False

    def resumed(self, history: Sequence[Row]) -> None:
        """Told of the epochs behind when a run goes on, before its stage is asked for."""

    def record(self, row: Row) -> None:
        """Note the figures of an epoch where people look; called again with an epoch that was interrupted."""

    def upgraded(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """A checkpoint that an earlier version left, in today's terms."""
        return checkpoint


@dataclass(frozen=True)
class TrainerSettings:
    """How a task is trained.

    Attributes:
        epochs: at most.
        keep: the weights of the 'best' validation score or of the 'last' epoch.
        patience: stop after so many epochs without a better score; 0 trains all.
        ema_decay: part that the average of the weights keeps at each step, less in the first ones; None takes the
            weights themselves.
        clip_norm: longest gradient; None for any.
        mixed_precision: whether predictions are made in bfloat16 on a graphics card.
    """

    epochs: int
    keep: Literal["best", "last"] = "best"
    patience: int = 0
    ema_decay: float | None = None
    clip_norm: float | None = None
    mixed_precision: bool = False


def autocast(device: torch.device, mixed_precision: bool) -> torch.autocast:
    """Where predictions are made in bfloat16: on a graphics card, where that is wished."""
    return torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision and device.type == "cuda")


@dataclass(frozen=True)
class Watch:
    """Who watches a training, and may stop it.

    Attributes:
        progress: called with (epochs done, epochs at most).
        cancelled: asked before each step.
    """

    progress: Callable[[int, int], None] | None = None
    cancelled: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Go on, or not.

        Raises:
            CancelledError: `cancelled` said so.
        """
        if self.cancelled():
            raise CancelledError("The training was stopped; no weights were written.")


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training leaves.

    Attributes:
        state: the kept weights by name, on the CPU.
        history: for each epoch its number, its mean training loss and the figures of its validation.
        epoch: the one whose weights these are.
    """

    state: State
    history: list[Row]
    epoch: int


class Trainer:
    """Trains a task; after each epoch a checkpoint is written, and one that was stopped goes on with the same numbers.

    Args:
        task: what is trained.
        settings: how.
        path: of the checkpoint; its folder is made.
        title: of the progress bar.
        watch: told of each epoch.
    """

    def __init__(
        self,
        task: TrainingTask,
        settings: TrainerSettings,
        path: Path,
        *,
        title: str = "training",
        watch: Watch | None = None,
    ) -> None:
        writable_folder(path.parent)
        self.task, self.settings, self.path, self.title = task, settings, path, title
        self.watch = watch or Watch()
        self.fingerprint = task.fingerprint
        self._begin()

    def run(self) -> Trained:
        """Train what is left to train; the network is left with the weights of the last step."""
        self._resume()
        epochs = self.settings.epochs
        with tqdm(total=epochs, initial=self.epochs_done, desc=self.title, unit="epoch", disable=None) as bar:
            while not self._is_done():
                self.train_epoch(self.epochs_done)
                bar.set_postfix(score=f"{self.task.score(self.history[self._kept_epoch]):.4f}")
                bar.update()
                if self.watch.progress is not None:
                    self.watch.progress(self.epochs_done, epochs)
        return Trained(self.kept or self._weights(), self.history, max(0, self._kept_epoch))

    @property
    def epochs_done(self) -> int:
        """How many are behind."""
        return len(self.history)

    def train_epoch(self, epoch: int) -> None:
        """All batches once, the validation, the checkpoint."""
        stage = self.task.stage(epoch)
        if stage != self.stage:
            self._enter(stage)
        losses, weights = [], []
        batches = self.task.batches(epoch)
        for batch in tqdm(batches, desc=f"epoch {epoch + 1}", leave=False, disable=None, delay=SLOW_EPOCH_S):
            self.watch.check()
            losses.append(self.step(batch, epoch))
            weights.append(self.task.weight(batch))
        if not losses:
            raise SettingsError(f"Epoch {epoch + 1} has no batch; give smaller batches, or more images.")
        with self._evaluated():
            row = {"epoch": epoch, "loss": float(np.average(losses, weights=weights)), **self.task.validate()}
        self.history.append(row)
        if self.settings.keep == "best" and self._kept_epoch == epoch:
            self.kept = self._weights()
        self.task.record(row)
        self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "fingerprint": self.fingerprint,
            "history": self.history,
            "steps": self.steps,
            "net": copied(self.task.network.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
            "kept": self.kept,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_bytes(content.getvalue(), self.path)

    def step(self, batch: Any, epoch: int) -> float:
        """One step of the optimiser on a batch; its loss."""
        factor = self.task.rate(epoch, self.steps)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._add_gradients(batch)
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.task.network.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.steps += 1
        if self.averaged is not None:
            self._average()
        return loss

    def _add_gradients(self, batch: Any) -> float:
        """Of the mean loss of a batch, which is returned."""
        losses, pieces = [], self.task.pieces(batch)
        for piece in pieces:
            with autocast(self.task.device, self.settings.mixed_precision):
                predictions = self.task.predict(piece)
            loss = self.task.loss(predictions, piece)
            (loss / len(pieces)).backward()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.settings.ema_decay, (1 + self.steps) / (10 + self.steps))
        new = self.task.network.state_dict()
        for name, value in self.averaged.items():
            if value.dtype.is_floating_point:
                value.lerp_(new[name], 1 - keep)
            else:
                value.copy_(new[name])

    # ---- which weights

    @contextmanager
    def _evaluated(self) -> Iterator[None]:
        """The averaged weights in the network inside the block, where there are any; no gradients."""
        with torch.no_grad():
            if self.averaged is None:
                yield
                return
            with with_state(self.task.network, self.averaged):
                yield

    def _weights(self) -> State:
        """A copy of what would be kept now."""
        return copied(self.task.network.state_dict() if self.averaged is None else self.averaged, "cpu")

    @property
    def _kept_epoch(self) -> int:
        if self.settings.keep == "last":
            return self.epochs_done - 1
        return self._best_epoch

    @property
    def _best_epoch(self) -> int:
        """The first of those with the best score; -1 before any."""
        return max(range(self.epochs_done), key=lambda epoch: self.task.score(self.history[epoch]), default=-1)

    def _is_done(self) -> bool:
        done, patience = self.epochs_done, self.settings.patience
        is_stale = patience > 0 and done - 1 - self._best_epoch >= patience
        return done >= self.settings.epochs or is_stale or self.task.is_over(self.history)

    # ---- stages and going on

    def _begin(self) -> None:
        self.history: list[Row] = []
        self.steps = 0
        self.stage = 0
        self.kept: State | None = None
        self._enter(0)
        is_averaged = self.settings.ema_decay is not None
        self.averaged = copied(self.task.network.state_dict()) if is_averaged else None

    def _enter(self, stage: int) -> None:
        if stage > 0 and self.averaged is not None:
            self.task.network.load_state_dict(self.averaged)
        self._use(stage)

    def _use(self, stage: int) -> None:
        self.stage = stage
        self.optimizer = self.task.optimizer(stage)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]

    def _resume(self) -> None:
        if not self.path.is_file():
            return
        start = copied(self.task.network.state_dict())
        try:
            saved = self.task.upgraded(torch.load(self.path, map_location="cpu", weights_only=True))
            if saved["fingerprint"] != self.fingerprint:
                self._set_aside("is of another training")
                return
            self._continue(saved)
        except Exception as error:  # torch raises whatever a damaged file leads to
            self.task.network.load_state_dict(start)
            self._begin()
            self._set_aside(f"is damaged ({error})")

    def _continue(self, saved: Mapping[str, Any]) -> None:
        self.task.network.load_state_dict(saved["net"])
        if self.averaged is not None:
            self.averaged = {name: saved["averaged"][name].to(value) for name, value in self.averaged.items()}
        self.history, self.steps, self.kept = saved["history"], saved["steps"], saved["kept"]
        self.task.resumed(self.history)
        self._use(self.task.stage(max(0, self.epochs_done - 1)))
        self.optimizer.load_state_dict(saved["optimizer"])

    def _set_aside(self, reason: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.earlier")
        move_into_place(self.path, aside)
        logger.warning("%s %s; it was moved to %s, and the training starts anew.", self.path, reason, aside.name)


def copied(state: State, device: str | None = None) -> dict[str, Tensor]:
    """Copies of weights, on another device where one is named."""
    return {name: value.detach().to(device or value.device, copy=True) for name, value in state.items()}


@contextmanager
def with_state(network: nn.Module, state: State) -> Iterator[None]:
    """Let a network have other weights inside the block."""
    before = copied(network.state_dict())
    network.load_state_dict(state)
    try:
        yield
    finally:
        network.load_state_dict(before)


def set_training(module: nn.Module, *, frozen_norm: bool) -> None:
    """Set a network or a part of one to training, its batch normalisation only where that is not frozen."""
    module.train()
    if frozen_norm:
        for one in module.modules():
            if isinstance(one, nn.BatchNorm2d):
                one.eval()

"""Tuning of a mask decoder on embeddings: everything else of the model is frozen and never computed again."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.files import writable_folder, write_bytes
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.training.data.examples import EncodedExample
from SAMLungSegLib.training.losses import LOSS_KINDS, LossKind, TuningLoss, on_grid
from SAMLungSegLib.training.prompt_policies import Prompter

logger = logging.getLogger(__name__)

THRESHOLDS = (0.50, 0.55, 0.60, 0.65, 0.70)

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class TuningConfig:
    """How a decoder is tuned: Adam on `DiceFocalLoss`.

    Attributes:
        epochs: at most.
        batch: slices in one step.
        learning_rate: of Adam.
        weight_decay: of Adam.
        loss: 'correct' or 'paper', see `TuningLoss`.
        patience: stop after so many epochs without a better validation Dice, and keep the best epoch; 0 trains all
            epochs and keeps the last one, as in the paper.
        seed: of the order of slices and of the boxes' jitter.
    Source: Carvalho and Almeida (2024): 100 epochs, batches of 2, 1e-5, no weight decay.
    """

    epochs: int = 100
    batch: int = 2
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    loss: LossKind = "correct"
    patience: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1 or min(self.patience, self.weight_decay) < 0 or not self.learning_rate > 0:
            raise ModelError(
                f"A tuning of {self.epochs} epochs in batches of {self.batch} at learning rate {self.learning_rate:g}, "
                f"weight decay {self.weight_decay:g} and patience {self.patience} is not possible; give positive ones."
            )
        if not isfinite(self.learning_rate) or not isfinite(self.weight_decay) or self.seed < 0:
            raise ModelError(
                f"Learning rate {self.learning_rate:g}, weight decay {self.weight_decay:g} and seed {self.seed} are "
                "not possible; give finite numbers, and a seed from 0 on."
            )
        if self.loss not in LOSS_KINDS:
            raise ModelError(f"There is no loss '{self.loss}'; choose one of {', '.join(LOSS_KINDS)}.")


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
    history: list[dict[str, float]] = field(default_factory=list)
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
    return {name: value.detach().cpu().clone() for name, value in model.network.mask_decoder.state_dict().items()}


@contextmanager
def with_decoder(model: TrainableModel, state: State) -> Iterator[None]:
    """Let a model answer with another mask decoder inside the block."""
    before = decoder_state(model)
    model.network.mask_decoder.load_state_dict(state)
    try:
        yield
    finally:
        model.network.mask_decoder.load_state_dict(before)


def tune_decoder(
    model: TrainableModel,
    training: Sequence[EncodedExample],
    validation: Sequence[EncodedExample],
    prompter: Prompter,
    config: TuningConfig,
    folder: Path,
    *,
    title: str = "tuning",
) -> TunedDecoder:
    """Tune the mask decoder of a model; the model itself is as before afterwards.

    After each epoch `tuning.pt` is written into `folder`; a run that stopped goes on from there and gives the same
    numbers. One that was made with other data or settings is made anew.

    Args:
        model: SAM, MedSAM or lung-compact.
        training: examples that the gradients come from.
        validation: examples that the epoch and the threshold are chosen by.
        prompter: what is asked.
        config: the recipe.
        folder: where the run lies; made if it is not there.
        title: of the progress bar.
    """
    writable_folder(folder)
    with model.threads(), with_decoder(model, decoder_state(model)):
        run = _Run(model, training, validation, prompter, config, folder / "tuning.pt")
        try:
            model.network.mask_decoder.requires_grad_(True)
            return run.finish(title)
        finally:
            model.network.mask_decoder.requires_grad_(False)


class _Run:
    def __init__(
        self,
        model: TrainableModel,
        training: Sequence[EncodedExample],
        validation: Sequence[EncodedExample],
        prompter: Prompter,
        config: TuningConfig,
        path: Path,
    ) -> None:
        self.model, self.prompter, self.config, self.path = model, prompter, config, path
        self.training, self.validation = training, validation
        self.loss = TuningLoss(config.loss)
        self.optimizer = torch.optim.Adam(
            model.network.mask_decoder.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.history: list[dict[str, float]] = []
        self.kept, self.kept_epoch = decoder_state(model), 0
        self.fingerprint = self._fingerprint()

    def finish(self, title: str) -> TunedDecoder:
        self._resume()
        with tqdm(total=self.config.epochs, initial=len(self.history), desc=title, unit="epoch", disable=None) as bar:
            while not self._is_done():
                self._epoch(len(self.history))
                bar.set_postfix(dice=f"{_best_dice(self.history[self.kept_epoch]):.4f}")
                bar.update()
        return TunedDecoder(self.kept, self.history, self.kept_epoch)

    def _is_done(self) -> bool:
        done, patience = len(self.history), self.config.patience
        return done >= self.config.epochs or (patience > 0 and done - 1 - self.kept_epoch >= patience)

    def _epoch(self, epoch: int) -> None:
        """All training slices once; the epoch's number seeds all randomness, so a resumed run sees the same."""
        rng = np.random.default_rng([self.config.seed, epoch])
        order = rng.permutation(len(self.training))
        batches = [order[start : start + self.config.batch] for start in range(0, len(order), self.config.batch)]
        losses = [self._step([self.training[index] for index in batch], rng) for batch in batches]
        row = {"epoch": epoch, "loss": float(np.average(losses, weights=[len(batch) for batch in batches]))}
        self.history.append(row | self._validate())
        if self.config.patience == 0 or epoch == 0 or self._is_better(self.history[epoch]):
            self.kept, self.kept_epoch = decoder_state(self.model), epoch
        self._save()

    def _is_better(self, row: dict[str, float]) -> bool:
        return _best_dice(row) > _best_dice(self.history[self.kept_epoch])

    def _step(self, batch: Sequence[EncodedExample], rng: np.random.Generator) -> float:
        prompts = [self.prompter.draw(one.example, rng) for one in batch]
        loss = self._loss_of(batch, self.model.decode_batch(self._embeddings(batch), prompts))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _embeddings(self, batch: Sequence[EncodedExample]) -> list:
        return [one.embedding(self.model.device) for one in batch]

    def _loss_of(self, batch: Sequence[EncodedExample], answer: tuple[Tensor, Tensor]) -> Tensor:
        targets = torch.stack([one.target for one in batch]).to(self.model.device, torch.float32)
        return self.loss(answer, targets, torch.tensor([one.sides_known for one in batch]).to(targets.device))

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Mean loss and Dice at each threshold on the 256 x 256 grid."""
        losses, scores = [], []
        for one in self.validation:
            answer = self.model.decode_batch(self._embeddings([one]), [self.prompter.fixed(one.example)])
            losses.append(float(self._loss_of([one], answer)))
            scores.append(_dice_at_thresholds(on_grid(answer[0])[0, 0].cpu(), one.target.any(0)))
        means = np.mean(scores, axis=0)
        columns = {dice_column(threshold): float(mean) for threshold, mean in zip(THRESHOLDS, means, strict=True)}
        return {"validation_loss": float(np.mean(losses)), **columns}

    # ---- files

    def _fingerprint(self) -> str:
        """Of everything that decides the run."""
        facts = {
            "config": asdict(self.config),
            "prompts": asdict(self.prompter),
            "parts": [
                [[one.example.name, one.example.number, *one.example.grey_hw.shape] for one in part]
                for part in (self.training, self.validation)
            ],
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for one in (*self.training, *self.validation):
            digest.update(one.target.numpy())
            digest.update(one.halves[0].numpy())
        for value in self.kept.values():
            digest.update(value.contiguous().numpy())
        return digest.hexdigest()

    def _resume(self) -> None:
        if not self.path.is_file():
            return
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever a damaged file leads to
            logger.warning("%s is damaged (%s); the tuning starts anew.", self.path, error)
            return
        if saved.get("fingerprint") != self.fingerprint:
            logger.warning("%s is of another tuning; it starts anew.", self.path)
            return
        self.model.network.mask_decoder.load_state_dict(saved["decoder"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.history, self.kept, self.kept_epoch = saved["history"], saved["kept"], saved["kept_epoch"]

    def _save(self) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "decoder": decoder_state(self.model),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "kept": self.kept,
            "kept_epoch": self.kept_epoch,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_bytes(content.getvalue(), self.path)


def _best_dice(row: dict[str, float]) -> float:
    return max(row[dice_column(threshold)] for threshold in THRESHOLDS)


def _dice_at_thresholds(logits_hw: Tensor, reference_hw: Tensor) -> list[float]:
    size = int(reference_hw.sum())
    answers = [logits_hw > np.log(threshold / (1 - threshold)) for threshold in THRESHOLDS]
    return [2 * int((answer & reference_hw).sum()) / max(1, int(answer.sum()) + size) for answer in answers]

"""Training of lung-compact on a pack: a batch is encoded once, predicted without a prompt, with prompts, corrected."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.utils import set_determinism
from torch import Tensor

from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.checkpoints import (
    OPTIONAL_PARTS,
    apply_weights,
    checkpoint_path,
    file_sha256,
    load_state_dict,
)
from SAMLungSegLib.models.compact.network import INPUT_SIZE, CompactNet
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.training.branches import Branch, CorrectorTraining, FinishedNetwork, WholeTraining
from SAMLungSegLib.training.config import Phase, TrainingConfig
from SAMLungSegLib.training.data.drawing import unchanged
from SAMLungSegLib.training.data.packs import read_pack
from SAMLungSegLib.training.losses import Prediction, TrainingBatch, prediction_iou_loss, prediction_loss
from SAMLungSegLib.training.prompt_policies import PromptSampler, interaction_steps
from SAMLungSegLib.training.recipe_task import RecipeTask
from SAMLungSegLib.training.renamed import in_earlier_names
from SAMLungSegLib.training.trainer import Row, Trainer, TrainerSettings, set_training

CHECKPOINT_NAME = "checkpoint.pt"
# that decide no number, or only by what they name, or none of the epochs before them
FREE_SETTINGS = ("name", "model", "bfloat16", "start", "threads", "workers", "whole_epochs", "corrector_epochs")
CPU = torch.device("cpu")
WARM_UP = 0.05
LOWEST_RATE = 1e-3
IOU_LEARNING_RATE = 1e-3
LONGEST_GRADIENT = 1.0
FIRST_BRANCH = 2  # of the stages


def train(pack: Path, folder: Path, config: TrainingConfig, device: str | torch.device = CPU) -> CompactNet:
    """Train on a pack; continues a run that stopped.

    Leaves `checkpoint.pt`, `history.csv` and the validation curves `history.png` in `folder`.

    Args:
        pack: file written by `training.data.packs.pack`.
        folder: where checkpoints go.
        config: the recipe.
        device: to train on; on a graphics card in mixed precision (bfloat16).
    Returns:
        The network with averaged weights, in evaluation mode, on the CPU.
    Raises:
        ModelError: the weights to start from cannot be read or do not fit.
        VolumeError: the pack's images have another size.
    """
    set_determinism(config.seed)
    torch.set_num_threads(config.threads)
    task = CompactTask(pack, folder, config, started_network(config), torch.device(device))
    trained = Trainer(task, trainer_settings(config), folder / CHECKPOINT_NAME, title=config.name).run()
    net = task.network.cpu()
    net.load_state_dict(trained.state)
    return without_unlearned(net, config).eval()


def trainer_settings(config: TrainingConfig) -> TrainerSettings:
    """Averaged weights of the last epoch; short gradients; half precision where the device has it."""
    return TrainerSettings(
        config.epochs + config.iou_epochs + config.whole_epochs + config.corrector_epochs,
        keep="last",
        ema_decay=config.ema_decay,
        clip_norm=LONGEST_GRADIENT,
        mixed_precision=True,
    )


@dataclass(frozen=True, eq=False)
class CompactBatch:
    """Images and their references at the size of a phase, what draws their prompts, and what is wrong with a mask."""

    images: TrainingBatch
    sampler: PromptSampler
    loss: Callable[[Prediction, Tensor, TrainingBatch], Tensor]


@dataclass(frozen=True, eq=False)
class BranchBatch:
    """Encoded images, and the branch that learns from them."""

    branch: Branch
    features: tuple[Tensor, ...]
    images: TrainingBatch
    rng: np.random.Generator


class CompactTask(RecipeTask[CompactBatch | BranchBatch]):
    """A whole network on a pack, by a recipe; then in stages of their own its prediction of IoU, and its branches.

    Args:
        pack: with the images.
        folder: where the history goes.
        config: the recipe.
        net: to train.
        device: to train on.
    """

    network: CompactNet

    def __init__(
        self, pack: Path, folder: Path, config: TrainingConfig, net: CompactNet, device: torch.device = CPU
    ) -> None:
        self.config, self.pack, self.folder, self.device = config, pack, folder, device
        self.data = read_pack(pack)
        self.epoch = 0
        self.network = net.to(device, memory_format=torch.channels_last)
        self.total_steps = config.epochs * self._epoch_steps
        finished = FinishedNetwork(self.network, self.data, config, device)
        self.branches: list[Branch] = [WholeTraining(finished), CorrectorTraining(finished)]

    @property
    def _epoch_steps(self) -> int:
        return self.config.epoch_images // self.config.batch

    @cached_property
    def fingerprint(self) -> str:
        """Of the pack, the weights to start from, and all of the recipe that decides the numbers."""
        settings = in_earlier_names(asdict(self.config))
        facts = {name: value for name, value in settings.items() if name not in FREE_SETTINGS}
        files = [self.pack, *([start_path(self.config)] if self.config.start else [])]
        text = json.dumps([facts, *map(file_sha256, files)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """AdamW on all of the network; in the second stage on the head that predicts the IoU, then on a branch."""
        config, net = self.config, self.network
        if stage >= FIRST_BRANCH:
            return self.branches[stage - FIRST_BRANCH].optimizer()
        net.requires_grad_(stage == 0)
        if stage > 0:
            head = net.mask_decoder.iou_prediction_head.requires_grad_(True)
            return torch.optim.AdamW(head.parameters(), lr=IOU_LEARNING_RATE)
        encoder = [*net.image_encoder.parameters()]
        decoder = [*net.prompt_encoder.parameters(), *net.mask_decoder.parameters()]
        return torch.optim.AdamW(
            [{"params": encoder}, {"params": decoder, "lr": config.learning_rate * config.decoder_lr_scale}],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )

    def stage(self, epoch: int) -> int:
        """0 the network, 1 its prediction of IoU, 2 the branch for whole lungs, 3 the corrector."""
        return max(stage for stage in range(len(self._starts)) if self._starts[stage] <= epoch)

    @cached_property
    def _starts(self) -> list[int]:
        """The first epoch of each stage; of one without epochs, the end of all."""
        config = self.config
        lengths = (config.epochs, config.iou_epochs, *(branch.epochs for branch in self.branches))
        ends = np.cumsum(lengths).tolist()
        return [start if length else ends[-1] for start, length in zip([0, *ends], lengths, strict=False)]

    def _branch(self, epoch: int) -> Branch | None:
        stage = self.stage(epoch)
        return self.branches[stage - FIRST_BRANCH] if stage >= FIRST_BRANCH else None

    def rate(self, epoch: int, steps: int) -> float:
        """A short rise, then half a cosine, over all phases and over each branch; constant in the IoU's stage."""
        if branch := self._branch(epoch):
            done = steps - self._starts[self.stage(epoch)] * self._epoch_steps
            return warm_cosine(done / (branch.epochs * self._epoch_steps))
        return 1.0 if self.stage(epoch) else warm_cosine(steps / self.total_steps)

    def batches(self, epoch: int) -> Iterator[CompactBatch | BranchBatch]:
        """As many images as an epoch has, drawn by the sets' sampling weights and changed at random."""
        self.epoch = epoch
        config, seed, stage = self.config, self.config.seed * 1000 + epoch, self.stage(epoch)
        if branch := self._branch(epoch):
            for features, images, rng in branch.batches(epoch - self._starts[stage], seed):
                yield BranchBatch(branch, features, images, rng)
            return
        phase, loss = config.phase(epoch), prediction_loss
        if stage:  # failures are what the predicted IoU learns from: strong augmentation
            phase, loss = Phase(1, frozen_norm=True), prediction_iou_loss
        set_training(self.network, frozen_norm=phase.frozen_norm)
        sampler = PromptSampler(seed)
        for drawn in self.drawing.batches(config.epoch_images, config.batch, phase.augmentation, seed, config.workers):
            yield CompactBatch(TrainingBatch(drawn, phase.side, self.device), sampler, loss)

    def predict(self, batch: CompactBatch | BranchBatch) -> Any:
        """Without a prompt, with prompts, and corrected: each with its target; or what a branch makes of it."""
        if isinstance(batch, BranchBatch):
            return batch.branch.predict(batch.features, batch.images, batch.rng)
        return list(interaction_steps(self.network, batch.images, batch.sampler, self.config))

    def loss(self, predictions: Any, batch: CompactBatch | BranchBatch) -> Tensor:
        """Mean over these, or the branch's own."""
        if isinstance(batch, BranchBatch):
            return batch.branch.loss(predictions, batch.images)
        return torch.stack([batch.loss(one, target, batch.images) for one, target in predictions]).mean()

    def validate(self) -> Row:
        """Mean Dice of each set without a prompt; of branches their own scores."""
        self.network.eval()
        branch = self._branch(self.epoch)
        return branch.scores() if branch else validation_dice(self.network, self.data)

    def upgraded(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Earlier ones had no branches, did not say of what they are, and had the figures in the history alone."""
        own = self.network.state_dict()
        for name in ("net", "averaged"):
            checkpoint[name] = {key: checkpoint[name].get(key, value) for key, value in own.items()}
        if "fingerprint" in checkpoint:
            return checkpoint
        history = [{"epoch": epoch, "loss": float("nan")} for epoch in range(checkpoint["epoch"] + 1)]
        return {**checkpoint, "fingerprint": self.fingerprint, "history": history, "kept": None}


def warm_cosine(progress: float) -> float:
    """A short rise, then half a cosine; `progress` is 0 at the start of the training and 1 at its end."""
    return max(min(1.0, progress / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * progress)), LOWEST_RATE)


def start_path(config: TrainingConfig) -> Path:
    """The file of weights that a recipe starts from."""
    spec = model_spec("lung-compact")
    return checkpoint_path(spec) if config.start == spec.name else Path(config.start)


def started_network(config: TrainingConfig) -> CompactNet:
    """A network with random weights, or with those that the recipe starts from.

    Raises:
        ModelError: they cannot be read or do not fit.
    """
    net = CompactNet()
    if config.start:
        path = start_path(config)
        apply_weights(net, load_state_dict(path), what=str(path))
        net.input_size.fill_(INPUT_SIZE)  # whatever the frame was that these weights learned from
    return net


def without_unlearned(net: CompactNet, config: TrainingConfig) -> CompactNet:
    """The network without the branches that neither the recipe trains nor the weights that it starts from have."""
    learned = {"whole_branch": config.whole_epochs, "corrector": config.corrector_epochs}
    started = load_state_dict(start_path(config)) if config.start else {}
    for part in OPTIONAL_PARTS:
        if not (learned[part] or any(key.startswith(f"{part}.") for key in started)):
            setattr(net, part, None)
    return net


@torch.inference_mode()
def validation_dice(net: CompactNet, data: dict[str, np.ndarray], side: int = INPUT_SIZE) -> dict[str, float]:
    """Mean Dice of both lungs without a prompt, per set, on the validation part of a pack.

    Args:
        net: in evaluation mode.
        data: the pack's columns.
        side: of the images that the network is shown; masks are compared at the pack's own size.
    """
    device = next(net.parameters()).device
    scores: dict[str, list[float]] = {}
    for index in np.flatnonzero((data["splits"] == "validation") & (data["extents"] != "whole")):
        frame = F.avg_pool2d(unchanged(data, index).to(device), INPUT_SIZE // side) * 2 - 1
        low_res, _ = net.decode(net.image_encoder(frame))
        logits = F.interpolate(low_res[:, :1], (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        prediction = (logits[0, 0] > 0).cpu().numpy()
        truth = data["labels"][index][:2].sum(0) > 127
        scores.setdefault(str(data["sets"][index]), []).append(dice(truth, prediction))
    return {name: float(np.mean(values)) for name, values in scores.items()}

"""Training of lung-compact on a pack: a batch is encoded once, predicted without a prompt, with prompts, corrected."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.data import DataLoader, Dataset
from monai.transforms import Compose
from monai.utils import set_determinism
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler

from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.checkpoints import apply_weights, checkpoint_path, file_sha256, load_state_dict
from SAMLungSegLib.models.compact.network import INPUT_SIZE, CompactNet
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.training.augment import RandomWindow, training_transforms
from SAMLungSegLib.training.config import Phase, TrainingConfig
from SAMLungSegLib.training.data.packs import is_trained_on, read_pack
from SAMLungSegLib.training.figures import add_to_history
from SAMLungSegLib.training.losses import Prediction, TrainingBatch, prediction_iou_loss, prediction_loss
from SAMLungSegLib.training.prompt_policies import PromptSampler, interaction_steps
from SAMLungSegLib.training.renamed import in_earlier_names
from SAMLungSegLib.training.trainer import Row, Trainer, TrainerSettings, TrainingTask

logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint.pt"
FREE_SETTINGS = ("name", "start", "threads", "workers")  # that decide no number, or only by what they name
CPU = torch.device("cpu")
WARM_UP = 0.05
LOWEST_RATE = 1e-3
IOU_LEARNING_RATE = 1e-3
LONGEST_GRADIENT = 1.0


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
    return net.eval()


def trainer_settings(config: TrainingConfig) -> TrainerSettings:
    """Averaged weights of the last epoch; short gradients; half precision where the device has it."""
    return TrainerSettings(
        config.epochs + config.iou_epochs,
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


class CompactTask(TrainingTask[CompactBatch]):
    """A whole network on a pack, by a recipe; at the end, in a stage of its own, its prediction of IoU alone.

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
        self.network = net.to(device, memory_format=torch.channels_last)
        self.total_steps = config.epochs * (config.epoch_images // config.batch)

    @cached_property
    def fingerprint(self) -> str:
        """Of the pack, the weights to start from, and all of the recipe that decides the numbers."""
        settings = in_earlier_names(asdict(self.config))
        facts = {name: value for name, value in settings.items() if name not in FREE_SETTINGS}
        files = [self.pack, *([start_path(self.config)] if self.config.start else [])]
        text = json.dumps([facts, *map(file_sha256, files)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """AdamW on all of the network; in the second stage on the head that predicts the IoU."""
        config, net = self.config, self.network
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
        """The second is that of the IoU."""
        return int(epoch >= self.config.epochs)

    def rate(self, epoch: int, steps: int) -> float:
        """A short rise, then half a cosine over all phases; constant in the IoU's stage."""
        return 1.0 if self.stage(epoch) else warm_cosine(steps / self.total_steps)

    def batches(self, epoch: int) -> Iterator[CompactBatch]:
        """As many images as an epoch has, drawn by the sets' sampling weights and changed at random."""
        config = self.config
        chosen = np.flatnonzero(is_trained_on(self.data["sets"], self.data["splits"], config))
        sets = self.data["sets"][chosen]
        counts = {name: np.sum(sets == name) for name in np.unique(sets)}
        of_set = config.sampling_weights or dict.fromkeys(map(str, counts), 1.0)
        weights = [of_set.get(str(name), 0.0) / counts[name] for name in sets]
        seed = config.seed * 1000 + epoch
        phase, loss = config.phase(epoch), prediction_loss
        if self.stage(epoch):  # failures are what the predicted IoU learns from: strong augmentation
            phase, loss = Phase(1, frozen_norm=True), prediction_iou_loss
        set_training(self.network, frozen_norm=phase.frozen_norm)
        sampler = PromptSampler(seed)
        transforms = Compose([self._sample, training_transforms(phase.augmentation)]).set_random_state(seed)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        loader = DataLoader(
            Dataset(chosen.tolist(), transforms),
            batch_size=config.batch,
            sampler=WeightedRandomSampler(weights, config.epoch_images, generator=generator),
            num_workers=config.workers,
            drop_last=True,
            generator=generator,
        )
        for batch in loader:
            yield CompactBatch(TrainingBatch(batch, phase.side, self.device), sampler, loss)

    def _sample(self, index: int) -> dict:
        return {
            "image": torch.from_numpy(self.data["images"][index][None].astype(np.float32)),
            "label": torch.from_numpy(self.data["labels"][index].astype(np.float32) / 255),
            "modality": str(self.data["modalities"][index]),
            "sides_known": bool(self.data["sides_known"][index]),
        }

    def predict(self, batch: CompactBatch) -> list[tuple[Prediction, Tensor]]:
        """Without a prompt, with prompts, and corrected: each with its target."""
        return list(interaction_steps(self.network, batch.images, batch.sampler, self.config))

    def loss(self, predictions: list[tuple[Prediction, Tensor]], batch: CompactBatch) -> Tensor:
        """Mean over these."""
        return torch.stack([batch.loss(one, target, batch.images) for one, target in predictions]).mean()

    def validate(self) -> Row:
        """Mean Dice of each set without a prompt."""
        return validation_dice(self.network.eval(), self.data)

    def score(self, row: Row) -> float:
        """Mean over the sets; NaN where there is no validation part."""
        scores = [value for name, value in row.items() if name not in ("epoch", "loss")]
        return float(np.mean(scores)) if scores else float("nan")

    def record(self, row: Row) -> None:
        """Into the history's table and its curves."""
        rounded = {name: value if name == "epoch" else round(value, 5) for name, value in row.items()}
        add_to_history(self.folder, rounded)
        logger.info("epoch %d: %s", row["epoch"], rounded)

    def upgraded(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Earlier ones did not say of what they are, and the figures were in the history's table alone."""
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


def set_training(net: CompactNet, *, frozen_norm: bool) -> None:
    """Set a network to training, its batch normalisation only where that is not frozen."""
    net.train()
    if frozen_norm:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


@torch.inference_mode()
def validation_dice(net: CompactNet, data: dict[str, np.ndarray], side: int = INPUT_SIZE) -> dict[str, float]:
    """Mean Dice of both lungs without a prompt, per set, on the validation part of a pack.

    Args:
        net: in evaluation mode.
        data: the pack's columns.
        side: of the images that the network is shown; masks are compared at the pack's own size.
    """
    window = RandomWindow(jitter=0.0)
    device = next(net.parameters()).device
    scores: dict[str, list[float]] = {}
    for index in np.flatnonzero(data["splits"] == "validation"):
        image = torch.from_numpy(data["images"][index][None].astype(np.float32))
        grey: Tensor = window({"image": image, "modality": str(data["modalities"][index])})["image"]
        frame = F.avg_pool2d(grey[None].to(device), INPUT_SIZE // side) * 2 - 1
        low_res, _ = net.decode(net.image_encoder(frame))
        logits = F.interpolate(low_res[:, :1], (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        prediction = (logits[0, 0] > 0).cpu().numpy()
        truth = data["labels"][index][:2].sum(0) > 127
        scores.setdefault(str(data["sets"][index]), []).append(dice(truth, prediction))
    return {name: float(np.mean(values)) for name, values in scores.items()}

"""The baseline of the fine-tuning study: a U-Net trained on the same images, without any pretraining."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, RandAdjustContrastd, RandAffined, RandGaussianNoised
from torch import Tensor

from SAMLungSegLib.metrics import dice
from SAMLungSegLib.training.config import check_limits
from SAMLungSegLib.training.data.examples import Example
from SAMLungSegLib.training.trainer import Row, Trainer, TrainerSettings, TrainingTask

CHECKPOINT_NAME = "unet.pt"
LEAST_RATE = 0.01  # of the learning rate, at the end of the cosine


@dataclass(frozen=True)
class UNetConfig:
    """How the U-Net is trained: AdamW and one cosine cycle on cross entropy and Dice, the best validation epoch kept.

    Attributes:
        epochs: of all training images.
        batch: images in one step.
        learning_rate: at the start.
        weight_decay: of AdamW.
        channels: of the levels, each at half the resolution of the one before.
        seed: of weights, order and augmentation.
    """

    epochs: int = 40
    batch: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(vars(self), "U-Net")


def new_unet(config: UNetConfig, outputs: int = 1) -> UNet:
    """MONAI's U-Net with residual units and random weights."""
    torch.manual_seed(config.seed)
    levels = len(config.channels)
    return UNet(2, 1, outputs, config.channels, strides=(2,) * (levels - 1), num_res_units=1, norm="BATCH")


def train_unet(
    training: Sequence[Example],
    validation: Sequence[Example],
    config: UNetConfig,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    title: str = "U-Net",
) -> UNet:
    """Train a U-Net; `unet.pt` in `folder` is written after each epoch, and a run that stopped goes on from there.

    Args:
        training: examples of one size, such as 256 x 256, a multiple of 16.
        validation: examples that the epoch is chosen by.
        config: the recipe.
        folder: where the run lies.
        device: where to compute.
        title: of the progress bar.
    Returns:
        The network of the best epoch, in evaluation mode.
    """
    task = UNetTask(training, validation, config, torch.device(device))
    trained = Trainer(task, TrainerSettings(config.epochs), folder / CHECKPOINT_NAME, title=title).run()
    task.network.load_state_dict(trained.state)
    return task.network.eval()


@torch.no_grad()
def unet_masks(net: UNet, examples: Sequence[Example]) -> list[np.ndarray]:
    """Both lungs, bool (H, W), of each example."""
    device = next(net.parameters()).device
    return [(net(_image(one)[None].to(device))[0, 0] > 0).cpu().numpy() for one in examples]


def _image(example: Example) -> Tensor:
    return torch.from_numpy(example.grey_hw[None].astype(np.float32) / 127.5 - 1)


def changed_images(seed: int) -> Compose:
    """Light augmentation of 'image' and 'label': small shifts, turns and scales, contrast, noise."""
    both = ["image", "label"]
    shift = RandAffined(
        both,
        prob=0.9,
        rotate_range=0.12,
        translate_range=(14, 14),
        scale_range=((-0.12, 0.12),) * 2,
        shear_range=(0.05, 0.05),
        mode=("bilinear", "nearest"),
        padding_mode=("border", "zeros"),
    )
    contrast = RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.5), retain_stats=False)
    return Compose([shift, contrast, RandGaussianNoised("image", prob=0.2, std=0.05)]).set_random_state(seed)


class UNetTask(TrainingTask[dict]):
    """The U-Net on images and masks of both lungs; the arguments are those of `train_unet`."""

    def __init__(
        self, training: Sequence[Example], validation: Sequence[Example], config: UNetConfig, device: torch.device
    ) -> None:
        self.config, self.device = config, device
        self.training, self.validation = training, validation
        self.samples = [
            {"image": _image(one), "label": torch.from_numpy(one.lung_hw[None].astype(np.float32))} for one in training
        ]
        self.network = new_unet(config).to(device)
        self.overlap = DiceCELoss(sigmoid=True)

    @property
    def fingerprint(self) -> str:
        """Of the settings and the images' names."""
        names = [[[one.name, one.number] for one in part] for part in (self.training, self.validation)]
        return hashlib.sha256(json.dumps([asdict(self.config), names]).encode()).hexdigest()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """AdamW on all of it."""
        config = self.config
        return torch.optim.AdamW(self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def rate(self, epoch: int, steps: int) -> float:
        """Half a cosine over the epochs."""
        return max(float(0.5 + 0.5 * np.cos(np.pi * epoch / self.config.epochs)), LEAST_RATE)

    def batches(self, epoch: int) -> DataLoader:
        """All training images once, changed at random."""
        seed = self.config.seed * 100_003 + epoch
        self.network.train()
        return DataLoader(
            Dataset(self.samples, changed_images(seed)),
            batch_size=self.config.batch,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )

    def weight(self, batch: dict) -> float:
        """Its images."""
        return len(batch["image"])

    def predict(self, batch: dict) -> Tensor:
        """Logits (B, 1, H, W)."""
        return self.network(self._plain(batch["image"]))

    def loss(self, predictions: Tensor, batch: dict) -> Tensor:
        """Cross entropy and Dice."""
        return self.overlap(predictions, self._plain(batch["label"]))

    def _plain(self, value: Tensor) -> Tensor:
        return torch.as_tensor(value.numpy()).to(self.device)

    def validate(self) -> Row:
        """Mean Dice."""
        masks = unet_masks(self.network.eval(), self.validation)
        scores = [dice(one.lung_hw, mask) for one, mask in zip(self.validation, masks, strict=True)]
        return {"dice": float(np.mean(scores))}

    def score(self, row: Row) -> float:
        """That Dice."""
        return row["dice"]

    def upgraded(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Earlier ones kept the Dice of each epoch and nothing else."""
        if "steps" in checkpoint:
            return checkpoint
        rows = [{"epoch": epoch, "loss": float("nan"), "dice": one} for epoch, one in enumerate(checkpoint["history"])]
        return {**checkpoint, "history": rows, "steps": 0}

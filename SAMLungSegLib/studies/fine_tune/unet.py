"""The baseline of the fine-tuning study: a U-Net trained on the same images, without any pretraining."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, RandAdjustContrastd, RandAffined, RandGaussianNoised
from torch import Tensor
from tqdm import tqdm

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.files import writable_folder, write_bytes
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.training.data.examples import Example

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
        if min(self.epochs, self.batch) < 1:
            raise ModelError(
                f"A U-Net of {self.epochs} epochs in batches of {self.batch} is not possible; give 1 or more."
            )


def new_unet(config: UNetConfig) -> UNet:
    """MONAI's U-Net with residual units and random weights."""
    torch.manual_seed(config.seed)
    levels = len(config.channels)
    return UNet(2, 1, 1, config.channels, strides=(2,) * (levels - 1), num_res_units=1, norm="BATCH")


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
    writable_folder(folder)
    run = _Run(training, validation, config, folder / "unet.pt", torch.device(device))
    run.resume()
    with tqdm(total=config.epochs, initial=len(run.history), desc=title, unit="epoch", disable=None) as bar:
        while len(run.history) < config.epochs:
            run.epoch(len(run.history))
            bar.set_postfix(dice=f"{max(run.history):.4f}")
            bar.update()
    run.net.load_state_dict(run.kept)
    return run.net.eval()


@torch.no_grad()
def unet_masks(net: UNet, examples: Sequence[Example]) -> list[np.ndarray]:
    """Both lungs, bool (H, W), of each example."""
    device = next(net.parameters()).device
    return [(net(_image(one)[None].to(device))[0, 0] > 0).cpu().numpy() for one in examples]


def _image(example: Example) -> Tensor:
    return torch.from_numpy(example.grey_hw[None].astype(np.float32) / 127.5 - 1)


def _transforms(seed: int) -> Compose:
    """Light augmentation: small shifts, turns and scales, contrast, noise."""
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


class _Run:
    def __init__(
        self,
        training: Sequence[Example],
        validation: Sequence[Example],
        config: UNetConfig,
        path: Path,
        device: torch.device,
    ) -> None:
        self.config, self.path, self.device, self.validation = config, path, device, validation
        self.samples = [
            {"image": _image(one), "label": torch.from_numpy(one.lung_hw[None].astype(np.float32))} for one in training
        ]
        self.net = new_unet(config).to(device)
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.loss = DiceCELoss(sigmoid=True)
        self.history: list[float] = []
        self.kept = self._state()
        names = [[[one.name, one.number] for one in part] for part in (training, validation)]
        self.fingerprint = hashlib.sha256(json.dumps([asdict(config), names]).encode()).hexdigest()

    def epoch(self, epoch: int) -> None:
        """All training images once; the epoch's number seeds all randomness, so a resumed run sees the same."""
        seed = self.config.seed * 100_003 + epoch
        self._set_learning_rate(epoch)
        loader = DataLoader(
            Dataset(self.samples, _transforms(seed)),
            batch_size=self.config.batch,
            shuffle=True,
            generator=torch.Generator().manual_seed(seed),
        )
        self.net.train()
        for batch in loader:
            image, label = (torch.as_tensor(batch[name].numpy()).to(self.device) for name in ("image", "label"))
            loss = self.loss(self.net(image), label)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
        score = self._validation_dice()
        if not self.history or score > max(self.history):
            self.kept = self._state()
        self.history.append(score)
        self._save()

    def _set_learning_rate(self, epoch: int) -> None:
        share = 0.5 + 0.5 * np.cos(np.pi * epoch / self.config.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * max(float(share), LEAST_RATE)

    def _validation_dice(self) -> float:
        masks = unet_masks(self.net.eval(), self.validation)
        return float(np.mean([dice(one.lung_hw, mask) for one, mask in zip(self.validation, masks, strict=True)]))

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.net.state_dict().items()}

    def resume(self) -> None:
        if not self.path.is_file():
            return
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        if saved["fingerprint"] != self.fingerprint:
            return
        self.net.load_state_dict(saved["net"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.kept, self.history = saved["kept"], saved["history"]

    def _save(self) -> None:
        state = {
            "fingerprint": self.fingerprint,
            "net": self._state(),
            "optimizer": self.optimizer.state_dict(),
            "kept": self.kept,
            "history": self.history,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_bytes(content.getvalue(), self.path)

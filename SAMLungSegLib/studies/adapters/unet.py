"""The baseline that needs no prompt: a U-Net of all organs, trained on the same slices."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.losses import DiceCELoss
from torch import Tensor

from SAMLungSegLib.adaptation.slices import AdaptationData, ObjectSlice
from SAMLungSegLib.adaptation.task import FEWEST_EPOCHS, AdaptConfig
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.studies.fine_tune.unet import UNetConfig, changed_images, new_unet
from SAMLungSegLib.training.trainer import Row, TrainingTask

SIDE = 256  # that slices are squeezed to


class OrganUNetTask(TrainingTask[list[dict[str, Tensor]]]):
    """A channel for each organ; as long as the adaptations beside it, by steps or by the clock.

    Args:
        data: slices and organs.
        config: of the network and its optimiser; `epochs` does not count.
        length: steps or minutes, and slices in a step.
        device: where to compute.
    """

    def __init__(
        self, data: AdaptationData, config: UNetConfig, length: AdaptConfig, device: torch.device | str = "cpu"
    ) -> None:
        self.data, self.config, self.length, self.device = data, config, length, torch.device(device)
        self.samples = [_sample(one, len(data.organs)) for one in data.training]
        self.network = new_unet(config, outputs=len(data.organs)).to(self.device)
        self.overlap = DiceCELoss(sigmoid=True)
        self._seconds, self._steps = 0.0, 0

    @property
    def fingerprint(self) -> str:
        """Of the settings and the slices."""
        digest = hashlib.sha256(json.dumps([asdict(self.config), asdict(self.length)]).encode())
        for part in (self.data.training, self.data.validation):
            for one in part:
                digest.update(one.grey_hw.tobytes() + one.labels_hw.tobytes())
        return digest.hexdigest()

    def optimizer(self, stage: int) -> torch.optim.Optimizer:
        """AdamW on all of it."""
        config = self.config
        return torch.optim.AdamW(self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def batches(self, epoch: int) -> Iterator[list[dict[str, Tensor]]]:
        """Slices drawn at random, changed a little."""
        self.network.train()
        length, size = self.length, self.length.batch * self.length.accumulate
        steps = length.epoch_steps
        if length.steps is not None:
            steps = min(steps, length.steps - epoch * length.epoch_steps)
        rng, change = np.random.default_rng([length.seed, epoch]), changed_images(length.seed * 100_003 + epoch)
        began, self._steps = time.monotonic(), 0
        for _ in range(steps):
            if length.minutes is not None and time.monotonic() - began >= 60 * length.minutes / FEWEST_EPOCHS:
                break
            self._steps += 1
            yield [change(dict(self.samples[index])) for index in rng.integers(0, len(self.samples), size)]
        self._seconds = time.monotonic() - began

    def predict(self, batch: list[dict[str, Tensor]]) -> Tensor:
        """Logits (B, organs, 256, 256)."""
        return self.network(torch.stack([_plain(one["image"]) for one in batch]).to(self.device))

    def loss(self, predictions: Tensor, batch: list[dict[str, Tensor]]) -> Tensor:
        """Cross-entropy and Dice of each organ."""
        return self.overlap(predictions, torch.stack([_plain(one["label"]) for one in batch]).to(self.device))

    def is_over(self, history: Sequence[Row]) -> bool:
        """By the clock, where that counts."""
        minutes = self.length.minutes
        return minutes is not None and sum(row["seconds"] for row in history) >= 60 * minutes

    def validate(self) -> Row:
        """Mean Dice of the objects of the validation part; seconds and steps of the epoch."""
        rows = unet_rows(self, self.data.validation)
        return {"dice": float(np.mean([row["dice"] for row in rows])), "seconds": self._seconds, "steps": self._steps}

    def score(self, row: Row) -> float:
        """Dice."""
        return row["dice"]


@torch.no_grad()
def unet_rows(task: OrganUNetTask, slices: Sequence[ObjectSlice]) -> list[dict[str, Any]]:
    """Dice of each object at the slice's own size: image, slice, patient, organ, dice."""
    network, rows = task.network.eval(), []
    for one in slices:
        image = _sample(one, 0)["image"][None].to(task.device)
        masks = F.interpolate(network(image), one.grey_hw.shape, mode="bilinear", align_corners=False)[0] > 0
        for example in one.examples():
            organ = task.data.organs[example.organ - 1]
            score = dice(example.mask_hw, masks[example.organ - 1].cpu().numpy())
            facts = {"image": one.image, "slice": one.number, "patient": one.patient, "organ": organ}
            rows.append({**facts, "dice": score})
    return rows


def _sample(one: ObjectSlice, organs: int) -> dict[str, Tensor]:
    grey = torch.from_numpy(one.grey_hw.astype(np.float32))[None, None] / 127.5 - 1
    size, image = (SIDE, SIDE), {}
    image["image"] = F.interpolate(grey, size, mode="bilinear", align_corners=False, antialias=True)[0]
    labels = torch.from_numpy(one.labels_hw.astype(np.float32))[None, None]
    small = F.interpolate(labels, size, mode="nearest-exact")[0]
    image["label"] = torch.cat([(small == organ + 1).float() for organ in range(organs)]) if organs else small
    return image


def _plain(value: Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(value))

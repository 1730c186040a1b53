"""Training of lung-compact: encode a batch once, ask it without a prompt, with prompts, and with corrections."""

from __future__ import annotations

import copy
import csv
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.data import DataLoader, Dataset
from monai.losses import MaskedDiceLoss
from monai.transforms import Compose
from monai.utils import set_determinism
from torch import Tensor
from torch.utils.data import WeightedRandomSampler
from tqdm import tqdm

from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.compact import INPUT_SIZE, CompactNet
from SAMLungSegLib.training.augment import RandomWindow, training_transforms
from SAMLungSegLib.training.prompting import BatchPrompts, PromptSampler

logger = logging.getLogger(__name__)

DICE_SMOOTHING_PX = 100.0


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run.

    Attributes:
        decoder_share: learning rate of prompt encoder and mask decoder relative to the encoder's; at the encoder's own
            rate the decoder's attention never learns to look at prompts.
        shares: how often each set is drawn, relative to the others.
        epoch_images: images per epoch; the learning rate follows one cosine cycle over all epochs.
    """

    epochs: int = 48
    epoch_images: int = 600
    batch: int = 8
    learning_rate: float = 2e-3
    decoder_share: float = 0.25
    weight_decay: float = 0.02
    averaging: float = 0.998
    seed: int = 0
    threads: int = 2
    workers: int = 1
    shares: dict[str, float] = field(
        default_factory=lambda: {
            "cxr_montgomery": 0.19,
            "cxr_shenzhen": 0.33,
            "ct_kmader": 0.25,
            "ct_ricord_dicom": 0.08,
            "ct_abdomen_totalseg": 0.05,
            "phantom_ct": 0.10,
        }
    )


def train(pack: Path, folder: Path, config: TrainingConfig) -> CompactNet:
    """Train on a pack, leaving `checkpoint.pt` and `history.csv` in `folder`; continues from them if they are there.

    Args:
        pack: file written by `SAMLungSegLib.training.data.pack`.
        folder: where checkpoints go.
        config: the recipe.
    Returns:
        The network with averaged weights, in evaluation mode.
    """
    set_determinism(config.seed)
    torch.set_num_threads(config.threads)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(pack, folder, config)
    for epoch in range(run.resume(), config.epochs):
        losses = [run.step(batch) for batch in tqdm(run.batches(epoch), desc=f"epoch {epoch}", leave=False)]
        run.close_epoch(epoch, float(np.mean(losses)))
    return run.averaged.eval()


class _Run:
    def __init__(self, pack: Path, folder: Path, config: TrainingConfig) -> None:
        self.config, self.folder = config, folder
        self.data = dict(np.load(pack, allow_pickle=False))
        self.net = CompactNet().to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.net)
        encoder = [*self.net.image_encoder.parameters()]
        decoder = [*self.net.prompt_encoder.parameters(), *self.net.mask_decoder.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": encoder, "share": 1.0}, {"params": decoder, "share": config.decoder_share}],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.total_steps = config.epochs * math.ceil(config.epoch_images / config.batch)
        self.steps = 0

    def resume(self) -> int:
        """First epoch still to do."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return 0
        state = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        return state["epoch"] + 1

    def batches(self, epoch: int) -> DataLoader:
        """Batches of one epoch; the epoch's number seeds all randomness, so a resumed run sees the same."""
        chosen = np.flatnonzero(self.data["splits"] == "train")
        sets = self.data["sets"][chosen]
        counts = {name: np.sum(sets == name) for name in np.unique(sets)}
        weights = [self.config.shares.get(str(name), 0.0) / counts[name] for name in sets]
        seed = self.config.seed * 1000 + epoch
        self.sampler = PromptSampler(seed)
        transforms = Compose([self._sample, *training_transforms().transforms]).set_random_state(seed)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        return DataLoader(
            Dataset(chosen.tolist(), transforms),
            batch_size=self.config.batch,
            sampler=WeightedRandomSampler(weights, self.config.epoch_images, generator=generator),
            num_workers=self.config.workers,
            drop_last=True,
            generator=generator,
        )

    def _sample(self, index: int) -> dict:
        return {
            "image": torch.from_numpy(self.data["images"][index][None].astype(np.float32)),
            "label": torch.from_numpy(self.data["labels"][index].astype(np.float32) / 255),
            "modality": str(self.data["modalities"][index]),
            "sides_known": bool(self.data["sides_known"][index]),
        }

    def step(self, batch: dict) -> float:
        """One optimiser step; returns the loss."""
        self._set_learning_rate()
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self._average()
        return float(loss.detach())

    def _loss(self, batch: dict) -> Tensor:
        image = as_tensor(batch["image"]) * 2 - 1
        label, sides_known = as_tensor(batch["label"]), batch["sides_known"]
        shares, known = label[:, :2], 1 - label[:, 2:]
        features = self.net.image_encoder(image.contiguous(memory_format=torch.channels_last))
        losses = [
            self._answer_loss(answer, asked, shares, known, sides_known)
            for answer, asked in self._answers(features, shares, known, sides_known)
        ]
        return torch.stack(losses).mean()

    def _answers(self, features: tuple, shares: Tensor, known: Tensor, sides_known: Tensor) -> Iterator[tuple]:
        """Answers without a prompt, then to prompts, then corrected once: (logits and IoU, asked target)."""
        asked = shares.sum(1, keepdim=True).clamp(max=1)
        answer = self.net.decode(features)
        yield answer, asked
        prompts = BatchPrompts([[] for _ in shares])
        certain = known > 0.5
        if self.sampler.rng.uniform() < 0.8:
            asked, wanted = self.sampler.targets(shares, sides_known)
            prompts = self.sampler.prompts(shares, wanted)
            answer = self.net.decode(features, prompts.point_tensors(), prompts.boxes)
            yield answer, asked
        if self.sampler.rng.uniform() < 0.6:
            prompts = self.sampler.corrected(prompts, answer[0][:, :1].detach(), asked, certain)
            yield self.net.decode(features, prompts.point_tensors(), prompts.boxes, prompts.masks), asked

    def _answer_loss(
        self, answer: tuple[Tensor, Tensor], asked: Tensor, shares: Tensor, known: Tensor, sides_known: Tensor
    ) -> Tensor:
        low_res_logits, predicted_iou = answer
        logits = F.interpolate(low_res_logits, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        both = shares.sum(1, keepdim=True).clamp(max=1)
        target = torch.cat([asked, shares, both], dim=1)
        valid = known.expand_as(target).clone()
        valid[:, 1:3] *= sides_known[:, None, None, None]
        asked_loss = segmentation_loss(logits[:, :1], target[:, :1], valid[:, :1])
        anatomy_loss = segmentation_loss(logits[:, 1:], target[:, 1:], valid[:, 1:])
        return asked_loss + 0.5 * anatomy_loss + 0.2 * iou_loss(logits, target, valid, predicted_iou)

    def _set_learning_rate(self) -> None:
        progress = self.steps / self.total_steps
        factor = min(1.0, progress / 0.05) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * group["share"] * max(factor, 1e-3)

    def _average(self) -> None:
        keep = min(self.config.averaging, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            new = self.net.state_dict()
            for name, value in self.averaged.state_dict().items():
                if value.dtype.is_floating_point:
                    value.lerp_(new[name], 1 - keep)
                else:
                    value.copy_(new[name])

    def close_epoch(self, epoch: int, loss: float) -> None:
        """Save a checkpoint and the history's next row."""
        state = {
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "epoch": epoch,
        }
        partial = self.folder / "checkpoint.pt.part"
        torch.save(state, partial)
        partial.replace(self.folder / "checkpoint.pt")
        scores = validation_dice(self.averaged.eval(), self.data)
        row = {"epoch": epoch, "loss": round(loss, 5)} | {name: round(score, 5) for name, score in scores.items()}
        path = self.folder / "history.csv"
        is_new = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        logger.info("epoch %d: %s", epoch, row)


def as_tensor(value: Tensor) -> Tensor:
    """A plain tensor of MONAI's MetaTensor, whose bookkeeping slows every operation."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value


def segmentation_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Cross entropy plus soft Dice where `valid`; all (B, C, H, W), target in [0, 1]."""
    weight = valid / valid.mean().clamp(min=1e-3)
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight=weight)
    dice = MaskedDiceLoss(smooth_nr=DICE_SMOOTHING_PX, smooth_dr=DICE_SMOOTHING_PX, reduction="none")
    batch, channels, height, width = logits.shape
    flat = (batch * channels, 1, height, width)
    overlap = dice(logits.sigmoid().reshape(flat), target.reshape(flat), valid.reshape(flat))
    return entropy + overlap.mean()


def iou_loss(logits: Tensor, target: Tensor, valid: Tensor, predicted_iou: Tensor) -> Tensor:
    """Squared error of the predicted intersection over union, where the target is known."""
    with torch.no_grad():
        answer, truth = (logits > 0) * valid, (target > 0.5) * valid
        union = torch.maximum(answer, truth).sum((2, 3))
        true_iou = torch.where(union > 0, (answer * truth).sum((2, 3)) / union.clamp(min=1), 1.0)
        is_known = valid.amax((2, 3))
    return ((predicted_iou - true_iou) ** 2 * is_known).mean()


@torch.inference_mode()
def validation_dice(net: CompactNet, data: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean Dice of both lungs without a prompt, per set, on the validation part at the network's resolution."""
    window = RandomWindow(jitter=0.0)
    scores: dict[str, list[float]] = {}
    for index in np.flatnonzero(data["splits"] == "validation"):
        image = torch.from_numpy(data["images"][index][None].astype(np.float32))
        grey = window({"image": image, "modality": str(data["modalities"][index])})["image"]
        low_res, _ = net.decode(net.image_encoder(grey[None] * 2 - 1))
        logits = F.interpolate(low_res[:, :1], (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        answer = (logits[0, 0] > 0).numpy()
        truth = data["labels"][index][:2].sum(0) > 127
        scores.setdefault(str(data["sets"][index]), []).append(dice(truth, answer))
    return {name: float(np.mean(values)) for name, values in scores.items()}

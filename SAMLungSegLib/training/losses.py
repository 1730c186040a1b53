"""How wrong predictions are: of whole networks that learn from packs, and of mask decoders on embeddings."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from monai.losses import DiceFocalLoss, MaskedDiceLoss
from torch import Tensor

from SAMLungSegLib.models.compact.network import INPUT_SIZE
from SAMLungSegLib.training.data.examples import GRID

DICE_SMOOTHING_PX = 100.0
ANATOMY_WEIGHT, IOU_WEIGHT = 0.5, 0.2

LossKind = Literal["sigmoid", "raw_logits"]
LOSS_KINDS: tuple[LossKind, ...] = ("sigmoid", "raw_logits")

Prediction = tuple[Tensor, Tensor]  # low-resolution logits and predicted IoU of the mask tokens


class TrainingBatch:
    """A batch on a device, at the size that a phase wants.

    Attributes:
        image: (B, 1, S, S) in [-1, 1].
        soft_labels: (B, 2, S, S) right and left lung in 0..1.
        known: (B, 1, S, S), 0 where nobody knows.
        sides_known: bool (B,), whether the labels tell right from left.
    """

    def __init__(self, batch: dict, side: int, device: torch.device) -> None:
        times = batch["image"].shape[-1] // side
        image, label = (F.avg_pool2d(as_tensor(batch[key]).to(device), times) for key in ("image", "label"))
        self.image = (image * 2 - 1).contiguous(memory_format=torch.channels_last)
        self.soft_labels, self.known = label[:, :2], 1 - label[:, 2:]
        self.sides_known = batch["sides_known"].to(device)
        self.is_whole = batch["is_whole"].to(device)

    @property
    def both(self) -> Tensor:
        """(B, 1, S, S), soft label of both lungs."""
        return self.soft_labels.sum(1, keepdim=True).clamp(max=1)

    def targets(self, prompted: Tensor) -> tuple[Tensor, Tensor]:
        """Targets of the four mask tokens, (B, 4, S, S), the first as prompted, and where they are known."""
        target = torch.cat([prompted, self.soft_labels, self.both], dim=1)
        valid = self.known.expand_as(target).clone()
        valid[:, 1:3] *= self.sides_known[:, None, None, None]
        return target, valid


def prediction_loss(prediction: Prediction, target: Tensor, batch: TrainingBatch) -> Tensor:
    """Loss of one prediction: of the prompted object, of the sides and both, and of the predicted IoU."""
    logits, targets, valid = _at_full_size(prediction, target, batch)
    prompted_loss = segmentation_loss(logits[:, :1], targets[:, :1], valid[:, :1])
    anatomy_loss = segmentation_loss(logits[:, 1:], targets[:, 1:], valid[:, 1:])
    iou = iou_loss(logits, targets, valid, prediction[1].float())
    return prompted_loss + ANATOMY_WEIGHT * anatomy_loss + IOU_WEIGHT * iou


def prediction_iou_loss(prediction: Prediction, target: Tensor, batch: TrainingBatch) -> Tensor:
    """The part of `prediction_loss` that is about the predicted IoU."""
    return iou_loss(*_at_full_size(prediction, target, batch), prediction[1].float())


def _at_full_size(prediction: Prediction, target: Tensor, batch: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and validity (B, 4, S, S) of a prediction."""
    targets, valid = batch.targets(target)
    size_hw = targets.shape[-2:]
    return F.interpolate(prediction[0].float(), size_hw, mode="bilinear", align_corners=False), targets, valid


def segmentation_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Cross entropy plus soft Dice where `valid`; all (B, C, H, W), target in [0, 1]."""
    weight = valid / valid.mean().clamp(min=1e-3)
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight=weight)
    smoothing = DICE_SMOOTHING_PX * (logits.shape[-1] / INPUT_SIZE) ** 2
    dice = MaskedDiceLoss(smooth_nr=smoothing, smooth_dr=smoothing, reduction="none")
    batch, channels, height, width = logits.shape
    flat = (batch * channels, 1, height, width)
    overlap = dice(logits.sigmoid().reshape(flat), target.reshape(flat), valid.reshape(flat))
    return entropy + overlap.mean()


def iou_loss(logits: Tensor, target: Tensor, valid: Tensor, predicted_iou: Tensor) -> Tensor:
    """Squared error of the predicted intersection over union, where the target is known."""
    with torch.no_grad():
        prediction, truth = (logits > 0) * valid, (target > 0.5) * valid
        union = torch.maximum(prediction, truth).sum((2, 3))
        true_iou = torch.where(union > 0, (prediction * truth).sum((2, 3)) / union.clamp(min=1), 1.0)
        is_known = valid.amax((2, 3))
    return ((predicted_iou - true_iou) ** 2 * is_known).mean()


def as_tensor(value: Tensor) -> Tensor:
    """A plain tensor of MONAI's MetaTensor, whose bookkeeping slows every operation."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value


# ---- of the tuning of decoders, on 256 x 256 logits


class TuningLoss:
    """MONAI's `DiceFocalLoss` of the prompted token, and of the others where a decoder has tokens of fixed meaning.

    lung-compact's decoder tells right from left by such tokens, and its predicted IoU is shown to users. Both come from
    the same prediction and would drift if only the prompted token was trained.

    'sigmoid' puts Dice on probabilities. 'raw_logits' is MONAI's default, which puts it on the logits: Carvalho and
    Almeida's threshold tables look like it.
    """

    def __init__(self, kind: LossKind) -> None:
        self._overlap = DiceFocalLoss(sigmoid=kind == "sigmoid")

    def __call__(self, prediction: Prediction, targets: Tensor, sides_known: Tensor) -> Tensor:
        """Mean over a batch.

        Args:
            prediction: logits (B, T, h, w), of which T is 1, or 4 as in lung-compact, and predicted IoU (B, T).
            targets: float (B, 2, 256, 256), right and left lung.
            sides_known: bool (B,).
        """
        logits, predicted_iou = on_grid(prediction[0]), prediction[1]
        both = targets.amax(1, keepdim=True)
        loss = self._overlap(logits[:, :1], both)
        if logits.shape[1] == 1:
            return loss
        loss = loss + ANATOMY_WEIGHT * self._anatomy(logits[:, 1:], torch.cat([targets, both], 1), sides_known)
        wanted = torch.cat([both, targets, both], 1)
        valid = torch.ones_like(wanted)
        valid[:, 1:3] *= sides_known[:, None, None, None].to(valid)
        return loss + IOU_WEIGHT * iou_loss(logits, wanted, valid, predicted_iou)

    def _anatomy(self, logits: Tensor, wanted: Tensor, sides_known: Tensor) -> Tensor:
        """Right, left and both lungs; both alone where the reference does not tell the sides."""
        losses = [
            self._overlap(logits[None, int(not known) * 2 :], wanted[None, int(not known) * 2 :])
            for logits, wanted, known in zip(logits, wanted, sides_known.tolist(), strict=True)
        ]
        return torch.stack(losses).mean()


def on_grid(logits: Tensor) -> Tensor:
    """Logits (B, T, h, w) at 256 x 256, bilinear."""
    if logits.shape[-1] == GRID:
        return logits
    return F.interpolate(logits, (GRID, GRID), mode="bilinear", align_corners=False)

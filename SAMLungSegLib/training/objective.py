"""What a training step asks the network, and how wrong the answers are."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812
from monai.losses import MaskedDiceLoss
from torch import Tensor

from SAMLungSegLib.models.compact.network import INPUT_SIZE, CompactNet
from SAMLungSegLib.training.config import TrainingConfig
from SAMLungSegLib.training.prompting import BatchPrompts, PromptSampler

DICE_SMOOTHING_PX = 100.0
ANATOMY_WEIGHT, IOU_WEIGHT = 0.5, 0.2
MOST_CORRECTIONS = 4

Answer = tuple[Tensor, Tensor]


class Lesson:
    """A batch on a device, at the size that a phase wants.

    Attributes:
        image: (B, 1, S, S) in [-1, 1].
        shares: (B, 2, S, S) right and left lung in 0..1.
        known: (B, 1, S, S), 0 where nobody knows.
        sides_known: bool (B,), whether right and left are told apart.
    """

    def __init__(self, batch: dict, side: int, device: torch.device) -> None:
        times = batch["image"].shape[-1] // side
        image, label = (F.avg_pool2d(as_tensor(batch[key]).to(device), times) for key in ("image", "label"))
        self.image = (image * 2 - 1).contiguous(memory_format=torch.channels_last)
        self.shares, self.known = label[:, :2], 1 - label[:, 2:]
        self.sides_known = batch["sides_known"].to(device)

    @property
    def both(self) -> Tensor:
        """(B, 1, S, S), share of either lung."""
        return self.shares.sum(1, keepdim=True).clamp(max=1)

    def targets(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        """What the four mask tokens should answer, (B, 4, S, S), and where that is known."""
        target = torch.cat([asked, self.shares, self.both], dim=1)
        valid = self.known.expand_as(target).clone()
        valid[:, 1:3] *= self.sides_known[:, None, None, None]
        return target, valid


def answers(
    net: CompactNet, lesson: Lesson, sampler: PromptSampler, config: TrainingConfig
) -> Iterator[tuple[Answer, Tensor]]:
    """Answers without a prompt, then mostly to prompts, then corrected some times: each with the asked target."""
    features = net.image_encoder(lesson.image)
    asked = lesson.both
    answer = net.decode(features)
    yield answer, asked
    prompts = BatchPrompts([[] for _ in lesson.shares])
    certain = lesson.known > 0.5
    if sampler.rng.uniform() < config.asked:
        asked, wanted = sampler.targets(lesson.shares, lesson.sides_known)
        prompts = sampler.prompts(lesson.shares, wanted)
        answer = _decode(net, features, prompts)
        yield answer, asked
    for correction in range(MOST_CORRECTIONS):
        if sampler.rng.uniform() >= config.corrected:
            break
        if correction == 0:
            asked = sampler.other_outlines(asked)
        prompts = sampler.corrected(prompts, answer[0][:, :1].detach(), asked, certain)
        answer = _decode(net, features, prompts)
        yield answer, asked


def _decode(net: CompactNet, features: tuple[Tensor, ...], prompts: BatchPrompts) -> Answer:
    device = features[0].device
    points = prompts.point_tensors()
    return net.decode(
        features,
        points and tuple(part.to(device) for part in points),
        None if prompts.boxes is None else prompts.boxes.to(device),
        prompts.masks,
    )


def answer_loss(answer: Answer, asked: Tensor, lesson: Lesson) -> Tensor:
    """Loss of one answer: of what was asked, of the sides and both, and of the predicted IoU."""
    logits, target, valid = _at_full_size(answer, asked, lesson)
    asked_loss = segmentation_loss(logits[:, :1], target[:, :1], valid[:, :1])
    anatomy_loss = segmentation_loss(logits[:, 1:], target[:, 1:], valid[:, 1:])
    return asked_loss + ANATOMY_WEIGHT * anatomy_loss + IOU_WEIGHT * iou_loss(logits, target, valid, answer[1].float())


def answer_iou_loss(answer: Answer, asked: Tensor, lesson: Lesson) -> Tensor:
    """The part of `answer_loss` that is about the predicted IoU."""
    return iou_loss(*_at_full_size(answer, asked, lesson), answer[1].float())


def _at_full_size(answer: Answer, asked: Tensor, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, target and validity (B, 4, S, S) of an answer."""
    target, valid = lesson.targets(asked)
    size_hw = target.shape[-2:]
    return F.interpolate(answer[0].float(), size_hw, mode="bilinear", align_corners=False), target, valid


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
        answer, truth = (logits > 0) * valid, (target > 0.5) * valid
        union = torch.maximum(answer, truth).sum((2, 3))
        true_iou = torch.where(union > 0, (answer * truth).sum((2, 3)) / union.clamp(min=1), 1.0)
        is_known = valid.amax((2, 3))
    return ((predicted_iou - true_iou) ** 2 * is_known).mean()


def as_tensor(value: Tensor) -> Tensor:
    """A plain tensor of MONAI's MetaTensor, whose bookkeeping slows every operation."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value

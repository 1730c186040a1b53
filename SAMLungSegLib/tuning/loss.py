"""The loss of decoder tuning, on 256 x 256 logits."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from monai.losses import DiceFocalLoss
from torch import Tensor

from SAMLungSegLib.training.objective import iou_loss
from SAMLungSegLib.tuning.examples import GRID

LossKind = Literal["correct", "paper"]
LOSS_KINDS: tuple[LossKind, ...] = ("correct", "paper")
ANATOMY_SHARE, IOU_SHARE = 0.5, 0.2  # as when lung-compact was trained


class TuningLoss:
    """MONAI's `DiceFocalLoss` of the prompted token, and of the others where a decoder has tokens of fixed meaning.

    lung-compact's decoder tells right from left by such tokens, and its predicted IoU is shown to users. Both come from
    the same answer and would drift if only the prompted token was trained.

    'correct' puts Dice on probabilities. 'paper' is MONAI's default, which puts it on raw logits: those of the paper's
    threshold tables look like it.
    """

    def __init__(self, kind: LossKind) -> None:
        self._overlap = DiceFocalLoss(sigmoid=kind == "correct")

    def __call__(self, answer: tuple[Tensor, Tensor], targets: Tensor, sides_known: Tensor) -> Tensor:
        """Mean over a batch.

        Args:
            answer: logits (B, T, h, w), of which T is 1, or 4 as in lung-compact, and predicted IoU (B, T).
            targets: float (B, 2, 256, 256), right and left lung.
            sides_known: bool (B,).
        """
        logits, predicted_iou = on_grid(answer[0]), answer[1]
        both = targets.amax(1, keepdim=True)
        loss = self._overlap(logits[:, :1], both)
        if logits.shape[1] == 1:
            return loss
        loss = loss + ANATOMY_SHARE * self._anatomy(logits[:, 1:], torch.cat([targets, both], 1), sides_known)
        wanted = torch.cat([both, targets, both], 1)
        valid = torch.ones_like(wanted)
        valid[:, 1:3] *= sides_known[:, None, None, None].to(valid)
        return loss + IOU_SHARE * iou_loss(logits, wanted, valid, predicted_iou)

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

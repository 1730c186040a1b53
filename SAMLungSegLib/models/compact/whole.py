"""The branch of lung-compact for whole lungs on X-rays: what heart and diaphragm hide, added to the visible fields."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.models.compact.layers import ConvNorm, MixBlock, corrected_iou, doubled

WIDTH = 64
CERTAIN = 8.0  # logits beyond say no more


class WholeBranch(nn.Module):
    """A top-down path of its own over the encoder's deep maps, which sees the visible lungs.

    The encoder and the visible lungs stay as they are: the branch learns on the finished network.

    Args:
        widths: channels of the encoder's three deepest stages, at S/8, S/16 and S/32.
        quarter, half: channels of its skips at S/4 and S/2.
    """

    def __init__(self, widths: tuple[int, int, int], quarter: int, half: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(ConvNorm(width, WIDTH, 1) for width in widths)
        self.visible_deep = ConvNorm(3, WIDTH, 3)
        self.neck = nn.Sequential(MixBlock(WIDTH), MixBlock(WIDTH), ConvNorm(WIDTH, WIDTH, 1))
        self.up_quarter, self.skip_quarter = ConvNorm(WIDTH, quarter, 1), ConvNorm(quarter, quarter, 1)
        self.mix_quarter = MixBlock(quarter)
        self.up_half, self.skip_half = ConvNorm(quarter, half, 1), ConvNorm(half, half, 1)
        self.visible_half = ConvNorm(3, half, 3)
        self.mix_half = MixBlock(half)
        self.head = nn.Conv2d(half, 3, 1)
        self.iou_head = nn.Linear(WIDTH, 3)

    def forward(self, features: tuple[Tensor, ...], visible: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 4, S/2, S/2) of whole lungs and their predicted IoU (B, 4), in the order of the mask tokens.

        What is visible is within: the logits are nowhere below those of `visible`. What was prompted becomes the whole
        of each lung most of whose visible part was prompted.

        Args:
            features: of the encoder.
            visible: logits (B, 4, S/2, S/2) of what was prompted, the visible right lung, left lung and both.
        """
        found, deep = self.found(features, visible[:, 1:])
        whole = torch.maximum(found, visible[:, 1:])
        prompted, sides = visible[:, :1], visible[:, 1:3] > 0
        hit = (sides & (prompted > 0)).float().sum((2, 3)) > 0.5 * sides.float().sum((2, 3))
        lungs = torch.where(hit[..., None, None], whole[:, :2], prompted)
        prompted = torch.maximum(prompted, lungs.amax(1, keepdim=True))
        iou = self.iou(whole, deep)
        return torch.cat([prompted, whole], 1), torch.cat([iou[:, 2:], iou], 1)

    def iou(self, logits: Tensor, deep: Tensor) -> Tensor:
        """Predicted IoU (B, 3) of logits, given the deep map."""
        return corrected_iou(logits, self.iou_head(deep.mean((2, 3))))

    def found(self, features: tuple[Tensor, ...], visible: Tensor) -> tuple[Tensor, Tensor]:
        """The branch's own logits, and its deep map (B, 64, S/8, S/8)."""
        _, quarter, half, *deep = features
        sure = visible.clamp(-CERTAIN, CERTAIN) / CERTAIN * 2
        eighth, sixteenth, last = (lateral(one) for lateral, one in zip(self.laterals, deep, strict=True))
        top = eighth + doubled(sixteenth + doubled(last)) + self.visible_deep(F.avg_pool2d(sure, 4))
        top = F.relu(self.neck(top))
        x = self.mix_quarter(F.relu(doubled(self.up_quarter(top)) + self.skip_quarter(quarter)))
        x = doubled(self.up_half(x)) + self.skip_half(half) + self.visible_half(sure)
        return self.head(self.mix_half(F.relu(x))), top

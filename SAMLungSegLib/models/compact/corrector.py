"""The corrector of lung-compact: a mask and clicks in, the mask that the clicks mean out.

Clicks are drawn into maps beside the mask, so that they say what is wanted where they lie, to the pixel. It learns on
the finished network; nothing that is predicted without clicks depends on it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.models.compact.layers import ConvNorm, MixBlock, corrected_iou, doubled

WIDTHS = (16, 32, 64, 96, 128)  # at S/2, S/4, ... S/32
CERTAIN = 8.0  # logits beyond say no more
POINT_PX, REACH_PX = 1.5, 8.0  # standard deviations of a click's two spots, on the decoder's grid


class Corrector(nn.Module):
    """A small U-Net over the mask and the clicks, which sees the encoder's embedding and skips.

    Args:
        embedding, quarter, half: channels of the encoder's features at S/8, S/4 and S/2.
    """

    def __init__(self, embedding: int, quarter: int, half: int) -> None:
        super().__init__()
        a, b, c, d, e = WIDTHS
        self.stem = ConvNorm(5, a, 3)
        self.down_quarter = nn.Sequential(ConvNorm(a, b, 3, 2), nn.ReLU(inplace=True), MixBlock(b))
        self.down_eighth, self.see_eighth = ConvNorm(b, c, 3, 2), ConvNorm(embedding, c, 1)
        self.mix_eighth = nn.Sequential(MixBlock(c), MixBlock(c))
        self.down_16th = nn.Sequential(ConvNorm(c, d, 3, 2), nn.ReLU(inplace=True), MixBlock(d), MixBlock(d))
        self.down_32nd = nn.Sequential(ConvNorm(d, e, 3, 2), nn.ReLU(inplace=True), MixBlock(e), MixBlock(e))
        self.up_16th, self.join_16th = ConvNorm(e, d, 1), MixBlock(d)
        self.up_eighth, self.join_eighth = ConvNorm(d, c, 1), MixBlock(c)
        self.up_quarter, self.see_quarter, self.join_quarter = ConvNorm(c, b, 1), ConvNorm(quarter, b, 1), MixBlock(b)
        self.up_half, self.see_half, self.join_half = ConvNorm(b, a, 1), ConvNorm(half, a, 1), MixBlock(a)
        self.head = nn.Conv2d(a, 1, 1)
        self.iou_head = nn.Linear(e, 1)
        for start in (self.head, self.iou_head):  # at first the mask itself
            nn.init.zeros_(start.weight)
            nn.init.zeros_(start.bias)

    def forward(
        self, features: tuple[Tensor, ...], mask: Tensor, points_xy: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, 1, S/2, S/2) and their predicted IoU (B, 1).

        Args:
            features: of the encoder.
            mask: logits (B, 1, S/2, S/2) to be corrected.
            points_xy: (B, N, 2) in pixels of the mask; labels: (B, N), 1, 0 or -1 for none. N may be 0.
        """
        embedding, quarter, half, *_ = features
        given = mask.clamp(-CERTAIN, CERTAIN)
        fine = F.relu(self.stem(torch.cat([given / CERTAIN * 2, spots(mask, points_xy, labels)], 1)))
        at_quarter = self.down_quarter(fine)
        at_eighth = self.mix_eighth(F.relu(self.down_eighth(at_quarter) + self.see_eighth(embedding)))
        at_16th = self.down_16th(at_eighth)
        deepest = self.down_32nd(at_16th)
        x = self.join_16th(F.relu(doubled(self.up_16th(deepest)) + at_16th))
        x = self.join_eighth(F.relu(doubled(self.up_eighth(x)) + at_eighth))
        x = self.join_quarter(F.relu(doubled(self.up_quarter(x)) + at_quarter + self.see_quarter(quarter)))
        x = self.join_half(F.relu(doubled(self.up_half(x)) + fine + self.see_half(half)))
        logits = given + self.head(x)
        return logits, corrected_iou(logits, self.iou_head(deepest.mean((2, 3))))


def spots(mask: Tensor, points_xy: Tensor, labels: Tensor) -> Tensor:
    """Clicks as maps (B, 4, H, W): positive and negative ones as narrow spots, then the same as wide ones."""
    height, width = mask.shape[-2:]
    rows = torch.arange(height, device=mask.device, dtype=mask.dtype)[:, None]
    columns = torch.arange(width, device=mask.device, dtype=mask.dtype)
    x, y = points_xy[..., 0, None, None], points_xy[..., 1, None, None]
    squared = (columns - x) ** 2 + (rows - y) ** 2  # (B, N, H, W)
    beyond = torch.full_like(mask, 4.0 * (height + width) ** 2)  # so that there is a nearest one where there is none
    maps = []
    for label in (1, 0):
        away = (labels != label)[..., None, None].to(mask.dtype) * beyond
        maps.append(torch.cat([squared + away, beyond], 1).amin(1, keepdim=True))
    nearest = torch.cat(maps, 1)
    return torch.cat([torch.exp(-nearest / (2 * sd**2)) for sd in (POINT_PX, REACH_PX)], 1)

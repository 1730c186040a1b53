"""What lung-compact's parts are built of."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

IOU_SMOOTHING_PX = 16.0


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalisation: one convolution where the statistics are fixed."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self
        if norm.training:
            return super().forward(x)
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=conv.groups)


class MixBlock(nn.Module):
    """Residual 5x5 depthwise mixing in space, then mixing of channels at `expansion` times the width."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        self.space = ConvNorm(width, width, 5, groups=width)
        self.expand = ConvNorm(width, width * expansion, 1)
        self.project = ConvNorm(width * expansion, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(F.relu(self.expand(self.space(x)), inplace=True)).add_(x)


def doubled(x: Tensor) -> Tensor:
    """Maps (B, C, H, W) at twice the size, bilinear."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def fused(encoder: nn.Module) -> nn.Module:
    """A copy for inference in which each `ConvNorm` is a convolution, so that none is folded anew for every slice."""
    faster = copy.deepcopy(encoder)
    for parent in list(faster.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ConvNorm):
                setattr(parent, name, fuse_conv_bn_eval(*child))
    return faster


def expected_iou(logits: Tensor) -> Tensor:
    """Intersection over union to be expected if each pixel is as likely lung as its probability says.

    Args:
        logits: (B, C, H, W).
    Returns:
        (B, C), of the mask `logits > 0`: near 1 where every pixel is certain, or where no pixel may be lung.
    """
    inside, probability = logits > 0, logits.float().sigmoid()
    hit = (probability * inside).sum((2, 3))
    union = inside.sum((2, 3)) + (probability * ~inside).sum((2, 3))
    return (hit + IOU_SMOOTHING_PX) / (union + IOU_SMOOTHING_PX)


def corrected_iou(logits: Tensor, correction: Tensor) -> Tensor:
    """The expected IoU (B, C) of logits (B, C, H, W), corrected by what a head has learned, (B, C) or (B, 1)."""
    return torch.sigmoid(torch.logit(expected_iou(logits.detach()), eps=1e-3) + correction)

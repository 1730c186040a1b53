"""Small image encoders of SAM's own class, every weight random, and how far two of their outputs are apart."""

from __future__ import annotations

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

TOLERANCE = 3e-6
WINDOW = 14
GRIDS = {
    "two rows of padded windows": 20,
    "padded by one token": 27,
    "one token in the last window": 15,
    "no padding": 28,
    "smaller than a window": 6,
}


def vit(grid: int, *, width: int = 48, depth: int = 4, heads: int = 3, global_blocks=(1, 3)) -> ImageEncoderViT:
    """SAM's own class, every weight random, so that positions, padding and biases all matter."""
    torch.manual_seed(grid)
    encoder = ImageEncoderViT(
        img_size=16 * grid, embed_dim=width, depth=depth, num_heads=heads, out_chans=32, use_rel_pos=True,
        window_size=WINDOW, global_attn_indexes=global_blocks,
    )  # fmt: skip
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=3 * width**-0.5 if parameter.ndim == 2 else 0.5)
    return encoder.eval()


def frames(grid: int, number: int = 1) -> Tensor:
    return torch.randn(number, 3, 16 * grid, 16 * grid, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def stock(encoder: ImageEncoderViT, images: Tensor) -> Tensor:
    return encoder(images)


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got.float().cpu() - expected).abs().max() / expected.abs().max())

"""A small SAM of random weights, and how far two of its arrays are apart."""

from __future__ import annotations

import numpy as np
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

FRAME, WIDTH = 256, 32


def tiny_sam() -> Sam:
    """SAM's own classes with random weights: frame 256, embedding 32 x 16 x 16, logits 64 x 64."""
    torch.manual_seed(0)
    grid = FRAME // 16
    encoder = ImageEncoderViT(
        img_size=FRAME, embed_dim=WIDTH, depth=2, num_heads=2, out_chans=WIDTH, use_rel_pos=True, window_size=7,
        global_attn_indexes=(1,),
    )  # fmt: skip
    prompts = PromptEncoder(
        embed_dim=WIDTH, image_embedding_size=(grid, grid), input_image_size=(FRAME, FRAME), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=64, num_heads=8)
    decoder = MaskDecoder(transformer_dim=WIDTH, transformer=transformer, iou_head_hidden_dim=WIDTH)
    return with_random_positions(Sam(encoder, prompts, decoder))


def with_random_positions(sam: Sam) -> Sam:
    """A new network has zeros there, which would hide a wrong bias."""
    for name, parameter in sam.image_encoder.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return sam


def grey(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, size_hw).astype(np.uint8)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())

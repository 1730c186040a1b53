"""SAM's networks by the name of their architecture: the three that were published, and a small one of the same parts.

All have `segment_anything`'s own classes: an image encoder in patches of 16 pixels with attention in windows and, in
some blocks, over the whole grid; its prompt encoder; its mask decoder.
"""

from __future__ import annotations

from functools import partial

from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

from SAMLungSegLib.errors import ModelError

PATCH_SIZE = 16
CELLS_PER_PATCH = 4  # of the decoder's logits along one axis
TINY_SIZE, TINY_WIDTH, TINY_HEADS, TINY_DEPTH = 256, 192, 3, 12  # ViT-Ti, Touvron et al. 2021, arXiv:2012.12877
TINY_CHANNELS, TINY_MLP = 128, 512  # of prompt encoder and mask decoder, half and a quarter of SAM's
# SAM's windows of 14 would leave a grid of 16 x 16 patches with more padding than patches; 8 divides it
TINY_WINDOW = 8


def vit_tiny() -> Sam:
    """A SAM of 6.5 million parameters for frames of 256 x 256: embedding 128 x 16 x 16, logits 64 x 64.

    As in SAM the last of every quarter of the blocks looks at the whole grid.
    """
    grid = TINY_SIZE // PATCH_SIZE
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=TINY_SIZE,
            patch_size=PATCH_SIZE,
            embed_dim=TINY_WIDTH,
            depth=TINY_DEPTH,
            num_heads=TINY_HEADS,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=TINY_WINDOW,
            global_attn_indexes=tuple(range(TINY_DEPTH // 4 - 1, TINY_DEPTH, TINY_DEPTH // 4)),
            out_chans=TINY_CHANNELS,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=TINY_CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(TINY_SIZE, TINY_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=TINY_CHANNELS,
            transformer=TwoWayTransformer(depth=2, embedding_dim=TINY_CHANNELS, num_heads=8, mlp_dim=TINY_MLP),
            iou_head_hidden_dim=TINY_CHANNELS,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )


PUBLISHED = ("vit_b", "vit_l", "vit_h")
ARCHITECTURES = (*PUBLISHED, "vit_tiny")


def sam_network(architecture: str) -> Sam:
    """A network with random weights.

    Raises:
        ModelError: there is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ModelError(f"There is no architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}.")
    return sam_model_registry[architecture](checkpoint=None) if architecture in PUBLISHED else vit_tiny()

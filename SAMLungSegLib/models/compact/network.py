"""lung-compact's network: SAM's own prompt encoder and mask decoder around a convolutional pyramid encoder.

High-resolution skips of the encoder join the decoder's upscaling, so the masks come out at half the input resolution
instead of a quarter. How large slices are drawn for the network, its frame, is kept with its weights.
The four mask tokens have fixed meanings: what was prompted (both lungs if nothing was), right lung, left lung, both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from SAMLungSegLib.models.compact.corrector import Corrector
from SAMLungSegLib.models.compact.layers import ConvNorm, MixBlock, corrected_iou, doubled
from SAMLungSegLib.models.compact.whole import WholeBranch

INPUT_SIZE = 320  # of networks trained from now on
PROMPT_WIDTH = 128
STAGE_WIDTHS = (24, 48, 80, 144, 224)
STAGE_DEPTHS = (1, 2, 3, 4, 3)
HEADS = 8


class PyramidEncoder(nn.Module):
    """Five strided stages and a top-down sum.

    Input (B, 1, S, S) in [-1, 1], S a multiple of 32; output the embedding (B, 128, S/8, S/8), the skips
    (B, 32, S/4, S/4) and (B, 16, S/2, S/2), and the three deepest stages, (B, 80, S/8, S/8), (B, 144, S/16, S/16) and
    (B, 224, S/32, S/32).
    """

    def __init__(self) -> None:
        super().__init__()
        stages, inputs = [], 1
        for width, depth in zip(STAGE_WIDTHS, STAGE_DEPTHS, strict=True):
            blocks = [MixBlock(width) for _ in range(depth)]
            stages.append(nn.Sequential(ConvNorm(inputs, width, 3, stride=2), nn.ReLU(inplace=True), *blocks))
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(ConvNorm(width, PROMPT_WIDTH, 1) for width in STAGE_WIDTHS[2:])
        self.neck = nn.Sequential(MixBlock(PROMPT_WIDTH), ConvNorm(PROMPT_WIDTH, PROMPT_WIDTH, 1))
        self.skip_quarter = ConvNorm(STAGE_WIDTHS[1], PROMPT_WIDTH // 4, 1)
        self.skip_half = ConvNorm(STAGE_WIDTHS[0], PROMPT_WIDTH // 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        half, quarter, *deep = maps
        laterals = [lateral(level) for lateral, level in zip(self.laterals, deep, strict=True)]
        top = laterals[-1]
        for lateral in reversed(laterals[:-1]):
            top = lateral + doubled(top)
        return self.neck(top), self.skip_quarter(quarter), self.skip_half(half), *deep


class FusedAttention(Attention):
    """SAM's attention by torch's fused kernel."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        projected = (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        heads = (self._separate_heads(tokens, self.num_heads) for tokens in projected)
        return self.out_proj(self._recombine_heads(F.scaled_dot_product_attention(*heads)))


class FusedTransformer(TwoWayTransformer):
    """SAM's transformer of mask tokens and image, with the fused kernel."""

    def __init__(self, width: int) -> None:
        super().__init__(depth=2, embedding_dim=width, num_heads=HEADS, mlp_dim=4 * width)
        for block in self.layers:
            block.self_attn = FusedAttention(width, HEADS)
            block.cross_attn_token_to_image = FusedAttention(width, HEADS, downsample_rate=2)
            block.cross_attn_image_to_token = FusedAttention(width, HEADS, downsample_rate=2)
        self.final_attn_token_to_image = FusedAttention(width, HEADS, downsample_rate=2)


class SkipMaskDecoder(MaskDecoder):
    """SAM's mask decoder whose upscaling takes two skips from the encoder and mixes in space after each."""

    def __init__(self, width: int) -> None:
        super().__init__(
            transformer_dim=width,
            transformer=FusedTransformer(width),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=width,
        )
        self.mix_quarter = MixBlock(width // 4)
        self.mix_half = MixBlock(width // 8)

    def predict_all(
        self, embedding: Tensor, skips: tuple[Tensor, Tensor], position: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, 4, S/2, S/2) and predicted IoU (B, 4) of all mask tokens.

        The predicted IoU is the expected one of the mask's probabilities, corrected by SAM's head for it.

        Args:
            embedding: (B, C, S/8, S/8); skips: (B, C/4, S/4, S/4) and (B, C/8, S/2, S/2).
            position: (1, C, S/8, S/8) positional encoding of the grid.
            sparse: (B, N, C) point and box tokens; dense: (B, C, S/8, S/8) mask prompt.
        """
        batch = embedding.shape[0]
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(batch, -1, -1), sparse], dim=1)
        tokens, image = self.transformer(embedding + dense, position.expand(batch, -1, -1, -1), tokens)
        image = image.transpose(1, 2).reshape(embedding.shape)

        up_quarter, norm, activation, up_half, last_activation = self.output_upscaling
        quarter = self.mix_quarter(activation(norm(up_quarter(image) + skips[0])))
        half = self.mix_half(last_activation(up_half(quarter) + skips[1]))

        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        weights = torch.stack([mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        logits = (weights @ half.flatten(2)).unflatten(2, half.shape[2:])
        return logits, corrected_iou(logits, self.iou_prediction_head(tokens[:, 0]))


class CompactNet(nn.Module):
    """The network: `image_encoder`, `prompt_encoder`, `mask_decoder`, as in SAM; any frame that 32 divides.

    `whole_branch` and `corrector` learn on these when they are finished; None of weights that have none.

    `input_size`, the side of the frame that it learned from, is one of its weights.
    """

    input_size: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("input_size", torch.tensor(INPUT_SIZE))
        self.image_encoder = PyramidEncoder()
        self.prompt_encoder = PromptEncoder(
            embed_dim=PROMPT_WIDTH,
            image_embedding_size=(INPUT_SIZE // 8, INPUT_SIZE // 8),
            input_image_size=(INPUT_SIZE, INPUT_SIZE),
            mask_in_chans=16,
        )
        self.mask_decoder = SkipMaskDecoder(PROMPT_WIDTH)
        skips = PROMPT_WIDTH // 4, PROMPT_WIDTH // 8
        self.whole_branch: WholeBranch | None = WholeBranch(STAGE_WIDTHS[2:], *skips)
        self.corrector: Corrector | None = Corrector(PROMPT_WIDTH, *skips)

    def decode(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, 4, S/2, S/2) and IoU (B, 4) for one prompt set per image of the batch.

        Args:
            features: what `image_encoder` returned.
            points: XY (B, N, 2) in pixels of the frame and labels (B, N), 1, 0 or -1 for padding.
            boxes: (B, 4) XYXY in pixels of the frame.
            masks: (B, 1, S/2, S/2) logits.
        """
        embedding, *skips = features[:3]
        grid = embedding.shape[-1]
        self.prompt_encoder.image_embedding_size = (grid, grid)
        self.prompt_encoder.input_image_size = (8 * grid, 8 * grid)
        sparse, dense = self.prompt_encoder(points, boxes, masks)
        sparse = sparse.expand(embedding.shape[0], -1, -1)
        dense = dense.expand(embedding.shape[0], -1, -1, -1)
        position = self.prompt_encoder.get_dense_pe()
        return self.mask_decoder.predict_all(embedding, tuple(skips), position, sparse, dense)

    def whole(self, features: tuple[Tensor, ...], visible: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, 4, S/2, S/2) and IoU (B, 4) of whole lungs, see `WholeBranch`."""
        return self.whole_branch(features, visible)

"""SAM's image encoder computed faster: the numbers of segment_anything's own module, from its own weights.

What is saved: the score matrices (see `sam_attention`), all work on the padding of windows, and memory, which is
most of what element-wise layers cost on a processor. Weights are read at every call, so that a module that is trained,
loaded or patched in between is used as it is then.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.common import LayerNorm2d, MLPBlock
from segment_anything.modeling.image_encoder import Attention, Block
from torch import Tensor, nn

from SAMLungSegLib.models.sam.attention import Tiles, attend, relative_offsets

TOKENS_AT_ONCE = 1024  # a processor's matrix product is at full speed, and the hidden layer of so many stays small
Span = tuple[int, int, int]


class FastEncoder:
    """Runs a stock `ImageEncoderViT` without gradients, at any input size.

    At another size than the network's own, the position embedding and the tables of relative positions of the global
    blocks are interpolated.
    """

    def __init__(self, module: ImageEncoderViT) -> None:
        """Wrap `module`, which stays the owner of the weights and decides about device and precision."""
        self.module = module

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        """Encode frames (B, 3, S, S) with S a multiple of the patch size, 16.

        Returns:
            (B, 256, S / 16, S / 16), in the module's precision.
        """
        projection = self.module.patch_embed.proj
        x = projection(frames.to(projection.weight)).permute(0, 2, 3, 1)
        x = (x + self._position(*x.shape[1:3])).contiguous()
        for block in self.module.blocks:
            run_block(block, x)
        return self._neck(x.to(projection.weight))

    def _position(self, rows: int, columns: int) -> Tensor:
        """Position embedding (1, rows, columns, C) in float32."""
        position = self.module.pos_embed.float()
        if position.shape[1:3] == (rows, columns):
            return position
        smaller = F.interpolate(
            position.permute(0, 3, 1, 2), (rows, columns), mode="bicubic", antialias=True, align_corners=False
        )
        return smaller.permute(0, 2, 3, 1)

    def _neck(self, x: Tensor) -> Tensor:
        """`neck` on channels-last: its norms over channels are layer norms there."""
        narrow, first_norm, mix, last_norm = self.module.neck
        x = narrow(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = normalised(first_norm, x).permute(0, 3, 1, 2)
        x = normalised(last_norm, mix(x).permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2).contiguous()


def normalised(norm: nn.LayerNorm | LayerNorm2d, x: Tensor) -> Tensor:
    """`norm` over the last axis of x, in the precision of x."""
    return F.layer_norm(x, norm.weight.shape, norm.weight.to(x), norm.bias.to(x), norm.eps)


def run_block(block: Block, x: Tensor) -> None:
    """One transformer block on the residual stream x (B, H, W, C), changed in place.

    The stream stays in float32 where the layers are in half precision, which takes a third off their error.
    """
    precision = block.norm1.weight.dtype
    x += block.attn.proj(mix_tokens(block.attn, normalised(block.norm1, x).to(precision), block.window_size))
    tokens = x.view(-1, x.shape[-1])
    for some in tokens.split(TOKENS_AT_ONCE) if x.device.type == "cpu" else [tokens]:
        some += run_mlp(block.mlp, normalised(block.norm2, some).to(precision))


def run_mlp(mlp: MLPBlock, x: Tensor) -> Tensor:
    """The two linear layers of a block, (N, C) to (N, C)."""
    hidden = mlp.lin1(x)
    hidden = torch.ops.aten.gelu_(hidden) if isinstance(mlp.act, nn.GELU) else mlp.act(hidden)
    return mlp.lin2(hidden)


def mix_tokens(attention: Attention, x: Tensor, window: int) -> Tensor:
    """The attention of a block up to its projection, within windows, or over the whole grid if `window` is 0.

    Args:
        x: normalised tokens (B, H, W, C).
    Returns:
        (B, H, W, C).
    """
    rows, columns = x.shape[1:3]
    size_y, size_x = (window, window) if window else (rows, columns)
    offsets_y = relative_offsets(attention.rel_pos_h, size_y)
    offsets_x = relative_offsets(attention.rel_pos_w, size_x)
    mixed = torch.empty_like(x)
    for (top, bottom, height), (left, right, width) in product(_spans(rows, size_y), _spans(columns, size_x)):
        part = x[:, top:bottom, left:right]
        tiles = part.unflatten(1, (-1, height)).unflatten(3, (-1, width)).transpose(2, 3)
        query, key, value = queries_keys_values(attention, tiles.flatten(0, 2), (size_y, size_x))
        done = attend(Tiles(query, key, value, offsets_y[:height], offsets_x[:width]))
        mixed[:, top:bottom, left:right] = done.reshape(tiles.shape).transpose(2, 3).reshape(part.shape)
    return mixed


def queries_keys_values(attention: Attention, tokens: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, ...]:
    """Queries of tokens (T, h, w, C), and keys and values of the windows of size H x W whose top left they are.

    The stock module pads windows at the right and bottom edge of the grid with zeros. Their queries are thrown away,
    so they are not computed; their keys and values take part, but they are the same for each padded place.

    Returns:
        Queries (T, h, w, heads, C / heads), keys and values (T, H, W, heads, C / heads).
    """
    query, key, value = _projected(attention, tokens)
    if query.shape[1:3] != size_hw:
        _, pad_key, pad_value = _projected(attention, tokens.new_zeros(1, 1, 1, tokens.shape[-1]))
        key, value = _padded(key, pad_key, size_hw), _padded(value, pad_value, size_hw)
    return query, key, value


def _projected(attention: Attention, tokens: Tensor) -> tuple[Tensor, ...]:
    qkv = attention.qkv(tokens.reshape(-1, tokens.shape[-1]))  # two axes: bias and product are one call then
    return qkv.view(*tokens.shape[:-1], 3, attention.num_heads, -1).unbind(-3)


def _padded(real: Tensor, pad: Tensor, size_hw: tuple[int, int]) -> Tensor:
    padded = pad.expand(len(real), *size_hw, -1, -1).clone(memory_format=torch.contiguous_format)
    padded[:, : real.shape[1], : real.shape[2]] = real
    return padded


def _spans(length: int, window: int) -> Iterator[Span]:
    """Start, stop and window length of the part that whole windows cover, then of the rest."""
    whole = length - length % window
    if whole:
        yield 0, whole, window
    if whole < length:
        yield whole, length, length - whole

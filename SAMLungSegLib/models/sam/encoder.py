"""SAM's image encoder computed faster: the numbers of segment_anything's own module, from its own weights.

What is saved: the score matrices (see `attention`), all work on the padding of windows, and memory, which is most of
what element-wise layers cost on a processor. Weights are read at every call, so that a module that is trained, loaded
or patched in between is used as it is then.

Adapters are called at the points of `adapters.base`, here and, with gradients, in `AdaptableEncoder`; both go through
`mix_tokens`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.common import LayerNorm2d, MLPBlock
from segment_anything.modeling.image_encoder import Attention, Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from SAMLungSegLib.adapters.base import NO_ADAPTER, AdapterHost, BlockAdapter
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.sam.attention import Tiles, attend, relative_offsets
from SAMLungSegLib.models.sam.stock import is_plain, unlike_stock

TOKENS_AT_ONCE = 1024  # a processor's matrix product is at full speed, and the hidden layer of so many stays small
Span = tuple[int, int, int]


class AdaptableEncoder(AdapterHost, ImageEncoderViT):
    """A stock `ImageEncoderViT` whose blocks call adapters, with gradients, at any input size.

    Blocks without an adapter are run by their own forward, so that without adapters the numbers are exactly the stock
    module's. The names of weights are those of the stock module too, and 'adapters.<block>.' for what is added.

    Attributes:
        is_recomputing: whether what a block computes on the way to its output is computed again for its gradients
            instead of kept: less memory, and a third more time (activation checkpointing).
    """

    def __init__(self, stock: ImageEncoderViT) -> None:
        """Take over the parts of `stock`."""
        nn.Module.__init__(self)
        self.img_size = stock.img_size
        self.patch_embed, self.pos_embed, self.blocks, self.neck = (
            stock.patch_embed, stock.pos_embed, stock.blocks, stock.neck,
        )  # fmt: skip
        self.adapters, self.adapter = nn.ModuleDict(), None
        self.is_recomputing = False
        self.train(stock.training)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames (B, 3, S, S) with S a multiple of the patch size, 16.

        Returns:
            (B, 256, S / 16, S / 16).
        Raises:
            ModelError: there are adapters, and their blocks are no longer segment_anything's.
        """
        reason = unlike_stock(self, AdaptableEncoder) if self.adapters else None
        if reason is not None:
            raise ModelError(f"The encoder cannot be adapted, for {reason}; use segment_anything's own.")
        x = self.patch_embed(frames)
        x = x + position_embedding(self, *x.shape[1:3]).to(x)
        for number, block in enumerate(self.blocks):
            adapter = self.adapter_of(number)
            one = block if adapter is NO_ADAPTER else partial(adapted_block, block, adapter=adapter)
            x = checkpoint(one, x, use_reentrant=False) if self.is_recomputing else one(x)
        return self.neck(x.permute(0, 3, 1, 2))


def adapted_block(block: Block, x: Tensor, adapter: BlockAdapter) -> Tensor:
    """One transformer block with its adapter on x (B, H, W, C), with gradients."""
    tokens = block.norm1(x)
    attended = block.attn.proj(mix_tokens(block.attn, tokens, block.window_size, adapter))
    x = x + adapter.on_attention(tokens, attended, block.attn)
    tokens = block.norm2(x)
    return x + adapter.on_mlp(tokens, block.mlp(tokens))


class FastEncoder:
    """Runs a stock `ImageEncoderViT`, or an `AdaptableEncoder`, without gradients, at any input size.

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
        Raises:
            ModelError: the module does something else than what is computed here.
        """
        reason = why_not_fast(self.module)
        if reason is not None:
            raise ModelError(f"The fast encoder would not give this encoder's numbers, for {reason}; call it itself.")
        projection = self.module.patch_embed.proj
        x = projection(frames.to(projection.weight)).permute(0, 2, 3, 1)
        x = (x + position_embedding(self.module, *x.shape[1:3])).contiguous()
        for number, block in enumerate(self.module.blocks):
            run_block(block, x, _adapter_of(self.module, number))
        return self._neck(x.to(projection.weight))

    def _neck(self, x: Tensor) -> Tensor:
        """`neck` on channels-last: its norms over channels are layer norms there."""
        narrow, first_norm, mix, last_norm = self.module.neck
        x = narrow(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = normalised(first_norm, x).permute(0, 3, 1, 2)
        x = normalised(last_norm, mix(x).permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2).contiguous()


def why_not_fast(module: nn.Module) -> str | None:
    """What `FastEncoder` would miss of a module, in words; None if it gives its numbers."""
    return unlike_stock(module, AdaptableEncoder if isinstance(module, AdaptableEncoder) else ImageEncoderViT)


def _adapter_of(module: ImageEncoderViT, number: int) -> BlockAdapter:
    return module.adapter_of(number) if isinstance(module, AdapterHost) else NO_ADAPTER


def position_embedding(module: ImageEncoderViT, rows: int, columns: int) -> Tensor:
    """Position embedding (1, rows, columns, C) in float32."""
    position = module.pos_embed.float()
    if position.shape[1:3] == (rows, columns):
        return position
    smaller = F.interpolate(
        position.permute(0, 3, 1, 2), (rows, columns), mode="bicubic", antialias=True, align_corners=False
    )
    return smaller.permute(0, 2, 3, 1)


def normalised(norm: nn.LayerNorm | LayerNorm2d, x: Tensor) -> Tensor:
    """`norm` over the last axis of x, in the precision of x."""
    return F.layer_norm(x, norm.weight.shape, norm.weight.to(x), norm.bias.to(x), norm.eps)


def run_block(block: Block, x: Tensor, adapter: BlockAdapter = NO_ADAPTER) -> None:
    """One transformer block on the residual stream x (B, H, W, C), changed in place.

    The stream stays in float32 where the layers are in half precision, which takes a third off their error.
    """
    precision = block.norm1.weight.dtype
    tokens = normalised(block.norm1, x).to(precision)
    attended = block.attn.proj(mix_tokens(block.attn, tokens, block.window_size, adapter))
    x += adapter.on_attention(tokens, attended, block.attn)
    flat = x.view(-1, x.shape[-1])
    for some in flat.split(TOKENS_AT_ONCE) if x.device.type == "cpu" else [flat]:
        tokens = normalised(block.norm2, some).to(precision)
        some += adapter.on_mlp(tokens, run_mlp(block.mlp, tokens))


def run_mlp(mlp: MLPBlock, x: Tensor) -> Tensor:
    """The two linear layers of a block, (N, C) to (N, C)."""
    hidden = mlp.lin1(x)
    is_gelu = is_plain(mlp.act, nn.GELU) and mlp.act.approximate == "none"
    return mlp.lin2(torch.ops.aten.gelu_(hidden) if is_gelu else mlp.act(hidden))


def mix_tokens(attention: Attention, x: Tensor, window: int, adapter: BlockAdapter = NO_ADAPTER) -> Tensor:
    """The attention of a block up to its projection, within windows, or over the whole grid if `window` is 0.

    Args:
        attention: of the block.
        x: normalised tokens (B, H, W, C).
        window: length of its sides in tokens.
        adapter: whose `on_qkv` is called.
    Returns:
        (B, H, W, C).
    """
    rows, columns = x.shape[1:3]
    size_y, size_x = (window, window) if window else (rows, columns)
    offsets_y = relative_offsets(attention.rel_pos_h, size_y)
    offsets_x = relative_offsets(attention.rel_pos_w, size_x)
    if has_padded_windows(x.device):
        x = F.pad(x, (0, 0, 0, -columns % size_x, 0, -rows % size_y))
    mixed = torch.empty_like(x)
    for (top, bottom, height), (left, right, width) in product(_spans(x.shape[1], size_y), _spans(x.shape[2], size_x)):
        part = x[:, top:bottom, left:right]
        tiles = part.unflatten(1, (-1, height)).unflatten(3, (-1, width)).transpose(2, 3)
        query, key, value = queries_keys_values(attention, tiles.flatten(0, 2), (size_y, size_x), adapter)
        done = attend(Tiles(query, key, value, offsets_y[:height], offsets_x[:width]))
        mixed[:, top:bottom, left:right] = done.reshape(tiles.shape).transpose(2, 3).reshape(part.shape)
    return mixed[:, :rows, :columns]


def has_padded_windows(device: torch.device) -> bool:
    """Whether all windows are computed at once, those at the edge with their padding, instead of in up to four groups.

    A graphics card waits for the next call longer than the padding takes; elsewhere work on padding is saved.
    """
    return device.type == "cuda"


def queries_keys_values(
    attention: Attention, tokens: Tensor, size_hw: tuple[int, int], adapter: BlockAdapter = NO_ADAPTER
) -> tuple[Tensor, ...]:
    """Queries of tokens (T, h, w, C), and keys and values of the windows of size H x W whose top left they are.

    The stock module pads windows at the right and bottom edge of the grid with zeros. Their queries are thrown away,
    so they are not computed; their keys and values take part, but they are the same for each padded place.

    Returns:
        Queries (T, h, w, heads, C / heads), keys and values (T, H, W, heads, C / heads).
    """
    query, key, value = _projected(attention, tokens, adapter)
    if query.shape[1:3] != size_hw:
        _, pad_key, pad_value = _projected(attention, tokens.new_zeros(1, 1, 1, tokens.shape[-1]), adapter)
        key, value = _padded(key, pad_key, size_hw), _padded(value, pad_value, size_hw)
    return query, key, value


def _projected(attention: Attention, tokens: Tensor, adapter: BlockAdapter) -> tuple[Tensor, ...]:
    rows = tokens.reshape(-1, tokens.shape[-1])  # two axes: bias and product are one call then
    qkv = adapter.on_qkv(rows, attention.qkv(rows))
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

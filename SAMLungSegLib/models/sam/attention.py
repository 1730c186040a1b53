"""Attention of SAM's image encoder with its decomposed relative positions, without a score matrix in memory.

Queries see the keys of their own tile: the whole grid, or one window. The bias that the query at (y, x) adds to the
key at (i, j) is `query . offsets_y[y, i] + query . offsets_x[x, j]`. Stock segment_anything writes out the scores and
the bias of all queries, 2.4 GB for ViT-B. Here are two ways to the same numbers:

- `attend_in_blocks`: scores of a few rows of queries at a time, in one buffer small enough for the processor's cache.
- `attend_fused`: torch's fused attention, with the bias as further channels of queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# 8 MB of float32. 2 to 16 MB are equally fast on an idle processor; larger blocks are fewer, which helps on a busy one,
# where threads wait for each other at every operation.
SCORES_AT_ONCE = 1 << 21
CHANNEL_MULTIPLE = 8  # what the fused kernels in half precision ask for


@dataclass(frozen=True)
class Tiles:
    """Queries, keys and values of tiles of equal size.

    Attributes:
        query: (T, h, w, heads, C); fewer rows and columns than the keys' where a window is padded.
        key: (T, H, W, heads, C).
        value: (T, H, W, heads, C).
        offsets_y: (h, H, C), relative positions of a query's row and a key's row.
        offsets_x: (w, W, C), likewise of columns.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    offsets_y: Tensor
    offsets_x: Tensor

    @property
    def scale(self) -> float:
        return self.query.shape[-1] ** -0.5

    def biases(self) -> tuple[Tensor, Tensor]:
        """The two parts of the bias, (T, heads, h, w, H) and (T, heads, h, w, W)."""
        bias_y = torch.einsum("tyxnc,yic->tnyxi", self.query, self.offsets_y)
        bias_x = torch.einsum("tyxnc,xjc->tnyxj", self.query, self.offsets_x)
        return bias_y, bias_x


def relative_offsets(table: Tensor, length: int) -> Tensor:
    """Relative position vectors (length, length, C) of every query and key position, as segment_anything reads them.

    Args:
        table: (2 L - 1, C), from the farthest negative offset to the farthest positive; interpolated if `length` is
            not the L that it was made for.
    """
    if len(table) != 2 * length - 1:
        table = F.interpolate(table.t()[None], size=2 * length - 1, mode="linear")[0].t()
    position = torch.arange(length, device=table.device)
    return table[position[:, None] - position[None, :] + length - 1]


def attend(tiles: Tiles) -> Tensor:
    """Values mixed for every query, (T, h, w, heads, C), by the way that suits the device, or that has gradients."""
    has_gradients = any(one.requires_grad for one in (tiles.query, tiles.key, tiles.value))
    return attend_fused(tiles) if tiles.query.is_cuda or has_gradients else attend_in_blocks(tiles)


def attend_in_blocks(tiles: Tiles) -> Tensor:
    """`attend` for processors: the bias goes into the buffer first and the scores are added to it by the product."""
    number, height, width, heads, _ = tiles.query.shape
    key_hw = tiles.key.shape[1:3]
    keys = key_hw.numel()
    bias_y, bias_x = (bias.flatten(0, 1) for bias in tiles.biases())
    bias_y, bias_x = bias_y[..., :, None], bias_x[..., None, :]
    query, key, value = (
        part.permute(0, 3, 1, 2, 4).flatten(0, 1).contiguous() for part in (tiles.query, tiles.key, tiles.value)
    )
    key, value = key.flatten(1, 2).transpose(1, 2), value.flatten(1, 2)
    buffer = query.new_empty(max(SCORES_AT_ONCE, width * keys))
    mixed = torch.empty_like(query)
    for n, y in _blocks(number * heads, height, width * keys):
        queries = query[n, y].flatten(1, 2)
        scores = buffer[: queries.shape[:2].numel() * keys].view(*queries.shape[:2], keys)
        torch.add(bias_y[n, y], bias_x[n, y], out=scores.view(len(queries), -1, width, *key_hw))
        scores.baddbmm_(queries, key[n], alpha=tiles.scale)
        torch.softmax(scores, -1, out=scores)
        torch.bmm(scores, value[n], out=mixed[n, y].flatten(1, 2))  # a view: the result lands in `mixed`
    return mixed.unflatten(0, (number, heads)).permute(0, 2, 3, 1, 4)


def _blocks(heads: int, height: int, row_scores: int) -> Iterator[tuple[slice, slice]]:
    """Heads of tiles and rows of queries whose scores fit the buffer: as many rows as possible, then as many heads."""
    rows = min(height, max(1, SCORES_AT_ONCE // row_scores))
    group = max(1, SCORES_AT_ONCE // (rows * row_scores))
    for first in range(0, heads, group):
        for top in range(0, height, rows):
            yield slice(first, first + group), slice(top, top + rows)


def attend_fused(tiles: Tiles) -> Tensor:
    """`attend` for graphics cards: further channels of a query hold its biases, those of a key say where it is."""
    rows, columns = tiles.key.shape[1:3]
    one_of_rows = torch.eye(rows).to(tiles.key)[:, None].expand(-1, columns, -1)
    one_of_columns = torch.eye(columns).to(tiles.key)[None].expand(rows, -1, -1)
    place = torch.cat([one_of_rows, one_of_columns], -1)
    query, key, value = (part.permute(0, 3, 1, 2, 4) for part in (tiles.query, tiles.key, tiles.value))
    query = torch.cat([query * tiles.scale, *tiles.biases()], -1).flatten(2, 3)
    key = torch.cat([key, place.expand(*key.shape[:2], -1, -1, -1)], -1).flatten(2, 3)
    value = value.flatten(2, 3)
    channels = value.shape[-1]
    query, key = (F.pad(part, (0, -part.shape[-1] % CHANNEL_MULTIPLE)) for part in (query, key))
    if value.dtype != torch.float32:  # the kernels in half precision want equal widths
        value = F.pad(value, (0, key.shape[-1] - channels))
    mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :channels]
    return mixed.unflatten(2, tiles.query.shape[1:3]).permute(0, 2, 3, 1, 4)

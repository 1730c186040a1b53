"""LoRA: additions of low rank to the layer of queries, keys and values (Hu et al. 2021, arXiv:2106.09685).

SAM's encoder makes all three in one layer. Each target has its own pair of matrices here, so that keys stay as they are
when queries and values are adapted, as in SimAda and Slide-SAM.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import Adapter, BlockAdapter
from SAMLungSegLib.adapters.bottleneck import check_placement
from SAMLungSegLib.adapters.registry import register_adapter
from SAMLungSegLib.errors import ModelError

PARTS = ("q", "k", "v")  # in the order of the layer's outputs


@register_adapter("lora")
@dataclass(frozen=True)
class Lora(Adapter):
    """Adds alpha / rank * up(down(token)) to the targets, in every block.

    Attributes:
        rank: numbers between `down` and `up`.
        alpha: strength; twice the rank doubles what is learned at the same learning rate.
        targets: of 'q', 'k', 'v'.
        placement: 'published' begins with random numbers in `up` as well, as SimAda's code does, so that a new adapter
            changes the encoder's output; the places are the same.
    Raises:
        ModelError: a setting is not possible.
    """

    rank: int = 4
    alpha: float = 4.0
    targets: tuple[str, ...] = ("q", "v")
    placement: str = "default"

    def __post_init__(self) -> None:
        if type(self.rank) is not int or self.rank < 1:
            raise ModelError(f"A LoRA of rank {self.rank!r} is not possible; give a whole number from 1 on.")
        if type(self.alpha) not in (int, float) or not 0 < self.alpha < float("inf"):
            raise ModelError(f"A LoRA with alpha {self.alpha!r} is not possible; give a positive number.")
        is_tuple = isinstance(self.targets, tuple) and len(set(map(str, self.targets))) == len(self.targets)
        if not is_tuple or not self.targets or not set(map(str, self.targets)) <= set(PARTS):
            raise ModelError(f"A LoRA on {self.targets!r} is not possible; choose of {', '.join(PARTS)}, each once.")
        check_placement(self.name, self.placement)

    def block_adapter(self, block: nn.Module, number: int, count: int) -> BlockAdapter:
        """One for each block."""
        return _LoraBlock(block.attn.qkv.in_features, self)


class _LoraBlock(BlockAdapter):
    def __init__(self, width: int, settings: Lora) -> None:
        super().__init__()
        self.scale = settings.alpha / settings.rank
        self.down = nn.ParameterDict({one: torch.randn(settings.rank, width) * width**-0.5 for one in settings.targets})
        self.up = nn.ParameterDict({one: torch.zeros(width, settings.rank) for one in settings.targets})
        if settings.placement == "published":
            for one in (*self.down.values(), *self.up.values()):
                nn.init.uniform_(one, -(one.shape[1] ** -0.5), one.shape[1] ** -0.5)

    def on_qkv(self, tokens: Tensor, qkv: Tensor) -> Tensor:
        width = tokens.shape[-1]
        for target, down in self.down.items():
            start = PARTS.index(target) * width
            low = F.linear(tokens, down.to(tokens))
            qkv[..., start : start + width] += self.scale * F.linear(low, self.up[target].to(tokens))
        return qkv

    def merge_into(self, block: nn.Module) -> None:
        """Add the products to the layer's rows; rounded once, from double precision."""
        weight = block.attn.qkv.weight
        rows = dict(zip(PARTS, weight.chunk(3), strict=True))
        for target, row in rows.items():
            if target in self.down:  # on the CPU, for MPS has no float64
                old, up, down = (one.cpu().double() for one in (row, self.up[target], self.down[target]))
                row.copy_(old + self.scale * (up @ down))

"""Bottlenecks after the layers of a block, beside them, or both: the designs of SimAda (arXiv:2401.17803).

A bottleneck is a narrow layer, GELU, and a layer back to the full width. In series it reads what a layer puts out,
in parallel what goes in; either way its own output is added. Mixed is in series with the attention and in parallel
with the two linear layers.

The authors' code does not place them as its names say; `placement="published"` repeats it, see docs/adapters.md.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import Adapter, BlockAdapter
from SAMLungSegLib.adapters.registry import register_adapter
from SAMLungSegLib.errors import ModelError

PLACEMENTS = ("default", "published")
Point = Literal["attention", "mlp"]


class Bottleneck(nn.Module):
    """up(gelu(down(x))), zeros at the start unless `zero` is false.

    Args:
        width: C, of what it reads and puts out.
        ratio: of its hidden width to C.
        zero: whether `up` begins with zeros; otherwise as torch makes it.
    """

    def __init__(self, width: int, ratio: float, *, zero: bool = True) -> None:
        super().__init__()
        hidden = max(1, int(width * ratio))
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        if zero:
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) to (..., C), in the precision of x."""
        return _linear(self.up, F.gelu(_linear(self.down, x)))


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.to(x), layer.bias.to(x))


@dataclass(frozen=True)
class Branch:
    """What takes the place of a layer's output: kept * output + scale * bottleneck(input or output).

    Attributes:
        reads: which of the two the bottleneck gets.
        scale: of what it puts out.
        kept: of the layer's output.
    """

    reads: Literal["input", "output"]
    scale: float
    kept: float = 1.0

    def apply(self, bottleneck: Bottleneck, tokens: Tensor, out: Tensor) -> Tensor:
        """From the layer's input and output (..., C)."""
        added = self.scale * bottleneck(tokens if self.reads == "input" else out)
        return added + (out if self.kept == 1 else self.kept * out)


@dataclass(frozen=True)
class Bottlenecks(Adapter):
    """Two bottlenecks in every block: one at the attention, one at the two linear layers.

    Attributes:
        ratio: of the bottlenecks' width to the encoder's.
        scale: of what they add.
        placement: 'published' as in the authors' code, whose bottlenecks are not zero at the start either.
    Raises:
        ModelError: a setting is not possible.
    """

    ratio: float = 0.25
    scale: float = 0.5
    placement: str = "default"

    def __post_init__(self) -> None:
        check_positive(self.name, "ratio", self.ratio)
        check_positive(self.name, "scale", self.scale)
        check_placement(self.name, self.placement)

    @abstractmethod
    def branch(self, point: Point) -> Branch:
        """How the bottleneck of a point is placed."""

    def block_adapter(self, block: nn.Module, number: int, count: int) -> BlockAdapter:
        """One for each block."""
        return _BottleneckBlock(block.attn.qkv.in_features, self)


@register_adapter("series")
@dataclass(frozen=True)
class Series(Bottlenecks):
    """After the attention and after the two linear layers."""

    def branch(self, point: Point) -> Branch:
        """Published: at full strength after the attention; in place of the linear layers' output after these."""
        if self.placement == "default":
            return Branch("output", self.scale)
        return Branch("output", 1.0) if point == "attention" else Branch("output", self.scale, kept=0.0)


@register_adapter("parallel")
@dataclass(frozen=True)
class Parallel(Bottlenecks):
    """Beside the attention and beside the two linear layers."""

    def branch(self, point: Point) -> Branch:
        """Published: the first one has a skip of its own and is after the attention, whose output counts more thus."""
        if self.placement == "published" and point == "attention":
            return Branch("output", self.scale, kept=1.0 + self.scale)
        return Branch("input", self.scale)


@register_adapter("mixed")
@dataclass(frozen=True)
class Mixed(Bottlenecks):
    """After the attention and beside the two linear layers."""

    def branch(self, point: Point) -> Branch:
        """Published: at full strength after the attention."""
        if point == "mlp":
            return Branch("input", self.scale)
        return Branch("output", self.scale if self.placement == "default" else 1.0)


class _BottleneckBlock(BlockAdapter):
    def __init__(self, width: int, settings: Bottlenecks) -> None:
        super().__init__()
        self.branches = settings.branch("attention"), settings.branch("mlp")
        zero = settings.placement == "default"
        self.attention = Bottleneck(width, settings.ratio, zero=zero)
        self.mlp = Bottleneck(width, settings.ratio, zero=zero)

    def on_attention(self, tokens: Tensor, attended: Tensor, attention: nn.Module) -> Tensor:
        return self.branches[0].apply(self.attention, tokens, attended)

    def on_mlp(self, tokens: Tensor, out: Tensor) -> Tensor:
        return self.branches[1].apply(self.mlp, tokens, out)


def check_positive(method: str, setting: str, value: object) -> None:
    """Refuse what is no finite positive number.

    Raises:
        ModelError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ModelError(f"The adapter '{method}' with {setting} {value!r} is not possible; give a positive number.")


def check_placement(method: str, placement: object) -> None:
    """Refuse an unknown placement.

    Raises:
        ModelError: it is none of `PLACEMENTS`.
    """
    if placement not in PLACEMENTS:
        raise ModelError(
            f"The adapter '{method}' with placement {placement!r} is not possible; choose of {', '.join(PLACEMENTS)}."
        )

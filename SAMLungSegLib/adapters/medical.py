"""Med-SA's adapters in the image encoder: at the layers of a block, and along depth (arXiv:2304.12620).

SD-Trans lets each place of a slice attend to the same place of the slices around it, by the attention that the block
has for the places of a slice. It is applied outside of windows and without relative positions, which are learned for
places in a plane; see docs/adapters.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import Adapter, BlockAdapter, DecoderAdapter
from SAMLungSegLib.adapters.bottleneck import Bottleneck, check_positive
from SAMLungSegLib.adapters.hyper import MedSaDecoder
from SAMLungSegLib.adapters.registry import register_adapter
from SAMLungSegLib.errors import ModelError


@register_adapter("med-sa")
@dataclass(frozen=True)
class MedSa(Adapter):
    """Bottlenecks after the attention, after the attention along depth, and beside the two linear layers.

    Attributes:
        ratio: of the bottlenecks' width to the encoder's.
        scale: of what the one beside the linear layers adds.
        slices: how many neighbouring slices see each other, the one to segment in the middle; 1 for images without
            depth, which then have no bottleneck for it.
        decoder: whether the blocks of the mask decoder get adapters, too, see `hyper`.
    Raises:
        ModelError: a setting is not possible.
    """

    ratio: float = 0.25
    scale: float = 0.5
    slices: int = 3
    decoder: bool = True

    def __post_init__(self) -> None:
        check_positive(self.name, "ratio", self.ratio)
        check_positive(self.name, "scale", self.scale)
        if type(self.slices) is not int or self.slices < 1 or self.slices % 2 == 0:
            raise ModelError(f"Med-SA on {self.slices!r} slices is not possible; give an odd number, such as 3.")
        if type(self.decoder) is not bool:
            raise ModelError(f"Med-SA with decoder {self.decoder!r} is not possible; give true or false.")

    @property
    def slices_per_input(self) -> int:
        """All that see each other."""
        return self.slices

    def block_adapter(self, block: nn.Module, number: int, count: int) -> BlockAdapter:
        """One for each block."""
        return _MedSaBlock(block.attn.qkv.in_features, self)

    @property
    def adapts_decoder(self) -> bool:
        """If wished."""
        return self.decoder

    def decoder_adapter(self, width: int) -> DecoderAdapter:
        """One for each block."""
        return MedSaDecoder(width, self.ratio, self.scale)


class _MedSaBlock(BlockAdapter):
    def __init__(self, width: int, settings: MedSa) -> None:
        super().__init__()
        self.slices, self.scale = settings.slices, settings.scale
        self.space, self.mlp = (Bottleneck(width, settings.ratio) for _ in range(2))
        self.depth = Bottleneck(width, settings.ratio) if settings.slices > 1 else None

    def on_attention(self, tokens: Tensor, attended: Tensor, attention: nn.Module) -> Tensor:
        out = attended + self.space(attended)
        return out if self.depth is None else out + self.depth(attend_along_depth(attention, tokens, self.slices))

    def on_mlp(self, tokens: Tensor, out: Tensor) -> Tensor:
        return out + self.scale * self.mlp(tokens)


def attend_along_depth(attention: nn.Module, tokens: Tensor, slices: int) -> Tensor:
    """The attention of a block, each place of a slice seeing that place of all slices of its stack.

    Args:
        attention: with its layers `qkv` and `proj`, and `num_heads`; relative positions are not used.
        tokens: normalised (B, H, W, C), the slices of a stack behind each other.
        slices: of a stack.
    Returns:
        (B, H, W, C), after the projection.
    Raises:
        ModelError: B slices are no whole stacks.
    """
    if len(tokens) % slices:
        raise ModelError(f"{len(tokens)} slices are no whole stacks of {slices}; encode stacks, one after the other.")
    qkv = attention.qkv(tokens).unflatten(-1, (3, attention.num_heads, -1)).unflatten(0, (-1, slices))
    query, key, value = qkv.permute(4, 0, 2, 3, 5, 1, 6).flatten(1, 3)  # each (stacks * H * W, heads, slices, c)
    mixed = F.scaled_dot_product_attention(query, key, value).unflatten(0, (-1, *tokens.shape[1:3]))
    return attention.proj(mixed.permute(0, 4, 1, 2, 3, 5).flatten(0, 1).flatten(-2))

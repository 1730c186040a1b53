"""SegmentAnyBone's adapters: bottlenecks at both ends of the encoder and in the mask decoder, and depth attention.

Gu et al. 2024, arXiv:2401.12974. The bottlenecks are Med-SA's, see `medical`; depth attention is in `depth`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from SAMLungSegLib.adapters.base import Adapter, BlockAdapter, DecoderAdapter, EmbeddingAdapter
from SAMLungSegLib.adapters.bottleneck import Bottleneck, check_positive
from SAMLungSegLib.adapters.medical import MedSa
from SAMLungSegLib.adapters.registry import register_adapter
from SAMLungSegLib.errors import ModelError

ENDS = 2  # blocks at each end of the encoder


@register_adapter("segment-any-bone")
@dataclass(frozen=True)
class SegmentAnyBone(Adapter):
    """Bottlenecks in the first two and last two blocks of the encoder, in the decoder, and attention of the volume.

    Attributes:
        ratio: of the bottlenecks' width to the encoder's or decoder's.
        scale: of what those beside the linear layers add.
        decoder: whether the blocks of the mask decoder get bottlenecks, too.
        depth: whether what the slices around it show weights a slice's embedding; of a slice that comes without its
            volume, and of X-rays, nothing is weighted.
    Raises:
        ModelError: a setting is not possible.
    """

    ratio: float = 0.25
    scale: float = 0.5
    decoder: bool = True
    depth: bool = True

    def __post_init__(self) -> None:
        check_positive(self.name, "ratio", self.ratio)
        check_positive(self.name, "scale", self.scale)
        for setting in ("decoder", "depth"):
            if type(getattr(self, setting)) is not bool:
                given = getattr(self, setting)
                raise ModelError(f"SegmentAnyBone with {setting} {given!r} is not possible; give true or false.")

    def block_adapter(self, block: nn.Module, number: int, count: int) -> BlockAdapter | None:
        """Med-SA's without depth, for blocks at the ends."""
        if ENDS <= number < count - ENDS:
            return None
        return MedSa(self.ratio, self.scale, slices=1).block_adapter(block, number, count)

    @property
    def adapts_decoder(self) -> bool:
        """If wished."""
        return self.decoder

    def decoder_adapter(self, width: int) -> DecoderAdapter:
        """One for each block."""
        return _BoneDecoder(width, self.ratio, self.scale)

    @property
    def sees_volume(self) -> bool:
        """If wished."""
        return self.depth

    def embedding_adapter(self, width: int) -> EmbeddingAdapter | None:
        """Depth attention, if wished.

        Raises:
            ModelError: MONAI is not installed.
        """
        if not self.depth:
            return None
        from SAMLungSegLib.adapters.depth import DepthAttention

        try:
            return DepthAttention(width)
        except ImportError as error:
            raise ModelError(
                "SegmentAnyBone's depth attention needs MONAI, which is not installed; run: pip install "
                "'samlungseg[train]', or leave it out with depth=false."
            ) from error


class _BoneDecoder(DecoderAdapter):
    """After the tokens' attention to the image, beside the linear layers, and on the image that attended to tokens."""

    def __init__(self, width: int, ratio: float, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.tokens, self.mlp, self.image = (Bottleneck(width, ratio) for _ in range(3))

    def on_token_attention(self, attended: Tensor, prompt: Tensor) -> Tensor:
        return attended + self.tokens(attended)

    def on_mlp(self, tokens: Tensor, out: Tensor) -> Tensor:
        return out + self.scale * self.mlp(tokens)

    def on_image(self, image: Tensor) -> Tensor:
        return image + self.image(image)

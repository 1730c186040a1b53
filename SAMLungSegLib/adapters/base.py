"""What an adapter is, and the points at which an image encoder calls it.

The encoder owns the adapters of its blocks, and each way through it, the fast one and the one with gradients, calls
them at the same points:

- `on_qkv`: the layer that makes queries, keys and values of tokens (LoRA on q and v);
- `on_attention`: the attention as a whole, outside of its windows, so that slices of a stack may see each other there
  (after attention, beside it, along depth);
- `on_mlp`: the two linear layers that follow (after them, beside them).

Each point gets what went into a layer and what came out of it, and returns what takes the place of the latter.

A method may adapt the blocks of the mask decoder as well, see `DecoderAdapter`, and the embeddings on their way there,
see `EmbeddingAdapter`; the encoder owns these adapters too, so that all of a network's are in one place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from SAMLungSegLib.adapters.place import PlaceInVolume
from SAMLungSegLib.adapters.registry import PREFIX
from SAMLungSegLib.errors import ModelError


class BlockAdapter(nn.Module):
    """What one block of an image encoder does otherwise: by default, nothing.

    The second argument of a point belongs to the adapter, which may change it in place. C is the width of the encoder.
    """

    def on_qkv(self, tokens: Tensor, qkv: Tensor) -> Tensor:
        """Queries, keys and values.

        Args:
            tokens: normalised (N, C), any number of them; the padding of windows comes as tokens of zeros.
            qkv: what the layer makes of them (N, 3 C): queries, keys, values.
        """
        return qkv

    def on_attention(self, tokens: Tensor, attended: Tensor, attention: nn.Module) -> Tensor:
        """What the residual stream gets from the attention.

        Args:
            tokens: normalised (B, H, W, C), what went in.
            attended: (B, H, W, C), after the projection.
            attention: the block's own, with its layers `qkv` and `proj`.
        """
        return attended

    def on_mlp(self, tokens: Tensor, out: Tensor) -> Tensor:
        """What the residual stream gets from the two linear layers.

        Args:
            tokens: normalised (..., C); any number of them, since they are taken in pieces.
            out: (..., C).
        """
        return out

    def merge_into(self, block: nn.Module) -> None:
        """Change the weights of `block` so that it does without the adapter what it did with it.

        Raises:
            ModelError: no weights of the block do that.
        """
        raise ModelError(
            f"{type(self).__name__} computes what no weights of the encoder compute, so it cannot be merged; use it "
            "with --weights."
        )


NO_ADAPTER = BlockAdapter()
EMBEDDING = "embedding"  # of the adapter of embeddings among a network's


class DecoderAdapter(nn.Module):
    """What one block of a mask decoder does otherwise: by default, nothing. C is the width of the decoder."""

    def on_token_attention(self, attended: Tensor, prompt: Tensor) -> Tensor:
        """What the tokens get from their attention to the image.

        Args:
            attended: (B, T, C).
            prompt: the tokens of points and boxes as embedded (B, P, C); none of a mask.
        """
        return attended

    def on_mlp(self, tokens: Tensor, out: Tensor) -> Tensor:
        """What the tokens (B, T, C) get from the two linear layers, which put out `out`."""
        return out

    def on_image(self, image: Tensor) -> Tensor:
        """The image (B, H * W, C) once it has attended to the tokens, before the norm."""
        return image


class EmbeddingAdapter(nn.Module):
    """What becomes of embeddings between encoder and mask decoder: by default, nothing."""

    def forward(
        self, features: Tensor, places: Sequence[PlaceInVolume | None], parts_hw: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Embeddings of slices (B, C, h, w), in float32.

        Args:
            features: of the encoder.
            places: of each slice; None of one that comes without its volume.
            parts_hw: rows and columns that each slice takes at the top left of its embedding; the rest is padding.
        """
        return features


class DecoderHost:
    """A block of a mask decoder that calls an adapter, to be inherited beside `nn.Module`.

    Attributes:
        width: C.
    """

    width: int
    _adapter: tuple[DecoderAdapter, ...] = ()  # in a tuple, so that its weights are not the block's

    @property
    def adapter(self) -> DecoderAdapter | None:
        """None where there is none."""
        return self._adapter[0] if self._adapter else None

    def use_adapter(self, one: DecoderAdapter | None) -> None:
        """Call another adapter from now on, or none. (Assigned to a name, it would become a part of the block.)"""
        self._adapter = () if one is None else (one,)


class AdapterHost:
    """An image encoder whose blocks call adapters, to be inherited beside `nn.Module`.

    Attributes:
        blocks: in their order.
        neck: that makes embeddings of what comes out of these.
        adapters: the `BlockAdapter` of a block by its number, as text; blocks without one are missing. Those of the
            mask decoder's blocks are called 'decoder_0' and so on, that of embeddings 'embedding'.
        adapter: the method that these belong to; None where there are none.
    """

    blocks: nn.ModuleList
    neck: nn.Sequential
    adapters: nn.ModuleDict
    adapter: Adapter | None

    @property
    def slices_per_input(self) -> int:
        """How many neighbouring slices lie behind each other in a batch for one embedding, that of the middle one."""
        return 1 if self.adapter is None else self.adapter.slices_per_input

    def adapter_of(self, number: int) -> BlockAdapter:
        """The adapter of a block, `NO_ADAPTER` where it has none."""
        return dict(self.adapters.items()).get(str(number), NO_ADAPTER)

    @property
    def embedding_adapter(self) -> EmbeddingAdapter | None:
        """None where embeddings go to the decoder as they are."""
        return dict(self.adapters.items()).get(EMBEDDING)


@dataclass(frozen=True)
class Adapter(ABC):
    """A method with its settings: a frozen dataclass whose fields are numbers, texts and tuples of these.

    Attributes:
        name: under which it is registered.
    """

    name: ClassVar[str]

    @abstractmethod
    def block_adapter(self, block: nn.Module, number: int, count: int) -> BlockAdapter | None:
        """A new adapter for a block, which does nothing before it is trained; None where this block gets none.

        Args:
            block: of the encoder, on the device and in the precision that it has.
            number: of the block.
            count: of all blocks.
        """

    @property
    def adapts_decoder(self) -> bool:
        """Whether the blocks of the mask decoder get adapters, too."""
        return False

    def decoder_adapter(self, width: int) -> DecoderAdapter:
        """A new adapter for a block of the mask decoder, which does nothing before it is trained.

        Args:
            width: of the decoder.
        """
        return DecoderAdapter()

    def embedding_adapter(self, width: int) -> EmbeddingAdapter | None:
        """A new adapter for embeddings, which does nothing before it is trained; None where they stay as they are.

        Args:
            width: of embeddings.
        """
        return None

    @property
    def sees_volume(self) -> bool:
        """Whether it looks at the whole volume that a slice lies in, as adapters of embeddings can."""
        return False

    @property
    def slices_per_input(self) -> int:
        """How many neighbouring slices it looks at, the one to segment in the middle; odd."""
        return 1

    @property
    def settings(self) -> dict[str, Any]:
        """As a card holds them."""
        return {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()}

    def inject(self, network: nn.Module) -> None:
        """Give the blocks of `network.image_encoder`, and of its mask decoder, adapters that leave its numbers.

        They stay in float32, whatever the precision of the encoder. Random numbers are torch's.

        Raises:
            ModelError: the encoder, or a decoder that the method adapts, has no points for adapters, or there are
                adapters already; nothing was changed.
        """
        encoder = host_of(network, self.name)
        if encoder.adapter is not None:
            raise ModelError(f"The network has the adapter '{encoder.adapter.name}' already; merge or remove it first.")
        for_decoder = self._for_decoder(network)
        for_embedding = self.embedding_adapter(encoder.neck[-1].weight.shape[0])
        device = next(encoder.blocks.parameters()).device
        for number, block in enumerate(encoder.blocks):
            one = self.block_adapter(block, number, len(encoder.blocks))
            if one is not None:
                encoder.adapters[str(number)] = one.to(device).requires_grad_(False)
        for number, (host, one) in enumerate(for_decoder):
            encoder.adapters[f"decoder_{number}"] = one.to(device).requires_grad_(False)
            host.use_adapter(one)
        if for_embedding is not None:
            encoder.adapters[EMBEDDING] = for_embedding.to(device).requires_grad_(False).eval()
        encoder.adapter = self

    def _for_decoder(self, network: nn.Module) -> list[tuple[DecoderHost, DecoderAdapter]]:
        """The blocks of the mask decoder with the adapters that they shall get."""
        decoder, hosts = getattr(network, "mask_decoder", None), decoder_hosts(network)
        if decoder is None or not self.adapts_decoder:
            return []
        if not hosts:
            raise ModelError(
                f"The mask decoder {type(decoder).__name__} has no points for adapters ({self.name}), for it is not "
                "segment_anything's own; choose a method or settings for the encoder alone, such as lora."
            )
        return [(host, self.decoder_adapter(host.width)) for host in hosts]


def host_of(network: nn.Module, method: str = "that adapter") -> AdapterHost:
    """The image encoder of a network.

    Raises:
        ModelError: it has no points for adapters.
    """
    encoder = getattr(network, "image_encoder", None)
    if not isinstance(encoder, AdapterHost):
        raise ModelError(
            f"The image encoder of {type(network).__name__} has no points for adapters ({method}): it is no plain "
            "vision transformer of SAM's. Choose sam-vit-b, sam-vit-l, sam-vit-h, medsam-vit-b or sam-vit-tiny, or "
            "tune the mask decoder ('samlungseg tune')."
        )
    return encoder


def decoder_hosts(network: nn.Module) -> list[DecoderHost]:
    """The blocks of a network's mask decoder that can call adapters, in their order."""
    decoder = getattr(network, "mask_decoder", None)
    return [] if decoder is None else [one for one in decoder.modules() if isinstance(one, DecoderHost)]


def adapter_in(network: nn.Module) -> Adapter:
    """The method whose adapters a network has.

    Raises:
        ModelError: it has none.
    """
    adapter = host_of(network).adapter
    if adapter is None:
        raise ModelError("The network has no adapters; inject some first, such as Lora().inject(network).")
    return adapter


def adapter_parameters(network: nn.Module) -> list[nn.Parameter]:
    """What training changes.

    Raises:
        ModelError: the network has no adapters.
    """
    adapter_in(network)
    return list(host_of(network).adapters.parameters())


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """A copy of the adapters' weights on the CPU, by their names in the network.

    Raises:
        ModelError: the network has no adapters.
    """
    adapter_in(network)
    state = host_of(network).adapters.state_dict()
    return {f"{PREFIX}{name}": value.detach().cpu().clone().contiguous() for name, value in state.items()}


def load_adapter_state(network: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Give the adapters of a network other weights.

    Args:
        network: with adapters of the same method and settings.
        state: as of `adapter_state`; names of other parts are left aside.
        what: what messages call it.
    Raises:
        ModelError: names or shapes differ; nothing was loaded.
    """
    adapter = adapter_in(network)
    own = host_of(network).adapters.state_dict()
    given = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    for name in (*own, *given):
        if name not in own or name not in given or own[name].shape != given[name].shape:
            raise ModelError(
                f"The weights {what} do not fit the adapter '{adapter.name}' with {adapter.settings}: see {name}. "
                "Get the file again together with its card, for the same base model."
            )
    host_of(network).adapters.load_state_dict(given)


@torch.no_grad()
def merge_adapter(network: nn.Module) -> None:
    """Put the adapters' work into the encoder's own weights, and take them out.

    Raises:
        ModelError: there are none, the method cannot be merged, or the encoder is in half precision, which would round
            away what they learned; nothing was changed.
    """
    adapter_in(network)
    encoder = host_of(network)
    if any(one.dtype != torch.float32 for one in encoder.blocks.parameters()):
        raise ModelError("Adapters are merged into weights in float32 only; load the model without dtype.")
    for number, one in encoder.adapters.items():
        if isinstance(one, BlockAdapter):
            one.merge_into(encoder.blocks[int(number)])
    remove_adapter(network)


def remove_adapter(network: nn.Module) -> None:
    """Let a network be as it was before adapters were injected."""
    encoder = host_of(network)
    encoder.adapters.clear()
    encoder.adapter = None
    for host in decoder_hosts(network):
        host.use_adapter(None)

"""Which organ a prompted mask is of: one more token beside those of SAM's mask decoder, and a head that reads it.

In each layer of the decoder the token sees the other tokens and the image, with the decoder's own weights, and none of
them sees it. So masks and predicted IoU are those that the decoder gives without it, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.mask_decoder import MLP
from segment_anything.modeling.transformer import TwoWayTransformer
from torch import Tensor, nn

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.sam.decoder import AdaptableBlock

PART = "extension"  # of the network, see models.extensions
LAYERS = 3


class OrganHead(nn.Module):
    """A learned token and a perceptron of three layers, as wide as the decoder: from a mask's prompts to its organ.

    It begins with all organs equally probable.

    Args:
        width: of the decoder, 256 in SAM.
        organs: keys or names, in the order of the logits.
    Source: after Zhang (Term Project Report: SAM), where the token has a decoder of its own.
    """

    def __init__(self, width: int, organs: Sequence[str]) -> None:
        super().__init__()
        self.organs = tuple(organs)
        self.token = nn.Embedding(1, width)
        self.classifier = MLP(width, width, len(self.organs), LAYERS)
        for parameter in self.classifier.layers[-1].parameters():
            nn.init.zeros_(parameter)  # so that all organs are equally probable at the start

    @contextmanager
    def reading(self, decoder: MaskDecoder) -> Iterator[Callable[[], Tensor]]:
        """Watch what a decoder computes inside the block.

        Yields:
            What gives the logits (B, organs) once the decoder was called on B prompt sets, with gradients where these
            are on.
        """
        seen: list[_Seen] = []
        transformer = decoder.transformer
        with ExitStack() as hooks:
            for layer in transformer.layers:
                hook = layer.register_forward_pre_hook(_recorder(seen, layer), with_kwargs=True)
                hooks.callback(hook.remove)
            last = transformer.final_attn_token_to_image
            hook = last.register_forward_pre_hook(_recorder(seen, None), with_kwargs=True)
            hooks.callback(hook.remove)
            yield lambda: self._logits(transformer, seen)

    def probabilities(self, logits: Tensor) -> dict[str, float]:
        """By organ, from logits (organs,); they add up to 1."""
        return dict(zip(self.organs, torch.softmax(logits.float(), dim=-1).tolist(), strict=True))

    def _logits(self, transformer: TwoWayTransformer, seen: Sequence[_Seen]) -> Tensor:
        *layers, (_, last) = seen
        batch = len(last["q"])
        token = start = self.token.weight[None].expand(batch, -1, -1)
        for layer, inputs in layers:
            token = layer.watched(token, start, **inputs)
        attended = transformer.final_attn_token_to_image(q=token + start, k=last["k"], v=last["v"])
        return self.classifier(transformer.norm_final_attn(token + attended)[:, 0])


_Seen = tuple[Any, dict[str, Tensor]]  # a layer, and what went into it


def _recorder(seen: list[_Seen], layer: nn.Module | None) -> Callable[..., None]:
    def record(_module: nn.Module, _arguments: tuple[Any, ...], inputs: dict[str, Tensor]) -> None:
        seen.append((layer, inputs))

    return record


def add_organ_head(network: nn.Module, organs: Sequence[str]) -> OrganHead:
    """Let a SAM tell the organ of its masks, of which the head knows nothing yet. Random numbers are torch's.

    Args:
        network: whose decoder `models.sam.decoder.make_adaptable` has made ready.
        organs: at least two, each once.
    Raises:
        ModelError: the decoder is not SAM's own, there are too few organs, or the network has a head already.
    """
    decoder = getattr(network, "mask_decoder", None)
    layers = getattr(getattr(decoder, "transformer", None), "layers", ())
    if not isinstance(decoder, MaskDecoder) or not all(isinstance(one, AdaptableBlock) for one in layers):
        raise ModelError(
            f"The mask decoder {type(decoder).__name__} takes no class token, for it is not segment_anything's own; "
            "choose sam-vit-b, sam-vit-l, sam-vit-h or medsam-vit-b."
        )
    if len(organs) < 2 or len(set(organs)) < len(organs):
        raise ModelError(
            f"Of the organs {', '.join(organs) or 'none'} none can be told from another; give two or more, each once."
        )
    if hasattr(network, PART):
        raise ModelError("The network has a class token or another extension already; load the model anew.")
    device = next(decoder.parameters()).device
    head = OrganHead(decoder.transformer_dim, organs).to(device).requires_grad_(False)
    network.add_module(PART, head)
    return head


def organ_head_of(network: nn.Module) -> OrganHead | None:
    """The head of a network, if it has one."""
    head = getattr(network, PART, None)
    return head if isinstance(head, OrganHead) else None

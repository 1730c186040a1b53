"""Whether an image encoder is segment_anything's own through and through.

`encoder` computes what the forward of its modules computes without calling it. A module that was replaced, patched or
hooked since would be passed by in silence; here it is told in words. Linear layers and convolutions are not looked at,
for they are called as they are; what takes their place must treat each token by itself, as they do.
"""

from __future__ import annotations

from collections.abc import Iterator

from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.common import LayerNorm2d, MLPBlock
from segment_anything.modeling.image_encoder import Attention, Block, PatchEmbed
from torch import nn

_CALLED = None  # as it is, whatever it is
_PARTS: dict[type[nn.Module], dict[str, type[nn.Module] | None]] = {
    ImageEncoderViT: {"patch_embed": PatchEmbed, "blocks": nn.ModuleList, "neck": nn.Sequential},
    PatchEmbed: {"proj": _CALLED},
    Block: {"norm1": nn.LayerNorm, "attn": Attention, "norm2": nn.LayerNorm, "mlp": MLPBlock},
    Attention: {"qkv": _CALLED, "proj": _CALLED},
    MLPBlock: {"lin1": _CALLED, "lin2": _CALLED, "act": _CALLED},
    nn.Sequential: {"0": _CALLED, "1": LayerNorm2d, "2": _CALLED, "3": LayerNorm2d},  # the neck
    nn.LayerNorm: {},
    LayerNorm2d: {},
}


def unlike_stock(encoder: nn.Module, kind: type[nn.Module] = ImageEncoderViT) -> str | None:
    """What the forward of an encoder does that segment_anything's does not, in words; None if there is nothing.

    Args:
        encoder: to look at.
        kind: that it has to be; of a subclass `adapters` are expected too, which may be anything.
    """
    return next(_differences(encoder, "the encoder", kind), None)


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of that kind, no subclass, and computes what its class does."""
    return next(_changes(module, "it", kind), None) is None


def _differences(module: nn.Module, name: str, kind: type[nn.Module]) -> Iterator[str]:
    yield from _changes(module, name, kind)
    parts = _parts(module, kind)
    children = dict(module.named_children())
    if children.keys() != parts.keys():
        unexpected = sorted(children.keys() ^ parts.keys())[0]
        yield f"{name} has not the parts of segment_anything's (see {unexpected!r})"
    if isinstance(module, ImageEncoderViT) and module.pos_embed is None:
        yield f"{name} has no position embedding"
    if isinstance(module, Attention) and not module.use_rel_pos:
        yield f"{name} has no relative positions"
    for part, expected in parts.items():
        if expected is not _CALLED:
            yield from _differences(children[part], part if name == "the encoder" else f"{name}.{part}", expected)


def _changes(module: nn.Module, name: str, kind: type[nn.Module]) -> Iterator[str]:
    if type(module) is not kind:
        yield f"{name} is a {type(module).__name__} in place of {kind.__name__}"
    if "forward" in vars(module):
        yield f"{name} has another forward"
    if module._forward_hooks or module._forward_pre_hooks:
        yield f"{name} has hooks"


def _parts(module: nn.Module, kind: type[nn.Module]) -> dict[str, type[nn.Module] | None]:
    if kind is nn.ModuleList:
        return {str(number): Block for number in range(len(module))}
    if kind in _PARTS:
        return _PARTS[kind]
    return {**_PARTS[ImageEncoderViT], "adapters": _CALLED}

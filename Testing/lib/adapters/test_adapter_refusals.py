"""An encoder that the fast way would misrepresent: never run by it, and told in words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention
from tiny_encoders import frames, stock, vit
from tiny_sams import grey, relative_error, tiny_sam
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from SAMLungSegLib.adapters.lora import Lora
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.sam.encoder import AdaptableEncoder, FastEncoder
from SAMLungSegLib.models.sam.model import SamModel

GRID = 6


class Louder(Attention):
    def forward(self, x):
        return 2 * super().forward(x)


class Tripled(nn.Module):
    def forward(self, x):
        return 3 * x


class OtherGelu(nn.GELU):
    def forward(self, x):
        return torch.relu(x)


class MyEncoder(ImageEncoderViT):
    def forward(self, x):
        return 2 * super().forward(x)


def replace_attention(encoder):
    attention = Louder(48, 3, use_rel_pos=True, input_size=(14, 14))
    attention.load_state_dict(encoder.blocks[0].attn.state_dict())
    encoder.blocks[0].attn = attention


def patch_forward(module: Callable) -> Callable:
    def change(encoder):
        one = module(encoder)
        own = one.forward
        one.forward = lambda x: 2 * own(x)

    return change


def hook(module: Callable) -> Callable:
    return lambda encoder: module(encoder).register_forward_hook(lambda _module, _args, out: 2 * out)


def pre_hook(encoder):
    encoder.blocks[1].mlp.register_forward_pre_hook(lambda _module, args: (2 * args[0],))


def add_part(encoder):
    encoder.blocks[0].adapter = nn.Linear(48, 48)


CHANGES = {
    "attention replaced": (replace_attention, "blocks.0.attn is a Louder in place of Attention"),
    "hook on a block": (hook(lambda e: e.blocks[2]), "blocks.2 has hooks"),
    "hook on the encoder": (hook(lambda e: e), "the encoder has hooks"),
    "hook on the neck's norm": (hook(lambda e: e.neck[1]), r"neck.1 has hooks"),
    "pre-hook on the layers": (pre_hook, "blocks.1.mlp has hooks"),
    "forward of a block patched": (patch_forward(lambda e: e.blocks[1]), "blocks.1 has another forward"),
    "forward of attention patched": (patch_forward(lambda e: e.blocks[3].attn), "blocks.3.attn has another forward"),
    "forward of a norm patched": (patch_forward(lambda e: e.blocks[0].norm2), "blocks.0.norm2 has another forward"),
    "forward of the patches": (patch_forward(lambda e: e.patch_embed), "patch_embed has another forward"),
    "relative positions parametrised": (
        lambda e: register_parametrization(e.blocks[0].attn, "rel_pos_h", Tripled()),
        "blocks.0.attn is a ParametrizedAttention",
    ),
    "a part more": (add_part, "blocks.0 has not the parts of segment_anything's .see 'adapter'"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_changed_encoder_is_refused_by_the_fast_way_at_its_next_call(change, reason):
    encoder = vit(GRID)
    fast = FastEncoder(encoder)
    fast(frames(GRID))
    change(encoder)
    with pytest.raises(ModelError, match=f"would not give this encoder's numbers, for {reason}"):
        fast(frames(GRID))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"use_rel_pos": False}, "blocks.0.attn has no relative positions"), ({"use_abs_pos": False}, "has no position")],
    ids=str,
)
def test_an_encoder_without_positions_is_refused(options, reason):
    encoder = ImageEncoderViT(
        img_size=96, embed_dim=16, depth=1, num_heads=1, out_chans=16, **{"use_rel_pos": True, **options}
    )
    with pytest.raises(ModelError, match=reason):
        FastEncoder(encoder)(frames(GRID))


@pytest.mark.parametrize(
    "change",
    [
        hook(lambda e: e.blocks[0].attn.proj),
        patch_forward(lambda e: e.blocks[0].mlp.lin2),
        lambda e: setattr(e.blocks[1].mlp, "act", OtherGelu()),
        lambda e: setattr(e.blocks[1].mlp, "act", nn.GELU(approximate="tanh")),
        hook(lambda e: e.blocks[1].mlp.act),
        lambda e: register_parametrization(e.blocks[2].attn.qkv, "weight", Tripled()),
    ],
    ids=["hook", "forward", "other GELU", "tanh", "hook on GELU", "parametrised"],
)
def test_a_layer_that_is_called_may_be_changed(change):
    encoder = vit(GRID)
    before = FastEncoder(encoder)(frames(GRID))
    change(encoder)
    after = FastEncoder(encoder)(frames(GRID))
    assert relative_error(after.numpy(), stock(encoder, frames(GRID)).numpy()) <= 3e-6
    assert not torch.equal(after, before)


def test_a_linear_layer_of_a_subclass_is_called():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    encoder = vit(GRID)
    doubled = Doubled(48, 144)
    doubled.load_state_dict(encoder.blocks[0].attn.qkv.state_dict())
    encoder.blocks[0].attn.qkv = doubled
    fast = FastEncoder(encoder)(frames(GRID))
    assert relative_error(fast.numpy(), stock(encoder, frames(GRID)).numpy()) <= 3e-6


# ---- a model with such an encoder


def changed_later(model: SamModel) -> None:
    model.network.image_encoder.blocks[0].attn.register_forward_hook(lambda _module, _args, out: 2 * out)


def test_a_model_runs_a_hooked_encoder_by_its_own_forward_and_says_so(caplog):
    model = SamModel(tiny_sam(), name="tiny")
    [plain] = model.encode([grey((200, 256))])
    changed_later(model)
    with caplog.at_level(logging.INFO):
        [hooked] = model.encode([grey((200, 256))])
    assert "by its encoder's own forward, which is slower, for blocks.0.attn has hooks" in caplog.text
    frame = model._to_frame(grey((200, 256)))[None]
    expected = stock(model.network.image_encoder, frame)[0].numpy()
    assert np.array_equal(hooked.features[0].numpy(), expected)
    assert relative_error(plain.features[0].numpy(), expected) > 0.01


def test_a_subclass_of_sams_encoder_is_run_by_its_own_forward():
    sam = tiny_sam()
    own, plain = sam.image_encoder, SamModel(tiny_sam(), name="plain")
    own.__class__ = MyEncoder
    model = SamModel(sam, name="mine")
    assert model.network.image_encoder is own
    [doubled], [single] = (one.encode([grey((256, 256))]) for one in (model, plain))
    assert relative_error(doubled.features[0].numpy(), 2 * single.features[0].numpy()) <= 1e-5


def test_an_encoder_that_is_not_sams_own_takes_no_adapters():
    sam = tiny_sam()
    sam.image_encoder.blocks[0].register_forward_hook(lambda _module, _args, out: out)
    model = SamModel(sam, name="hooked")
    with pytest.raises(ModelError, match=r"Sam has no points for adapters \(lora\): .* Choose sam-vit-b"):
        Lora().inject(model.network)


def test_an_adapted_encoder_that_is_hooked_later_is_refused_altogether():
    """Neither way would call the hook."""
    model = SamModel(tiny_sam(), name="tiny")
    Lora().inject(model.network)
    changed_later(model)
    with pytest.raises(ModelError, match=r"cannot be adapted, for blocks.0.attn has hooks"):
        model.encode([grey((256, 256))])


def test_lora_is_not_for_a_convolutional_encoder():
    model = load_model(device="cpu", engine="torch")
    with pytest.raises(ModelError, match=r"CompactNet has no points for adapters .* tune the mask decoder"):
        Lora().inject(model.network)


def test_only_an_encoder_with_points_takes_adapters():
    encoder = vit(GRID)
    with pytest.raises(ModelError, match="has no points for adapters"):
        Lora().inject(SimpleNamespace(image_encoder=encoder))
    Lora().inject(SimpleNamespace(image_encoder=AdaptableEncoder(encoder)))

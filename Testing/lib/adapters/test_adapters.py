"""Adapters: what holds for each method of the registry, and LoRA's own numbers."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from tiny_encoders import frames, relative_error, stock, vit
from tiny_sams import tiny_sam
from torch import nn

from SAMLungSegLib.adapters import adapter_class, adapter_from, adapter_names, register_adapter, registry
from SAMLungSegLib.adapters.base import (
    Adapter,
    BlockAdapter,
    adapter_in,
    adapter_parameters,
    adapter_state,
    load_adapter_state,
    merge_adapter,
    remove_adapter,
)
from SAMLungSegLib.adapters.lora import Lora
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.sam.encoder import AdaptableEncoder, FastEncoder
from SAMLungSegLib.models.sam.model import SamModel

GRID, WIDTH = 20, 48
TOLERANCE = 3e-6


def network(grid: int = GRID) -> SimpleNamespace:
    return SimpleNamespace(image_encoder=AdaptableEncoder(vit(grid)).eval())


def trained(adapter: Adapter, std: float = 0.3) -> SimpleNamespace:
    """A network whose adapters have learned anything."""
    one = network()
    adapter.inject(one)
    torch.manual_seed(3)
    for parameter in adapter_parameters(one):
        nn.init.normal_(parameter, std=std)
    return one


def plain(encoder: AdaptableEncoder) -> ImageEncoderViT:
    """segment_anything's own module with the weights of an encoder without adapters."""
    own = vit(GRID)
    own.load_state_dict(encoder.state_dict())
    return own


# ---- each method


@pytest.mark.parametrize("name", adapter_names())
def test_a_new_adapter_changes_no_number(name):
    one, images = network(), frames(GRID, adapter_class(name)().slices_per_input)
    before = FastEncoder(one.image_encoder)(images)
    adapter_class(name)().inject(one)
    assert torch.equal(FastEncoder(one.image_encoder)(images), before)


@pytest.mark.parametrize("name", adapter_names())
def test_both_ways_agree_once_it_is_trained(name):
    one = trained(adapter_class(name)())
    images = frames(GRID, one.image_encoder.slices_per_input)
    fast, own = FastEncoder(one.image_encoder)(images), one.image_encoder(images).detach()
    assert relative_error(fast, own) <= TOLERANCE
    remove_adapter(one)
    assert relative_error(fast, FastEncoder(one.image_encoder)(images)) > 0.01


@pytest.mark.parametrize("name", adapter_names())
def test_its_settings_and_weights_make_it_again(name):
    one, other = trained(adapter_class(name)()), network()
    made = adapter_in(one)
    again = adapter_from(made.name, made.settings)
    assert again == made
    again.inject(other)
    load_adapter_state(other, adapter_state(one), what="file")
    images = frames(GRID, one.image_encoder.slices_per_input)
    assert torch.equal(FastEncoder(other.image_encoder)(images), FastEncoder(one.image_encoder)(images))


@pytest.mark.parametrize("name", adapter_names())
def test_only_adapters_are_named_to_training(name):
    model = SamModel(tiny_sam(), name="tiny")
    own = {id(one) for one in model.network.parameters()}
    adapter_class(name)().inject(model.network)
    parameters = adapter_parameters(model.network)
    assert parameters and not own & {id(one) for one in parameters}
    assert [*model.part("adapters").parameters()] == parameters
    assert not any(one.requires_grad for one in model.network.parameters())


# ---- the registry


def test_a_method_registers_itself_and_its_name_is_taken(monkeypatch):
    monkeypatch.setattr(registry.METHODS, "_classes", dict(registry.METHODS._classes))

    @register_adapter("nothing")
    @dataclass(frozen=True)
    class Nothing(Adapter):
        strength: float = 1.0

        def block_adapter(self, block, number, count):
            return None

    assert {"lora", "nothing"} <= set(adapter_names())
    assert adapter_from("nothing", {"strength": 2.0}) == Nothing(2.0)
    with pytest.raises(ModelError, match="an adapter 'nothing' already, Nothing; choose another name"):
        register_adapter("nothing")(Nothing)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lara", {}, "There is no adapter 'lara'; choose one of lora"),
        ("lora", {"ranks": 4}, "has no setting 'ranks'; it has rank, alpha, targets"),
        ("lora", {"rank": 0}, "of rank 0 is not possible"),
        ("lora", {"rank": "4"}, "of rank '4' is not possible"),
        ("lora", {"rank": True}, "of rank True is not possible"),
        ("lora", {"alpha": -1.0}, "alpha -1.0 is not possible"),
        ("lora", {"alpha": float("inf")}, "alpha inf is not possible"),
        ("lora", {"alpha": None}, "alpha None is not possible"),
        ("lora", {"targets": []}, "choose of q, k, v"),
        ("lora", {"targets": ["q", "o"]}, "choose of q, k, v"),
        ("lora", {"targets": ["q", "q"]}, "each once"),
        ("lora", {"targets": "qv"}, "choose of q, k, v"),
        ("lora", {"targets": [["q"]]}, "choose of q, k, v"),
    ],
    ids=str,
)
def test_what_no_card_can_mean_is_refused_in_words(name, settings, message):
    with pytest.raises(ModelError, match=message):
        adapter_from(name, settings)


# ---- in a network


def test_a_network_has_one_adapter_at_a_time():
    one = network()
    with pytest.raises(ModelError, match="has no adapters; inject some first"):
        adapter_state(one)
    Lora().inject(one)
    with pytest.raises(ModelError, match="has the adapter 'lora' already; merge or remove it first"):
        Lora(rank=1).inject(one)
    remove_adapter(one)
    Lora(rank=1).inject(one)


def test_weights_of_another_rank_are_refused_and_nothing_is_loaded():
    one, other = trained(Lora(rank=2)), trained(Lora(rank=3))
    before = adapter_state(other)
    for state in (adapter_state(one), {}, {**before, "image_encoder.adapters.9.down.q": torch.zeros(3, WIDTH)}):
        with pytest.raises(ModelError, match=r"weights file do not fit the adapter 'lora' with .*'rank': 3"):
            load_adapter_state(other, state, what="file")
    assert all(torch.equal(value, before[name]) for name, value in adapter_state(other).items())


# ---- LoRA


def test_lora_adds_its_product_to_queries_and_values_alone():
    """Tokens (2, 1), down (1, 1), up 3: 2 + 1 = 3, times 3, times alpha / rank = 2 / 1: 18 more for q and v."""
    block = SimpleNamespace(attn=SimpleNamespace(qkv=nn.Linear(2, 6)))
    one = Lora(rank=1, alpha=2.0).block_adapter(block, 0, 1)
    for target in ("q", "v"):
        one.down[target].data.fill_(1)
        one.up[target].data.fill_(3)
    qkv = torch.arange(6.0)[None]
    assert one.on_qkv(torch.tensor([[2.0, 1.0]]), qkv).tolist() == [[18, 19, 2, 3, 22, 23]]


@pytest.mark.parametrize("targets", [("q", "v"), ("k",), ("v", "q", "k")], ids="".join)
def test_merged_weights_in_the_stock_module_do_what_lora_did(targets):
    one = trained(Lora(rank=3, alpha=1.5, targets=targets))
    images = frames(GRID)
    before = FastEncoder(one.image_encoder)(images)
    merge_adapter(one)
    assert not one.image_encoder.adapters and one.image_encoder.adapter is None
    assert relative_error(before, stock(plain(one.image_encoder), images)) <= TOLERANCE
    assert torch.equal(FastEncoder(one.image_encoder)(images), FastEncoder(plain(one.image_encoder))(images))


def test_merging_changes_the_rows_of_the_targets_by_the_product_rounded_once():
    one = trained(Lora(rank=2, alpha=3.0, targets=("v",)))
    block, adapter = one.image_encoder.blocks[1], one.image_encoder.adapters["1"]
    old, product = block.attn.qkv.weight.detach().clone(), adapter.up["v"].double() @ adapter.down["v"].double()
    merge_adapter(one)
    new = block.attn.qkv.weight.detach()
    assert torch.equal(new[: 2 * WIDTH], old[: 2 * WIDTH])
    assert torch.equal(new[2 * WIDTH :], (old[2 * WIDTH :].double() + 1.5 * product.detach()).float())
    assert not torch.equal(new[2 * WIDTH :], old[2 * WIDTH :])


def test_what_cannot_be_merged_is_refused_and_stays():
    one = network()
    one.image_encoder.adapters["0"], one.image_encoder.adapter = BlockAdapter(), Lora()
    with pytest.raises(ModelError, match="cannot be merged; use it with --weights"):
        merge_adapter(one)
    assert "0" in one.image_encoder.adapters


def test_half_precision_is_not_merged():
    one = trained(Lora())
    one.image_encoder.blocks.to(torch.bfloat16)
    before = deepcopy(one.image_encoder.state_dict())
    with pytest.raises(ModelError, match="in float32 only; load the model without dtype"):
        merge_adapter(one)
    assert all(torch.equal(value, before[name]) for name, value in one.image_encoder.state_dict().items())

"""SimAda's bottlenecks and LoRA by their formulas: outputs, gradients, numbers of weights, published placements."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tiny_encoders import frames, relative_error, stock, vit
from torch import nn

from SAMLungSegLib.adapters import adapter_from
from SAMLungSegLib.adapters.base import Adapter, adapter_in, adapter_state, merge_adapter
from SAMLungSegLib.adapters.bottleneck import Mixed, Parallel, Series
from SAMLungSegLib.adapters.lora import Lora
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.sam.encoder import AdaptableEncoder, FastEncoder

GRID, WIDTH = 20, 48
TOLERANCE = 3e-6
METHODS = [
    method(placement=placement) for method in (Series, Parallel, Mixed) for placement in ("default", "published")
]
# what is added to (kept of) the attention's and the MLP's output, of x in and y out, by bottlenecks a and m
FORMULAS = {
    ("series", "default"): (lambda a, x, y: y + 0.5 * a(y), lambda m, x, y: y + 0.5 * m(y)),
    ("parallel", "default"): (lambda a, x, y: y + 0.5 * a(x), lambda m, x, y: y + 0.5 * m(x)),
    ("mixed", "default"): (lambda a, x, y: y + 0.5 * a(y), lambda m, x, y: y + 0.5 * m(x)),
    ("series", "published"): (lambda a, x, y: y + a(y), lambda m, x, y: 0.5 * m(y)),
    ("parallel", "published"): (lambda a, x, y: y + 0.5 * (y + a(y)), lambda m, x, y: y + 0.5 * m(x)),
    ("mixed", "published"): (lambda a, x, y: y + a(y), lambda m, x, y: y + 0.5 * m(x)),
}


def named(adapter: Adapter) -> str:
    return f"{adapter.name} {adapter.placement}"


def network(adapter: Adapter | None = None, *, std: float | None = None) -> SimpleNamespace:
    one = SimpleNamespace(image_encoder=AdaptableEncoder(vit(GRID)).eval())
    if adapter is not None:
        torch.manual_seed(3)
        adapter.inject(one)
        for parameter in one.image_encoder.adapters.parameters() if std else ():
            nn.init.normal_(parameter, std=std)
    return one


def naive(adapter: Adapter, weights: dict[str, torch.Tensor]):
    """segment_anything's own module with the formulas as hooks, of weights by their names in the network."""
    encoder = deepcopy(vit(GRID)).double().requires_grad_(False)
    attention, mlp = FORMULAS[adapter.name, adapter.placement]
    for number, block in enumerate(encoder.blocks):

        def bottleneck(x, point, number=number):
            down, down_bias, up, up_bias = (
                weights[f"image_encoder.adapters.{number}.{point}.{layer}.{kind}"]
                for layer in ("down", "up")
                for kind in ("weight", "bias")
            )
            return F.gelu(x @ down.T + down_bias) @ up.T + up_bias

        block.attn.register_forward_hook(
            lambda _module, args, out, of=bottleneck: attention(lambda x: of(x, "attention"), args[0], out)
        )
        block.mlp.register_forward_hook(
            lambda _module, args, out, of=bottleneck: mlp(lambda x: of(x, "mlp"), args[0], out)
        )
    return encoder


@pytest.mark.parametrize("adapter", METHODS, ids=named)
def test_outputs_and_gradients_are_those_of_the_formulas_in_the_stock_module(adapter):
    one = network(adapter, std=0.3)
    own = deepcopy(one.image_encoder).double().requires_grad_(False)
    own.adapters.requires_grad_(True)
    weights = {name: value.double().requires_grad_(True) for name, value in adapter_state(one).items()}
    images, pull = frames(GRID).double(), torch.randn(1, 32, GRID, GRID, generator=torch.Generator().manual_seed(5))
    outputs = own(images), naive(adapter, weights)(images)
    assert relative_error(FastEncoder(one.image_encoder)(images.float()), outputs[1].float().detach()) <= TOLERANCE
    assert torch.allclose(*outputs, rtol=1e-9, atol=1e-9)
    for out in outputs:
        (out * pull).sum().backward()
    got = {f"image_encoder.adapters.{name}": value.grad for name, value in own.adapters.named_parameters()}
    assert got.keys() == weights.keys()
    for name, value in weights.items():
        assert got[name].abs().max() > 0
        assert torch.allclose(got[name], value.grad, rtol=1e-6, atol=1e-9 * float(value.grad.abs().max())), name


@pytest.mark.parametrize("adapter", METHODS, ids=named)
def test_only_the_default_placement_begins_as_the_base_model(adapter):
    images = frames(GRID)
    before, after = (FastEncoder(one.image_encoder)(images) for one in (network(), network(adapter)))
    if adapter.placement == "default":
        assert torch.equal(after, before)
    else:
        assert relative_error(after, before) > 0.01


def test_series_adds_half_of_what_it_makes_of_a_layers_output():
    """Down 1 for both of 2 channels, up 2, no biases: of y = (2, 2), gelu(4) = 3.99987, so 2 + 0.5 * 2 * 3.99987."""
    block = SimpleNamespace(attn=SimpleNamespace(qkv=nn.Linear(2, 6)))
    one = Series(ratio=0.5).block_adapter(block, 0, 1)
    for bottleneck in (one.attention, one.mlp):
        bottleneck.down.weight.data.fill_(1)
        bottleneck.down.bias.data.zero_()
        bottleneck.up.weight.data.fill_(2)
    x, y = torch.tensor([[9.0, 9.0]]), torch.tensor([[2.0, 2.0]])
    assert one.on_attention(x, y, nn.Identity()).tolist() == [pytest.approx([5.99987, 5.99987], abs=1e-5)]
    assert one.on_mlp(x, y).tolist() == [pytest.approx([5.99987, 5.99987], abs=1e-5)]


@pytest.mark.parametrize(
    ("adapter", "count"),
    [
        # 12 blocks of 2 bottlenecks, each 768 to 192 and back with biases: 2 * 768 * 192 + 192 + 768 = 295,872
        (Series(), 7_100_928),
        (Parallel(), 7_100_928),
        (Mixed(placement="published"), 7_100_928),
        (Series(ratio=0.5), 12 * 2 * (2 * 768 * 384 + 384 + 768)),
        (Lora(), 147_456),  # 12 blocks of q and v, each 768 to 4 and back: 2 * 2 * 768 * 4 = 12,288
        (Lora(rank=8, targets=("q", "k", "v")), 442_368),
    ],
    ids=str,
)
def test_vit_b_gets_as_many_weights_as_the_formula_says(adapter, count):
    block = SimpleNamespace(attn=SimpleNamespace(qkv=nn.Linear(768, 3 * 768)))
    made = [adapter.block_adapter(block, number, 12) for number in range(12)]
    assert sum(value.numel() for one in made for value in one.parameters()) == count


@pytest.mark.parametrize("adapter", [Series(), Parallel(), Mixed()], ids=named)
def test_bottlenecks_are_not_merged(adapter):
    one = network(adapter)
    with pytest.raises(ModelError, match="cannot be merged; use it with --weights"):
        merge_adapter(one)
    assert adapter_in(one) == adapter


def test_published_lora_begins_with_random_products_and_merges_all_the_same():
    images = frames(GRID)
    one = network(Lora(placement="published"))
    for name, value in adapter_state(one).items():
        bound = 0.5 if ".up." in name else WIDTH**-0.5  # as torch begins a linear layer that reads 4 or 48 numbers
        assert 0.8 * bound < float(value.abs().max()) <= bound
    before = FastEncoder(one.image_encoder)(images)
    assert relative_error(before, FastEncoder(network().image_encoder)(images)) > 0.01
    merge_adapter(one)
    merged = vit(GRID)
    merged.load_state_dict(one.image_encoder.state_dict())
    assert relative_error(before, stock(merged, images)) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("series", {"ratio": 0}, "'series' with ratio 0 is not possible; give a positive number"),
        ("parallel", {"ratio": "0.5"}, "ratio '0.5' is not possible"),
        ("mixed", {"scale": float("nan")}, "scale nan is not possible"),
        ("mixed", {"scale": True}, "scale True is not possible"),
        ("series", {"placement": "paper"}, "placement 'paper' is not possible; choose of default, published"),
        ("lora", {"placement": ["default"]}, "is not possible; choose of default, published"),
        ("series", {"rank": 4}, "has no setting 'rank'; it has ratio, scale, placement"),
    ],
    ids=str,
)
def test_settings_that_are_not_possible_are_refused_in_words(name, settings, message):
    with pytest.raises(ModelError, match=message):
        adapter_from(name, settings)

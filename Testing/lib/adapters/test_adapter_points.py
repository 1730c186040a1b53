"""The points at which the encoder calls adapters: the same, fast and with gradients, as hooks on the stock module."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from tiny_encoders import GRIDS, TOLERANCE, frames, relative_error, stock, vit
from torch import nn

from SAMLungSegLib.adapters.base import Adapter, BlockAdapter
from SAMLungSegLib.models.sam.encoder import AdaptableEncoder, FastEncoder

PADDED = GRIDS["two rows of padded windows"]
POINTS = ("on_qkv", "on_attention", "on_mlp")


class Everywhere(BlockAdapter):
    """Acts at each point on what went in and on what came out; on padded tokens, which are zeros, by its biases."""

    def __init__(self, width: int, points: tuple[str, ...]):
        super().__init__()
        self.points = points
        self.qkv, self.attention, self.mlp = (nn.Linear(width, width * times) for times in (3, 1, 1))

    def on_qkv(self, tokens, qkv):
        return qkv * 0.9 + self.qkv(tokens) if "on_qkv" in self.points else qkv

    def on_attention(self, tokens, attended, attention):
        return attended * 0.5 + self.attention(tokens) if "on_attention" in self.points else attended

    def on_mlp(self, tokens, out):
        return out * 2 - self.mlp(tokens).relu() if "on_mlp" in self.points else out


@dataclass(frozen=True)
class Anywhere(Adapter):
    """In all blocks but the first."""

    points: tuple[str, ...] = POINTS
    name = "anywhere"

    def block_adapter(self, block, number, count):
        torch.manual_seed(number)
        return Everywhere(block.attn.qkv.in_features, self.points) if number else None


def adapted(encoder, adapter: Adapter) -> AdaptableEncoder:
    adaptable = AdaptableEncoder(deepcopy(encoder))
    adapter.inject(SimpleNamespace(image_encoder=adaptable))
    return adaptable.eval()


def hooked(encoder, adaptable: AdaptableEncoder):
    """segment_anything's own module with the same adapters as hooks, which stands in for a reference."""
    encoder = deepcopy(encoder)
    for number, block in enumerate(encoder.blocks):
        one = adaptable.adapter_of(number)
        block.attn.qkv.register_forward_hook(lambda _module, args, out, one=one: one.on_qkv(args[0], out))
        block.attn.register_forward_hook(lambda module, args, out, one=one: one.on_attention(args[0], out, module))
        block.mlp.register_forward_hook(lambda _module, args, out, one=one: one.on_mlp(args[0], out))
    return encoder


@pytest.mark.parametrize("points", [*((point,) for point in POINTS), POINTS], ids=" ".join)
def test_a_point_does_in_both_ways_what_a_hook_does_in_the_stock_module(points):
    encoder = vit(PADDED)
    adaptable = adapted(encoder, Anywhere(points))
    expected = stock(hooked(encoder, adaptable), frames(PADDED, 2))
    fast, own = FastEncoder(adaptable)(frames(PADDED, 2)), adaptable(frames(PADDED, 2)).detach()
    assert relative_error(fast, expected) <= TOLERANCE
    assert relative_error(own, expected) <= TOLERANCE
    assert relative_error(fast, stock(encoder, frames(PADDED, 2))) > 0.01


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_without_adapters_the_numbers_are_exactly_those_of_the_stock_module(grid):
    encoder = vit(grid)
    adaptable = AdaptableEncoder(deepcopy(encoder))
    assert torch.equal(stock(adaptable, frames(grid)), stock(encoder, frames(grid)))
    assert torch.equal(FastEncoder(adaptable)(frames(grid)), FastEncoder(encoder)(frames(grid)))
    assert adaptable.state_dict().keys() == encoder.state_dict().keys()


def test_attention_is_adapted_outside_of_windows_so_that_slices_of_a_stack_can_see_each_other():
    """What went in and came out is the whole grid of all slices; here each slice gets the mean of all."""
    seen = []

    class Mean(BlockAdapter):
        def on_attention(self, tokens, attended, attention):
            seen.append((tokens.shape, attended.shape, attention.qkv.in_features))
            return attended.mean(0, keepdim=True).expand_as(attended)

    encoder = AdaptableEncoder(vit(PADDED, depth=1, global_blocks=()))
    encoder.adapters["0"], encoder.adapter = Mean(), Anywhere()
    images = frames(PADDED, 3)
    fast, own = FastEncoder(encoder)(images), encoder(images).detach()
    assert seen == [((3, PADDED, PADDED, 48), (3, PADDED, PADDED, 48), 48)] * 2
    assert relative_error(fast, own) <= TOLERANCE
    assert relative_error(FastEncoder(encoder)(images[:1]), own[:1]) > 0.01


def test_adapters_have_names_of_their_own_block_in_the_weights():
    encoder = adapted(vit(PADDED), Anywhere())
    names = {name for name in encoder.state_dict() if name.startswith("adapters.")}
    assert names == {
        f"adapters.{number}.{layer}.{kind}"
        for number in (1, 2, 3)
        for layer in ("qkv", "attention", "mlp")
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("grid", [PADDED, GRIDS["smaller than a window"]])
def test_gradients_reach_adapters_through_every_point(grid):
    """By autograd, and by a small step along the gradient, which must change the sum by the step times its square."""
    encoder = adapted(vit(grid).double(), Anywhere())
    encoder.double()
    images = frames(grid).double()
    parameters = dict(encoder.adapters.named_parameters())
    for one in encoder.parameters():
        one.requires_grad_(False)
    for one in parameters.values():
        one.requires_grad_(True)
    before = encoder(images).square().sum()
    before.backward()
    assert all(one.grad is not None and one.grad.abs().max() > 0 for one in parameters.values())
    assert encoder.pos_embed.grad is None
    square = sum(float(one.grad.square().sum()) for one in parameters.values())
    step = 1e-6 * float(before.detach()) / square
    with torch.no_grad():
        for one in parameters.values():
            one += step * one.grad
        change = float(encoder(images).square().sum() - before)
    assert change == pytest.approx(step * square, rel=1e-3)


def test_smaller_frames_are_adapted_alike():
    encoder = adapted(vit(PADDED), Anywhere())
    assert relative_error(FastEncoder(encoder)(frames(10)), encoder(frames(10)).detach()) <= TOLERANCE


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 5e-2), (torch.float16, 5e-3)], ids=str)
def test_adapters_in_float32_work_in_an_encoder_in_half_precision(dtype, tolerance):
    from SAMLungSegLib.adapters.lora import Lora

    encoder = adapted(vit(PADDED), Lora(rank=2))
    for one in encoder.adapters.parameters():
        nn.init.normal_(one, std=0.2)
    expected = FastEncoder(encoder)(frames(PADDED))
    for part in (encoder.patch_embed, encoder.blocks, encoder.neck):
        part.to(dtype)
    assert {one.dtype for one in encoder.adapters.parameters()} == {torch.float32}
    half = FastEncoder(encoder)(frames(PADDED))
    assert half.dtype == dtype
    assert 0 < relative_error(half, expected) <= tolerance

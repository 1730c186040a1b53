"""Med-SA's adapters: by their formulas, along depth, and in models that are given a slice amid its neighbours."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from tiny_encoders import GRIDS, frames, relative_error, vit
from tiny_sams import tiny_sam
from torch import nn
from tuning_sets import chest, register_tiny_sam, write_set

from SAMLungSegLib.adapters import adapter_from
from SAMLungSegLib.adapters.base import adapter_in, adapter_parameters, adapter_state, remove_adapter
from SAMLungSegLib.adapters.hyper import HyperBottleneck
from SAMLungSegLib.adapters.medical import MedSa, attend_along_depth
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.adapted import save_adapter
from SAMLungSegLib.models.base import ModelView
from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.models.sam.encoder import AdaptableEncoder, FastEncoder
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline.volume import segment_volume
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.training.adapters import AdapterConfig, AdapterTask, PromptedSlice, fit_adapters
from SAMLungSegLib.training.data.cases import StudyCase, Windowing
from SAMLungSegLib.training.data.examples import Example, read_examples
from SAMLungSegLib.training.example_changes import ExampleChanges
from SAMLungSegLib.volume import Volume

GRID = GRIDS["two rows of padded windows"]
STACK = np.stack([chest(seed)[0] for seed in range(3)])
POINT = PromptSet((PointPrompt((22.0, 48.0)),))
STEPS = 40


def network(adapter: MedSa) -> SimpleNamespace:
    """A network whose adapters have learned anything."""
    one = SimpleNamespace(image_encoder=AdaptableEncoder(vit(GRID)).eval())
    adapter.inject(one)
    learned(one)
    return one


def learned(network) -> None:
    torch.manual_seed(3)
    for parameter in adapter_parameters(network):
        nn.init.normal_(parameter, std=0.3)


def model(adapter: MedSa | None = None) -> SamModel:
    one = SamModel(tiny_sam(), name="tiny")
    (adapter or MedSa()).inject(one.network)
    learned(one.network)
    return one


def features(embedding) -> torch.Tensor:
    return embedding.features[0].detach()


# ---- by the formulas


def naive_depth(attention: nn.Module, x: torch.Tensor, slices: int) -> torch.Tensor:
    """Each place's slices as a sequence of their own, one stack, place and head after the other."""
    out = torch.empty_like(x)
    width = x.shape[-1] // attention.num_heads
    for first in range(0, len(x), slices):
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                sequence = x[first : first + slices, row, column]
                query, key, value = attention.qkv(sequence).chunk(3, -1)
                mixed = []
                for head in range(attention.num_heads):
                    part = slice(head * width, (head + 1) * width)
                    scores = query[:, part] @ key[:, part].T / width**0.5
                    mixed.append(scores.softmax(-1) @ value[:, part])
                out[first : first + slices, row, column] = attention.proj(torch.cat(mixed, -1))
    return out


def test_attention_along_depth_is_that_of_each_places_sequence():
    attention = vit(6).double().blocks[0].attn
    x = torch.randn(6, 4, 5, 48, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        assert torch.allclose(attend_along_depth(attention, x, 3), naive_depth(attention, x, 3), rtol=1e-9)


def test_among_equal_slices_attention_along_depth_is_the_projected_value():
    """Weights that sum to 1 over equal values give that value."""
    attention = vit(6).double().blocks[0].attn
    x = torch.randn(1, 4, 5, 48, generator=torch.Generator().manual_seed(2)).double()
    expected = attention.proj(attention.qkv(x)[..., 96:])
    got = attend_along_depth(attention, x.expand(3, -1, -1, -1), 3)
    assert torch.allclose(got, expected.expand(3, -1, -1, -1), rtol=1e-9)


def test_outputs_and_gradients_are_those_of_the_formulas_at_the_points():
    one = network(MedSa())
    own = deepcopy(one.image_encoder).double().requires_grad_(False)
    own.adapters.requires_grad_(True)
    weights = {name: value.double().requires_grad_(True) for name, value in adapter_state(one).items()}
    images, pull = frames(GRID, 3).double(), torch.randn(3, 32, GRID, GRID, generator=torch.Generator().manual_seed(5))
    outputs = own(images), naive(weights)(images)
    assert relative_error(FastEncoder(one.image_encoder)(images.float()), outputs[1].float().detach()) <= 3e-6
    assert torch.allclose(*outputs, rtol=1e-9, atol=1e-9)
    for out in outputs:
        (out * pull).sum().backward()
    got = {f"image_encoder.adapters.{name}": value.grad for name, value in own.adapters.named_parameters()}
    assert got.keys() == weights.keys() and any(".depth." in name for name in got)
    for name, value in weights.items():
        assert got[name].abs().max() > 0
        assert torch.allclose(got[name], value.grad, rtol=1e-6, atol=1e-9 * float(value.grad.abs().max())), name


def naive(weights: dict[str, torch.Tensor]):
    """segment_anything's own module with hooks; within its windows, which hold the same places of all slices."""
    encoder = vit(GRID).double().requires_grad_(False)
    for number, block in enumerate(encoder.blocks):

        def bottleneck(x, which, number=number):
            down, down_bias, up, up_bias = (
                weights[f"image_encoder.adapters.{number}.{which}.{layer}.{kind}"]
                for layer in ("down", "up")
                for kind in ("weight", "bias")
            )
            return F.gelu(x @ down.T + down_bias) @ up.T + up_bias

        def attention(module, args, y, of=bottleneck):
            windows = args[0].unflatten(0, (3, -1))  # of three slices
            flat = windows.flatten(1, 2)
            sequences = module.qkv(flat).unflatten(-1, (3, module.num_heads, -1))
            query, key, value = sequences.unbind(-3)
            scores = torch.einsum("iphwc,jphwc->phwij", query, key) / query.shape[-1] ** 0.5
            mixed = torch.einsum("phwij,jphwc->iphwc", scores.softmax(-1), value).flatten(-2)
            return y + of(y, "space") + of(module.proj(mixed).reshape(y.shape), "depth")

        block.attn.register_forward_hook(attention)
        block.mlp.register_forward_hook(lambda _m, args, y, of=bottleneck: y + 0.5 * of(args[0], "mlp"))
    return encoder


@pytest.mark.parametrize(("slices", "count"), [(3, 10_651_392), (1, 7_100_928)])
def test_the_encoder_of_vit_b_gets_as_many_weights_as_the_formula_says(slices, count):
    """12 blocks of 3 bottlenecks, or of 2 without depth, each of 2 * 768 * 192 + 192 + 768 = 295,872."""
    block = SimpleNamespace(attn=SimpleNamespace(qkv=nn.Linear(768, 3 * 768)))
    made = [MedSa(slices=slices).block_adapter(block, number, 12) for number in range(12)]
    assert sum(value.numel() for one in made for value in one.parameters()) == count


# ---- in the mask decoder


def decoder_inputs(prompts: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    size = {
        "image_embeddings": (1, 32, 16, 16),
        "image_pe": (1, 32, 16, 16),
        "dense_prompt_embeddings": (1, 32, 16, 16),
    }
    made = {name: torch.randn(*one, generator=generator).double() for name, one in size.items()}
    sparse = torch.randn(1, prompts, 32, generator=generator).double()
    return {**made, "sparse_prompt_embeddings": sparse, "multimask_output": True}


def decoders(learn: bool = True):
    """The decoder of a model with adapters, in double precision, and segment_anything's own with the same weights."""
    one = SamModel(tiny_sam(), name="tiny")
    MedSa().inject(one.network)
    if learn:
        learned(one.network)
    stock = tiny_sam().double().mask_decoder.eval().requires_grad_(False)
    one.network.double()
    return one.network, stock


def naive_decoder(stock, weights: dict[str, torch.Tensor], inputs: dict) -> torch.Tensor:
    """Masks of segment_anything's decoder with the adapters' formulas as hooks, of weights by their names."""
    prompt = inputs["sparse_prompt_embeddings"].mean(1) if inputs["sparse_prompt_embeddings"].shape[1] else 0
    handles = []
    for number, layer in enumerate(stock.transformer.layers):

        def w(name, number=number):
            return weights[f"image_encoder.adapters.decoder_{number}.{name}"]

        def linear(x, name, w=w):
            return x @ w(f"{name}.weight").T + w(f"{name}.bias")

        def hyper(_module, _args, y, linear=linear, w=w):
            mean = prompt + torch.zeros(1, 32).double()
            made = linear(linear(mean, "hyper.prompt.0").clamp(min=0), "hyper.prompt.2").view(-1, 8, 8)
            low = torch.einsum("bti,bij->btj", linear(y, "hyper.down"), made)
            centred = low - low.mean(-1, keepdim=True)
            normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            normed = normed * w("hyper.norm.weight") + w("hyper.norm.bias")
            return y + linear(normed.clamp(min=0), "hyper.up")

        def bottleneck(x, which, linear=linear):
            return linear(F.gelu(linear(x, f"{which}.down")), f"{which}.up")

        handles += [
            layer.cross_attn_token_to_image.register_forward_hook(hyper),
            layer.mlp.register_forward_hook(lambda _m, args, y, of=bottleneck: y + 0.5 * of(args[0], "mlp")),
            layer.norm4.register_forward_pre_hook(lambda _m, args, of=bottleneck: args[0] + of(args[0], "image")),
        ]
    masks, _ = stock(**inputs)
    for handle in handles:
        handle.remove()
    return masks


@pytest.mark.parametrize("prompts", [2, 1, 0])
def test_masks_and_gradients_are_those_of_the_formulas_in_the_stock_decoder(prompts):
    network, stock = decoders()
    inputs = decoder_inputs(prompts)
    own = {name: one for name, one in network.image_encoder.adapters.named_parameters() if name.startswith("decoder_")}
    weights = {f"image_encoder.adapters.{name}": one.detach().clone().requires_grad_(True) for name, one in own.items()}
    for one in own.values():
        one.requires_grad_(True)
    outputs = network.mask_decoder(**inputs)[0], naive_decoder(stock, weights, inputs)
    assert torch.allclose(*outputs, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(outputs[0], stock(**inputs)[0], rtol=1e-2)
    pull = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(6)).double()
    for out in outputs:
        (out * pull).sum().backward()
    assert len(own) == 2 * 18  # weights and biases of 9 layers in 2 blocks
    for name, one in own.items():
        expected = weights[f"image_encoder.adapters.{name}"].grad
        assert torch.allclose(one.grad, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max())), name


def test_a_new_adapter_changes_no_mask():
    network, stock = decoders(learn=False)
    for prompts in (2, 0):
        assert torch.allclose(
            network.mask_decoder(**decoder_inputs(prompts))[0], stock(**decoder_inputs(prompts))[0], rtol=1e-12
        )


def test_the_prompt_decides_what_the_first_adapter_does():
    """Half of the prompt's tokens swapped changes nothing, for their mean counts; another prompt does."""
    one = HyperBottleneck(8, 0.5)
    torch.manual_seed(3)
    nn.init.normal_(one.up.weight)
    x, prompt = torch.randn(1, 5, 8), torch.randn(1, 2, 8)
    assert torch.allclose(one(x, prompt), one(x, prompt.flip(1)), atol=1e-6)
    assert not torch.allclose(one(x, prompt), one(x, 2 * prompt + 1), atol=1e-2)


def test_the_decoders_weights_keep_their_names_and_the_adapters_have_theirs():
    network, stock = decoders()
    assert network.mask_decoder.state_dict().keys() == stock.state_dict().keys()
    assert {name.split(".")[2] for name in adapter_state(network)} == {"0", "1", "decoder_0", "decoder_1"}
    remove_adapter(network)
    assert torch.equal(network.mask_decoder(**decoder_inputs())[0], stock(**decoder_inputs())[0])


def test_the_decoder_of_vit_b_gets_as_many_weights_as_the_formula_says():
    """d 256, h 64: 2 bottlenecks of 33,088, one more with a norm of 128 and 256 to 64 to 64 * 64: 282,688; 2 blocks."""
    made = [MedSa().decoder_adapter(256) for _ in range(2)]
    assert sum(value.numel() for one in made for value in one.parameters()) == 764_160
    assert 2 * (3 * 33_088 + 128 + 282_688) == 764_160


def test_a_decoder_that_is_not_sams_own_is_refused_and_nothing_changed():
    sam = tiny_sam()
    sam.mask_decoder.forward = sam.mask_decoder.forward  # patched
    one = SamModel(sam, name="tiny")
    with pytest.raises(ModelError, match="mask decoder MaskDecoder has no points for adapters"):
        MedSa().inject(one.network)
    assert one.network.image_encoder.adapter is None and not one.network.image_encoder.adapters
    MedSa(decoder=False).inject(one.network)


# ---- along depth


@pytest.mark.parametrize("blocks", ["windowed", "global"])
def test_a_slice_sees_its_neighbours_and_no_other_stack(blocks):
    encoder = AdaptableEncoder(vit(GRID, depth=1, global_blocks=(0,) if blocks == "global" else ()))
    one = SimpleNamespace(image_encoder=encoder.eval())
    MedSa().inject(one)
    learned(one)
    images = frames(GRID, 6)
    before = FastEncoder(encoder)(images)
    images[2] += 1
    moved = (FastEncoder(encoder)(images) - before).abs().amax((1, 2, 3)) / before.abs().max()
    assert (moved[:3] > 0.01).all() and (moved[3:] == 0).all()


def test_without_depth_a_slice_sees_itself_alone():
    encoder = network(MedSa(slices=1)).image_encoder
    images = frames(GRID, 2)
    both, first = FastEncoder(encoder)(images), FastEncoder(encoder)(images[:1])
    assert relative_error(both[:1], first) <= 3e-6


@pytest.mark.parametrize("way", [FastEncoder, lambda encoder: encoder])
def test_slices_that_are_no_whole_stacks_are_refused(way):
    with pytest.raises(ModelError, match="4 slices are no whole stacks of 3; encode stacks"):
        way(network(MedSa()).image_encoder)(frames(GRID, 4))


@pytest.mark.parametrize("slices", [0, 2, -1, 3.0, "3", True])
def test_stacks_without_a_middle_are_refused(slices):
    with pytest.raises(ModelError, match="is not possible; give an odd number"):
        adapter_from("med-sa", {"slices": slices})
    with pytest.raises(ModelError, match="decoder 1 is not possible; give true or false"):
        adapter_from("med-sa", {"decoder": 1})


# ---- in a model


def test_a_model_encodes_a_slice_amid_its_neighbours_in_both_ways():
    one = model()
    view = ModelView.amid(STACK)
    [fast], [own] = one.encode([view]), one.encode_batch([view])
    assert relative_error(features(own), features(fast)) <= 1e-5
    both = one.encode([ModelView(chest(8)[0]), view])
    assert relative_error(features(both[1]), features(fast)) <= 1e-5
    other = ModelView.amid(np.stack([STACK[0], STACK[1], chest(5)[0]]))
    assert relative_error(features(one.encode([other])[0]), features(fast)) > 0.001
    assert one.capabilities.slices_per_input == 3
    assert model(MedSa(slices=1)).capabilities.slices_per_input == 1


def test_a_volume_is_segmented_with_neighbours():
    """Four slices through a chest: each is encoded amid those that the model is shown beside it."""
    seen = []

    class Watched(SamModel):
        def encode(self, views):
            seen.extend(views)
            return super().encode(views)

    one = Watched(tiny_sam(), name="tiny")
    MedSa().inject(one.network)
    phantom = chest_ct(seed=0, size_kji=(4, 96, 96), spacing_mm=(60.0, 4.0, 4.0))
    segment_volume(Volume(phantom.hu_kji, phantom.ijk_to_ras, "phantom"), one)
    stacks = [view.stack(one.capabilities.slices_per_input) for view in seen]
    assert len(stacks) >= 2
    for below, above in pairwise(stacks):
        assert np.array_equal(below[1:], above[:2]) and not np.array_equal(below[1], below[2])


def test_a_slice_without_neighbours_stands_for_them():
    one = model()
    [alone], [among_equals] = one.encode([STACK[1]]), one.encode([ModelView.amid(STACK[[1, 1, 1]])])
    assert torch.equal(features(alone), features(among_equals))


def test_stored_embeddings_are_told_apart_by_their_neighbours(tmp_path):
    one = CachedModel(model(), EmbeddingCache(tmp_path))
    [alone], [amid], [again] = one.encode([STACK[1]]), one.encode([ModelView.amid(STACK)]), one.encode([STACK[1]])
    assert relative_error(features(amid), features(alone)) > 0.001
    assert torch.equal(features(again), features(alone))


def test_training_learns_what_only_neighbours_tell():
    """The slice is the same for both targets, everything and nothing, so that alone it would give the same for both."""
    grey, mask = chest(0)
    stacks = [np.stack([other, grey, other]) for other in (np.zeros_like(grey), np.full_like(grey, 255))]
    targets = np.ones_like(mask), np.zeros_like(mask)
    slices = [PromptedSlice(grey, POINT, target, stack) for target, stack in zip(targets, stacks, strict=True)]
    one = SamModel(tiny_sam(), name="tiny")
    for parameter in one.network.mask_decoder.output_hypernetworks_mlps.parameters():
        parameter.data *= 4
    torch.manual_seed(1)
    MedSa().inject(one.network)
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    fit_adapters(one, slices, AdapterConfig(steps=STEPS, batch=2, learning_rate=1e-2))
    changed = {name for name, value in one.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == adapter_state(one.network).keys()
    all_of_it, none_of_it = (one.decode(one.encode([two.view])[0], POINT).logits for two in slices)
    assert (all_of_it > 0).mean() - (none_of_it > 0).mean() > 0.3


def test_a_training_with_other_neighbours_is_another_one():
    one, grey, mask = model(), *chest(0)
    tasks = [AdapterTask(one, [PromptedSlice(grey, POINT, mask, stack)], AdapterConfig(1)) for stack in (None, STACK)]
    assert tasks[0].fingerprint != tasks[1].fingerprint


def test_examples_of_a_volume_have_their_neighbours_as_the_model_is_shown_them(tmp_path):
    """The first slice has none below and stands for it."""
    values = (np.arange(4 * 8 * 8).reshape(4, 8, 8) % 97).astype(np.uint8)
    mask = np.zeros((4, 8, 8), np.uint8)
    mask[:, 2:6, 1:3], mask[:, 2:6, 5:7] = 1, 2
    for name, array in (("image", values), ("mask", mask)):
        sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / f"{name}.nii.gz")
    case = StudyCase("set", "one", tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz")
    greys, _, _ = case.read_as_seen(Windowing())
    found = read_examples([case], Windowing(), slices_per_input=3)
    assert [one.number for one in found] == [0, 1, 2, 3]
    for one, neighbours in zip(found, ((0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3)), strict=True):
        assert np.array_equal(one.stack_nhw, np.stack([greys[number] for number in neighbours]))
        assert np.array_equal(one.view.stack(3), one.stack_nhw)
    assert read_examples([case], Windowing())[0].stack_nhw is None


def test_neighbours_are_changed_as_the_slice_itself():
    grey, mask = chest(0)
    stack = np.stack([grey, grey, 255 - grey])
    plain = Example("chest", 0, grey, mask.astype(np.uint8))
    changes = ExampleChanges("plain", 128)
    alone, changed = changes(plain, 7), changes(replace(plain, stack_nhw=stack), 7)
    assert np.array_equal(changed.grey_hw, alone.grey_hw) and alone.stack_nhw is None
    assert np.array_equal(changed.stack_nhw[0], changed.grey_hw)
    assert np.array_equal(changed.stack_nhw[1], changed.grey_hw)
    inverted = changes(replace(plain, grey_hw=255 - grey), 7)
    assert np.array_equal(changed.stack_nhw[2], inverted.grey_hw)


def test_the_file_and_its_card_bring_stacks_along(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    one = load_model("sam-vit-b", device="cpu")
    MedSa(slices=5).inject(one.network)
    learned(one.network)
    again = load_model("sam-vit-b", weights=save_adapter(tmp_path / "mine.safetensors", one), device="cpu")
    assert adapter_in(again.network) == MedSa(slices=5) and again.capabilities.slices_per_input == 5
    view = ModelView.amid(STACK)
    assert torch.equal(features(again.encode([view])[0]), features(one.encode([view])[0]))
    logits = [two.decode(two.encode([view])[0], POINT).logits for two in (again, one)]
    assert np.array_equal(*logits)
    without = load_model("sam-vit-b", device="cpu")
    assert not np.allclose(without.decode(one.encode([view])[0], POINT).logits, logits[0], atol=1e-3)


def test_the_command_trains_with_and_without_depth(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    data = write_set(tmp_path / "data", 8)
    folders = ("--images", str(data / "images"), "--masks", str(data / "masks"))
    options = ("--model", "sam-vit-b", "--learning-rate", "1e-2", "--epochs", "2", "--device", "cpu")
    for part in ("adapters:med-sa", "adapters:med-sa:slices=1,decoder=false"):
        assert main(["train", *folders, "-o", str(tmp_path / "out"), "--part", part, *options]) == 0
    with_depth, without = (
        load_file(tmp_path / "out" / f"sam-vit-b-{label}.safetensors")
        for label in ("adapters-med-sa", "adapters-med-sa-slices-1-decoder-false")
    )
    assert {name.split(".")[3] for name in with_depth} == {"space", "mlp", "depth", "hyper", "image"}
    assert {name.split(".")[3] for name in without} == {"space", "mlp"}

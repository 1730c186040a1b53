"""Slide-SAM's network: three slices in, three masks out, and as SAM before it is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry
from tiny_sams import relative_error, tiny_sam
from torch import nn
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adapters.base import adapter_parameters
from SAMLungSegLib.adapters.lora import Lora
from SAMLungSegLib.adapters.medical import MedSa
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.adapted import save_delta
from SAMLungSegLib.models.base import ModelView
from SAMLungSegLib.models.extensions import extend, extension_from
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.sam.slide import SlideParts, SlideSamModel, TriplePrediction
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet

SIZE = (256, 256)
RNG = np.random.default_rng(4)
SLICES = RNG.integers(0, 256, (3, *SIZE)).astype(np.uint8)
SLICES[:, 0, :2] = 0, 255  # so that greys are as they are after scaling
POINT = PromptSet((PointPrompt((60.0, 90.0)), PointPrompt((10.0, 20.0), positive=False)))
BOX = PromptSet(box=BoxPrompt((40.0, 50.0, 130.0, 200.0)))
MASK = PromptSet((PointPrompt((60.0, 90.0)),), mask=MaskPrompt(RNG.normal(0, 4, SIZE).astype(np.float32)))


def sam() -> SamModel:
    return SamModel(tiny_sam(), name="tiny")


def slide() -> SlideSamModel:
    model = extend(sam(), extension_from("slide-sam", {}))
    assert isinstance(model, SlideSamModel)
    return model


def alike(index: int = 1) -> ModelView:
    return ModelView.amid(SLICES[[index] * 3])


# ---- at the start


@pytest.mark.parametrize("prompts", [POINT, BOX, MASK], ids=["points", "box", "mask"])
def test_three_slices_alike_get_sams_masks_of_all_but_the_first_token(prompts):
    plain, three = sam(), slide()
    [own] = plain.encode([SLICES[1]])
    [embedding] = three.encode([alike()])
    assert relative_error(embedding.features[0].numpy(), own.features[0].numpy()) <= 1e-6
    with torch.no_grad():
        tensors = plain._to_prompt_tensors(prompts, SIZE)
        masks, iou = plain._low_res(own, *tensors, multimask_output=True)
        logits, own_iou = three.decode_triples([embedding], [prompts])
    assert logits.shape == (1, 3, 3, 64, 64)
    for place in range(3):
        assert relative_error(logits[:, :, place].numpy(), masks.numpy()) <= 1e-5
    assert torch.allclose(own_iou, iou, rtol=1e-4, atol=1e-6)


def test_one_slice_alone_stands_for_its_neighbours():
    one = slide()
    [alone], [amid] = one.encode([SLICES[1]]), one.encode([alike()])
    assert torch.equal(alone.features[0], amid.features[0])
    assert one.capabilities.slices_per_input == 3


# ---- three slices


def test_both_neighbours_are_seen_in_both_ways():
    one = slide()
    view = ModelView.amid(SLICES)
    with torch.no_grad():
        [fast], [own] = one.encode([view]), one.encode_batch([view])
    assert relative_error(own.features[0].numpy(), fast.features[0].numpy()) <= 1e-5
    for changed in ([1, 1, 2], [0, 1, 1], [2, 1, 0]):
        [other] = one.encode([ModelView.amid(SLICES[changed])])
        assert relative_error(other.features[0].numpy(), fast.features[0].numpy()) > 1e-3


def test_the_greys_of_three_slices_are_scaled_together():
    """0..100 and 2 x + 10 become the same frame; one slice brighter than the others does not."""
    one, small = slide(), (SLICES // 3).astype(np.uint8)
    frame = one._triple_frame(small)
    assert torch.allclose(frame, one._triple_frame(2 * small + 10), atol=1e-4)
    network = one.network
    pixels = frame * network.pixel_std + network.pixel_mean
    assert float(pixels.min()) == pytest.approx(0, abs=1e-3) and float(pixels.max()) == pytest.approx(255, abs=1e-3)
    assert not torch.allclose(frame, one._triple_frame(np.stack([small[0], small[1], 2 * small[2]])), atol=1e-2)


def test_slices_that_are_not_square_are_stretched_with_their_prompts():
    """100 x 200: x times 1.28, y times 2.56."""
    one = slide()
    prompts = PromptSet((PointPrompt((100.0, 50.0)),), BoxPrompt((0.0, 25.0, 200.0, 75.0)))
    (points, labels), boxes, _ = one._to_prompt_tensors(prompts, (100, 200))
    assert points.tolist() == [[[128, 128]]] and labels.tolist() == [[1]]
    assert boxes.tolist() == [[0, 64, 256, 192]]
    [embedding] = one.encode([np.zeros((100, 200), np.uint8)])
    assert one.decode(embedding, prompts).logits.shape == (100, 200)
    assert one.size_in_frame((100, 200), 64) == (64, 64)


def test_each_slice_has_an_upscaling_of_its_own():
    one = slide()
    [embedding] = one.encode([ModelView.amid(SLICES)])
    with torch.no_grad():
        before, _ = one.decode_triples([embedding], [BOX])
        one.network.extension.above[3].bias += 1
        after, _ = one.decode_triples([embedding], [BOX])
    changed = (after - before).abs().amax((0, 1, 3, 4)) > 0
    assert changed.tolist() == [False, False, True]


def test_the_hypothesis_with_the_best_iou_is_that_of_the_slice():
    one = slide()
    [embedding] = one.encode([ModelView.amid(SLICES)])
    triples, middle = one.predict_triple(embedding, BOX), one.decode(embedding, BOX)
    assert [two.score for two in triples] == sorted((two.score for two in triples), reverse=True)
    assert np.allclose(triples[0].logits_nhw[1], middle.logits, atol=1e-6) and triples[0].score == middle.score
    points = np.array([[60.0, 90.0], [5.0, 6.0]], np.float32)
    masks, iou = one.decode_points(embedding, points)
    assert masks.shape == (2, 3, 64, 64) and iou.shape == (2, 3)


def test_stability_is_what_stays_between_two_thresholds():
    """Above 1: one pixel; above -1: three."""
    logits = np.full((3, 1, 2), -2.0, np.float32)
    logits[0, 0], logits[2, 0, 1] = (2, 0.5), -0.5
    assert TriplePrediction(logits, 1.0).stability == pytest.approx(1 / 3)
    assert TriplePrediction(np.full((3, 1, 2), -2.0, np.float32), 1.0).stability == 0


# ---- weights


def test_there_are_as_many_weights_as_the_formulas_say():
    """Of SAM: d 256. Upscaling to d / 4 and d / 8 by kernels of 2 x 2, with biases and a norm, twice."""
    network = sam_model_registry["vit_b"](checkpoint=None)
    parts = SlideParts(network)
    count = {name: sum(one.numel() for one in part.parameters()) for name, part in parts.named_children()}
    assert count["below"] == count["above"] == 256 * 64 * 4 + 64 + 2 * 64 + 64 * 32 * 4 + 32 == 73_952
    assert count["patch_embed"] == 3 * 16 * 16 * 768 + 768 == 590_592
    assert count["mask_input"] == 3 * 2 * 2 * 4 + 4 == 52
    lora = [Lora(rank=8, alpha=8.0).block_adapter(block, 0, 12) for block in network.image_encoder.blocks]
    assert sum(value.numel() for one in lora for value in one.parameters()) == 12 * 2 * 2 * 8 * 768 == 294_912


def test_the_file_and_its_card_make_it_again(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    model = load_model("sam-vit-b", device="cpu")
    Lora(rank=2, alpha=2.0).inject(model.network)
    model = extend(model, extension_from("slide-sam", {}))
    torch.manual_seed(2)
    parts = model.network.extension, model.network.mask_decoder
    for one in (*adapter_parameters(model.network), *(value for part in parts for value in part.parameters())):
        one.data += 0.1 * torch.randn_like(one)
    path = save_delta(tmp_path / "slide.safetensors", model, ("adapters", "mask_decoder", "extension"))
    again = load_model("sam-vit-b", weights=path, device="cpu")
    assert isinstance(again, SlideSamModel) and again.fingerprint == model.fingerprint
    view = ModelView.amid(SLICES)
    for prompts in (BOX, MASK):
        both = [one.predict_triple(one.encode([view])[0], prompts) for one in (model, again)]
        for left, right in zip(*both, strict=True):
            assert np.array_equal(left.logits_nhw, right.logits_nhw) and left.score == right.score


def test_only_a_plain_sam_without_neighbours_becomes_one():
    with_depth = sam()
    MedSa().inject(with_depth.network)
    for model, message in (
        (MedSamModel(tiny_sam(), name="med"), "made of SAM, not of med; choose one such as sam-vit-b"),
        (load_model(device="cpu", engine="torch"), "made of SAM, not of lung-compact"),
        (with_depth, "tiny has adapters that look at neighbours already"),
    ):
        with pytest.raises(ModelError, match=message):
            extend(model, extension_from("slide-sam", {}))
        assert not hasattr(model.network, "extension")


def test_a_frozen_encoder_and_its_own_forward_see_the_same(monkeypatch):
    """Hooked encoders are run by their own forward."""
    one = slide()
    [fast] = one.encode([ModelView.amid(SLICES)])
    one.network.image_encoder.neck[0].register_forward_hook(lambda _module, _args, out: out)
    [own] = one.encode([ModelView.amid(SLICES)])
    assert relative_error(own.features[0].numpy(), fast.features[0].numpy()) <= 1e-5
    assert isinstance(one.network.extension, nn.Module)

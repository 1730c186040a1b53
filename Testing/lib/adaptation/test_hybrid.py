"""Hybrid prompts: a third each, what the target of each is, and which weights learn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from tiny_sams import tiny_sam
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adaptation.method import method_from
from SAMLungSegLib.adaptation.methods import hybrid
from SAMLungSegLib.adaptation.methods.hybrid import (
    NOTHING,
    Hybrid,
    drawn_kind,
    everything,
    unprompted_mask,
    unprompted_scores,
)
from SAMLungSegLib.adaptation.prompts import PROMPT_KINDS
from SAMLungSegLib.adaptation.slices import ObjectSlice
from SAMLungSegLib.errors import ModelError, SettingsError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.structures import LUNGS

LABELS = np.zeros((96, 128), np.uint8)
LABELS[20:60, 10:50] = 1
LABELS[30:80, 70:120] = 3
SLICE = ObjectSlice("image", 0, "set", "patient", (LABELS * 60).astype(np.uint8), LABELS)


@pytest.fixture
def model() -> SamModel:
    return SamModel(tiny_sam(), name="tiny")


def share(kinds, family, count=3000):
    rng = np.random.default_rng(0)
    return np.mean([drawn_kind(kinds, rng) in family for _ in range(count)])


@pytest.mark.parametrize("family", [(NOTHING,), ("centre", "point", "points"), ("box", "larger-box")])
def test_a_third_of_the_batches_has_no_prompt_a_third_points_a_third_boxes(family):
    assert share(PROMPT_KINDS, family) == pytest.approx(1 / 3, abs=0.03)  # 3.5 standard deviations


def test_a_model_of_boxes_has_half_of_its_batches_without_a_prompt():
    kinds = Hybrid().kinds(MedSamModel(tiny_sam(), name="tiny"))
    assert share(kinds, (NOTHING,)) == pytest.approx(1 / 2, abs=0.035)
    assert share(kinds, ("box", "larger-box")) == 1 - share(kinds, (NOTHING,))


def test_the_target_is_everything_without_a_prompt_and_what_was_shown_with_one(model, monkeypatch):
    seen = Counter()

    def targets(_model, examples, side):
        [one] = examples
        seen[one.mask_hw.tobytes(), bool(given[-1].is_empty)] += 1
        return torch.zeros(1, side, side)

    given, decode = [], model.decode_batch
    monkeypatch.setattr(
        model, "decode_batch", lambda embeddings, prompts: (given.extend(prompts), decode(embeddings, prompts))[1]
    )
    monkeypatch.setattr(hybrid, "frame_targets", targets)
    rng = np.random.default_rng(0)
    [_, right] = SLICE.examples()
    for _ in range(12):
        Hybrid().loss(model, [right], rng, stage=0)
    assert set(seen) == {((LABELS > 0).tobytes(), True), ((LABELS == 3).tobytes(), False)}
    shown = [one for one in given if not one.is_empty]
    assert any(one.box for one in shown) and any(one.points for one in shown)
    assert all(LABELS[int(y), int(x)] == 3 for one in shown for x, y in (point.xy for point in one.points))


def test_everything_is_the_union_of_the_organs():
    one = everything(SLICE)
    assert np.array_equal(one.mask_hw, LABELS > 0) and one.name == "set/image 0 1"


@pytest.mark.parametrize(
    ("part", "parts", "learning"),
    [
        ("decoder", ("mask_decoder",), {"mask_decoder"}),
        (
            "all",
            ("image_encoder", "prompt_encoder", "mask_decoder"),
            {"image_encoder", "prompt_encoder", "mask_decoder"},
        ),
        ("lora", ("adapters", "mask_decoder"), {"adapters", "output_hypernetworks_mlps"}),
        ("adapters:lora:rank=2", ("adapters", "mask_decoder"), {"adapters", "output_hypernetworks_mlps"}),
    ],
)
def test_any_part_learns_and_hypernetworks_beside_adapters(model, part, parts, learning):
    method = method_from(f"hybrid:part={part}")
    assert method.parts == parts
    trained = method.prepare(model, ["a"])
    groups = method.parameters(model, trained, 0)
    chosen = {id(one) for group in groups for one in group["params"]}
    names = {name for name, one in model.network.named_parameters() if id(one) in chosen}
    found = {next(one for one in ("adapters", "output_hypernetworks_mlps", *parts) if one in name) for name in names}
    if part in ("decoder", "all"):
        found = {name.split(".")[0] for name in names}
    assert found == learning
    scales = {name: group["scale"] for name, group in zip(trained, groups, strict=True)}
    assert scales.get("image_encoder", 0.1) == 0.1 and scales["mask_decoder"] == 1


def test_what_an_adapter_looks_at_is_given_to_it():
    bone, med_sa, decoder = (method_from(f"hybrid:part={part}") for part in ("segment-any-bone", "med-sa", "decoder"))
    assert (bone.sees_volume, med_sa.sees_volume, decoder.sees_volume) == (True, False, False)
    assert (med_sa.slices_per_input, decoder.slices_per_input) == (3, 1)


def test_the_rate_rises_for_200_steps_and_falls_by_a_polynomial():
    method = Hybrid()
    assert method.learning_rate == 5e-4
    assert [method.rate(step, 0.0) for step in (0, 99, 199, 1000)] == [1 / 200, 0.5, 1, 1]
    assert method.rate(1000, 0.5) == pytest.approx(0.5**0.9) and method.rate(1000, 1.0) == 0


def test_parts_and_numbers_that_are_not_possible_are_refused():
    with pytest.raises(SettingsError, match="nothing"):
        method_from("hybrid:part=nothing")
    with pytest.raises((SettingsError, ModelError), match="ranks"):
        method_from("hybrid:part=adapters:lora:ranks=3")
    with pytest.raises(SettingsError, match="warmup"):
        method_from("hybrid:warmup=-1")


@pytest.mark.parametrize("part", ["decoder", "lora"])
def test_lungs_are_found_without_a_prompt_by_weights_that_say_so(tmp_path, monkeypatch, part):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    base = BaseCheckpoint("sam-vit-b")
    method = method_from(f"hybrid:part={part},automatic=true")
    own = base.load("cpu")
    method.prepare(own, LUNGS.keys)
    with torch.no_grad():
        for one in own.network.mask_decoder.output_hypernetworks_mlps.parameters():
            one.mul_(1.5)
    weights = method.export(tmp_path / "lungs.safetensors", own, base, {})
    model = load_model("sam-vit-b", weights=weights, device="cpu")
    assert not model.capabilities.needs_prompt
    [embedding] = model.encode([SLICE.grey_hw])
    found = model.decode(embedding, PromptSet()).logits > 0
    assert np.array_equal(found, unprompted_mask(own, own.encode([SLICE.grey_hw])[0])) and 0 < found.mean() < 1


def test_organs_that_are_no_lungs_are_not_found_without_a_prompt(model):
    with pytest.raises(SettingsError, match="liver"):
        method_from("hybrid:automatic=true").prepare(model, ["liver"])
    with pytest.raises(SettingsError, match="part=all"):
        method_from("hybrid:part=all,automatic=true")


def test_what_is_found_without_a_prompt_is_judged_by_everything_that_is_drawn(model, monkeypatch):
    found = np.zeros(LABELS.shape, np.float32) - 1
    found[20:60, 10:50] = 1  # 1600 pixels of 1600 + 2500: Dice 3200 / 5700, IoU 1600 / 4100
    monkeypatch.setattr(model, "to_slice", lambda low_res, size_hw: found[None, None])
    [row] = unprompted_scores(model, [SLICE]).to_dict("records")
    assert (row["dice"], row["iou"]) == pytest.approx((3200 / 5700, 1600 / 4100))

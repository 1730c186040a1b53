"""Tuned decoders in use: what loading checks, how they are asked, their threshold, and replay."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tuning_sets import chest, register_tiny_sam, write_png

from SAMLungSegLib import segment
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.cached import cached
from SAMLungSegLib.models.choice import BaseCheckpoint, ModelChoice
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.tuned import PromptRecipe, TunedModel, read_card
from SAMLungSegLib.pipeline.prompting import automatic_objects, prompted_objects
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.types import ObjectPrompt
from SAMLungSegLib.provenance import read_provenance
from SAMLungSegLib.training.decoder import decoder_state
from SAMLungSegLib.training.export import export_decoder

POINTS = ((0.25, 0.5), (0.75, 0.5))
GREY, MASK = chest(0)
HEIGHT, WIDTH = GREY.shape
MEAN_POINTS = PromptSet((PointPrompt((19.5, 47.5)), PointPrompt((59.5, 47.5))))
LOGIT_07 = float(np.log(0.7 / 0.3))


@pytest.fixture(autouse=True)
def tiny_registry(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")


def exported(folder, name="lung-compact", kind="points", threshold=0.5, weights=None):
    """A decoder that differs from its base in one weight, exported."""
    base = BaseCheckpoint(name, weights)
    model = base.load("cpu")
    state = dict(decoder_state(model))
    state["iou_token.weight"] = state["iou_token.weight"] + 1
    recipe = PromptRecipe(kind, POINTS if kind in ("points", "both") else ())
    return export_decoder(folder / "mine.safetensors", base, model, state, recipe, threshold, {"data": []})


def loaded(path, name="lung-compact"):
    return load_model(name, weights=path, device="cpu")


def plain_decoder(path, folder, name="lung-compact"):
    """The same weights without their card: asked and thresholded as the base."""
    folder.mkdir(exist_ok=True)
    save_file(load_file(path), folder / "plain.safetensors")
    return load_model(name, weights=folder / "plain.safetensors", device="cpu")


# ---- what it answers


def test_the_file_holds_the_mask_decoder_alone_and_the_card_names_the_base(tmp_path):
    path = exported(tmp_path)
    assert {name.partition(".")[0] for name in load_file(path)} == {"mask_decoder"}
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["base"], card["trained"], card["schema"]) == (
        "lung-compact",
        "mask_decoder",
        "samlungseg-tuned-decoder/1",
    )
    assert read_card(path).recipe == PromptRecipe("points", POINTS)


@pytest.mark.parametrize("name", ["lung-compact", "sam-vit-b"])
def test_where_nothing_is_asked_the_mean_points_are(name, tmp_path):
    path = exported(tmp_path, name)
    tuned, plain = loaded(path, name), plain_decoder(path, tmp_path / "plain", name)
    embedding = tuned.encode([GREY])[0]
    assert not tuned.capabilities.needs_prompt and prompted_objects(tuned) == [ObjectPrompt(PromptSet())]
    answer = tuned.decode(embedding, PromptSet())
    assert np.array_equal(answer.logits, plain.decode(embedding, MEAN_POINTS).logits)
    own = PromptSet((PointPrompt((5, 5)),))
    assert np.array_equal(tuned.decode(embedding, own).logits, plain.decode(embedding, own).logits)


def test_above_0_is_above_the_tuned_threshold(tmp_path):
    path = exported(tmp_path, kind="none", threshold=0.7)
    tuned, plain = loaded(path), plain_decoder(path, tmp_path / "plain")
    embedding = tuned.encode([GREY])[0]
    before, after = (model.decode(embedding, PromptSet()) for model in (plain, tuned))
    assert np.allclose(after.logits, before.logits - LOGIT_07, atol=1e-5)
    assert np.allclose(after.low_res_logits, before.low_res_logits - LOGIT_07, atol=1e-5)
    for key, logits in before.structure_logits.items():
        assert np.allclose(after.structure_logits[key], logits - LOGIT_07, atol=1e-5)
    assert [*before.structure_logits] == ["right_lung", "left_lung"]
    points_xy = np.array([[20.0, 40.0]], np.float32)
    assert np.allclose(
        tuned.decode_points(embedding, points_xy)[0], plain.decode_points(embedding, points_xy)[0] - LOGIT_07, atol=1e-5
    )


def test_a_sam_that_was_tuned_without_prompts_answers_without(tmp_path):
    tuned = loaded(exported(tmp_path, "sam-vit-b", "none"), "sam-vit-b")
    assert tuned.decode(tuned.encode([GREY])[0], PromptSet()).logits.shape == GREY.shape
    assert prompted_objects(tuned) == [ObjectPrompt(PromptSet())]


@pytest.mark.parametrize(("kind", "points"), [("box", ()), ("both", MEAN_POINTS.points)])
def test_a_sam_that_was_tuned_to_boxes_is_asked_once_with_a_box_round_the_rough_lungs(kind, points, tmp_path):
    tuned = loaded(exported(tmp_path, "sam-vit-b", kind), "sam-vit-b")
    rough = np.zeros(GREY.shape, np.uint8)
    rough[10:80, 12:30], rough[20:85, 50:70] = 1, 2
    expected = [ObjectPrompt(PromptSet(points, BoxPrompt((12.0, 10.0, 70.0, 85.0))))]
    for model in (tuned, cached(tuned)):
        assert prompted_objects(model) == []
        assert automatic_objects(model, rough) == expected
        assert automatic_objects(model, np.zeros_like(rough)) == []


def test_lung_compact_that_was_tuned_to_boxes_takes_the_box_from_its_own_answer(tmp_path):
    path = exported(tmp_path, kind="box")
    tuned, plain = loaded(path), plain_decoder(path, tmp_path / "plain")
    embedding = tuned.encode([GREY])[0]
    rows, columns = np.nonzero(plain.decode(embedding, PromptSet()).logits > 0)
    box = BoxPrompt((float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)))
    expected = plain.decode(embedding, PromptSet(box=box)).logits
    assert np.array_equal(tuned.decode(embedding, PromptSet()).logits, expected)


@pytest.mark.parametrize("kind", ["none", "points", "box", "both"])
@pytest.mark.parametrize("name", ["lung-compact", "sam-vit-b"])
def test_the_pipeline_segments_with_any_recipe(name, kind, tmp_path):
    path = exported(tmp_path, name, kind)
    write_png(tmp_path / "chest.png", GREY)
    result = segment(tmp_path / "chest.png", model=name, weights=path, device="cpu", modality="XRAY")
    assert result.labelmap_kji.shape == (1, HEIGHT, WIDTH)
    assert np.isfinite(result.scores).all()


# ---- what is refused


def test_another_model_is_refused(tmp_path):
    path = exported(tmp_path, "sam-vit-b")
    with pytest.raises(ModelError, match=r"was tuned for sam-vit-b, not for lung-compact"):
        loaded(path)


def test_other_weights_of_the_base_are_refused(tmp_path):
    path = exported(tmp_path)
    change_card(path, base_sha256="0" * 64)
    with pytest.raises(ModelError, match=r"SHA-256 000000000000, not those of this program; put them beside it"):
        loaded(path)


def test_own_weights_of_the_base_travel_along(tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    (tmp_path / "a").mkdir()
    save_file(CompactNet().state_dict(), tmp_path / "a" / "base.safetensors")
    (tmp_path / "a" / "base.json").write_text('{"held_out_sets": ["cxr_montgomery"]}')
    path = exported(tmp_path / "b", weights=tmp_path / "a" / "base.safetensors")
    assert (tmp_path / "b" / "base.json").read_text() == '{"held_out_sets": ["cxr_montgomery"]}'
    state = loaded(path).model.state
    own = load_file(tmp_path / "a" / "base.safetensors")
    assert all(np.array_equal(state[name], value) for name, value in own.items() if name.startswith("image_encoder."))
    (tmp_path / "b" / "base.safetensors").unlink()
    with pytest.raises(ModelError, match=r"put them beside it as base.safetensors"):
        loaded(path)


def test_a_card_of_other_weights_is_refused(tmp_path):
    path = exported(tmp_path)
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    with pytest.raises(ModelError, match="belongs to other weights"):
        loaded(path)


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 1.5},
        {"threshold": "0.5"},
        {"threshold": True},
        {"prompts": {"kind": "clicks", "mean_points": []}},
        {"prompts": {"kind": [], "mean_points": []}},
        {"prompts": {"kind": "points", "mean_points": []}},
        {"prompts": {"kind": "points", "mean_points": [[1e9, 1e9]]}},
        {"prompts": {"kind": "points", "mean_points": [[0.5, 0.5]] * 1000}},
        {"prompts": None},
        {"prompts": None, "threshold": None},
        {"base": {"a": 1}},
        {"base_sha256": None},
        {"base_file": ""},
        {"base_file": "/"},
        {"base_file": "../x"},
        {"base_file": "a\0b"},
        {"base_file": "\ud800"},
        {"base_file": "a" * 5000},
        {"input_size": 1.5},
        {"input_size": -5},
        {"input_size": "big"},
    ],
    ids=lambda change: str(change)[:40].encode("ascii", "backslashreplace").decode().replace("\0", "NUL"),
)
def test_a_damaged_card_is_refused(change, tmp_path):
    path = exported(tmp_path)
    change_card(path, **change)
    with pytest.raises(ModelError, match="is damaged"):
        loaded(path)


def test_a_card_of_another_version_is_refused(tmp_path):
    path = exported(tmp_path)
    change_card(path, schema="samlungseg-tuned-decoder/99")
    with pytest.raises(ModelError, match=r"expected samlungseg-tuned-decoder/1; tune again"):
        loaded(path)


def test_another_input_size_is_refused_and_the_tuned_one_is_taken(tmp_path):
    model = load_model("sam-vit-b", device="cpu", input_size=128)
    recipe = PromptRecipe("none")
    path = export_decoder(
        tmp_path / "mine.safetensors", BaseCheckpoint("sam-vit-b"), model, decoder_state(model), recipe, 0.5, {}
    )
    tuned = load_model("sam-vit-b", weights=path, device="cpu")
    assert tuned.encode([GREY])[0].features[0].shape[-1] == 8
    with pytest.raises(ModelError, match="tuned at input size 128, not 256"):
        load_model("sam-vit-b", weights=path, device="cpu", input_size=256)


def test_any_other_json_beside_weights_is_no_card(tmp_path):
    path = exported(tmp_path)
    path.with_suffix(".json").write_text('{"name": "lung-compact"}')
    assert read_card(path) is None
    assert not isinstance(loaded(path), TunedModel)
    save_file(CompactNet().state_dict(), path)
    for text in ('{"model_type": "sam", "threshold": 0.5, "prompts": {}}', "[]", "not json", '{"eps": NaN}'):
        path.with_suffix(".json").write_text(text)
        assert not isinstance(loaded(path), TunedModel)


@pytest.mark.parametrize("damage", ["empty", "cut", "bytes", "flipped schema", "deep", "list", "folder", "huge number"])
def test_a_damaged_card_beside_a_decoder_is_not_overlooked(damage, tmp_path):
    path = exported(tmp_path)
    card = path.with_suffix(".json")
    whole = card.read_text()
    if damage == "folder":
        card.unlink()
        card.mkdir()
    else:
        texts = {
            "empty": "",
            "cut": whole[: len(whole) // 2],
            "bytes": "\xff\xfe",
            "flipped schema": whole.replace("samlungseg-tuned", "samlungsag-tuned"),
            "deep": "[" * 100_000,
            "list": "[]",
            "huge number": whole.replace('"threshold": 0.5', f'"threshold": {"9" * 5000}'),
        }
        card.write_bytes(texts[damage].encode("latin-1"))
    with pytest.raises(ModelError, match=r"card .*mine\.json is damaged"):
        loaded(path)


def test_tuning_starts_from_whole_weights(tmp_path):
    path = exported(tmp_path)
    with pytest.raises(ModelError, match="is a tuned decoder"):
        BaseCheckpoint(weights=path).load("cpu")
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="holds no image encoder"):
        BaseCheckpoint(weights=path).load("cpu")


def change_card(path, **fields):
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **fields}))


# ---- replay


def test_a_result_of_a_tuned_decoder_is_made_again_but_not_with_another_card(tmp_path, capsys):
    path = exported(tmp_path / "weights")
    write_png(tmp_path / "chest.png", GREY)
    command = ["segment", str(tmp_path / "chest.png"), "--device", "cpu"]
    assert main([*command, "-o", str(tmp_path / "first"), "--weights", str(path)]) == 0
    recipe = read_provenance(tmp_path / "first" / "chest_lungs.json")
    assert set(recipe.weights_sha256) == {"lung-compact", "own", "card"}
    replay = ["segment", "--replay", str(tmp_path / "first" / "chest_lungs.json"), "--device", "cpu"]
    assert main([*replay, "-o", str(tmp_path / "second")]) == 0
    first, second = (tmp_path / folder / "chest_lungs.png" for folder in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    change_card(path, threshold=0.6)
    capsys.readouterr()
    assert main([*replay, "-o", str(tmp_path / "third")]) == 2
    assert "weights of card are not those" in capsys.readouterr().err


def test_a_changed_card_is_loaded_again_in_the_same_process(tmp_path):
    path = exported(tmp_path, kind="none")
    choice = ModelChoice(weights=path)
    first = choice.load("cpu")
    assert choice.load("cpu") is first
    change_card(path, threshold=0.65)
    embedding = first.encode([GREY])[0]
    before, after = (model.decode(embedding, PromptSet()).logits for model in (first, choice.load("cpu")))
    assert np.allclose(before - after, np.log(0.65 / 0.35), atol=1e-5)

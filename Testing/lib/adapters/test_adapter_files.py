"""Adapters as files: saved with their card, loaded with `--weights`, merged to plain weights; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from segment_anything import SamPredictor
from tiny_sams import tiny_sam
from torch import nn
from tuning_sets import chest, register_tiny_sam, write_png

from SAMLungSegLib import segment
from SAMLungSegLib.adapters.base import adapter_in, adapter_parameters, adapter_state, remove_adapter
from SAMLungSegLib.adapters.lora import Lora
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.adapted import save_adapter, save_merged
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.tuned import PromptRecipe, TunedModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.provenance import read_provenance
from SAMLungSegLib.training.data.leakage import seen_images

GREY = chest(0)[0]
POINT = PromptSet((PointPrompt((22.0, 48.0)),))
ADAPTER = Lora(rank=2, alpha=3.0)


@pytest.fixture(autouse=True)
def tiny_registry(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")


def adapted(weights: Path | None = None, **options) -> SamModel:
    """A small SAM whose adapters have learned anything."""
    model = load_model("sam-vit-b", weights=weights, device="cpu", **options)
    ADAPTER.inject(model.network)
    torch.manual_seed(2)
    for one in adapter_parameters(model.network):
        nn.init.normal_(one, std=0.3)
    return model


def saved(folder: Path, model: SamModel | None = None, **options) -> Path:
    return save_adapter(folder / "mine.safetensors", model or adapted(), **options)


def loaded(path: Path, name: str = "sam-vit-b", **options):
    return load_model(name, weights=path, device="cpu", **options)


def logits(model, prompts: PromptSet = POINT) -> np.ndarray:
    return model.decode(model.encode([GREY])[0], prompts).logits


def change_card(path: Path, **changes) -> None:
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


# ---- what is in the files


def test_the_file_holds_adapters_alone_and_the_card_says_what_they_are(tmp_path):
    path = saved(tmp_path, facts={"data": [{"set": "mine"}]})
    assert load_file(path).keys() == {
        f"image_encoder.adapters.{block}.{side}.{target}"
        for block in (0, 1)
        for side in ("down", "up")
        for target in ("q", "v")
    }
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["schema"] == "samlungseg-adapter/1"
    settings = {"rank": 2, "alpha": 3.0, "targets": ["q", "v"], "placement": "default"}
    assert card["adapter"] == {"method": "lora", "settings": settings}
    assert (card["base"], card["trained"], card["input_size"]) == ("sam-vit-b", "adapters", 256)
    assert (card["threshold"], card["prompts"], card["data"]) == (None, None, [{"set": "mine"}])


def test_a_loaded_model_is_the_one_that_was_saved(tmp_path):
    model = adapted()
    again = loaded(saved(tmp_path, model))
    assert isinstance(again, SamModel) and adapter_in(again.network) == ADAPTER
    assert np.array_equal(logits(again), logits(model))
    assert again.fingerprint == model.fingerprint != loaded(None).fingerprint
    assert not np.allclose(logits(again), logits(loaded(None)), atol=1e-3)


def test_a_decoder_that_was_trained_too_travels_along(tmp_path):
    model = adapted()
    model.network.mask_decoder.iou_token.weight.data += 1
    path = saved(tmp_path, model, with_decoder=True)
    assert np.array_equal(logits(loaded(path)), logits(model))


def test_a_threshold_and_prompts_travel_along(tmp_path):
    model = adapted()
    recipe = PromptRecipe("points", ((0.25, 0.5),))
    tuned = loaded(saved(tmp_path, model, recipe=recipe, threshold=0.7))
    assert isinstance(tuned, TunedModel) and not tuned.capabilities.needs_prompt
    expected = logits(model, PromptSet((PointPrompt((19.5, 47.5)),))) - np.log(0.7 / 0.3)
    assert np.allclose(logits(tuned, PromptSet()), expected, atol=1e-5)
    with pytest.raises(ModelError, match="belong together"):
        saved(tmp_path, model, threshold=0.7)


def test_weights_of_the_users_own_below_adapters_travel_along(tmp_path):
    (tmp_path / "a").mkdir()
    own = tiny_sam()
    own.image_encoder.pos_embed.data += 1
    save_file(own.state_dict(), tmp_path / "a" / "base.safetensors")
    model = adapted(tmp_path / "a" / "base.safetensors")
    path = saved(tmp_path / "b", model, base_weights=tmp_path / "a" / "base.safetensors")
    assert np.array_equal(logits(loaded(path)), logits(model))
    (tmp_path / "b" / "base.safetensors").unlink()
    with pytest.raises(ModelError, match=r"The adapter .* was tuned on top .* put them beside it as base.safetensors"):
        loaded(path)


def test_the_input_size_of_the_training_is_taken(tmp_path):
    path = saved(tmp_path, adapted(input_size=128))
    assert loaded(path).input_size == 128
    with pytest.raises(ModelError, match=r"The adapter .* was tuned at input size 128, not 256"):
        loaded(path, input_size=256)


# ---- in use


def test_the_command_segments_with_adapters_and_replays(tmp_path, capsys):
    path = saved(tmp_path)
    write_png(tmp_path / "chest.png", GREY)
    arguments = ["--model", "sam-vit-b", "--device", "cpu", "--point", "22,48,+", "--format", "png"]
    results = {}
    for name, weights in (("plain", []), ("adapted", ["--weights", str(path)])):
        out = tmp_path / name
        assert main(["segment", str(tmp_path / "chest.png"), "-o", str(out), *arguments, *weights]) == 0
        results[name] = read_provenance(out / "chest_lungs.json")
    assert results["adapted"].weights_sha256.keys() - results["plain"].weights_sha256.keys() == {"own", "card"}
    replay = ["segment", "--replay", str(tmp_path / "adapted" / "chest_lungs.json"), "-o", str(tmp_path / "again")]
    assert main([*replay, "--device", "cpu"]) == 0
    change_card(path, adapter={"method": "lora", "settings": {"rank": 2, "alpha": 9.0}})
    assert main([*replay, "--device", "cpu"]) == 2
    assert "weights of card are not those" in capsys.readouterr().err


def test_stored_embeddings_of_the_base_are_not_taken_for_those_of_adapters(tmp_path):
    write_png(tmp_path / "chest.png", GREY)
    path = saved(tmp_path)
    predicted = [logits(ModelChoice("sam-vit-b", weights).load("cpu")) for weights in (None, path, None)]
    assert np.array_equal(predicted[0], predicted[2]) and not np.allclose(predicted[0], predicted[1], atol=1e-3)


def test_python_segments_with_adapters(tmp_path):
    write_png(tmp_path / "chest.png", GREY)
    result = segment(tmp_path / "chest.png", model="sam-vit-b", weights=saved(tmp_path), device="cpu", modality="XRAY")
    assert result.labelmap_kji.shape == (1, *GREY.shape)


# ---- merged


def test_merged_weights_load_without_the_adapter_and_give_the_same(tmp_path):
    path = saved(tmp_path)
    merged = save_merged(path, tmp_path / "out" / "merged.safetensors")
    assert load_file(merged).keys() == tiny_sam().state_dict().keys()
    plain = loaded(merged)
    assert plain.network.image_encoder.adapter is None
    expected = logits(loaded(path))
    assert np.abs(logits(plain) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_merged_weights_do_the_same_in_segment_anything_alone(tmp_path):
    path = saved(tmp_path)
    sam = tiny_sam()
    sam.load_state_dict(load_file(save_merged(path, tmp_path / "merged.safetensors")))
    predictor = SamPredictor(sam.eval())
    predictor.set_image(np.repeat(GREY[..., None], 3, axis=-1))
    expected = loaded(path).encode([GREY])[0].features[0].numpy()
    assert np.abs(predictor.features[0].numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_command_merges_and_says_how_to_use_it(tmp_path, capsys):
    path = saved(tmp_path, recipe=PromptRecipe("none"), threshold=0.6, facts={"data": [{"set": "mine"}]})
    target = tmp_path / "merged.safetensors"
    assert main(["models", "merge", str(path), "-o", str(target)]) == 0
    told = capsys.readouterr().out
    assert f"--model sam-vit-b --weights {target}" in told and "threshold 0.60" in told
    card = json.loads(target.with_suffix(".json").read_text())
    assert card["schema"] == "samlungseg-merged/1" and card["merged"]["method"] == "lora"
    assert card["data"] == [{"set": "mine"}] and "adapter" not in card
    assert not isinstance(loaded(target), TunedModel)
    for weights in (path, target):
        seen = seen_images("sam-vit-b", weights)
        assert seen.whole_sets == {"mine"}


def test_only_adapters_are_merged_and_not_over_themselves(tmp_path, capsys):
    path = saved(tmp_path)
    before = path.read_bytes()
    for source, target, message in (
        (path, tmp_path / "merged.pth", "ends with .safetensors"),
        (path, path, "give another name"),
        (tmp_path / "cache", tmp_path / "merged.safetensors", "has no card of adapters"),
    ):
        assert main(["models", "merge", str(source), "-o", str(target)]) == 2
        assert message in capsys.readouterr().err
    assert path.read_bytes() == before and not (tmp_path / "merged.safetensors").exists()


# ---- what is refused


def test_adapters_of_another_model_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"The adapter .* was tuned for sam-vit-b, not for lung-compact"):
        loaded(saved(tmp_path), "lung-compact")


def test_a_card_that_gives_lung_compact_adapters_is_refused(tmp_path):
    path = saved(tmp_path)
    spec = load_model("lung-compact", device="cpu")
    change_card(path, base="lung-compact", base_sha256=ModelChoice().weights_sha256()["lung-compact"], input_size=None)
    with pytest.raises(ModelError, match="has no points for adapters"):
        loaded(path, spec.name)


def test_adapters_without_their_card_are_refused(tmp_path):
    path = saved(tmp_path)
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match="are of adapters, and their card is not beside them; get both files"):
        loaded(path)


def test_a_card_of_other_adapters_is_refused(tmp_path):
    path = saved(tmp_path)
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    with pytest.raises(ModelError, match="belongs to other weights"):
        loaded(path)


def test_adapters_that_do_not_fit_their_card_are_refused(tmp_path):
    path = saved(tmp_path)
    change_card(path, adapter={"method": "lora", "settings": {"rank": 3}})
    with pytest.raises(ModelError, match=r"do not fit the adapter 'lora' with .*'rank': 3"):
        loaded(path)


def test_a_card_of_a_method_that_is_not_here_is_refused(tmp_path):
    path = saved(tmp_path)
    change_card(path, adapter={"method": "bottleneck", "settings": {}})
    with pytest.raises(ModelError, match="no adapter 'bottleneck'; choose one of lora"):
        loaded(path)


@pytest.mark.parametrize(
    "change",
    [
        {"adapter": None},
        {"adapter": {"method": "lora"}},
        {"adapter": {"method": 3, "settings": {}}},
        {"adapter": {"method": "lora", "settings": []}},
        {"threshold": 0.5},
        {"prompts": {"kind": "none", "mean_points": []}},
        {"threshold": 2.0, "prompts": {"kind": "none", "mean_points": []}},
        {"base_file": "../x"},
        {"input_size": "big"},
    ],
    ids=lambda change: str(change)[:50],
)
def test_a_damaged_card_is_refused(change, tmp_path):
    path = saved(tmp_path)
    change_card(path, **change)
    with pytest.raises(ModelError, match="is damaged"):
        loaded(path)


@pytest.mark.parametrize("text", ["", "[]", '{"base": "sam-vit-b", "threshold": null}', '{"schema": "samlungseg-ada'])
def test_a_card_that_cannot_be_read_is_not_overlooked(text, tmp_path):
    path = saved(tmp_path)
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match="is damaged"):
        loaded(path)


def test_a_card_of_another_version_is_refused(tmp_path):
    path = saved(tmp_path)
    change_card(path, schema="samlungseg-adapter/2")
    with pytest.raises(ModelError, match=r"expected samlungseg-adapter/1; tune again"):
        loaded(path)


def test_a_model_without_adapters_has_nothing_to_save(tmp_path):
    model = adapted()
    remove_adapter(model.network)
    with pytest.raises(ModelError, match="has no adapters"):
        saved(tmp_path, model)
    with pytest.raises(ModelError, match="has no adapters"):
        adapter_state(model.network)
    assert not (tmp_path / "mine.safetensors").exists()

"""The class token as a method of adaptation: its loss, what it trains, its verdict, and its weights in use."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from adaptation_sets import ORGANS, shape_data, shapes, tiny_model, write_shapes
from safetensors.torch import load_file
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adaptation.method import method_from
from SAMLungSegLib.adaptation.prompts import prompts_of
from SAMLungSegLib.adaptation.slices import ObjectExample
from SAMLungSegLib.adaptation.task import fixed_prompts
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.prompts import BoxPrompt, PromptSet

DATA = shape_data()


@pytest.fixture(scope="module")
def prepared():
    torch.manual_seed(1)
    model, method = tiny_model(), method_from("organ-token:prompts=box")
    return model, method, method.prepare(model, ORGANS)


def test_only_token_and_head_are_trained(prepared):
    model, method, trained = prepared
    assert set(trained) == {"extension"} and not method.encodes and method.measures == "accuracy"
    (group,) = method.parameters(model, trained, 0)
    names = {id(one): name for name, one in model.network.named_parameters()}
    assert {names[id(one)].partition(".")[0] for one in group["params"]} == {"extension"}


def test_masks_are_those_of_the_base(prepared):
    model, plain = prepared[0], tiny_model()
    grey, _ = shapes(0)
    prompts = PromptSet(box=BoxPrompt((5.0, 5.0, 40.0, 50.0)))
    got, expected = (one.decode(one.encode([grey])[0], prompts) for one in (model, plain))
    assert np.array_equal(got.logits, expected.logits) and got.organ in ORGANS


def test_its_loss_is_the_mean_cross_entropy_of_the_organs(prepared):
    model, method, _ = prepared
    examples = [ObjectExample(DATA.training[0], 1), ObjectExample(DATA.training[1], 2)]
    by_hand = []
    for one in examples:
        (embedding,) = model.encode([one.slice.view])
        shares = model.decode(embedding, fixed_prompts(one, "box")).organ_probabilities
        by_hand.append(-np.log(shares[ORGANS[one.organ - 1]]))
    loss = method.loss(model, examples, np.random.default_rng(0), 0)
    assert loss.item() == pytest.approx(np.mean(by_hand), rel=1e-5)


def test_it_measures_whether_the_organ_is_named_right(prepared):
    model, method, _ = prepared
    one = ObjectExample(DATA.training[0], 1)
    (embedding,) = model.encode([one.slice.view])
    prompts = fixed_prompts(one, "box")
    organ = model.decode(embedding, prompts).organ
    assert method.measure(model, embedding, one, prompts) == float(organ == "disc")
    shares = model.decode(embedding, prompts).organ_probabilities
    assert method.score(model, embedding, one, prompts) == shares["disc"] and method.chosen_by == "probability"


def test_a_model_that_names_organs_already_is_refused(prepared):
    with pytest.raises(ModelError, match="already"):
        prepared[1].prepare(prepared[0], ORGANS)


def test_adapt_trains_it_and_its_weights_name_organs_everywhere(tmp_path, monkeypatch, capsys):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    write_shapes(tmp_path / "data")
    command = ["adapt", str(tmp_path / "data" / "shapes.csv"), "-o", str(tmp_path / "out"), "--model", "sam-vit-b"]
    command += ["--method", "organ-token:learning_rate=0.003", "--device", "cpu", "--input-size", "128"]
    assert main([*command, "--steps", "60", "--batch", "4", "--prompts", "box"]) == 0
    said = capsys.readouterr().out
    assert "Accuracy on 3 held-out patients 0.5000 before" in said and "Adopted" in said
    weights = tmp_path / "out" / "sam-vit-b-organ-token.safetensors"
    assert {name.partition(".")[0] for name in load_file(weights)} == {"extension"}
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["extension"] == {"name": "organ-token", "settings": {"organs": ["disc", "bar"]}}
    model = load_model("sam-vit-b", weights=weights, device="cpu")
    right = 0
    for seed in range(20, 30):
        grey, labels = shapes(seed)
        (embedding,) = model.encode([grey])
        for organ in (1, 2):
            prediction = model.decode(embedding, prompts_of(labels == organ, "box", np.random.default_rng(0)))
            assert sum(prediction.organ_probabilities.values()) == pytest.approx(1)
            right += prediction.organ == ORGANS[organ - 1]
    assert right >= 16

"""Any part of a model trained on images of the user's own, by one command."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from tiny_sams import tiny_sam
from tuning_sets import chest, register_tiny_sam, write_png, write_set

from SAMLungSegLib.adapters.base import adapter_in
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError, SettingsError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.checkpoints import load_state_dict
from SAMLungSegLib.models.compact.model import CompactModel
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.tuned import PromptRecipe
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.training import PromptPolicy, TrainedPart, TuningConfig
from SAMLungSegLib.training.data.examples import Example, with_targets
from SAMLungSegLib.training.data.leakage import seen_images
from SAMLungSegLib.training.parts import PartsTask
from SAMLungSegLib.training.trainer import Trainer

FAST = ("--model", "sam-vit-b", "--learning-rate", "1e-2", "--epochs", "3", "--device", "cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")


def models():
    torch.manual_seed(3)
    return {"compact": CompactModel(CompactNet()), "sam": SamModel(tiny_sam(), name="sam")}


def train(folder, *more):
    return main(["train", "--images", str(folder / "images"), "--masks", str(folder / "masks"), *more])


def example(seed=0):
    grey, mask = chest(seed)
    labels = mask * np.where(np.arange(mask.shape[1]) < mask.shape[1] // 2, 1, 2)
    return Example(f"chest_{seed}", 0, grey, labels.astype(np.uint8))


def lung_of(model, seed):
    return model.decode(model.encode([chest(seed)[0]])[0], PromptSet()).logits > 0


# ---- the network


def test_lung_compact_encodes_with_gradients_what_it_encodes_without():
    model = models()["compact"]
    slices = [chest(0, (96, 80))[0], chest(1, (64, 96))[0]]
    fast = model.encode(slices)
    model.network.image_encoder.requires_grad_(True)
    slow = model.encode_batch(slices)
    for one, other in zip(fast, slow, strict=True):
        assert one.size_hw == other.size_hw
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one.features, other.features, strict=True))
    slow[0].features[0].sum().backward()
    first = next(model.network.image_encoder.parameters())
    assert first.grad.abs().max() > 0


def test_lung_compact_encodes_by_its_new_weights_once_it_is_told():
    model = models()["compact"]
    slices, name = [chest(0)[0]], model.fingerprint
    before = model.encode(slices)[0].features[0]
    with torch.no_grad():
        for parameter in model.network.image_encoder.parameters():
            parameter.mul_(1.1)
    model.weights_changed()
    assert not torch.allclose(model.encode(slices)[0].features[0], before) and model.fingerprint != name


@pytest.mark.parametrize("family", ["compact", "sam"])
@pytest.mark.parametrize("part", ["decoder", "prompt", "encoder", "all"])
def test_gradients_reach_the_part_that_is_trained_and_nothing_else(family, part):
    model = models()[family]
    trained = TrainedPart.parse(part)
    examples = [with_targets(model, example())]
    if not trained.encodes:
        from SAMLungSegLib.training.data.examples import encode_examples

        examples = encode_examples(model, [example()])
    policy = PromptPolicy(PromptRecipe("both", ((0.28, 0.5), (0.72, 0.5))))
    task = PartsTask(model, trained, examples, examples, policy, TuningConfig())
    task.optimizer(0)
    (batch,) = task.batches(0)
    task.loss(task.predict(batch), batch).backward()
    reached = {
        name
        for name, module in model.network.named_children()
        if any(one.grad is not None and one.grad.abs().max() > 0 for one in module.parameters())
    }
    assert reached == set(trained.modules)


# ---- the command


@pytest.mark.parametrize("part", ["prompt", "encoder", "all"])
def test_a_part_that_makes_held_out_images_better_is_adopted_and_loads(part, tmp_path, capsys):
    data, out = write_set(tmp_path / "data", 8), tmp_path / "out"
    assert train(data, "-o", str(out), "--part", part, "--prompts", "points", *FAST) == 0
    text = capsys.readouterr().out
    weights = out / f"sam-vit-b-{part}.safetensors"
    assert "Adopted" in text and "Dice on 3 held-out images" in text
    before, after = tiny_sam().state_dict(), load_state_dict(weights)
    assert before.keys() == after.keys()
    changed = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == set(TrainedPart.parse(part).modules)
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["trained"] == list(TrainedPart.parse(part).modules) and card["base"] == "sam-vit-b"
    table = pd.read_csv(out / "held_out.csv")
    assert card["held_out"]["unprompted"]["after"] == pytest.approx(table["dice_after"].mean(), abs=1e-5)
    seen = seen_images("sam-vit-b", weights)
    assert seen.names == {*card["images"]["training"], *card["images"]["validation"]}
    assert load_model("sam-vit-b", weights=weights, device="cpu").fingerprint


def test_lung_compact_as_a_whole_learns_another_readers_borders(tmp_path, capsys):
    data, out = write_set(tmp_path / "data", 8), tmp_path / "out"
    for number in range(8):
        narrower = ndimage.binary_erosion(chest(number)[1], iterations=4)
        write_png(data / "masks" / f"chest_{number:02d}.png", narrower.astype(np.uint8) * 255)
    assert train(data, "-o", str(out), "--part", "all", "--epochs", "4", "--device", "cpu") == 0
    assert "Adopted" in capsys.readouterr().out
    table = pd.read_csv(out / "held_out.csv")
    assert (table["dice_after"] > table["dice_before"] + 0.02).all()
    model = load_model(weights=out / "lung-compact-all.safetensors", device="cpu")
    for row in table.itertuples():
        seed = int(row.image.removeprefix("chest_"))
        narrower, found = ndimage.binary_erosion(chest(seed)[1], iterations=4), lung_of(model, seed)
        dice = 2 * np.sum(found & narrower) / (found.sum() + narrower.sum())
        assert dice == pytest.approx(row.dice_after, abs=0.01)  # embeddings were rounded to float16


def test_adapters_are_trained_alone_and_written_with_their_card(tmp_path, capsys):
    data, out = write_set(tmp_path / "data", 8), tmp_path / "out"
    assert train(data, "-o", str(out), "--part", "adapters:lora", *FAST) == 0
    assert "Adopted" in capsys.readouterr().out
    weights = out / "sam-vit-b-adapters-lora.safetensors"
    assert all(name.startswith("image_encoder.adapters.") for name in load_state_dict(weights))
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["adapter"]["method"] == "lora" and card["images"]["held_out"]
    grey = [chest(0)[0]]
    adapted, plain = (load_model("sam-vit-b", weights=one, device="cpu") for one in (weights, None))
    assert not torch.allclose(adapted.encode(grey)[0].features[0], plain.encode(grey)[0].features[0])


def test_the_decoder_alone_is_what_tune_makes(tmp_path, capsys):
    data = write_set(tmp_path / "data", 10)
    options = ("--model", "sam-vit-b", "--learning-rate", "1e-3", "--epochs", "4", "--device", "cpu")
    assert train(data, "-o", str(tmp_path / "train"), *options) == 0
    folders = ("--images", str(data / "images"), "--masks", str(data / "masks"))
    assert main(["tune", *folders, "-o", str(tmp_path / "tune"), *options]) == 0
    assert "Adopted" in capsys.readouterr().out
    one, other = (tmp_path / name / "sam-vit-b-tuned.safetensors" for name in ("train", "tune"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("part", ["encoder", "adapters:lora"])
def test_the_same_command_again_goes_on_from_its_run(part, tmp_path, monkeypatch, capsys):
    data = write_set(tmp_path / "data", 8)
    command = ("-o", str(tmp_path / "out"), "--part", part, *FAST)
    assert train(data, *command) == 0
    first = capsys.readouterr().out
    assert train(data, *command) == 2 and "add --overwrite" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "train_epoch", lambda self, epoch: pytest.fail("an epoch was trained again"))
    assert train(data, *command, "--overwrite") == 0
    assert capsys.readouterr().out == first
    assert not list((tmp_path / "out" / "run").glob("*.earlier"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "There is nothing to train on"),
        (("smoke",), "There is nothing to train on"),
        (("smoke", "data", "--epochs", "3"), "leave --epochs out"),
        (("smoke", "data", "--part", "encoder"), "leave --part out"),
        (("smoke", "data", "--part", "decoder"), "leave --part out"),
        (("smoke", "data", "--model", "sam-vit-b"), "leave --model out"),
        (("smoke", "data", "--window", "lung", "--slices", "16"), "leave --window, --slices out, or train on images"),
        (("smoke", "data", "--points-per-lung", "1"), "leave --points-per-lung out"),
        (("smoke", "data", "--terms", "free"), "leave --terms out"),
        (("smoke", "data", "--jitter", "20"), "leave --jitter out"),
        (("smoke", "data", "--overwrite"), "leave --overwrite out"),
        (("--images", "a"), "give --images and --masks"),
        (("--images", "a", "--manifest", "b"), "leave --images and --masks out"),
        (("smoke", "--manifest", "b"), "smoke is a recipe"),
        (("--manifest", "b", "--part", "neck"), "There is no part 'neck' to train; choose one of decoder, prompt"),
        (("--manifest", "b", "--part", "adapters:glue"), "no adapter 'glue'"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_in_one_line(arguments, said, tmp_path, capsys):
    assert main(["train", *arguments, "-o", str(tmp_path / "out")]) == 2
    text = capsys.readouterr().err
    assert said in text and text.count("\n") == 1


def test_lung_compact_has_no_adapters_to_train(tmp_path, capsys):
    data = write_set(tmp_path / "data", 8)
    assert train(data, "-o", str(tmp_path / "out"), "--part", "adapters:lora", "--device", "cpu") == 2
    assert "has no part 'adapters'" in capsys.readouterr().err


def test_settings_of_adapters_follow_their_method():
    part = TrainedPart.parse("adapters:lora:rank=8,targets=q+k,placement=published")
    assert part.method == "lora" and dict(part.settings) == {
        "rank": 8, "targets": ("q", "k"), "placement": "published",
    }  # fmt: skip
    assert part.label == "adapters-lora-rank-8-targets-q-k-placement-published"
    assert TrainedPart.parse("adapters:mixed").settings == ()


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        ("adapters:", ModelError, "There is no adapter ''; choose one of lora, "),
        (
            "adapters:serial",
            ModelError,
            "There is no adapter 'serial'; choose one of lora, .*mixed, parallel, .*series",
        ),
        ("adapters:lora:rank", SettingsError, "'rank' is no setting; give NAME=VALUE"),
        ("adapters:series:rank=4", ModelError, "has no setting 'rank'; it has ratio, scale, placement"),
        ("adapters:series:ratio=-1", ModelError, "ratio -1 is not possible"),
        ("adapter", SettingsError, "all, adapters:lora, .*adapters:mixed, adapters:parallel, .*adapters:series"),
    ],
)
def test_adapters_that_are_not_there_are_refused_in_words(part, error, message):
    with pytest.raises(error, match=message):
        TrainedPart.parse(part)


def test_bottlenecks_as_published_are_trained_and_loaded(tmp_path, capsys):
    data, out = write_set(tmp_path / "data", 8), tmp_path / "out"
    assert train(data, "-o", str(out), "--part", "adapters:parallel:placement=published", *FAST) == 0
    assert "Adopted" in capsys.readouterr().out
    weights = out / "sam-vit-b-adapters-parallel-placement-published.safetensors"
    settings = {"ratio": 0.25, "scale": 0.5, "placement": "published"}
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["adapter"] == {"method": "parallel", "settings": settings}
    assert adapter_in(load_model("sam-vit-b", weights=weights, device="cpu").network).settings == settings

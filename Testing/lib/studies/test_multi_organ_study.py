"""The multi-organ study: its loss and changes by hand, its tables, and how it goes on after a stop."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from adaptation_sets import shape_data, slice_of, tiny_model, write_shapes
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adaptation.slices import ReadingOptions
from SAMLungSegLib.adaptation.task import AdaptConfig
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.evaluation.classification import Confusion
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.studies.multi_organ import study
from SAMLungSegLib.studies.multi_organ.report import accuracy_table, by_organ, write_multi_organ_report
from SAMLungSegLib.studies.multi_organ.study import MultiOrganSettings, run_multi_organ
from SAMLungSegLib.studies.multi_organ.tuning import OrganTuning, OrganTuningTask, changed, dice_loss, with_variants
from SAMLungSegLib.studies.objects import mean_dice
from SAMLungSegLib.studies.published import MULTI_ORGAN_ACCURACY, MULTI_ORGAN_DICE, MULTI_ORGAN_ZERO_SHOT

KINDS = ("centre", "box")
QUICK = OrganTuning(epochs=2, accumulate=4, variants=2)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        register_tiny_sam(patch, tmp_path_factory.mktemp("cache"))
        yield write_shapes(tmp_path_factory.mktemp("data")) / "shapes.csv"


def settings(**changes) -> MultiOrganSettings:
    usual = {
        "base": BaseCheckpoint("sam-vit-b"),
        "device": "cpu",
        "input_size": 128,
        "kinds": KINDS,
        "reading": ReadingOptions(smallest_px=20),
        "tuning": QUICK,
        "naming": AdaptConfig(steps=3, batch=2),
    }
    return MultiOrganSettings(**{**usual, **changes})


# ---- tuning


def test_the_loss_is_one_minus_dice_of_probabilities():
    logits = torch.tensor([[[0.0, 0.0], [100.0, -100.0]]])
    target = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    common, both = 0.5 + 1.0, (0.5 + 0.5 + 1.0) + 2.0
    assert dice_loss(logits, target).item() == pytest.approx(1 - 2 * common / both, abs=1e-5)
    nothing = dice_loss(torch.full((1, 2, 2), -200.0), torch.zeros(1, 2, 2))
    assert nothing.item() == 0  # 1 - s / s


def test_gradients_of_a_step_are_the_mean_over_its_objects(tmp_path):
    model, data = tiny_model(), shape_data()
    tuning = OrganTuning(accumulate=8, variants=0)
    task = OrganTuningTask(model, with_variants(model, data, tuning), "box", tuning)
    batch = next(iter(task.batches(0)))
    assert len(batch.examples) == task.each_epoch == 8 and task.weight(batch) == 8
    optimizer = task.optimizer(0)
    assert isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["lr"] == 0.1
    assert {name for name, one in model.network.named_parameters() if one.requires_grad} == {
        f"mask_decoder.{name}" for name, _ in model.network.mask_decoder.named_parameters()
    }
    losses = torch.stack([task.loss(task.predict(one), one) for one in task.pieces(batch)])
    assert task.loss(task.predict(batch), batch).item() == pytest.approx(losses.mean().item(), abs=1e-6)
    model.network.requires_grad_(False)


def test_changes_keep_grey_and_labels_together_and_shift_greys_by_a_tenth_at_most():
    one, kinds = slice_of(3), set()
    for seed in range(200):
        other = changed(one, np.random.default_rng(seed))
        shape = other.labels_hw.shape
        kinds.add(shape == one.labels_hw.shape and np.array_equal(other.labels_hw, one.labels_hw))
        for value, size in zip(*np.unique(one.labels_hw, return_counts=True), strict=True):
            assert np.count_nonzero(other.labels_hw == value) == size
        place = np.isin(other.labels_hw, (1,))
        moved = other.grey_hw[place].mean() - one.grey_hw[one.labels_hw == 1].mean()
        assert abs(moved) <= 26
    assert kinds == {True, False}
    assert sum(
        np.array_equal(changed(one, np.random.default_rng(seed)).labels_hw, one.labels_hw) for seed in range(400)
    ) / 400 == pytest.approx(0.9**3, abs=0.06)


def test_each_slice_has_its_variants_the_same_ones_every_time():
    model, data = tiny_model(), shape_data()
    first, again = (with_variants(model, data, QUICK) for _ in range(2))
    assert len(first.training) == 8 and OrganTuningTask(model, first, "box", QUICK).each_epoch == 8
    for one, other in zip(first.training, again.training, strict=True):
        assert np.array_equal(one.grey_hw, other.grey_hw) and torch.equal(one.halves[0], other.halves[0])
    plain = with_variants(model, data, OrganTuning(variants=0))
    assert all(np.array_equal(a.grey_hw, b.grey_hw) for a, b in zip(plain.training, data.training, strict=True))
    assert all(one.halves for part in (plain.training, plain.validation, plain.held_out) for one in part)


@pytest.mark.parametrize("change", [{"epochs": 0}, {"accumulate": 0}, {"variants": -1}, {"learning_rate": 0.0}])
def test_tunings_that_are_none_are_refused(change):
    with pytest.raises(SettingsError, match="are no tuning"):
        OrganTuning(**change)


@pytest.mark.parametrize("kinds", [(), ("box", "box"), ("circle",)])
def test_kinds_of_prompts_that_are_none_are_refused(kinds):
    with pytest.raises(SettingsError, match="name each once"):
        MultiOrganSettings(kinds=kinds)


# ---- tables


def test_dice_is_a_mean_over_objects_with_an_interval_over_patients():
    objects = pd.DataFrame(
        {
            "image": ["a", "b", "c", "d"],
            "patient": ["p", "p", "q", ""],
            "prompt": ["box"] * 4,
            "dice": [0.2, 0.4, 0.6, 0.8],
        }
    )
    (row,) = mean_dice(objects, ["prompt"]).to_dict("records")
    assert (row["objects"], row["patients"]) == (4, 3) and row["Dice"] == pytest.approx(0.5)
    assert pytest.approx(row["low"]) == 0.3 and row["high"] == pytest.approx(0.8)  # all of p, all of d
    (row,) = mean_dice(objects[:2], ["prompt"]).to_dict("records")
    assert np.isnan(row["low"])


def test_dice_by_organ_ends_with_the_mean_in_which_organs_count_alike():
    objects = pd.DataFrame(
        {"organ": ["liver", "liver", "spleen"], "prompt": ["box"] * 3, "dice": [0.6, 0.8, 0.1], "image": ["a"] * 3}
    )
    table = by_organ(objects)
    assert list(table["organ"]) == ["liver", "spleen", "mean over organs"]
    assert list(table["objects"]) == [2, 1, 3] and list(table["box"]) == pytest.approx([0.7, 0.1, 0.4])


def test_the_table_of_accuracies_ends_with_both_means():
    confusion = Confusion.of(("liver", "spleen"), ["liver", "liver", "spleen"], ["liver", "spleen", "spleen"])
    table = accuracy_table(confusion)
    assert list(table["organ"]) == ["liver", "spleen", "weighted mean", "macro mean"]
    assert list(table["accuracy"]) == pytest.approx([0.5, 1.0, 2 / 3, 0.75])
    assert list(table["predictions"]) == [2, 1, 3, 3]  # of an object there is one for each kind of prompts


def test_published_means_agree_with_the_published_rows():
    rows = MULTI_ORGAN_ACCURACY.frame()
    organs = rows.iloc[:13]
    assert organs["accuracy"].mean() == pytest.approx(MULTI_ORGAN_ACCURACY.value("macro mean", "accuracy"), abs=5e-5)
    zero_shot = MULTI_ORGAN_ZERO_SHOT.frame()
    assert list(zero_shot["Organ"]) == list(organs["Organ"])
    for kind in ("centre", "point", "points", "box", "larger-box"):
        assert MULTI_ORGAN_DICE.value(kind, "tuned") > MULTI_ORGAN_DICE.value(kind, "zero-shot") > 0.59
        assert zero_shot[kind].between(0, 1).all()


# ---- the study


def test_the_study_goes_on_after_a_stop_with_the_same_numbers(registry, tmp_path, monkeypatch):
    whole = run_multi_organ(registry, tmp_path / "whole", settings())
    assert set(whole.tuned["tuned_with"]) == set(whole.tuned["prompt"]) == set(KINDS)
    assert len(whole.zero_shot) == len(whole.named) == 2 * len(KINDS) * 3  # objects, kinds, held-out slices
    assert whole.confusion().counts.sum() == len(whole.named)

    class StoppedError(Exception):
        pass

    real, made = study.Trainer.train_epoch, []

    def train_epoch(trainer, epoch):
        real(trainer, epoch)
        made.append(epoch)
        if len(made) == 3:  # the first epoch of the second tuning
            raise StoppedError

    monkeypatch.setattr(study.Trainer, "train_epoch", train_epoch)
    with pytest.raises(StoppedError):
        run_multi_organ(registry, tmp_path / "stopped", settings())
    again = run_multi_organ(registry, tmp_path / "stopped", settings())
    assert made[3] == 1  # goes on inside the tuning that was stopped
    pd.testing.assert_frame_equal(again.zero_shot, whole.zero_shot)
    pd.testing.assert_frame_equal(again.tuned, whole.tuned)
    pd.testing.assert_frame_equal(again.named, whole.named)
    made.clear()
    other = run_multi_organ(registry, tmp_path / "stopped", settings(naming=None, tuning=QUICK))
    assert not made and other.named.empty


def test_the_command_writes_a_report_with_the_published_tables_and_their_marks(registry, tmp_path, capsys):
    command = ["study", "multi-organ", str(registry), "-o", str(tmp_path), "--model", "sam-vit-b", "--device", "cpu"]
    command += ["--input-size", "128", "--smallest", "20", "--prompts", "box,centre", "--epochs", "1"]
    assert main([*command, "--naming-steps", "2", "--variants", "1"]) == 0
    said = capsys.readouterr().out
    assert "| zero-shot | box" in said and "macro mean" in said
    page = (tmp_path / "report.html").read_text()
    for text in ("one experiment under three names", "can exceed 1", "0.8556", "0.8331", "data:image/png"):
        assert text in page
    counts = pd.read_csv(tmp_path / "confusion.csv")
    assert list(counts.columns) == ["organ", "disc", "bar"] and counts[["disc", "bar"]].to_numpy().sum() == 12
    assert json.loads((tmp_path / "runs" / "zero_shot" / "result.json").read_text())["rows"]


def test_what_was_left_out_is_said_to_be_not_run(registry, tmp_path):
    result = run_multi_organ(registry, tmp_path, settings(tuning=None, naming=None, kinds=("box",)))
    write_multi_organ_report(result, tmp_path)
    page = (tmp_path / "report.md").read_text()
    assert "Tuning of decoders: not run." in page and "The class token: not run." in page

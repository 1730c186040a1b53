"""The fine-tuning study: its folds, what each part is used for, its tables, and how it goes on after a stop."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_sams import tiny_sam
from tuning_sets import chest, register_tiny_sam, write_png, write_set

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError, SettingsError, VolumeError
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.studies.fine_tune import study, unet
from SAMLungSegLib.studies.fine_tune.report import prompt_statistics, write_fine_tune_report
from SAMLungSegLib.studies.fine_tune.settings import FineTuneSettings, cross_kind, default_config
from SAMLungSegLib.studies.fine_tune.study import run_fine_tune
from SAMLungSegLib.studies.fine_tune.tables import best_and_worst, fold_statistics, threshold_table
from SAMLungSegLib.studies.fine_tune.unet import UNetConfig, UNetTask, train_unet, unet_masks
from SAMLungSegLib.studies.pieces import piece
from SAMLungSegLib.training import TuningConfig
from SAMLungSegLib.training.data.examples import Example
from SAMLungSegLib.training.data.splits import fold_splits
from SAMLungSegLib.training.decoder import DecoderTask
from SAMLungSegLib.training.trainer import Trainer

QUICK = {"epochs": 2, "learning_rate": 1e-3, "patience": 0}
TINY_UNET = UNetConfig(epochs=2, channels=(4, 8))


def settings(**changes) -> FineTuneSettings:
    usual = {"base": BaseCheckpoint("sam-vit-b"), "device": "cpu", "folds": 3, "changes": QUICK, "unet": None}
    return FineTuneSettings(**{**usual, **changes})


@pytest.fixture
def tiny_registry(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")


# ---- folds


def test_each_image_is_tested_once_and_validates_the_fold_before():
    names = [f"image_{number}" for number in range(23)]
    splits = fold_splits(names, 5)
    assert splits == fold_splits(names[::-1], 5)
    assert sorted(name for split in splits for name in split.held_out) == sorted(names)
    for split, following in zip(splits, [*splits[1:], splits[0]], strict=True):
        assert split.validation == following.held_out
        assert sorted([*split.training, *split.validation, *split.held_out]) == sorted(names)


def test_too_few_images_or_folds_are_refused():
    with pytest.raises(VolumeError, match="9 images are too few for 5 folds; give at least 10"):
        fold_splits([str(number) for number in range(9)], 5)
    with pytest.raises(SettingsError, match="2 folds are too few"):
        FineTuneSettings(folds=2)
    with pytest.raises(SettingsError, match="name each once"):
        FineTuneSettings(kinds=("box", "box"))


def test_the_papers_recipe_is_the_default_for_sam():
    sam = SamModel(tiny_sam(), name="sam")
    assert default_config(sam) == TuningConfig(epochs=100, batch=2, learning_rate=1e-5, weight_decay=0, patience=0)
    assert cross_kind(("box", "points")) == "points" and cross_kind(("box", "both")) == "box"


# ---- tables


def test_statistics_are_over_the_means_of_folds():
    table = pd.DataFrame({"set": "a", "fold": [1, 1, 2], "dice": [0.8, 0.9, 0.95]})
    row = fold_statistics(table, ["set"], {"dice": "F1"}).iloc[0]
    assert row["F1 mean"] == pytest.approx(0.9)  # of 0.85 and 0.95, not of three slices
    assert row["F1 SD"] == pytest.approx(0.1 / np.sqrt(2))


def test_the_best_and_the_worst_row_are_found():
    scores = pd.DataFrame({"image": ["a", "b", "c"], "dice_after": [0.7, 0.9, 0.8]})
    assert [row["image"] for row in best_and_worst(scores)] == ["b", "a"]


# ---- pieces


def test_a_piece_is_made_once_and_again_for_other_facts_or_when_it_is_damaged(tmp_path):
    made = []

    def make():
        made.append(len(made))
        return {"rows": [{"dice": 0.1 + 0.2, "points": (1, 2)}]}

    first = piece(tmp_path / "a", {"fold": 0, "shape": (1, 2)}, make)
    assert piece(tmp_path / "a", {"fold": 0, "shape": (1, 2)}, make) == first and made == [0]
    piece(tmp_path / "a", {"fold": 1}, make)
    assert made == [0, 1]
    (tmp_path / "a" / "result.json").write_text('{"made_')
    piece(tmp_path / "a", {"fold": 1}, make)
    assert made == [0, 1, 2]


# ---- no leaks


def test_points_weights_and_threshold_do_not_depend_on_the_test_images(tmp_path, tiny_registry):
    data = write_set(tmp_path / "set", 6)
    names = [f"chest_{number:02d}" for number in range(6)]
    run_fine_tune(data, tmp_path / "first", settings(kinds=("both",)))
    for name in fold_splits(names, 3)[0].held_out:  # other test images and masks of the first fold
        grey, mask = chest(500 + int(name[-2:]))
        write_png(data / "images" / f"{name}.png", 255 - grey)
        write_png(data / "masks" / f"{name}.png", np.roll(mask, 12, axis=0).astype(np.uint8) * 255)
    run_fine_tune(data, tmp_path / "second", settings(kinds=("both",)))
    first, second = (read_fold(tmp_path / out) for out in ("first", "second"))
    for fact in ("mean_points", "threshold", "history", "epoch", "split"):
        assert first[fact] == second[fact], fact
    assert first["rows"] != second["rows"]
    assert {row["image"] for row in first["rows"]} == set(first["split"]["held_out"])


def read_fold(out, kind="both", fold=1):
    return json.loads((out / "runs" / "set" / kind / f"fold_{fold}" / "result.json").read_text())


def test_the_threshold_is_the_best_one_on_validation(tmp_path, tiny_registry):
    result = run_fine_tune(write_set(tmp_path / "set", 6), tmp_path / "out", settings(kinds=("box",)))
    for tuned in result.tuned.values():
        kept = tuned.result["history"][tuned.result["epoch"]]
        assert kept[f"dice_{tuned.threshold:.2f}"] == max(v for name, v in kept.items() if name.startswith("dice_"))
    assert list(threshold_table(result.tuned).columns) == ["set", "threshold", "box"]


def test_a_base_that_has_learned_from_the_images_is_refused_with_an_explanation(tmp_path, capsys):
    data = tmp_path / "xrays"
    for number in range(10):
        grey, mask = chest(number)
        write_png(data / "images" / f"MCUCXR_{number:04d}_0.png", grey)
        write_png(data / "masks" / f"MCUCXR_{number:04d}_0.png", mask.astype(np.uint8))
    assert main(["study", "fine-tune", str(data), "-o", str(tmp_path / "out"), "--device", "cpu"]) == 2
    text = capsys.readouterr().err
    assert "lung-compact has learned from" in text and "give --weights that were trained without them" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_set_that_the_base_knows_can_be_tuned_on_for_the_cross_set_table_only(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    write_set(data / "new", 6)
    for number in range(6):
        grey, mask = chest(number)
        write_png(data / "known" / "images" / f"MCUCXR_{number:04d}_0.png", grey)
        write_png(data / "known" / "masks" / f"MCUCXR_{number:04d}_0.png", mask.astype(np.uint8))
    quick = {"base": BaseCheckpoint(), "kinds": ("box", "points"), "changes": {"epochs": 1}}
    with pytest.raises(ModelError, match="lung-compact has learned from"):
        run_fine_tune(data, out, settings(**quick))
    result = run_fine_tune(data, out, settings(**quick, tune_only=("known",)))
    assert set(result.scores["set"]) == {"new"} and set(result.sets) == {"new"}
    write_fine_tune_report(result, out)
    cross = pd.read_csv(out / "cross_set.csv")
    ours = cross[~cross["Tuned on"].str.startswith("published")]
    assert set(zip(ours["Tuned on"], ours["Tested on"], strict=True)) == {("new", "new"), ("known", "new")}
    assert (result.cross.groupby("fold").size() == 6).all()
    assert {path.name for path in (out / "runs" / "known").iterdir()} == {"points"}
    assert "Only tuned on, for the cross-set table: known." in (out / "report.md").read_text(encoding="utf-8")


def test_sets_to_tune_on_must_be_there_and_leave_one_to_test(tmp_path, tiny_registry):
    data = write_set(tmp_path / "set", 6)
    with pytest.raises(SettingsError, match="no set other to tune on; the data has set"):
        run_fine_tune(data, tmp_path / "out", settings(tune_only=("other",)))
    with pytest.raises(SettingsError, match="so that none is tested"):
        run_fine_tune(data, tmp_path / "out", settings(tune_only=("set",)))


def test_medsam_is_refused_points_before_anything_is_computed(tmp_path, tiny_registry, monkeypatch):
    data = write_set(tmp_path / "set", 6)
    monkeypatch.setattr(study, "encode_examples", lambda *_: pytest.fail("too late"))
    with pytest.raises(SettingsError, match="cannot be tuned to prompts 'clicks'"):
        run_fine_tune(data, tmp_path / "out", settings(kinds=("box", "clicks")))


def test_base_weights_that_are_not_there_are_refused(tmp_path, tiny_registry):
    data = write_set(tmp_path / "set", 6)
    with pytest.raises(ModelError, match="no weights at"):
        run_fine_tune(data, tmp_path / "out", settings(base=BaseCheckpoint("sam-vit-b", tmp_path / "none.pth")))


# ---- the whole study


@pytest.mark.slow
def test_two_sets_make_all_tables_and_figures_with_the_published_beside(tmp_path, tiny_registry, capsys, monkeypatch):
    write_set(tmp_path / "data" / "first", 6)
    write_set(tmp_path / "data" / "second", 6, first_seed=40)
    monkeypatch.setattr(unet, "UNetConfig", lambda epochs: TINY_UNET)
    monkeypatch.setattr(study, "LEARNING_RATES", (1e-4, 1e-3))
    monkeypatch.setattr(study, "WEIGHT_DECAYS", (0.0, 0.1))
    out = tmp_path / "out"
    command = ["study", "fine-tune", str(tmp_path / "data"), "-o", str(out), "--model", "sam-vit-b", "--device", "cpu"]
    assert main([*command, "--folds", "3", "--epochs", "2", "--learning-rate", "1e-3", "--grid"]) == 0
    assert "Base model sam-vit-b, SHA-256" in capsys.readouterr().out

    after = pd.read_csv(out / "after.csv")
    ours = after[~after["Set"].str.startswith("published")]
    assert list(zip(ours["Set"], ours["Prompt"], strict=True)) == [
        (name, kind) for name in ("first", "second") for kind in ("box", "points", "both")
    ]
    published = after[(after["Set"] == "published: Montgomery") & (after["Prompt"] == "points")].iloc[0]
    assert (published["F1 mean"], published["F1 SD"]) == (0.943, 0.007)
    slices = pd.read_csv(out / "per_slice.csv")
    assert len(slices) == 2 * 3 * 6
    folds = slices[(slices["set"] == "first") & (slices["prompt"] == "box")].groupby("fold")["dice_after"].mean()
    row = ours[(ours["Set"] == "first") & (ours["Prompt"] == "box")].iloc[0]
    assert row["F1 mean"] == pytest.approx(folds.mean(), abs=1e-5) and row["F1 SD"] == pytest.approx(
        folds.std(), abs=1e-5
    )

    cross = pd.read_csv(out / "cross_set.csv")
    pairs = {("first", "first"), ("first", "second"), ("second", "first"), ("second", "second")}
    assert set(zip(cross["Tuned on"], cross["Tested on"], strict=True)) >= pairs
    assert len(pd.read_csv(out / "grid.csv")) == 2 * 4
    assert pd.read_csv(out / "unet.csv")["U-Net F1 mean"].notna().all()
    thresholds = pd.read_csv(out / "thresholds.csv")
    assert list(thresholds[thresholds["Set"] == "first"]["Threshold"]) == [0.5, 0.55, 0.6, 0.65, 0.7]
    names = {path.name for path in (out / "figures").iterdir()}
    kinds = ("before_and_after", "learning_curves", "thresholds", "best_and_worst")
    assert names == {f"{name}_{kind}.png" for name in ("first", "second") for kind in kinds}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64") == 8 and page.count("Base model sam-vit-b") >= 14
    assert not list(out.rglob("tuning.pt")) and not list(out.rglob("*.part"))


def test_a_study_that_was_stopped_goes_on_and_gives_the_same_numbers(tmp_path, tiny_registry, monkeypatch):
    data = write_set(tmp_path / "set", 6)
    wanted = settings(kinds=("box", "points"), unet=TINY_UNET)
    whole = run_fine_tune(data, tmp_path / "whole", wanted)

    original = Trainer.save
    for task, after in ((DecoderTask, 7), (UNetTask, 3)):  # in the second epoch of a decoder, the first of a U-Net
        stop_after(monkeypatch, task, after)
        with pytest.raises(KeyboardInterrupt):
            run_fine_tune(data, tmp_path / "stopped", wanted)
        monkeypatch.setattr(Trainer, "save", original)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "stopped").rglob("result.json")}
    resumed = run_fine_tune(data, tmp_path / "stopped", wanted)
    assert len(done) == 6 + 1 and all(path.stat().st_mtime_ns == time for path, time in done.items())
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)
    pd.testing.assert_frame_equal(resumed.unet, whole.unet)
    assert [one.result["history"] for one in resumed.tuned.values()] == [
        one.result["history"] for one in whole.tuned.values()
    ]


def stop_after(monkeypatch, task, count):
    """Stop after so many checkpoints of a kind of task."""
    original, saved = Trainer.save, []

    def save_and_stop(self):
        original(self)
        saved.extend([0] * isinstance(self.task, task))
        if len(saved) == count:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", save_and_stop)


def test_changed_settings_make_only_what_they_concern_anew(tmp_path, tiny_registry):
    data, out = write_set(tmp_path / "set", 6), tmp_path / "out"
    run_fine_tune(data, out, settings(kinds=("box", "points"), unet=TINY_UNET))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    run_fine_tune(data, out, settings(kinds=("box", "both"), unet=TINY_UNET))
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    run_fine_tune(data, out, settings(kinds=("box",), changes={**QUICK, "epochs": 1}, unet=TINY_UNET))
    changed = {path.parents[1].name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"box"}
    run_fine_tune(data, out, settings(kinds=("box",)), overwrite=True)
    assert {path.parents[1].name for path in out.rglob("result.json")} == {"box"}


def test_lung_compact_is_tuned_in_the_study(tmp_path):
    data = write_set(tmp_path / "set", 6)
    wanted = settings(base=BaseCheckpoint(), kinds=("points",), changes={"epochs": 1}, limit=6)
    result = run_fine_tune(data, tmp_path / "out", wanted)
    assert result.config == TuningConfig(epochs=1, patience=6, learning_rate=5e-4)
    statistics = prompt_statistics(result, "after")
    assert statistics["F1 mean"].iloc[0] > 0.9
    files = write_fine_tune_report(result, tmp_path / "out")
    assert all(path.is_file() for path in files)
    shutil.rmtree(tmp_path / "out" / "runs")


# ---- the U-Net


def examples(count, first_seed=0):
    made = (chest(first_seed + number, (64, 64)) for number in range(count))
    return [
        Example(f"{first_seed + number}", 0, grey, mask.astype(np.uint8)) for number, (grey, mask) in enumerate(made)
    ]


def test_the_unet_learns_and_keeps_its_best_epoch(tmp_path):
    torch.set_num_threads(1)
    config = UNetConfig(epochs=12, channels=(8, 16), learning_rate=1e-2)
    training, validation = examples(8), examples(3, first_seed=30)
    net = train_unet(training, validation, config, tmp_path)
    history = [row["dice"] for row in torch.load(tmp_path / "unet.pt", weights_only=True)["history"]]
    masks = unet_masks(net, validation)
    scores = [2 * np.sum(m & e.lung_hw) / (m.sum() + e.lung_hw.sum()) for m, e in zip(masks, validation, strict=True)]
    assert np.mean(scores) == pytest.approx(max(history)) and max(history) > 0.9

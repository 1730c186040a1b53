"""The study of adaptations: what a step keeps, the baseline, its tables, and how it goes on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from adaptation_sets import shape_data, write_shapes
from torch import nn
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adaptation import pictures
from SAMLungSegLib.adaptation.slices import ReadingOptions, read_data
from SAMLungSegLib.adaptation.task import AdaptConfig
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.studies import object_figures
from SAMLungSegLib.studies.adapters import study
from SAMLungSegLib.studies.adapters.memory import step_megabytes
from SAMLungSegLib.studies.adapters.report import costs, dice_by_prompt, differences
from SAMLungSegLib.studies.adapters.study import (
    STEPS,
    TIME,
    UNET,
    UNTRAINED,
    AdaptersResult,
    AdaptersSettings,
    default_methods,
    run_adapters,
)
from SAMLungSegLib.studies.adapters.unet import SIDE, OrganUNetTask, unet_rows
from SAMLungSegLib.studies.fine_tune.unet import UNetConfig
from SAMLungSegLib.studies.multi_organ import study as multi_organ
from SAMLungSegLib.studies.object_figures import curves_plot, interval_plot
from SAMLungSegLib.studies.objects import judged_on

TINY_UNET = UNetConfig(channels=(4, 8))
METHODS = ("decoder", "lora:rank=2")


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        register_tiny_sam(patch, tmp_path_factory.mktemp("cache"))
        patch.setattr(pictures, "MOST_OBJECTS", 1)  # drawing takes most of the time
        yield write_shapes(tmp_path_factory.mktemp("data")) / "shapes.csv"


def settings(**changes) -> AdaptersSettings:
    usual = {
        "base": BaseCheckpoint("sam-vit-b"),
        "device": "cpu",
        "input_size": 128,
        "methods": METHODS,
        "steps": 3,
        "kinds": ("centre", "box"),
        "reading": ReadingOptions(smallest_px=20),
        "unet": TINY_UNET,
    }
    return AdaptersSettings(**{**usual, **changes})


# ---- memory


def test_a_step_keeps_weights_gradients_moments_and_activations():
    layer = nn.Linear(1000, 10, bias=False)
    inputs = torch.randn(50, 1000)
    weights, activations = 4 * 10_000, 4 * 50_000  # the input is kept for the gradient of the weights
    got = step_megabytes(layer, lambda: layer(inputs).sum())
    assert got == pytest.approx((weights + weights + 2 * weights + activations) / 1e6)
    layer.requires_grad_(False)
    assert step_megabytes(layer, lambda: layer(inputs).sum()) == pytest.approx(weights / 1e6)


def test_what_two_layers_keep_of_one_tensor_counts_once():
    layers = nn.ModuleList([nn.Linear(1000, 1, bias=False), nn.Linear(1000, 1, bias=False)])
    inputs = torch.randn(100, 1000)
    got = step_megabytes(layers, lambda: sum(layer(inputs).sum() for layer in layers))
    assert got == pytest.approx((4 * 4 * 2000 + 4 * 100_000) / 1e6)


# ---- the baseline


def test_the_baseline_has_a_channel_for_each_organ_and_is_judged_at_the_slices_own_size():
    data = shape_data()
    task = OrganUNetTask(data, TINY_UNET, AdaptConfig(steps=2, batch=3))
    (first, *_) = task.batches(0)
    assert len(first) == 3 and task.predict(first).shape == (3, 2, SIDE, SIDE)
    sample = task.samples[0]
    assert sample["label"].shape == (2, SIDE, SIDE)
    for organ in (1, 2):
        share = float(sample["label"][organ - 1].mean())
        assert share == pytest.approx(float((data.training[0].labels_hw == organ).mean()), abs=0.01)
    rows = unet_rows(task, data.held_out)
    assert len(rows) == 6 and {row["organ"] for row in rows} == set(data.organs)


def test_a_perfect_baseline_has_a_dice_of_one():
    data = shape_data()

    class Perfect(nn.Module):
        def forward(self, image):
            grey = image[:, 0] * 127.5 + 127.5
            return torch.stack([grey - 165, 75 - grey], dim=1)  # the disc is bright, the bar dark

    task = OrganUNetTask(data, TINY_UNET, AdaptConfig(steps=1))
    task.network = Perfect()
    assert np.mean([row["dice"] for row in unet_rows(task, data.held_out)]) > 0.93


# ---- the study


@pytest.fixture(scope="module")
def whole(registry, tmp_path_factory) -> AdaptersResult:
    return run_adapters(registry, tmp_path_factory.mktemp("whole"), settings())


def test_every_method_is_trained_as_long_and_judged_beside_the_base_and_the_baseline(whole):
    assert list(whole.methods["method"]) == [*METHODS, UNET] and set(whole.methods["budget"]) == {STEPS}
    assert list(whole.methods["steps"]) == [3, 3, 3]
    assert set(whole.objects["method"]) == {UNTRAINED, *METHODS, UNET}
    assert (whole.methods["parameters"] > 0).all() and whole.methods["share"].between(0, 1).all()
    assert set(whole.objects["prompt"]) == {"centre", "box", "none"}
    assert list(costs(whole)["of all [%]"]) == pytest.approx(100 * whole.methods["share"])


def test_the_study_goes_on_after_a_stop_with_the_same_numbers(whole, registry, tmp_path, monkeypatch):
    class StoppedError(Exception):
        pass

    real, made = study.adapt, []

    def adapt(*arguments, **options):
        made.append(arguments[4].name)
        if len(made) == 2:
            raise StoppedError
        return real(*arguments, **options)

    monkeypatch.setattr(study, "adapt", adapt)
    with pytest.raises(StoppedError):
        run_adapters(registry, tmp_path, settings())
    again = run_adapters(registry, tmp_path, settings())
    assert made == ["decoder", "lora", "lora"]
    pd.testing.assert_frame_equal(again.objects, whole.objects)
    numbers = ["method", "parameters", "share", "MB", "steps", "validation Dice"]
    pd.testing.assert_frame_equal(again.methods[numbers], whole.methods[numbers])


def test_the_command_compares_in_equal_time_and_says_what_was_not_run(registry, tmp_path, capsys):
    command = ["study", "adapters", str(registry), "-o", str(tmp_path), "--model", "sam-vit-b", "--device", "cpu"]
    command += ["--input-size", "128", "--smallest", "20", "--methods", "decoder med-sa", "--minutes", "0.002"]
    assert main([*command, "--prompts", "box", "--no-unet"]) == 0
    said = capsys.readouterr().out
    assert TIME in said and "med-sa was not run: It looks at 3 neighbouring slices" in said
    page = (tmp_path / "report.html").read_text()
    assert "Methods that were not run" in page and "its training images, oracle clicks" in page
    assert (tmp_path / "figures" / "dice_equal_time.png").is_file()
    table = pd.read_csv(tmp_path / "dice.csv")
    assert list(table["method"]) == [UNTRAINED, "decoder"] and "box" in table
    (row,) = pd.read_csv(tmp_path / "methods.csv").to_dict("records")
    assert row["steps"] >= 1 and row["budget"] == TIME


def test_methods_are_set_against_base_and_decoder_on_the_same_objects_and_prompts():
    """Full gains 0.2 and 0.4 over the base in two patients, and 0.1 over the decoder, which takes boxes alone."""
    dice = {
        ("", "untrained", "point"): (0.1, 0.2), ("", "untrained", "box"): (0.3, 0.3),
        ("equal steps", "decoder", "box"): (0.4, 0.6), ("equal steps", "full", "point"): (0.3, 0.6),
        ("equal steps", "full", "box"): (0.5, 0.7), ("equal time", "full", "box"): (0.3, 0.3),
        ("equal steps", "U-Net", "none"): (0.9, 0.9),
    }  # fmt: skip
    objects = pd.DataFrame(
        [
            {"budget": budget, "method": method, "image": name, "slice": 0, "patient": name, "organ": "liver",
             "prompt": prompt, "dice": value}
            for (budget, method, prompt), values in dice.items() for name, value in zip("ab", values, strict=True)
        ]
    )  # fmt: skip
    table = differences(objects).set_index(["budget", "method", "than"])
    assert [*table.index] == [
        ("equal steps", "decoder", "untrained"), ("equal steps", "full", "untrained"),
        ("equal steps", "full", "decoder"), ("equal time", "full", "untrained"),
    ]  # fmt: skip
    assert table["difference"].tolist() == pytest.approx([0.2, 0.3, 0.1, 0.0])
    full = table.loc["equal steps", "full", "untrained"]
    assert (full["objects"], full["patients"]) == (4, 2)
    assert (full["low"], full["high"]) == (pytest.approx(0.2), pytest.approx(0.4))  # of the two patients' means


def test_all_methods_that_change_masks_are_compared_by_default():
    names = default_methods(shape_data())
    assert {"decoder", "full", "lora", "series", "med-sa:slices=1"} <= set(names) and "organ-token" not in names


def test_neither_steps_nor_minutes_and_unknown_methods_are_refused():
    with pytest.raises(SettingsError, match="give one of both at least"):
        AdaptersSettings(steps=None)
    with pytest.raises(SettingsError, match="no method 'magic'"):
        AdaptersSettings(methods=("magic",))
    with pytest.raises(SettingsError, match="'organ-token' leaves masks as they are, and methods are compared by Dice"):
        AdaptersSettings(methods=("decoder", "organ-token"))


@pytest.mark.parametrize("name", ["adapters", "multi-organ"])
def test_what_is_wrong_with_the_model_is_told_before_images_are_read(name, registry, tmp_path, monkeypatch, capsys):
    module = study if name == "adapters" else multi_organ
    monkeypatch.setattr(module, "study_objects", lambda *_: pytest.fail("images were read"))
    command = ["study", name, str(registry), "-o", str(tmp_path / "out"), "--model", "sam-vit-b", "--device", "cpu"]
    assert main([*command, "--weights", str(tmp_path / "none.safetensors")]) == 2
    assert "There are no weights at" in capsys.readouterr().err
    assert main([*command, "--input-size", "128", "--prompts", "wish"]) == 2
    assert "wish" in capsys.readouterr().err


# ---- what tables and pictures say


def test_notes_under_tables_say_that_few_patients_are_few_and_what_the_base_knew(registry, tmp_path):
    data, weights = read_data(registry), tmp_path / "mine.safetensors"
    rough = "the held-out part only, 3 patients or images, so few that intervals are rough."
    assert judged_on(BaseCheckpoint("sam-vit-b"), data) == rough
    learned = {"training": [data.held_out[0].image], "validation": [data.training[0].image]}
    weights.with_suffix(".json").write_text(json.dumps({"images": learned}))
    told = judged_on(BaseCheckpoint("sam-vit-b", weights), data)
    assert told == f"{rough} The base has learned from 1 of these 3 images: its figures are too good."


def test_the_mean_of_one_patient_has_no_interval_in_tables(whole):
    one = replace(whole, objects=whole.objects[whole.objects["patient"] == whole.objects["patient"].iloc[0]])
    table = dice_by_prompt(one)
    assert not table.astype(str).apply(lambda column: column.str.contains("nan")).any(axis=None)
    assert table.columns[-1] == "mean of its prompts"


def drawn(monkeypatch, draw, *arguments, **options):
    figures = []
    monkeypatch.setattr(object_figures, "save_figure", lambda figure, path: figures.append(figure))
    draw(Path("picture.png"), *arguments, **options)
    return figures[0].axes[0]


def test_points_of_a_row_lie_closer_to_each_other_than_to_those_of_the_next_and_one_patient_has_no_bar(monkeypatch):
    rows = [(name, kind, 0.5, 0.4, 0.6) for name in ("centre", "box") for kind in ("before", "after")]
    table = pd.DataFrame(rows, columns=["prompt", "state", "Dice", "low", "high"])
    table.loc[3, ["low", "high"]] = np.nan
    axes = drawn(monkeypatch, interval_plot, table, rows="prompt", groups="state")
    first, second = (one.lines[0].get_ydata() for one in axes.containers)
    assert second[0] - first[0] < 0.75 * (first[1] - second[0])
    lower_caps = axes.containers[1].lines[1][0].get_xdata()
    assert lower_caps[0] == pytest.approx(0.4) and np.isnan(lower_caps[1])


def test_epochs_are_whole_numbers_and_one_epoch_is_seen(monkeypatch):
    axes = drawn(monkeypatch, curves_plot, [("box", [0.2, 0.3]), ("point", [0.1])], what="Dice")
    assert all(float(place).is_integer() for place in axes.get_xticks())
    assert all(line.get_marker() == "." for line in axes.lines)

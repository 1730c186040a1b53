"""`samlungseg adapt`: from a manifest to weights with a verdict, and on from where it was stopped."""

from __future__ import annotations

import json
from argparse import Namespace

import pandas as pd
import pytest
from adaptation_sets import keen_sam, shapes, write_shapes
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adaptation import method_names
from SAMLungSegLib.adaptation.run import compared_by_prompt
from SAMLungSegLib.cli import main
from SAMLungSegLib.cli.adapt import reading_of
from SAMLungSegLib.intensity import parse_window
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.capabilities import MEDSAM
from SAMLungSegLib.models.tuned import learned_organs, learned_window
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.prompts.reference import tight_box
from SAMLungSegLib.training.data.cases import Windowing
from SAMLungSegLib.training.data.leakage import seen_images
from SAMLungSegLib.training.trainer import Trainer

FAST = ("--steps", "6", "--device", "cpu", "--input-size", "128", "--prompts", "box+centre")
WRITTEN = {
    "comparison.json", "comparison.png", "held_out.csv", "held_out.png", "history.csv", "learning_curve.png",
    "organs.csv", "run",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache", keen_sam)


@pytest.fixture
def manifest(tmp_path):
    return write_shapes(tmp_path / "data") / "shapes.csv"


def adapt(data, out, *more):
    return main(["adapt", str(data), "-o", str(out), *FAST, *more])


def test_a_decoder_that_makes_held_out_objects_better_is_adopted_and_loads(manifest, tmp_path, capsys):
    out = tmp_path / "out"
    assert adapt(manifest, out, "--method", "decoder", "--learning-rate", "1e-2", "--steps", "40") == 0
    text = capsys.readouterr().out
    assert "Adopted" in text and "all: Dice on 3 held-out patients" in text and "centre: Dice on 3" in text
    weights = out / "sam-vit-b-decoder.safetensors"
    assert {path.name for path in out.iterdir()} == WRITTEN | {weights.name, "sam-vit-b-decoder.json"}
    table, history = pd.read_csv(out / "held_out.csv"), pd.read_csv(out / "history.csv")
    assert len(table) == 3 * 2 * 2 and set(table["organ"]) == {"disc", "bar"} and len(history) == 10
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["schema"] == "samlungseg-adapted/1" and card["trained"] == "mask_decoder"
    assert card["adaptation"]["method"] == "decoder" and card["adaptation"]["organs"] == ["disc", "bar"]
    assert card["held_out"]["all"]["after"] == pytest.approx(table["dice_after"].mean(), abs=1e-5)
    seen = seen_images("sam-vit-b", weights)
    assert len(seen.names) == 5 and seen.names.isdisjoint(set(table["image"]))
    model = load_model("sam-vit-b", weights=weights, device="cpu")
    for row in table[table["prompt"] == "box"].itertuples():
        grey, labels = shapes(int(row.image.removeprefix("shape_")))
        mask = labels == 1 + (row.organ == "bar")
        found = model.decode(model.encode([grey])[0], PromptSet(box=tight_box(mask))).logits > 0
        assert dice(mask, found) == pytest.approx(row.dice_after, abs=0.02)  # pictures are seen as X-rays


def test_the_same_command_goes_on_with_a_run_that_was_stopped(manifest, tmp_path, monkeypatch, capsys):
    arguments = ("--method", "lora", "--learning-rate", "1e-2", "--accumulate", "2", "--checkpointing")
    assert adapt(manifest, tmp_path / "whole", *arguments) == 0
    original = Trainer.save

    def save_and_stop(self):
        original(self)
        if self.epochs_done == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_and_stop)
        assert adapt(manifest, tmp_path / "stopped", *arguments) == 130
    assert adapt(manifest, tmp_path / "stopped", *arguments) == 0
    first, second = (tmp_path / name for name in ("whole", "stopped"))
    assert (first / "held_out.csv").read_bytes() == (second / "held_out.csv").read_bytes()
    columns = ["epoch", "loss", "dice"]
    tables = [pd.read_csv(folder / "history.csv")[columns] for folder in (first, second)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_what_makes_nothing_better_is_not_written(manifest, tmp_path, capsys):
    assert adapt(manifest, tmp_path / "out", "--learning-rate", "1e-9") == 0
    assert "Not adopted" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN


def test_weights_that_were_adopted_are_replaced_only_if_wished(manifest, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sam-vit-b-decoder.safetensors").write_bytes(b"mine")
    assert adapt(manifest, tmp_path / "out") == 2
    assert "exists already; add --overwrite" in capsys.readouterr().err


def test_weights_that_were_adopted_stay_where_others_are_not_or_images_cannot_be_read(manifest, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    weights = tmp_path / "out" / "sam-vit-b-decoder.safetensors"
    weights.write_bytes(b"mine")
    assert adapt(manifest, tmp_path / "out", "--learning-rate", "1e-9", "--overwrite") == 0
    assert f"No weights were written. {weights} is of an earlier run." in capsys.readouterr().out
    (manifest.parent / "masks" / "shape_03.png").write_bytes(b"no picture")
    assert adapt(manifest, tmp_path / "out", "--overwrite") == 2
    assert weights.read_bytes() == b"mine"


def test_how_to_use_weights_says_the_window_that_they_learned(manifest, tmp_path, capsys):
    learns = ("--learning-rate", "1e-2", "--steps", "40", "--window", "400/40")
    assert adapt(manifest, tmp_path / "out", *learns) == 0
    text = capsys.readouterr().out
    assert "samlungseg propagate IMAGE -o DIR" in text
    assert "sam-vit-b-decoder.safetensors --input-size 128 --window 400/40 --object 'disc I,J,K,+'" in text
    weights = tmp_path / "out" / "sam-vit-b-decoder.safetensors"
    assert learned_window(weights) == (parse_window("400/40"), False)
    assert learned_organs(weights) == ("disc", "bar")


def test_weights_that_name_organs_are_used_in_python_and_kinds_of_prompts_may_have_commas(manifest, tmp_path, capsys):
    names = ("--method", "organ-token", "--steps", "200", "--prompts", "box, centre", "--learning-rate", "1e-2")
    assert adapt(manifest, tmp_path / "out", *names) == 0
    text = capsys.readouterr().out
    assert "Adopted" in text and ".organ in Python, see docs/adaptation.md" in text and "samlungseg segment" not in text
    assert set(pd.read_csv(tmp_path / "out" / "organs.csv")["prompt"]) == {"box", "centre"}


def test_the_window_of_the_models_own_training_is_that_of_its_card(tmp_path):
    card = {"windowing": {"level": -650.0, "width": 1500.0, "stretched": True}}
    (tmp_path / "mine.json").write_text(json.dumps(card))
    arguments = Namespace(weights=tmp_path / "mine.safetensors", window="auto", organs="", slices=16, smallest=100)
    assert reading_of(arguments, MEDSAM).windowing == Windowing(parse_window("1500/-650"), stretched=True)
    arguments.window = "lung"
    assert reading_of(arguments, MEDSAM).windowing == Windowing(parse_window("lung"))
    arguments.weights, arguments.window = tmp_path / "other.safetensors", "auto"
    assert reading_of(arguments, MEDSAM).windowing == Windowing(parse_window("lung"))


def test_images_that_the_base_has_learned_from_are_said(manifest, tmp_path, monkeypatch, capsys):
    whole = tmp_path / "sam.safetensors"
    from safetensors.torch import save_file

    save_file(keen_sam().state_dict(), str(whole))
    whole.with_suffix(".json").write_text(json.dumps({"images": {"training": ["shape_00"], "validation": []}}))
    assert adapt(manifest, tmp_path / "out", "--weights", str(whole), "--learning-rate", "1e-9") == 0
    assert "has learned from 1 of the 8 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to learn from; give a manifest or a folder"),
        (("DATA", "--method", "magic"), "There is no method 'magic'; choose one of "),
        (("DATA", "--prompts", "wishes"), "not prompted by wishes; choose of centre, point, points, box, larger-box"),
        (("DATA", "--learning-rate", "-1"), "learning rate of -1.0 teaches nothing"),
        (("DATA", "--minutes", "0"), "0.0 minutes are no training"),
        (("nowhere",), "is not a folder"),
    ],
)
def test_what_cannot_be_done_is_said_on_one_line(arguments, message, manifest, tmp_path, capsys):
    given = [str(manifest) if one == "DATA" else one for one in arguments]
    assert main(["adapt", *given, "-o", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_the_methods_are_listed_with_where_they_come_from(capsys):
    assert main(["adapt", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(f"{name}: " in text for name in method_names()) and "doi:10.1038/s41467-024-44824-z" in text


def test_patients_are_compared_where_all_are_known_else_images():
    table = pd.DataFrame(
        {
            "image": ["a", "b", "c", "c"],
            "patient": ["p", "p", "q", "q"],
            "prompt": ["box", "box", "box", "point"],
            "dice_before": [0.2, 0.4, 0.5, 0.1],
            "dice_after": [0.4, 0.4, 0.6, 0.5],
        }
    )
    unit, comparisons = compared_by_prompt(table)
    assert unit == "patients" and comparisons["box"].images == 2 and comparisons["point"].images == 1
    assert comparisons["box"].before == pytest.approx((0.3 + 0.5) / 2)
    assert comparisons["all"].after == pytest.approx((0.4 + 0.55) / 2)
    unit, comparisons = compared_by_prompt(table.assign(patient=["", "p", "q", "q"]))
    assert unit == "images" and comparisons["box"].images == 3

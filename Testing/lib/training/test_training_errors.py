"""What is wrong with a training or a study is named: a setting, or what lies in the output folder."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tuning_sets import write_set

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import OutputError, SettingsError
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.studies.fine_tune.unet import UNetConfig
from SAMLungSegLib.studies.zero_shot.study import ZeroShotSettings, run_zero_shot
from SAMLungSegLib.training import RecipeError, TrainedPart, TuneOptions, TuningConfig, check_target


@pytest.mark.parametrize(
    "make",
    [
        lambda: TuningConfig(seed=-1),
        lambda: TuneOptions("none", TuningConfig(), slices_each=0),
        lambda: TuneOptions("none", TuningConfig(), jitter_px=-1.0),
        lambda: TrainedPart.parse("neck"),
        lambda: UNetConfig(epochs=0),
        lambda: ZeroShotSettings(negatives=-1),
    ],
)
def test_a_setting_that_is_not_possible_is_told_as_one(make):
    with pytest.raises(SettingsError):
        make()


def test_a_recipe_is_a_setting():
    assert issubclass(RecipeError, SettingsError)


def test_weights_that_were_adopted_earlier_are_an_output(tmp_path):
    base = BaseCheckpoint("lung-compact")
    (tmp_path / "lung-compact-tuned.safetensors").write_bytes(b"")
    with pytest.raises(OutputError, match="add --overwrite"):
        check_target(tmp_path, base, overwrite=False)


def test_weights_that_were_adopted_earlier_stay_until_others_are(tmp_path):
    files = [tmp_path / f"lung-compact-tuned{ending}" for ending in (".safetensors", ".json")]
    for path in files:
        path.write_bytes(b"mine")
    check_target(tmp_path, BaseCheckpoint("lung-compact"), overwrite=True)
    assert [path.read_bytes() for path in files] == [b"mine", b"mine"]


def test_weights_are_not_trained_onto_themselves(tmp_path):
    weights = tmp_path / "lung-compact-all.safetensors"
    weights.write_bytes(b"mine")
    base = BaseCheckpoint("lung-compact", tmp_path / ".." / tmp_path.name / weights.name)
    with pytest.raises(OutputError, match="is what is to be trained, and would be replaced by it; use another folder"):
        check_target(tmp_path, base, overwrite=True, label="all")
    check_target(tmp_path, base, overwrite=True)


def test_a_folder_in_place_of_the_weights_is_told_and_stays(tmp_path):
    folder = tmp_path / "lung-compact-tuned.safetensors"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"tuned\.safetensors cannot be written: a folder has that name"):
        check_target(tmp_path, BaseCheckpoint("lung-compact"), overwrite=True)
    assert folder.is_dir()


def test_what_another_study_left_is_an_output(tmp_path):
    data = write_set(tmp_path / "set", 1)
    (tmp_path / "out" / "study.json").mkdir(parents=True)
    settings = replace(ZeroShotSettings(), include_training_images=True)
    with pytest.raises(OutputError, match=r"study\.json cannot be written: a folder has that name"):
        run_zero_shot(data, tmp_path / "out", settings, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.json").write_text("[]", encoding="utf-8")
    with pytest.raises(OutputError, match=r"study\.json cannot be read"):
        run_zero_shot(data, tmp_path / "other", settings)


def test_the_runs_of_a_study_that_cannot_be_removed_are_told(tmp_path, monkeypatch, capsys):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    data = write_set(tmp_path / "set", 10)
    (tmp_path / "out" / "runs").mkdir(parents=True)
    monkeypatch.setattr("shutil.rmtree", refuse)
    assert main(["study", "fine-tune", str(data), "-o", str(tmp_path / "out"), "--overwrite", "--device", "cpu"]) == 2
    assert "runs cannot be written: it is not allowed there" in capsys.readouterr().err

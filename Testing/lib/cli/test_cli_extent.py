"""`--extent` of `samlungseg segment` and `batch`, and what their files say of it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from cohorts import chest_hu, write_image
from two_extents import TwoExtents, chest_grey, fields, fields_and_hidden

from SAMLungSegLib import read_volume, segment
from SAMLungSegLib.batch import Settings
from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.cli import main
from SAMLungSegLib.models.choice import ModelChoice, note_origin
from SAMLungSegLib.options import Options
from SAMLungSegLib.provenance import read_provenance


@pytest.fixture(autouse=True)
def model(monkeypatch):
    model = TwoExtents()

    def load(choice, device="auto"):
        note_origin(model, choice)
        return model

    monkeypatch.setattr(ModelChoice, "load", load)
    return model


@pytest.fixture
def picture(tmp_path):
    write_image(tmp_path / "in" / "chest.png", chest_grey())
    return tmp_path / "in" / "chest.png"


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def test_both_extents_are_written_with_labels_of_their_own(picture, tmp_path, capsys):
    assert run("segment", picture, "-o", tmp_path, "--extent", "both", "--overlay") == 0
    read = read_volume(tmp_path / "chest_lungs.png")
    assert read.extent == "both" and np.array_equal(read.array_kji[0], fields_and_hidden())
    assert "right lung 700 pixels, left lung 700 pixels, right hidden lung 120 pixels, left hidden lung 200 pixels" in (
        capsys.readouterr().out
    )


def test_whole_lungs_are_named_so(picture, tmp_path, capsys):
    assert run("segment", picture, "-o", tmp_path, "--extent", "whole", "--format", "seg.nrrd") == 0
    assert read_volume(tmp_path / "chest_lungs.seg.nrrd").extent == "whole"
    assert "right lung (whole) 820 pixels, left lung (whole) 900 pixels" in capsys.readouterr().out


def test_the_record_says_the_extent_and_makes_the_mask_again(picture, tmp_path):
    run("segment", picture, "-o", tmp_path / "a", "--extent", "both")
    record = tmp_path / "a" / "chest_lungs.json"
    assert json.loads(record.read_text())["options"]["extent"] == "both"
    assert run("segment", "--replay", record, "-o", tmp_path / "b") == 0
    again = tmp_path / "b" / "chest_lungs.png"
    assert again.read_bytes() == (tmp_path / "a" / "chest_lungs.png").read_bytes()
    assert run("segment", "--replay", record, "-o", tmp_path / "c", "--extent", "whole") == 2


def test_a_record_of_before_there_was_a_choice_is_of_visible_fields(picture, tmp_path):
    run("segment", picture, "-o", tmp_path / "a")
    record = tmp_path / "a" / "chest_lungs.json"
    fields_of = json.loads(record.read_text())
    del fields_of["options"]["extent"]
    record.write_text(json.dumps(fields_of))
    assert read_provenance(record).options.extent == "visible"
    assert run("segment", "--replay", record, "-o", tmp_path / "b") == 0
    assert np.array_equal(read_volume(tmp_path / "b" / "chest_lungs.png").array_kji[0], fields())


def test_python_takes_it_as_a_keyword_and_saves_the_same(picture, tmp_path):
    run("segment", picture, "-o", tmp_path / "a", "--extent", "both", "--format", "seg.nrrd")
    (tmp_path / "b").mkdir()
    segment(picture, extent="both").save(tmp_path / "b" / "chest_lungs.seg.nrrd")
    for name in ("chest_lungs.seg.nrrd", "chest_lungs.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_model_that_does_not_predict_it_is_refused_in_words(picture, tmp_path, model, capsys):
    model.capabilities = TwoExtents(("visible",)).capabilities
    assert run("segment", picture, "-o", tmp_path / "out", "--extent", "whole") == 2
    assert "Model two-extents does not predict whole lungs: give extent=visible" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and model.encoded == 0


def test_a_batch_has_the_extent_in_its_table_and_ct_has_none(picture, tmp_path):
    write_image(picture.parent / "ct.nrrd", chest_hu(), (6, 6, 40))
    assert run("batch", picture.parent, "-o", tmp_path / "out", "--extent", "both") == 0
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("id")
    assert table.loc["chest", "extent"] == "both" and pd.isna(table.loc["ct", "extent"])
    assert table.loc["chest", ["right_voxels", "left_voxels"]].tolist() == [700, 700]
    assert "is about X-rays" in table.loc["ct", "notes"] and "assumed" not in str(table.loc["ct", "flags"])
    assert np.array_equal(read_volume(tmp_path / "out/segmentations/chest_lungs.png").array_kji[0], fields_and_hidden())


def test_a_batch_goes_on_with_the_same_extent_and_begins_anew_with_another(picture, tmp_path, model):
    for extent, encoded in (("visible", 1), ("visible", 1), ("whole", 2), ("whole", 2), ("visible", 3)):
        assert run("batch", picture.parent, "-o", tmp_path / "out", "--extent", extent) == 0
        assert model.encoded == encoded


def test_a_batch_notes_how_its_extent_compares_with_the_reference(picture, tmp_path):
    write_image(tmp_path / "reference" / "chest.png", fields())
    assert (
        run("batch", picture.parent, "-o", tmp_path / "out", "--extent", "both", "--reference", tmp_path / "reference")
        == 0
    )
    (line,) = pd.read_csv(tmp_path / "out" / "table.csv").to_dict("records")
    assert line["dice_left"] == 1 and "the fields count, hidden parts are left out" in line["notes"]


def test_results_of_before_there_was_a_choice_still_count(tmp_path):
    case = Case("chest", tmp_path / "chest.png")
    assert Settings().fingerprint(case, {"lung-compact": "0"}) == "669543d2c67fe52b"
    assert Settings(Options(extent="whole")).fingerprint(case, {"lung-compact": "0"}) != "669543d2c67fe52b"

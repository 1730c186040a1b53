"""The numbers of a segmentation in the files that the command writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_images import labels, run, write_images

from SAMLungSegLib import read_volume, segment
from SAMLungSegLib.provenance import read_provenance


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder with a small CT and an X-ray."""
    return write_images(tmp_path_factory.mktemp("images"))


def test_one_table_has_the_numbers_of_all_images(images, tmp_path):
    path, chest, frontal = tmp_path / "all.csv", images / "chest.nii.gz", images / "frontal.png"
    assert run("segment", chest, frontal, "-o", tmp_path, "--statistics", path, "--device", "cpu") == 0
    table = pd.read_csv(path)
    assert list(table.groupby("image", sort=False).size()) == [12, 12]
    ct = table[table["image"] == str(chest)].set_index(["structure", "part"])
    lungs, hu = labels(tmp_path / "chest_lungs.seg.nrrd"), read_volume(chest).array_kji
    for side, name in ((1, "right_lung"), (2, "left_lung")):
        row, inside = ct.loc[name, "whole"], hu[lungs == side]
        assert row["volume_ml"] == pytest.approx(inside.size * 6 * 6 * 50 / 1000, rel=1e-5)
        assert row["mean_hu"] == pytest.approx(inside.mean(), rel=1e-5)
        assert row["laa950_percent"] == pytest.approx(100 * (inside < -950).mean(), rel=1e-5)
        assert row["mass_g"] == pytest.approx(row["volume_ml"] * (inside.mean() + 1000) / 1000, rel=1e-4)
    xray = table[table["image"] == str(frontal)].set_index(["structure", "part"])
    pixels = [np.sum(labels_of_png(tmp_path / "frontal_lungs.png") == side) for side in (1, 2)]
    assert list(xray.loc[[("right_lung", "whole"), ("left_lung", "whole")], "voxels"]) == pixels
    assert xray.loc[("both_lungs", "whole"), "right_to_left"] == pytest.approx(pixels[0] / pixels[1], rel=1e-5)
    assert xray[["volume_ml", "area_cm2", "height_mm", "mean_hu", "mass_g"]].isna().all(axis=None)
    assert set(xray["extent"]) == {"visible"} and ct["extent"].isna().all()


def labels_of_png(path: Path) -> np.ndarray:
    return read_volume(path).array_kji


def test_the_file_beside_the_labelmap_has_the_numbers_and_is_a_provenance_record_still(images, tmp_path):
    assert run("segment", images / "chest.nii.gz", "-o", tmp_path, "--device", "cpu") == 0
    beside = tmp_path / "chest_lungs.json"
    numbers = segment(images / "chest.nii.gz", device="cpu").statistics()
    assert json.loads(beside.read_text())["statistics"] == json.loads(json.dumps(numbers.document()))
    assert len(numbers.document()["rows"]) == 12 and "area_cm2" not in numbers.document()["rows"][0]
    assert read_provenance(beside) == read_provenance(tmp_path / "chest_lungs.seg.nrrd")
    again = tmp_path / "again"
    assert run("segment", "--replay", beside, "-o", again, "--statistics", again / "x.csv") == 0
    assert (again / "chest_lungs.json").read_bytes() == beside.read_bytes()
    assert len(pd.read_csv(again / "x.csv")) == 12


def test_images_that_fail_are_left_out_and_the_others_stay(images, tmp_path):
    (tmp_path / "broken.png").write_text("no image")
    inputs = (tmp_path / "broken.png", images / "frontal.png")
    assert run("segment", *inputs, "-o", tmp_path / "out", "--statistics", tmp_path / "new" / "all.csv") == 2
    assert set(pd.read_csv(tmp_path / "new" / "all.csv")["image"]) == {str(images / "frontal.png")}


def test_a_table_that_cannot_be_is_refused_before_any_work(images, tmp_path, capsys):
    (tmp_path / "there.csv").write_text("earlier")
    out = tmp_path / "out"
    for path, reason in ((tmp_path / "there.csv", "--overwrite"), (tmp_path / "numbers.txt", "ends in .csv")):
        assert run("segment", images / "frontal.png", "-o", out, "--statistics", path) == 2
        assert reason in capsys.readouterr().err and not out.exists()
    assert (tmp_path / "there.csv").read_text() == "earlier"
    overwriting = ("-o", out, "--statistics", tmp_path / "there.csv", "--overwrite")
    assert run("segment", images / "frontal.png", *overwriting) == 0
    assert len(pd.read_csv(tmp_path / "there.csv")) == 12

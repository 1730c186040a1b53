"""DICOM in, DICOM out, as a user types it: `segment`, `batch` and `evaluate`."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomfiles import ct_series, write_dicom

from SAMLungSegLib.cli import main
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.volume import read_volume

pytest.importorskip("highdicom", reason="needs the extra 'dicom'")


@pytest.fixture(scope="module")
def chest():
    return chest_ct(0, size_kji=(8, 48, 64), spacing_mm=(40, 8, 6))


@pytest.fixture
def series(tmp_path, chest) -> Path:
    """The generated chest from the feet up, columns to the back."""
    return ct_series(tmp_path / "in", chest.hu_kji, spacing_kji=(40, 8, 6))


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_series_gives_an_object_that_is_evaluated_and_made_again(tmp_path, series, capsys):
    assert run("segment", series, "-o", tmp_path / "plain", "--format", "nrrd") == 0
    assert run("segment", series, "-o", tmp_path / "out", "--format", "dcm") == 0
    found, plain = read_volume(tmp_path / "out" / "in_lungs.dcm"), read_volume(tmp_path / "plain" / "in_lungs.nrrd")
    assert np.array_equal(found.array_kji, plain.array_kji) and set(np.unique(plain.array_kji)) == {0, 1, 2}
    (right, _) = pydicom.dcmread(tmp_path / "out" / "in_lungs.dcm").SegmentSequence
    how = right.SegmentationAlgorithmIdentificationSequence[0]
    assert how.AlgorithmName == "SAMLungSeg lung-compact" and "threshold=0.5" in how.AlgorithmParameters
    assert right.SegmentAlgorithmType == "AUTOMATIC"
    assert str(series) not in str(pydicom.dcmread(tmp_path / "out" / "in_lungs.dcm"))
    assert run("segment", "--replay", tmp_path / "out" / "in_lungs.dcm", "-o", tmp_path / "again") == 0
    capsys.readouterr()
    assert run("evaluate", tmp_path / "out" / "in_lungs.dcm", tmp_path / "again" / "in_lungs.seg.nrrd") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| both lungs")]
    assert rows[0].split("|")[2].strip() == "1.0000"


def test_prompts_make_it_semiautomatic(tmp_path, series):
    assert run("segment", series, "-o", tmp_path, "--format", "dcm", "--point", "20,24,4,+") == 0
    assert pydicom.dcmread(tmp_path / "in_lungs.dcm").SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_a_batch_of_series_and_xray_takes_images_and_evaluates_its_objects(tmp_path, series, chest, capsys):
    """A segmentation beside its series is no case, and does not stand in the way of the series."""
    frontal = chest_xray(chest, (128, 128))[0]
    (tmp_path / "cohort" / "b").mkdir(parents=True)
    shutil.move(series, tmp_path / "cohort" / "a")
    write_dicom(tmp_path / "cohort" / "b" / "frontal.dcm", frontal.astype(np.uint16), PatientOrientation=["L", "F"])
    assert run("segment", tmp_path / "cohort" / "a", "-o", tmp_path / "cohort" / "a", "--format", "dcm") == 0
    assert run("batch", tmp_path / "cohort", "-o", tmp_path / "run", "--format", "dcm") == 0
    names = sorted(path.name for path in (tmp_path / "run" / "segmentations").glob("*.dcm"))
    assert len(names) == 2
    reference = tmp_path / "reference"
    (reference / "b").mkdir(parents=True)
    shutil.copy(tmp_path / "cohort" / "a" / "a_lungs.dcm", reference / "a_mask.dcm")
    frontal_lungs = next(path for path in (tmp_path / "run" / "segmentations").glob("*frontal*.dcm"))
    shutil.copy(frontal_lungs, reference / "b" / "frontal_mask.dcm")
    capsys.readouterr()
    assert run("evaluate", tmp_path / "run", reference, "-o", tmp_path / "scores") == 0
    with (tmp_path / "scores" / "per_volume.csv").open() as file:
        dice = {(row["volume"], row["structure"]): float(row["dice"]) for row in csv.DictReader(file)}
    assert len({case for case, _ in dice}) == 2 and set(dice.values()) == {1.0}


def test_pictures_are_refused_as_dicom_before_the_model_runs(tmp_path, capsys):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "frontal.png")
    assert run("segment", tmp_path / "frontal.png", "-o", tmp_path / "out", "--format", "dcm") == 2
    assert "frontal was not read from DICOM files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

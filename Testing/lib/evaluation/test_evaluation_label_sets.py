"""Evaluation of structures other than lungs: a label means what its set says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.structures import ABDOMEN, LOBES
from SAMLungSegLib.volume import Volume, write_labelmap

OBLIQUE = np.array([[-1.2, 0.5, 0.0, 10.0], [0.6, 1.0, 0.0, -20.0], [0.0, 0.0, -3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


def abdomen(liver_rows: int) -> Volume:
    """Spleen (1) of 4 x 3 pixels in two slices, liver (6) of `liver_rows` x 5 in three."""
    labels = np.zeros((4, 12, 12), np.uint8)
    labels[1:3, 1:5, 8:11] = 1
    labels[0:3, 6 : 6 + liver_rows, 1:6] = 6
    return Volume(labels, OBLIQUE, "abdomen")


def table(result):
    return result.per_volume.set_index("structure")


def test_each_structure_of_a_set_and_all_together_are_measured():
    """The liver lacks one of four rows: Dice 2 * 45 / (45 + 60); all: 2 * (45 + 24) / (45 + 60 + 48)."""
    found = table(evaluate(abdomen(3), abdomen(4), label_set=ABDOMEN))
    assert list(found.index) == [*(structure.name for _label, structure in ABDOMEN), "all structures"]
    assert found.loc["spleen", "dice"] == 1
    assert found.loc["liver", "dice"] == pytest.approx(90 / 105)
    assert found.loc["all structures", "dice"] == pytest.approx(138 / 153)
    assert np.isnan(found.loc["aorta", "dice"]) and found.loc["aorta", "empty"]
    assert found.loc["liver", "reference_ml"] == pytest.approx(60 * 1.5 * 3.0 / 1000)  # 1.2 * 1.0 + 0.5 * 0.6 = 1.5 mm2


def test_a_flipped_prediction_of_a_set_is_the_same():
    first = abdomen(3)
    flipped_matrix = OBLIQUE.copy()
    flipped_matrix[:, 3] += OBLIQUE[:, 0] * 11
    flipped_matrix[:, 0] *= -1
    flipped = replace(first, array_kji=first.array_kji[:, :, ::-1].copy(), ijk_to_ras=flipped_matrix)
    straight, turned = (table(evaluate(one, abdomen(4), label_set=ABDOMEN)) for one in (first, flipped))
    assert turned["dice"].equals(straight["dice"])


def test_labels_that_the_set_does_not_have_are_said_and_left_out():
    prediction, reference = abdomen(4), abdomen(4)
    prediction.array_kji[3, 0, 0] = 40
    result = evaluate(prediction, reference, label_set=ABDOMEN)
    assert table(result).loc["all structures", "dice"] == 1
    assert any("labels 40, not of the set" in note for note in result.notes)


def test_a_labelmap_of_another_set_is_refused_in_words():
    other = replace(abdomen(4), array_kji=np.where(abdomen(4).array_kji > 0, 9, 0).astype(np.uint8))
    with pytest.raises(VolumeError, match="none of the set 'lobes', which has 1 to 5"):
        evaluate(other, other, label_set=LOBES)
    with pytest.raises(VolumeError, match="leave them out"):
        evaluate(other, other, label_set=LOBES, reference_labels={"right": (1,), "left": (2,)})


def test_the_command_measures_a_named_set_and_writes_its_tables(tmp_path, capsys):
    for name, volume in (("prediction", abdomen(3)), ("reference", abdomen(4))):
        write_labelmap(volume.array_kji, volume, tmp_path / f"{name}.seg.nrrd", label_set=ABDOMEN)
    pair = [str(tmp_path / "prediction.seg.nrrd"), str(tmp_path / "reference.seg.nrrd")]
    assert main(["evaluate", *pair, "--structures", "abdomen", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "| liver" in printed and "0.8571" in printed and "all structures" in printed
    assert "portal and splenic vein" in (tmp_path / "out" / "per_volume.csv").read_text()
    assert (tmp_path / "out" / "worst_slices.png").stat().st_size > 0


def test_notes_on_a_cropped_reference_speak_of_structures_not_of_lung():
    reference = replace(abdomen(4), array_kji=abdomen(4).array_kji[:, :8])
    result = evaluate(abdomen(4), reference, label_set=ABDOMEN)
    (note,) = (note for note in result.notes if "beyond the reference's grid" in note)
    assert "30 voxels of structures" in note and "lung" not in note  # rows 8 and 9 of the liver: 2 * 5 in three slices

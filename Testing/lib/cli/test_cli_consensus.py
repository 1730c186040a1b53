"""`samlungseg consensus` as a user types it, on small labelmaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from small_lungs import lungs

from SAMLungSegLib.cli import main
from SAMLungSegLib.cli.consensus import METHODS
from SAMLungSegLib.evaluation import consensus
from SAMLungSegLib.volume import read_volume


def run(*arguments: object) -> int:
    return main(["consensus", *(str(argument) for argument in arguments)])


def write(path: Path, labelmap: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(labelmap)
    image.SetSpacing((2, 1, 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def readers(tmp_path) -> list[Path]:
    """Three readers of cases u and v; the third misses the right lung's first voxel."""
    less = lungs()
    less[tuple(np.argwhere(less == 1)[0])] = 0
    for reader, labelmap in (("x", lungs()), ("y", lungs()), ("z", less)):
        for case in "uv":
            write(tmp_path / reader / f"{case}_{reader if reader == 'w' else 'mask'}.nrrd", labelmap)
    return [tmp_path / name for name in "xyz"]


@pytest.mark.parametrize("method", METHODS)
def test_a_labelmap_of_each_case_and_the_agreement_are_written(readers, tmp_path, capsys, method):
    out = tmp_path / "out"
    assert run(*readers, "-o", out, "--method", method, "--names", "Ann", "Bo", "Cy") == 0
    for case in "uv":
        np.testing.assert_array_equal(read_volume(out / f"{case}_mask.nii.gz").array_kji, lungs())
    table = pd.read_csv(out / "agreement.csv").query("structure == 'right lung' and case == 'u'")
    dice = table.set_index(["first", "second"])["dice"]
    assert dice[("Ann", "Bo")] == 1
    assert dice[("Ann", "Cy")] == dice[("Cy", "consensus")] == pytest.approx(2 * 35 / 71, abs=1e-5)
    assert (out / "staple.csv").exists() == (method == "staple")
    assert "Ann, Cy" in capsys.readouterr().out


def test_the_consensus_is_a_reference_for_evaluate(readers, tmp_path, capsys):
    assert run(*readers, "-o", tmp_path / "out") == 0
    (tmp_path / "out" / "agreement.csv").unlink()
    assert main(["evaluate", str(readers[2]), str(tmp_path / "out")]) == 0
    assert "Median (quartiles)" in capsys.readouterr().out


def test_cases_that_a_reader_lacks_are_left_out(readers, tmp_path, capsys):
    (readers[2] / "v_mask.nrrd").unlink()
    assert run(*readers, "-o", tmp_path / "out") == 0
    assert "1 case(s) that not all readers have" in capsys.readouterr().err
    assert not (tmp_path / "out" / "v_mask.nii.gz").exists()
    assert set(pd.read_csv(tmp_path / "out" / "left_out.csv")["case"]) == {"v"}


def test_a_labelmap_that_cannot_be_read_costs_its_case_only(readers, tmp_path, capsys):
    (readers[1] / "u_mask.nrrd").write_bytes(b"nothing")
    assert run(*readers, "-o", tmp_path / "out") == 2
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["v_mask.nii.gz"]


def test_pictures_have_a_picture_as_consensus(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(lungs()[2]), str(tmp_path / name / "p.png"))
    assert run(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out") == 0
    np.testing.assert_array_equal(read_volume(tmp_path / "out" / "p_mask.png").array_kji, lungs()[2:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda readers: readers[:1], "needs two or more"),
        (lambda readers: [*readers, "--names", "a", "b"], "2 name(s) were given for 3 readers"),
        (lambda readers: [*readers, "--names", "a", "b", "b"], "give each another one"),
        (lambda readers: [*readers, "--names", "a", "b", "consensus"], "give each another one"),
    ],
)
def test_readers_that_are_no_several_with_names_are_refused(readers, tmp_path, capsys, change, message):
    assert run(*change(readers), "-o", tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_the_command_offers_the_methods_that_there_are():
    assert METHODS == consensus.METHODS


def test_the_labelmaps_of_a_reader_are_not_replaced(tmp_path, capsys):
    mine = write(tmp_path / "a" / "u_mask.nii.gz", lungs())
    write(tmp_path / "b" / "u.nii.gz", np.where(lungs() == 1, 1, 0))
    before = mine.read_bytes()
    for output in ("a", "b/../a"):
        assert run(tmp_path / "a", tmp_path / "b", "-o", tmp_path / output) == 2
        assert "is the labelmap of a reader, which the consensus would replace" in capsys.readouterr().err
    assert mine.read_bytes() == before

"""`samlungseg compare` as a user types it, on small labelmaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from small_lungs import lungs

from SAMLungSegLib.cli import main


def run(*arguments: object) -> int:
    return main(["compare", *(str(argument) for argument in arguments)])


def write(path: Path, missing: int = 0) -> Path:
    """The small lungs without the first voxels of the right one."""
    labelmap = lungs()
    labelmap[tuple(np.argwhere(labelmap == 1)[:missing].T)] = 0
    image = sitk.GetImageFromArray(labelmap)
    image.SetSpacing((2, 1, 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    """A, B and references of cases u, v and w."""
    for number, case in enumerate("uvw"):
        write(tmp_path / "a" / f"{case}_lungs.nrrd", number)
        write(tmp_path / "b" / f"{case}_pred.nii.gz", 3 * number)
        write(tmp_path / "truth" / f"{case}_mask.nrrd")
    return [tmp_path / name for name in ("a", "b", "truth")]


def test_both_tables_are_printed_and_written(folders, tmp_path, capsys):
    assert run(*folders, "-o", tmp_path / "out", "--names", "ours", "theirs", "--resamples", 200) == 0
    printed = capsys.readouterr().out
    assert "ours (95 % interval)" in printed and "Lower limit (95 % interval)" in printed
    table = pd.read_csv(tmp_path / "out" / "differences.csv").set_index(["structure", "metric"])
    assert table.loc[("right lung", "sensitivity"), "difference_mean"] == pytest.approx(2 / 36, abs=1e-5)
    assert "200 resamples" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_three_files_are_one_case(folders, capsys):
    assert run(folders[0] / "v_lungs.nrrd", folders[1] / "v_pred.nii.gz", folders[2] / "v_mask.nrrd") == 0
    assert "| right lung" in capsys.readouterr().out


def test_cases_that_one_method_lacks_are_named_and_left_out(folders, tmp_path, capsys):
    (folders[1] / "w_pred.nii.gz").unlink()
    assert run(*folders, "-o", tmp_path / "out") == 0
    assert "w_lungs.nrrd (B has no such case)" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "out" / "not_measured.csv")["case"].tolist() == ["w_mask"]
    assert set(pd.read_csv(tmp_path / "out" / "sizes.csv")["case"]) == {"u_mask", "v_mask"}


def test_methods_without_a_common_case_are_refused(folders, capsys):
    for one in (folders[0] / "u_lungs.nrrd", folders[1] / "v_pred.nii.gz", folders[1] / "w_pred.nii.gz"):
        one.unlink()
    assert run(*folders) == 2
    assert "no case in common" in capsys.readouterr().err


def test_patients_are_read_from_a_table(folders, tmp_path, capsys):
    (tmp_path / "cases.csv").write_text("case,patient\nu,p\nv,p\nw,q\n")
    assert run(*folders, "--cases", tmp_path / "cases.csv", "--patient", "patient", "-o", tmp_path / "out") == 0
    assert "3 cases of 2 patients" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert set(pd.read_csv(tmp_path / "out" / "differences.csv")["patients"]) == {2}
    assert run(*folders, "--patient", "patient") == 2
    assert "both --cases FILE and --patient COLUMN" in capsys.readouterr().err


def test_a_file_that_is_no_labelmap_costs_its_case_only(folders, tmp_path, capsys):
    (folders[1] / "w_pred.nii.gz").write_bytes(b"nothing")
    assert run(*folders, "-o", tmp_path / "out") == 2
    assert set(pd.read_csv(tmp_path / "out" / "sizes.csv")["case"]) == {"u_mask", "v_mask"}
    assert "w" in pd.read_csv(tmp_path / "out" / "not_measured.csv")["case"].item()

"""`samlungseg evaluate` as a user types it, on small labelmaps."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from small_lungs import lungs

from SAMLungSegLib.cli import main


def run(*arguments: object) -> int:
    return main(["evaluate", *(str(argument) for argument in arguments)])


def write(path: Path, array_kji: np.ndarray, origin: tuple[float, float, float] = (0, 0, 0)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array_kji)
    image.SetSpacing((2, 1, 4))
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    return path


def hounsfield() -> np.ndarray:
    return np.where(lungs() > 0, -850, 40).astype(np.int16)


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """A prediction and its reference, of the same lungs."""
    return write(tmp_path / "case_lungs.nrrd", lungs()), write(tmp_path / "case_mask.nrrd", lungs())


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Predictions and references of cases a and b."""
    for case in "ab":
        write(tmp_path / "answers" / f"{case}_lungs.nrrd", lungs())
        write(tmp_path / "truth" / f"{case}_mask.nrrd", lungs())
    return tmp_path / "answers", tmp_path / "truth"


def error_lines(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("samlungseg: ")]


def test_one_pair_is_shown_in_short_tables_and_many_in_a_summary(pair, folders, capsys):
    assert run(*pair) == 0
    short = capsys.readouterr().out
    assert short.count("| right lung |") == 2
    assert "case_mask, whole volume" in short and "mean ± SD over slices" in short
    assert "Median" not in short
    assert run(*folders) == 0
    assert "Median (quartiles)" in capsys.readouterr().out


def test_patients_of_the_intervals_are_read_from_a_table(folders, tmp_path, capsys):
    (tmp_path / "cases.csv").write_text("case,who\na,p\nb,q\n")
    table = ["--cases", tmp_path / "cases.csv", "--patient"]
    assert run(*folders, *table, "who", "-o", tmp_path / "out") == 0
    assert "95 % interval of the mean" in capsys.readouterr().out
    with open(tmp_path / "out" / "summary.csv", newline="") as file:
        assert {row["mean_low"] for row in csv.DictReader(file) if row["metric"] == "dice"} == {"1"}
    assert run(*folders, *table, "age") == 2
    assert "no column 'age'; it has case, who" in error_lines(capsys)[0]


def test_one_slice_has_no_mean_over_slices(tmp_path, capsys):
    mask = write(tmp_path / "x.png", lungs()[2])
    assert run(mask, mask) == 0
    printed = capsys.readouterr().out
    assert printed.count("| right lung |") == 1
    assert "±" not in printed


def test_an_image_is_not_taken_for_a_labelmap(pair, tmp_path, capsys):
    assert run(write(tmp_path / "scan.nrrd", hounsfield()), pair[1]) == 2
    assert "scan holds values from -850 to 40" in error_lines(capsys)[0]


def test_labels_of_the_prediction_can_be_named(pair, tmp_path, capsys):
    theirs = write(tmp_path / "theirs.nrrd", lungs() * np.uint8(10))
    assert run(theirs, pair[1], "--prediction-right", 10, "--prediction-left", "20,21") == 0
    assert "right lung" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference-right", "99", "--reference-left", "98"], "none of the given labels 98, 99; it holds 1, 2"),
        (["--reference-right", "1,2", "--reference-left", "2"], "Label 2 was given for more than one side"),
        (["--prediction-right", "1"], "both --prediction-right and --prediction-left"),
        (["--tolerance-mm", "nan"], "Tolerance nan mm is not a positive length"),
        (["--tolerance-mm", "0"], "Tolerance 0 mm is not a positive length"),
    ],
)
def test_arguments_that_make_no_sense_give_one_line_and_write_nothing(pair, tmp_path, capsys, arguments, message):
    assert run(*pair, "-o", tmp_path / "report", *arguments) == 2
    (line,) = error_lines(capsys)
    assert message in line
    assert not (tmp_path / "report").exists()


def test_labels_that_are_no_numbers_are_explained(pair, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*pair, "--reference-right", "a", "--reference-left", "2")
    assert stop.value.code == 2
    assert "'a' is not a list of labels; give whole numbers" in capsys.readouterr().err


def test_an_output_folder_that_is_a_file_is_told_before_measuring(pair, capsys):
    assert run(*pair, "-o", pair[0]) == 2
    captured = capsys.readouterr()
    assert "is a file" in captured.err
    assert not captured.out


def test_overlays_and_hidden_files_are_not_predictions(folders):
    answers, truth = folders
    for name in ("a_lungs_overlay.png", ".b_lungs.nrrd", "._a_lungs.nrrd"):
        shutil.copy(answers / "a_lungs.nrrd", answers / name)
    assert run(answers, truth) == 0


def test_a_pair_that_fails_does_not_stop_the_others(folders, tmp_path, capsys):
    answers, truth = folders
    (truth / "a_mask.nrrd").write_text("no image")
    assert run(answers, truth, "-o", tmp_path / "report") == 2
    captured = capsys.readouterr()
    assert captured.err.count("samlungseg: ") == 1 and "a_mask.nrrd" in captured.err
    assert "b_mask, whole volume" in captured.out
    assert "b_mask" in (tmp_path / "report" / "per_volume.csv").read_text(encoding="utf-8")


def test_where_nothing_was_measured_there_is_no_report(folders, tmp_path, capsys):
    answers, truth = folders
    for path in truth.iterdir():
        path.write_text("no image")
    assert run(answers, truth, "-o", tmp_path / "report") == 2
    assert len(error_lines(capsys)) == 2
    assert not (tmp_path / "report").exists()


def test_an_image_that_is_not_there_is_told_before_measuring(pair, tmp_path, capsys):
    assert run(*pair, "-o", tmp_path / "report", "--image", tmp_path / "nowhere.nrrd") == 2
    captured = capsys.readouterr()
    assert "nowhere.nrrd does not exist" in captured.err
    assert not captured.out
    assert not (tmp_path / "report").exists()


def test_an_image_needs_a_report_to_be_drawn_in(pair, capsys):
    assert run(*pair, "--image", pair[0]) == 2
    assert "with -o" in error_lines(capsys)[0]


def test_an_image_on_another_grid_is_said(pair, tmp_path, capsys):
    image = write(tmp_path / "scan.nrrd", hounsfield(), origin=(50, 0, 0))
    assert run(*pair, "-o", tmp_path / "report", "--image", image) == 0
    note = "Image scan is not on the grid of case_mask; drawn without it."
    assert note in capsys.readouterr().out
    assert note in (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")


def with_background(report: Path) -> bool:
    """Whether the worst slices are drawn on the bright soft tissue of `hounsfield`, not on the dark of no image."""
    sheet = sitk.GetArrayFromImage(sitk.ReadImage(str(report / "worst_slices.png")))
    dark = np.all(sheet[..., :3] == 30, axis=-1)
    return not dark.mean() > 0.05


def test_a_folder_of_images_serves_one_pair_and_many(pair, folders, tmp_path):
    for case in ("case", "a", "b"):
        write(tmp_path / "images" / f"{case}.nrrd", hounsfield())
    write(tmp_path / "images" / "case_mask.nrrd", lungs())
    for name, labelmaps in {"one": pair, "many": folders}.items():
        assert run(*labelmaps, "-o", tmp_path / name, "--image", tmp_path / "images") == 0
        assert with_background(tmp_path / name)
    assert run(*pair, "-o", tmp_path / "none") == 0
    assert not with_background(tmp_path / "none")


def test_a_dicom_folder_is_the_image_of_one_pair(pair, tmp_path):
    image = sitk.ReadImage(str(write(tmp_path / "scan.nrrd", hounsfield())))
    (tmp_path / "dicom").mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(5):
        one = image[:, :, number : number + 1]
        tags = {"0008|0060": "CT", "0020|0032": f"0\\0\\{4 * number}"}
        tags |= {"0008|0018": f"1.2.3.{number}", "0020|000d": "1.2", "0020|000e": "1.2.3"}
        for tag, value in tags.items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(tmp_path / "dicom" / f"{number}.dcm"))
        writer.Execute(one)
    assert run(*pair, "-o", tmp_path / "report", "--image", tmp_path / "dicom") == 0
    assert with_background(tmp_path / "report")


def test_a_folder_of_other_images_is_refused_for_many_pairs(folders, tmp_path, capsys):
    write(tmp_path / "images" / "z.nrrd", hounsfield())
    assert run(*folders, "-o", tmp_path / "report", "--image", tmp_path / "images") == 2
    assert "holds no image named as a pair, such as 'a'" in error_lines(capsys)[0]


# ---- files without a partner


def not_measured(report: Path) -> list[list[str]]:
    with (report / "not_measured.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_files_without_a_partner_are_named_once_and_the_rest_is_measured(folders, tmp_path, capsys):
    answers, truth = folders
    for number in range(10):
        write(answers / f"extra{number}_lungs.nrrd", lungs())
    write(truth / "other_mask.nrrd", lungs())
    assert run(answers, truth, "-o", tmp_path / "report") == 0
    (line,) = error_lines(capsys)
    assert (
        "11 file(s) have no partner: " in line
        and "extra0_lungs.nrrd" in line
        and " and 6 more (there is no reference of its name), " in line
    )
    header, *rows = not_measured(tmp_path / "report")
    assert header == ["case", "file", "reason"]
    assert len(rows) == 11
    assert rows[0] == ["extra0", str(answers / "extra0_lungs.nrrd"), "there is no reference of its name"]
    assert rows[-1] == ["other", str(truth / "other_mask.nrrd"), "there is no prediction of its name"]
    assert "## Not measured" in (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")
    for path in answers.glob("extra*"):
        path.unlink()
    (truth / "other_mask.nrrd").unlink()
    assert run(answers, truth, "-o", tmp_path / "report") == 0
    assert not (tmp_path / "report" / "not_measured.csv").exists()


def test_a_pair_that_fails_is_listed_as_not_measured(folders, tmp_path):
    answers, truth = folders
    (truth / "a_mask.nrrd").write_text("no image")
    assert run(answers, truth, "-o", tmp_path / "report") == 2
    (_, (case, file, reason)) = not_measured(tmp_path / "report")
    assert (case, file) == ("a_mask", str(answers / "a_lungs.nrrd"))
    assert "a_mask.nrrd" in reason


def test_where_no_file_has_a_partner_nothing_is_measured(tmp_path, capsys):
    write(tmp_path / "answers" / "a_lungs.nrrd", lungs())
    write(tmp_path / "truth" / "b_mask.nrrd", lungs())
    assert run(tmp_path / "answers", tmp_path / "truth", "-o", tmp_path / "report") == 2
    (line,) = error_lines(capsys)
    assert "No prediction has the name of a reference" in line and "a_lungs.nrrd" in line and "b_mask.nrrd" in line
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_not_there_is_told_by_its_name(pair, tmp_path, capsys, which):
    paths = [*pair]
    paths[which] = tmp_path / "typo.nrrd"
    assert run(*paths) == 2
    assert "typo.nrrd does not exist; give a labelmap or a folder of labelmaps." in error_lines(capsys)[0]


def test_the_same_note_of_many_cases_is_printed_once_with_a_count(folders, capsys):
    answers, truth = folders
    for case in "abc":
        write(answers / f"{case}_lungs.nrrd", lungs(), origin=(2, 0, 0))
        write(truth / f"{case}_mask.nrrd", lungs())
    assert run(answers, truth) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "resampled" in line]
    assert len(lines) == 1 and lines[0].endswith("(and 2 more cases)")


# ---- the output folder of a batch


@pytest.fixture
def cohort(tmp_path, dark_is_lung) -> tuple[Path, Path]:
    """The output folder of a batch over two patients' scans of one name, and a folder of references below folders."""
    for patient in ("p1", "p2"):
        write(tmp_path / "scans" / patient / "ct.nrrd", hounsfield())
        write(tmp_path / "truth" / patient / "ct_mask.nrrd", lungs())
    (tmp_path / "scans" / "p3.nrrd").write_text("no image")
    assert main(["batch", str(tmp_path / "scans"), "-o", str(tmp_path / "out")]) == 2
    return tmp_path / "out", tmp_path / "truth"


def test_the_output_folder_of_a_batch_is_paired_as_its_own_references_are(cohort, tmp_path, capsys):
    output, truth = cohort
    write(truth / "p4" / "ct_mask.nrrd", lungs())
    capsys.readouterr()
    assert run(output, truth, "-o", tmp_path / "report") == 0
    (line,) = error_lines(capsys)
    assert "2 file(s) have no partner" in line and "p3.nrrd (it failed in the run: " in line
    assert f"{truth / 'p4' / 'ct_mask.nrrd'} (there is no prediction of its name)" in line
    measured = (tmp_path / "report" / "per_volume.csv").read_text(encoding="utf-8")
    assert "p1__ct,right lung" in measured and "p2__ct,right lung" in measured


def test_references_named_as_the_ids_of_a_batch_are_found(cohort, tmp_path):
    output, _ = cohort
    for name in ("p1__ct", "p2__ct_mask"):
        write(tmp_path / "flat" / f"{name}.nii.gz", lungs())
    assert run(output, tmp_path / "flat") == 0


def test_two_batches_are_compared_with_each_other(cohort, tmp_path, capsys):
    output, _ = cohort
    shutil.copytree(output, tmp_path / "again")
    assert run(output, tmp_path / "again") == 0
    assert "Whole volumes" in capsys.readouterr().out


def test_a_batch_without_a_reference_for_any_case_is_refused(cohort, tmp_path, capsys):
    output, _ = cohort
    capsys.readouterr()
    write(tmp_path / "elsewhere" / "x_mask.nrrd", lungs())
    write(tmp_path / "elsewhere" / "y_mask.nrrd", lungs())
    assert run(output, tmp_path / "elsewhere") == 2
    assert "holds no labelmap named like a case, such as p1__ct" in error_lines(capsys)[0]
    shutil.rmtree(output / "segmentations")
    (output / "segmentations").mkdir()
    assert run(output, tmp_path / "elsewhere") == 2
    assert "holds no labelmap in segmentations" in error_lines(capsys)[0]

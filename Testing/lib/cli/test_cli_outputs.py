"""What becomes of outputs when the disk is full, a folder vanishes, or a name or permission is bad."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cohorts import chest_hu, chest_picture, write_cohort, write_image
from small_disks import room_for

from SAMLungSegLib.batch import BatchError
from SAMLungSegLib.batch import run as run_batch
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import OutputError
from SAMLungSegLib.evaluation import report
from SAMLungSegLib.results import FORMATS
from SAMLungSegLib.volume import image_name, read_volume

pytestmark = pytest.mark.usefixtures("dark_is_lung")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def error_lines(capfd) -> list[str]:
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("samlungseg: ")]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def picture(tmp_path) -> Path:
    return write_image(tmp_path / "in" / "frontal.png", chest_picture())


# ---- A full disk


@pytest.mark.parametrize("extension", [one for one in FORMATS if not one.endswith("dcm")])
def test_a_full_disk_leaves_earlier_results_and_gives_code_2(picture, tmp_path, capsys, extension):
    earlier = {f"frontal_lungs.{extension}": b"earlier", "frontal_lungs.json": b"recipe"}
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
    with room_for(120):  # neither the labelmap nor the recipe fits
        assert run("segment", picture, "-o", tmp_path, "--format", extension, "--overwrite") == 2
    (line,) = error_lines(capsys)
    assert "cannot be written" in line
    assert {name: (tmp_path / name).read_bytes() for name in earlier} == earlier
    assert names(tmp_path) == {*earlier, "in"}


def test_where_only_the_recipe_fits_neither_file_is_replaced(picture, tmp_path):
    run("segment", picture, "-o", tmp_path, "--format", "seg.nrrd")
    labelmap, recipe = tmp_path / "frontal_lungs.seg.nrrd", tmp_path / "frontal_lungs.json"
    assert labelmap.stat().st_size > recipe.stat().st_size
    with room_for(recipe.stat().st_size):
        for path in (labelmap, recipe):
            path.write_bytes(b"earlier")
        assert run("segment", picture, "-o", tmp_path, "--format", "seg.nrrd", "--overwrite") == 2
    assert labelmap.read_bytes() == recipe.read_bytes() == b"earlier"


# ---- Folders and files that vanish


def test_segment_tells_results_that_vanished(picture, tmp_path, monkeypatch, capfd):
    second = write_image(tmp_path / "in" / "second.png", chest_picture(1))
    monkeypatch.setattr("SAMLungSegLib.cli.segment.describe", once(lambda: shutil.rmtree(tmp_path / "out")))
    assert run("segment", picture, second, "-o", tmp_path / "out") == 2
    (line,) = error_lines(capfd)
    assert "frontal_lungs.png and 1 more had been written and is gone" in line
    assert names(tmp_path / "out") == {"second_lungs.png", "second_lungs.json"}


def once(action):
    """A stand-in for `describe` that does something the first time."""
    actions = [action]

    def described(segmentation: object) -> str:
        if actions:
            actions.pop()()
        return "described"

    return described


@pytest.mark.parametrize("gone", ["", "segmentations", "journal.jsonl", "segmentations/xrays__0__x000_lungs.png"])
def test_a_batch_whose_results_vanish_is_not_done_and_goes_on_when_given_again(tmp_path, gone):
    cohort, output = write_cohort(tmp_path / "in", pictures=3, volumes=1, series=0), tmp_path / "out"

    def remove(done: int, total: int) -> None:
        if done == 3:
            shutil.rmtree(output / gone, ignore_errors=True) if (output / gone).is_dir() else (output / gone).unlink()

    with pytest.raises((BatchError, OutputError), match=r"is gone|cannot be|No more results"):
        run_batch(cohort, output, progress=remove)
    assert run_batch(cohort, output).done == 4
    assert len(names(output / "segmentations")) == 8


def test_a_report_whose_folder_vanishes_is_not_done(picture, tmp_path, monkeypatch, capfd):
    run("segment", picture, "-o", tmp_path)
    drawn = report.box_plot

    def vanishing(path: Path, *arguments: object, **options: object) -> None:
        drawn(path, *arguments, **options)
        (path.parent / "per_slice.csv").unlink()

    monkeypatch.setattr(report, "box_plot", vanishing)
    labelmap = tmp_path / "frontal_lungs.png"
    assert run("evaluate", labelmap, labelmap, "-o", tmp_path / "report") == 2
    assert "per_slice.csv had been written and is gone" in error_lines(capfd)[-1]


# ---- Names


@pytest.mark.parametrize("extension", [".nii.gz", ".png"])
def test_results_are_named_by_the_link_that_was_given(tmp_path, extension):
    array = chest_picture() if extension == ".png" else chest_hu()
    blob = write_image(tmp_path / f"x{extension}", array).rename(tmp_path / "blob123")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"patient7{extension}").symlink_to(blob)
    assert run("segment", tmp_path / "in" / f"patient7{extension}", "-o", tmp_path / "out") == 0
    assert {name.partition(".")[0] for name in names(tmp_path / "out")} == {"patient7_lungs"}
    assert read_volume(tmp_path / "in" / f"patient7{extension}").name == "patient7"
    run_batch(tmp_path / "in", tmp_path / "batch")
    assert {name.partition(".")[0] for name in names(tmp_path / "batch" / "overlays")} == {"patient7"}


def test_a_folder_is_named_by_the_link_that_was_given(tmp_path, monkeypatch):
    (tmp_path / "0a1b").mkdir()
    (tmp_path / "patient7").symlink_to(tmp_path / "0a1b")
    assert image_name(tmp_path / "patient7") == image_name(f"{tmp_path}/patient7/") == "patient7"
    monkeypatch.chdir(tmp_path / "0a1b")
    assert image_name(".") == "0a1b"


BAD_NAMES = {
    "no text": "caf\udce9.png",
    "too long for its results": f"{'x' * 250}.png",
    "too long for any file": f"{'x' * 300}.png",
    "a null": "a\0.png",
    "a link to itself": "loop.png",
    "a folder that may not be looked into": "forbidden/a.png",
    "below a file": "in/frontal.png/a.png",
}


@pytest.mark.parametrize("kind", BAD_NAMES)
@pytest.mark.parametrize("command", ["segment", "batch"])
def test_a_bad_name_costs_that_image_only(picture, tmp_path, monkeypatch, capfd, caplog, command, kind):
    bad = tmp_path / BAD_NAMES[kind]
    if kind == "a link to itself":
        bad.symlink_to(bad)
    elif kind in ("no text", "too long for its results"):
        bad.write_bytes(picture.read_bytes())
    elif kind == "a folder that may not be looked into":
        monkeypatch.setattr(os, "stat", refusing(os.stat, "forbidden"))
    last = write_image(tmp_path / "in" / "last.png", chest_picture(1))
    code = run(command, picture, bad, last, "-o", tmp_path / "out")
    results = tmp_path / "out" / ("segmentations" if command == "batch" else "")
    assert {"frontal_lungs.png", "last_lungs.png"} <= names(results)
    if command == "batch" and kind == "too long for its results":  # which has shorter names for them
        assert code == 0
        return
    assert code == 2
    told = [*error_lines(capfd), *caplog.messages]
    assert len([line for line in told if "a" in line]) >= 1
    assert not any("Traceback" in line for line in told)


def refusing(stat, name: str):
    """As for a user who may not look into a folder; tests may run as the administrator, who may."""

    def refused(path: object, *arguments: object, **options: object):
        if name in os.fspath(path) if isinstance(path, str | os.PathLike) else False:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    return refused


def test_a_line_break_in_a_name_breaks_no_line(picture, tmp_path, capfd):
    bad = tmp_path / "two\nlines.png"
    bad.write_text("no image")
    assert run("segment", bad, picture, "-o", tmp_path / "out") == 2
    (line,) = error_lines(capfd)
    assert r"two\nlines.png" in line
    bad.write_bytes(picture.read_bytes())
    assert run("segment", bad, "-o", tmp_path / "out", "--overlay") == 0
    assert "two\nlines_lungs_overlay.png" in names(tmp_path / "out")


def test_dollars_in_a_name_are_no_formula_on_pictures(picture, tmp_path):
    odd = picture.rename(picture.with_name(r"$\nonsense{$_^.png"))
    assert run("segment", odd, "-o", tmp_path / "out", "--overlay") == 0
    labelmap = tmp_path / "out" / r"$\nonsense{$_^_lungs.png"
    assert run("evaluate", labelmap, labelmap, "-o", tmp_path / "report", "--image", odd) == 0


def test_names_that_are_no_text_are_printed_all_the_same(picture, tmp_path):
    folder = tmp_path / "caf\udce9"
    code = run("evaluate", *[run_and_result(picture, tmp_path)] * 2, "-o", folder)
    assert code == 0
    assert (folder / "summary.md").is_file()


def run_and_result(picture: Path, folder: Path) -> Path:
    run("segment", picture, "-o", folder)
    return folder / f"{picture.stem}_lungs.png"


def test_two_inputs_of_one_name_cost_these_two_only(picture, tmp_path, capfd):
    twin = write_image(tmp_path / "b" / "frontal.png", chest_picture(1))
    other = write_image(tmp_path / "b" / "other.png", chest_picture(2))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "there_lungs.png").write_bytes(b"by hand")
    there = write_image(tmp_path / "b" / "there.png", chest_picture(3))
    assert run("segment", picture, twin, there, other, "-o", tmp_path / "out") == 2
    assert names(tmp_path / "out") == {"other_lungs.png", "other_lungs.json", "there_lungs.png"}
    lines = error_lines(capfd)
    assert len(lines) == 3
    assert "both be written" in lines[0] and "both be written" in lines[1] and "exists already" in lines[2]


def test_two_predictions_of_one_case_cost_that_case_only(tmp_path, capfd):
    labels = (chest_picture() < 100).astype(np.uint8)
    for name in ("a_lungs.png", "a_seg.png", "b_lungs.png"):
        write_image(tmp_path / "answers" / name, labels)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "truth" / name, labels)
    assert run("evaluate", tmp_path / "answers", tmp_path / "truth", "-o", tmp_path / "report") == 2
    captured = error_lines(capfd)
    assert "same case name 'a'" in captured[0] and "a_lungs.png" in captured[0] and "a_seg.png" in captured[0]
    listed = (tmp_path / "report" / "not_measured.csv").read_text()
    assert listed.count("same case name") == 3
    assert (tmp_path / "report" / "per_volume.csv").read_text().count("\nb,") > 0


def test_an_unexpected_error_costs_its_pair_only(tmp_path, monkeypatch, capfd):
    labels = (chest_picture() < 100).astype(np.uint8)
    for case in "ab":
        write_image(tmp_path / "answers" / f"{case}.png", labels)
        write_image(tmp_path / "truth" / f"{case}.png", labels)
    import SAMLungSegLib.volume as volumes

    def breaking(path: Path, **options: object):
        if path.name == "a.png":
            raise ZeroDivisionError("of ours")
        return read_volume(path, **options)

    monkeypatch.setattr(volumes, "read_volume", breaking)
    assert run("evaluate", tmp_path / "answers", tmp_path / "truth", "-o", tmp_path / "report") == 2
    assert "unexpected ZeroDivisionError: of ours" in error_lines(capfd)[0]
    assert (tmp_path / "report" / "summary.md").is_file()


def test_several_inputs_of_which_none_exists_are_refused_by_batch(tmp_path, capfd):
    assert run("batch", tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out") == 2
    assert "does not exist" in error_lines(capfd)[-1]
    assert not (tmp_path / "out").exists()

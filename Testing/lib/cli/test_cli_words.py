"""What the command line says of itself and on the way: version, help, --verbose, warnings; readers that have gone."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import SAMLungSegLib
from SAMLungSegLib.automatic.settings import default_settings
from SAMLungSegLib.cli import all_parsers, main, parser
from SAMLungSegLib.cli.messages import messages_on_stderr, once_with_count
from SAMLungSegLib.phantom import chest_ct

REPOSITORY = Path(__file__).resolve().parents[3]
PARSERS = {one.prog: one for one in all_parsers(parser())}
# Options without which nothing of their kind is done: there is no default to state.
NOTHING_UNLESS_GIVEN = {"--statistics", "--point", "--box", "--series", "--replay", "--image"}


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def options_of(one: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in one._actions if not isinstance(action, argparse._SubParsersAction)]


@pytest.fixture(scope="module")
def nan_scans(tmp_path_factory) -> Path:
    """Three small CTs with 1, 2 and 3 NaN voxels."""
    folder = tmp_path_factory.mktemp("scans")
    hu_kji = chest_ct(seed=0, size_kji=(6, 64, 64), spacing_mm=(52.0, 6.0, 6.0)).hu_kji.astype(np.float32)
    for count in (1, 2, 3):
        array = hu_kji.copy()
        array[0, 0, :count] = np.nan
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((6, 6, 52))
        sitk.WriteImage(image, str(folder / f"scan{count}.nrrd"))
    return folder


# ---- version


def test_the_version_is_one_and_the_same_everywhere(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--version")
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"samlungseg {SAMLungSegLib.__version__}\n"
    assert SAMLungSegLib.__version__ == metadata.version("samlungseg")


def test_the_version_is_known_without_an_installed_distribution():
    code = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + sys.argv[1:]; "
    code += "import SAMLungSegLib; print(SAMLungSegLib.__version__)"
    command = [sys.executable, "-S", "-c", code, REPOSITORY]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == SAMLungSegLib.__version__


# ---- help


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_has_a_help_text(name):
    assert [action.dest for action in options_of(PARSERS[name]) if not action.help] == []


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_states_its_default(name):
    one = PARSERS[name]
    for action in options_of(one):
        takes_value = action.option_strings and action.nargs != 0
        if not takes_value or action.required or action.option_strings[-1] in NOTHING_UNLESS_GIVEN:
            continue
        text = one._get_formatter()._expand_help(action)
        assert "default" in text, f"{name} {action.option_strings[-1]}: {text}"
        if action.default not in (None, False, argparse.SUPPRESS):
            assert str(action.default) in text


def test_defaults_that_depend_on_the_model_are_stated_as_they_are():
    of_sam, of_compact = (asdict(default_settings(model)) for model in ("sam-vit-b", "lung-compact"))
    texts = {action.dest: action.help for action in PARSERS["samlungseg automatic"]._actions}
    for name, usual in of_sam.items():
        other = of_compact[name]
        stated = f"{usual}" if usual == other else f"{usual} for SAM, {other} for lung-compact"
        assert texts[name].endswith(f"; default: {stated}")


# ---- --verbose


@pytest.mark.parametrize("arguments", [("--verbose", "models", "list"), ("models", "list", "--verbose")])
def test_verbose_stands_before_or_after_the_subcommand(arguments, capsys):
    assert run(*arguments) == 0
    told = capsys.readouterr().err
    assert f"samlungseg {SAMLungSegLib.__version__}" in told and "exit code 0" in told
    assert run("models", "list") == 0
    assert capsys.readouterr().err == ""


def test_every_subcommand_takes_verbose():
    for one in PARSERS.values():
        assert "--verbose" in one._option_string_actions


def test_verbose_says_model_modality_window_slices_and_files(nan_scans, tmp_path, capsys):
    assert run("segment", nan_scans / "scan1.nrrd", "-o", tmp_path, "--verbose") == 0
    told = capsys.readouterr().err
    for part in (
        "scan1.nrrd: read, 64 x 64 x 6 voxels (I, J, K) of 6 x 6 x 52 mm",
        "Model lung-compact with the weights",
        "scan1: taken as a CT, for it has several slices.",
        "CT, window 1500/-600, 6 slices of 64 x 64 pixels, 6 shown to the model",
        f"Written: {tmp_path / 'scan1_lungs.seg.nrrd'}",
        "Finished after",
    ):
        assert part in told


# ---- warnings


def test_a_warning_of_one_image_is_said_at_once(nan_scans, tmp_path, capsys):
    assert run("segment", nan_scans / "scan2.nrrd", "-o", tmp_path) == 0
    told = capsys.readouterr().err
    assert told.count("2 of 24576 voxels are NaN or infinite.") == 1
    assert "more case" not in told


@pytest.mark.slow
def test_warnings_of_several_processes_are_said_once_by_the_first(nan_scans, tmp_path):
    command = [sys.executable, "-m", "SAMLungSegLib", "batch", nan_scans, "-o", tmp_path / "out", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stderr
    assert told.count("voxels are NaN or infinite. (and 2 more cases)") == told.count("NaN") == 1


@pytest.mark.parametrize("command", ["segment", "batch"])
def test_the_same_warning_of_many_images_is_said_once_with_a_count(nan_scans, tmp_path, capsys, command):
    inputs = sorted(nan_scans.iterdir()) if command == "segment" else [nan_scans]
    assert run(command, *inputs, "-o", tmp_path) == 0
    told = capsys.readouterr().err
    assert told.count("voxels are NaN or infinite. (and 2 more cases)") == told.count("NaN") == 1


def test_warnings_of_different_kinds_are_kept_apart(capsys):
    logger = logging.getLogger("SAMLungSegLib.test")
    with messages_on_stderr(verbose=False, many=True):
        for case in ("scan-a", "scan-b"):
            logger.warning("%s: %s", case, f"{case} has slices {len(case)} mm apart")
            logger.warning("%s: the gantry was tilted", case)
        logger.warning("The disk is slow.")
        logger.warning("No table is written.")
        logger.error("%s: %s", "c", "cannot be read")
        logger.error("%s: %s", "d", "cannot be read")
    assert capsys.readouterr().err.splitlines() == [
        "ERROR c: cannot be read",
        "ERROR d: cannot be read",
        "WARNING scan-a: scan-a has slices 6 mm apart (and 1 more case)",
        "WARNING scan-a: the gantry was tilted (and 1 more case)",
        "WARNING The disk is slow.",
        "WARNING No table is written.",
    ]


def test_notes_that_differ_in_numbers_only_are_one_kind():
    notes = [("a", "3 of 10 slices are empty"), ("b", "4 of 12 slices are empty"), ("b", "resampled")]
    assert list(once_with_count(notes)) == ["a: 3 of 10 slices are empty (and 1 more case)", "b: resampled"]


# ---- readers of the output that have gone


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["segment", "--help"], ["models", "list"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments, unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "SAMLungSegLib", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full to write to")
def test_output_that_cannot_be_written_is_said():
    command = [sys.executable, "-m", "SAMLungSegLib", "models", "list"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert ended.returncode == 2
    assert ended.stderr == b"samlungseg: what was printed cannot be written: No space left on device.\n"


# ---- wrong input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment", "x.png", "-o", ""], "argument -o/--output: an empty name is no path"),
        (["segment", "", "-o", "out"], "argument INPUT: an empty name is no path"),
        (["segment", "x.png", "-o", "out", "--treshold", "0.4"], "did you mean --threshold?; see 'samlungseg segment"),
        (
            ["study", "zero-shot", "d", "-o", "out", "--limt=4"],
            "did you mean --limit?; see 'samlungseg study zero-shot",
        ),
        (["segment", "x.png", "-o", "out", "--window", "-600/1500"], "is given as --window=VALUE"),
        (["batch", "d", "-o", "out", "--workers", "0"], "'0' is not a whole number from 1 on"),
        (
            ["tune", "--images", "d", "--masks", "d", "-o", "out", "--slices", "x"],
            "'x' is not a whole number from 1 on",
        ),
        (["study", "fine-tune", "d", "-o", "out", "--seed", "-1"], "'-1' is not a whole number from 0 on"),
    ],
)
def test_wrong_arguments_are_told_with_what_to_do(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1


def test_a_folder_without_images_of_its_own_says_what_is_there(tmp_path, capsys):
    (tmp_path / "scans" / "p1").mkdir(parents=True)
    assert run("segment", tmp_path / "scans" / "p1", "-o", tmp_path / "out") == 2
    assert "holds no DICOM image; it is empty." in capsys.readouterr().err
    (tmp_path / "scans" / "p1" / "a.dcm").write_text("no DICOM")
    assert run("segment", tmp_path / "scans" / "p1", "-o", tmp_path / "out") == 2
    assert "holds no DICOM image; a.dcm is damaged or holds no image: copy or export it" in capsys.readouterr().err
    sitk.WriteImage(sitk.Image(8, 8, sitk.sitkUInt8), str(tmp_path / "scans" / "p1" / "x.png"))
    assert run("segment", tmp_path / "scans", "-o", tmp_path / "out") == 2
    assert (
        "its sub-folders hold image files such as p1/x.png: give one of them, or the folder to `samlungseg batch`"
        in (capsys.readouterr().err)
    )


def test_a_point_may_have_spaces(tmp_path):
    sitk.WriteImage(sitk.Image(64, 64, sitk.sitkUInt8), str(tmp_path / "x.png"))
    assert run("segment", tmp_path / "x.png", "-o", tmp_path, "--point", "20, 30, +") == 0


@pytest.mark.parametrize("jitter", ["-1", "nan", "inf"])
def test_a_jitter_that_is_no_length_is_refused(tmp_path, capsys, jitter):
    assert run("study", "fine-tune", tmp_path, "-o", tmp_path / "out", "--jitter", jitter) == 2
    assert "jitter" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_label_that_was_given_and_does_not_occur_is_noted(tmp_path, capsys):
    labels = np.zeros((8, 8), np.uint8)
    labels[2:4, 1:3], labels[2:4, 5:7] = 1, 2
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "x.png"))
    labelmap = tmp_path / "x.png"
    assert run("evaluate", labelmap, labelmap, "--reference-right", 9, "--reference-left", 2) == 0
    assert "The reference has no voxel with the label given for the right lung, 9." in capsys.readouterr().out

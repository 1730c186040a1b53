"""The command line as a user types it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from generated_chests import generated_xray
from safetensors.torch import load_file, save_file

from SAMLungSegLib.cli import main
from SAMLungSegLib.models.registry import bundled_file
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.volume import read_volume

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder with a small CT, its X-ray and their labels."""
    folder = tmp_path_factory.mktemp("images")
    phantom = chest_ct(seed=0, size_kji=(12, 96, 96), spacing_mm=(26.0, 4.0, 4.0))
    for name, array in (("chest.nii.gz", phantom.hu_kji), ("chest_mask.nii.gz", phantom.labelmap_kji)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((4, 4, 26))
        sitk.WriteImage(image, str(folder / name))
    picture, labelmap = generated_xray()
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(folder / "frontal.png"))
    sitk.WriteImage(sitk.GetImageFromArray(labelmap), str(folder / "frontal_mask.png"))
    return folder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


# ---- segment


def test_a_ct_and_an_xray_are_segmented_in_one_call(images, tmp_path, capsys):
    assert run("segment", images / "chest.nii.gz", images / "frontal.png", "-o", tmp_path) == 0
    results = {"chest_lungs.seg.nrrd", "chest_lungs.json", "frontal_lungs.png", "frontal_lungs.json"}
    assert {path.name for path in tmp_path.iterdir()} == results
    printed = capsys.readouterr().out
    assert "right lung" in printed and " ml" in printed and "pixels" in printed
    ct, xray = (next(line for line in printed.splitlines() if title in line) for title in ("CT,", "X-ray,"))
    assert 0.3 < float(xray.partition("cardiothoracic ratio ")[2]) < 0.6 and "ratio" not in ct
    segmentation = sitk.ReadImage(str(tmp_path / "chest_lungs.seg.nrrd"))
    assert segmentation.GetMetaData("Segment0_Name") == "right lung"
    assert segmentation.GetMetaData("Segment1_Name") == "left lung"


@pytest.mark.parametrize("extension", ["seg.nrrd", "nrrd", "nii.gz"])
def test_the_format_is_chosen_and_the_grid_is_the_inputs(images, tmp_path, extension):
    assert run("segment", images / "chest.nii.gz", "-o", tmp_path, "--format", extension) == 0
    result = sitk.ReadImage(str(tmp_path / f"chest_lungs.{extension}"))
    image = sitk.ReadImage(str(images / "chest.nii.gz"))
    assert result.GetSize() == image.GetSize()
    assert np.allclose(result.GetSpacing(), image.GetSpacing())
    assert np.allclose(result.GetOrigin(), image.GetOrigin())
    assert np.allclose(result.GetDirection(), image.GetDirection())


def test_an_overlay_is_drawn_on_request(images, tmp_path):
    assert run("segment", images / "frontal.png", "-o", tmp_path, "--overlay") == 0
    assert (tmp_path / "frontal_lungs_overlay.png").stat().st_size > 10_000


def test_a_box_on_an_xray_selects_one_lung(images, tmp_path):
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(images / "frontal_mask.png")))
    rows, columns = np.nonzero(truth == 1)
    box = f"{columns.min()},{rows.min()},{columns.max()},{rows.max()}"
    assert run("segment", images / "frontal.png", "-o", tmp_path, "--box", box) == 0
    result = read_volume(tmp_path / "frontal_lungs.png").array_kji
    assert np.sum(result == 1) > 0.6 * np.sum(truth == 1)
    assert np.sum(result == 2) < 0.1 * np.sum(truth == 2)


def test_weights_of_the_users_own_are_used(images, tmp_path):
    state = load_file(bundled_file("lung-compact.safetensors"))
    decoder = {key: value * 0 for key, value in state.items() if key.startswith("mask_decoder.output_hypernetworks")}
    decoder = {key: value for key, value in state.items() if key.startswith("mask_decoder.")} | decoder
    save_file(decoder, tmp_path / "silent.safetensors")
    code = run("segment", images / "frontal.png", "-o", tmp_path, "--weights", tmp_path / "silent.safetensors")
    assert code == 0
    assert not read_volume(tmp_path / "frontal_lungs.png").array_kji.any()


def bad_inputs(folder: Path) -> dict[str, Path]:
    """One file for each kind of image that cannot be used."""
    write = lambda name, image: sitk.WriteImage(image, str(folder / name))  # noqa: E731
    write("time.nii.gz", sitk.JoinSeries([sitk.Image(4, 4, 4, sitk.sitkInt16)] * 2))
    write("colour.png", sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8), True))
    write("nan.nrrd", sitk.GetImageFromArray(np.full((3, 4, 5), np.nan, np.float32)))
    (folder / "text.nii.gz").write_text("this is no image")
    (folder / "empty").mkdir(exist_ok=True)
    return {
        "4D": folder / "time.nii.gz",
        "colour": folder / "colour.png",
        "NaN only": folder / "nan.nrrd",
        "no image": folder / "text.nii.gz",
        "empty folder": folder / "empty",
        "absent": folder / "nowhere.nii.gz",
    }


@pytest.mark.parametrize("kind", ["4D", "colour", "NaN only", "no image", "empty folder", "absent"])
def test_bad_input_gives_one_line_code_2_and_no_file(tmp_path, capfd, kind):
    path = bad_inputs(tmp_path)[kind]
    output = tmp_path / "out"
    assert run("segment", path, "-o", output) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("samlungseg: ")]
    assert len(lines) == 1
    assert path.name.split(".")[0] in lines[0]
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--point", "1,2"], "Point '1,2' is not"),
        (["--point", "a,b,+"], "not a number"),
        (["--point", "4000,2,+"], "is outside frontal"),
        (["--box", "1,2,3"], "Box '1,2,3' is not"),
        (["--box", "50,50,20,50"], "is flat"),
        (["--threshold", "1.5"], "between 0 and 1"),
        (["--window", "sharp"], "Window 'sharp' is unknown"),
        (["--model", "lung-huge"], "lung-compact"),
        (["--weights", "nothing.pth"], "no weights at nothing.pth"),
        (["--device", "tpu"], "not available"),
        (["--format", "png", "--series", "1.2"], "choose a series"),
    ],
)
def test_wrong_arguments_are_explained_and_write_nothing(images, tmp_path, capsys, arguments, message):
    assert run("segment", images / "frontal.png", "-o", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_downloaded_says_how_to_get_it(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path / "cache"))
    assert run("segment", images / "frontal.png", "-o", tmp_path, "--model", "sam-vit-b") == 2
    assert "samlungseg models fetch sam-vit-b" in capsys.readouterr().err


def test_one_bad_input_among_good_ones_does_not_stop_the_others(images, tmp_path, capsys):
    assert run("segment", tmp_path / "absent.png", images / "frontal.png", "-o", tmp_path) == 2
    assert (tmp_path / "frontal_lungs.png").is_file()
    assert "absent.png" in capsys.readouterr().err


def test_two_inputs_of_one_name_are_refused(images, tmp_path, capsys):
    (tmp_path / "b").mkdir()
    shutil.copy(images / "frontal.png", tmp_path / "b" / "frontal.png")
    assert run("segment", images / "frontal.png", tmp_path / "b" / "frontal.png", "-o", tmp_path / "out") == 2
    assert "both be written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_earlier_result_survives_a_failure(images, tmp_path):
    (tmp_path / "frontal_lungs.png").write_bytes(b"earlier")
    arguments = ("segment", images / "frontal.png", "-o", tmp_path, "--overwrite")
    assert run(*arguments, "--point", "4000,2,+") == 2
    assert (tmp_path / "frontal_lungs.png").read_bytes() == b"earlier"
    assert run(*arguments) == 0
    assert (tmp_path / "frontal_lungs.png").read_bytes() != b"earlier"


def test_what_exists_is_replaced_only_on_request(images, tmp_path, capsys):
    (tmp_path / "frontal_lungs.png").write_bytes(b"by hand")
    assert run("segment", images / "frontal.png", "-o", tmp_path) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "frontal_lungs.png").read_bytes() == b"by hand"


def test_an_input_is_never_replaced_by_a_result(images, tmp_path, capsys):
    for name in ("c.png", "c_lungs.png"):
        shutil.copy(images / "frontal.png", tmp_path / name)
    before = (tmp_path / "c_lungs.png").read_bytes()
    assert run("segment", tmp_path / "c.png", tmp_path / "c_lungs.png", "-o", tmp_path, "--overwrite") == 2
    assert "would replace the input" in capsys.readouterr().err
    assert (tmp_path / "c_lungs.png").read_bytes() == before


def test_overlays_of_two_inputs_are_kept_apart(images, tmp_path, capsys):
    shutil.copy(images / "frontal.png", tmp_path / "chest.png")
    inputs = (images / "chest.nii.gz", tmp_path / "chest.png")
    assert run("segment", *inputs, "-o", tmp_path / "out", "--overlay") == 2
    assert "chest_lungs_overlay.png" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["segment", "demo"])
def test_an_output_folder_that_is_a_file_is_refused_at_once(images, tmp_path, capsys, command):
    (tmp_path / "file").write_text("")
    source = ["--input"] if command == "demo" else []
    assert run(command, *source, images / "frontal.png", "-o", tmp_path / "file" / "sub") == 2
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize("prompt", [("--point", "20,30,+"), ("--box", "5,5,60,60")])
def test_a_prompt_without_k_on_a_volume_is_refused(images, tmp_path, capsys, prompt):
    assert run("segment", images / "chest.nii.gz", "-o", tmp_path, *prompt) == 2
    assert "has 12 slices; give i,j,k" in capsys.readouterr().err


def test_prompts_with_several_inputs_are_refused(images, tmp_path, capsys):
    assert run("segment", images / "frontal.png", images / "chest.nii.gz", "-o", tmp_path, "--point", "1,2,+") == 2
    assert "give one INPUT" in capsys.readouterr().err


def test_png_for_a_volume_is_refused_before_the_work(images, tmp_path, capsys):
    assert run("segment", images / "chest.nii.gz", "-o", tmp_path / "out", "--format", "png") == 2
    assert "PNG holds one slice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_image_without_lung_says_so(tmp_path, capsys):
    sitk.WriteImage(sitk.Image(64, 64, sitk.sitkUInt8), str(tmp_path / "black.png"))
    assert run("segment", tmp_path / "black.png", "-o", tmp_path / "out") == 0
    assert "X-ray, no lung found" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["segment", "x.png"], ["segment", "x.png", "-o", "y", "--format", "mha"], []])
def test_wrong_usage_is_told_on_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("samlungseg: ") and error.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written(tmp_path):
    phantom = chest_ct(seed=0, size_kji=(12, 96, 96), spacing_mm=(26.0, 4.0, 4.0))
    many = np.repeat(phantom.hu_kji, 100, axis=0)  # takes half a minute and more
    sitk.WriteImage(sitk.GetImageFromArray(many), str(tmp_path / "long.nrrd"))
    command = [sys.executable, "-m", "SAMLungSegLib", "segment", tmp_path / "long.nrrd", "-o", tmp_path / "out"]
    screen, stderr = pty.openpty()  # a terminal, so that the progress bar is drawn
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=REPOSITORY,
        stderr=stderr,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run in the background ignores it
    )
    os.close(stderr)
    shown = b""
    while b"slice/s" not in shown:
        shown += os.read(screen, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    with contextlib.suppress(OSError):  # at the end of what a terminal shows
        while part := os.read(screen, 4096):
            shown += part
    os.close(screen)
    assert b"stopped; files finished so far are complete" in shown
    assert b"Traceback" not in shown
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


# ---- evaluate


def test_a_prediction_is_measured_and_reported(images, tmp_path, capsys):
    run("segment", images / "chest.nii.gz", "-o", tmp_path)
    capsys.readouterr()
    code = run(
        *("evaluate", tmp_path / "chest_lungs.seg.nrrd", images / "chest_mask.nii.gz"),
        *("-o", tmp_path / "report", "--image", images / "chest.nii.gz"),
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert "right lung" in printed and "HD95 [mm]" in printed
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written >= {"per_slice.csv", "per_volume.csv", "summary.csv", "summary.md", "box_plot.png"}
    assert "worst_slices.png" in written


def test_a_reference_against_itself_scores_one(images, capsys):
    assert run("evaluate", images / "chest_mask.nii.gz", images / "chest_mask.nii.gz") == 0
    assert "1.0000 ± 0.0000" in capsys.readouterr().out


def test_folders_are_paired_by_name(images, tmp_path, capsys):
    for folder, suffix in (("answers", "_lungs"), ("truth", "_mask")):
        (tmp_path / folder).mkdir()
        for case in ("a", "b"):
            shutil.copy(images / "frontal_mask.png", tmp_path / folder / f"{case}{suffix}.png")
    assert run("evaluate", tmp_path / "answers", tmp_path / "truth") == 0
    assert capsys.readouterr().err == ""
    (tmp_path / "truth" / "b_mask.png").unlink()
    assert run("evaluate", tmp_path / "answers", tmp_path / "truth") == 0
    told = capsys.readouterr()
    assert "a_mask, whole volume" in told.out
    assert "1 file(s) have no partner" in told.err and "b_lungs.png" in told.err


def test_grids_that_do_not_meet_are_an_error(images, tmp_path, capsys):
    image = sitk.ReadImage(str(images / "chest_mask.nii.gz"))
    image.SetOrigin((5000, 0, 0))
    sitk.WriteImage(image, str(tmp_path / "far.nii.gz"))
    assert run("evaluate", tmp_path / "far.nii.gz", images / "chest_mask.nii.gz") == 2
    assert "overlap" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--tolerance-mm", "0"], ["--reference-right", "3"]])
def test_wrong_evaluation_arguments_are_explained(images, arguments):
    assert run("evaluate", images / "chest_mask.nii.gz", images / "chest_mask.nii.gz", *arguments) == 2


# ---- models, demo, help


def test_all_models_are_listed(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path))
    assert run("models", "list") == 0
    printed = capsys.readouterr().out
    for name in ("lung-compact", "sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam-vit-b", str(tmp_path)):
        assert name in printed


def test_the_bundled_model_verifies_and_absent_ones_say_so(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path))
    assert run("models", "verify", "lung-compact") == 0
    assert "ok" in capsys.readouterr().out
    assert run("models", "verify", "sam-vit-b") == 2
    assert "absent" in capsys.readouterr().out
    assert run("models", "fetch", "lung-compact") == 0


@pytest.mark.slow
def test_the_demo_shows_both_phantoms_and_says_what_they_are(tmp_path, capsys):
    assert run("demo", "-o", tmp_path) == 0
    printed = capsys.readouterr().out
    assert "not a patient" in printed
    assert printed.count("both lungs") == 2
    for name in ("phantom_ct_lungs.seg.nrrd", "phantom_ct_lungs_overlay.png", "report/summary.md"):
        assert (tmp_path / name).is_file()


def test_the_demo_takes_an_own_image(images, tmp_path, capsys):
    assert run("demo", "-o", tmp_path, "--input", images / "frontal.png") == 0
    assert (tmp_path / "frontal_lungs_overlay.png").is_file()


@pytest.mark.parametrize("command", ["segment", "evaluate", "models", "demo", "train"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    assert "usage: samlungseg" in capsys.readouterr().out


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_a_full_memory_is_one_line_with_advice(tmp_path, monkeypatch, capsys, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("SAMLungSegLib.cli.demo.run", fail)
    assert main(["demo", "-o", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "memory of this machine" in said and said.count("\n") == 1

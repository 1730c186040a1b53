"""`samlungseg batch` as a user types it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from cohorts import chest_picture, write_broken, write_cohort, write_image

from SAMLungSegLib.cli import main

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def cohort(tmp_path) -> Path:
    return write_cohort(tmp_path / "in", pictures=3, volumes=1, series=0)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_cohort_is_segmented_with_the_bundled_model(cohort, tmp_path, capsys):
    assert run("batch", cohort, "-o", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "4 cases: 4 done, 0 failed; 4 of them in this run." in printed
    assert str(tmp_path / "out" / "summary.html") in printed
    assert set(pd.read_csv(tmp_path / "out" / "table.csv")["state"]) == {"done"}


def test_a_result_of_the_run_can_be_replayed(cohort, tmp_path):
    run("batch", cohort, "-o", tmp_path / "out", "--window", "1400/-500")
    result = tmp_path / "out" / "segmentations" / "cts__ct000_lungs.seg.nrrd"
    assert run("segment", "--replay", result, "-o", tmp_path / "again") == 0
    assert (tmp_path / "again" / "ct000_lungs.seg.nrrd").read_bytes() == result.read_bytes()


def test_a_failed_case_gives_code_2_and_its_reason(cohort, tmp_path, dark_is_lung, capsys, caplog):
    write_broken(cohort, "text")
    with caplog.at_level(logging.WARNING):
        assert run("batch", cohort, "-o", tmp_path / "out") == 2
    assert "5 cases: 4 done, 1 failed" in capsys.readouterr().out
    assert "text.nii is damaged" in caplog.text


def test_options_reach_the_run(cohort, tmp_path, dark_is_lung):
    write_image(tmp_path / "masks" / "x000.png", (chest_picture(0) < 100).astype("uint8"))
    options = ("--format", "nii.gz", "--lungs", "left", "--no-overlay", "--reference", tmp_path / "masks")
    assert run("batch", f"{cohort}/xrays/0/*.png", "-o", tmp_path / "out", *options) == 0
    row = pd.read_csv(tmp_path / "out" / "table.csv").iloc[0]
    assert row["segmentation"] == "segmentations/x000_lungs.nii.gz" and row["right_voxels"] == 0
    assert pd.notna(row["dice_both"]) and pd.isna(row["overlay"])


def test_a_dry_run_says_what_is_to_do_and_how_long_it_may_take(cohort, tmp_path, dark_is_lung, capsys):
    assert run("batch", cohort, "-o", tmp_path / "out", "--dry-run") == 0
    first = capsys.readouterr().out
    assert "4 cases to do, 0 done already" in first and "7 slices, about" in first and "a first try took" in first
    assert not (tmp_path / "out").exists()
    run("batch", cohort, "-o", tmp_path / "out")
    write_image(cohort / "new.png", chest_picture(9))
    os.utime(cohort / "xrays" / "0" / "x000.png", (1, 1))
    capsys.readouterr()
    run("batch", cohort, "-o", tmp_path / "out", "--dry-run")
    second = capsys.readouterr().out
    assert "2 cases to do, 3 done already" in second and "1 of them have files of another time" in second
    assert "earlier cases took" in second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{in}", "-o", "{in}"), "among the images"),
        (("{in}/nowhere/*.png", "-o", "{out}"), "holds no image"),
        (("{in}/nowhere", "-o", "{out}"), "does not exist"),
        (("{in}", "-o", "{out}", "--reference", "{in}/nowhere"), "does not exist"),
        (("{in}", "-o", "{out}", "--window", "sharp"), "Window 'sharp' is unknown"),
        (("{in}", "-o", "{out}", "--model", "lung-huge"), "lung-compact"),
        (("{in}", "-o", "{out}", "--weights", "none.pth"), "no weights at none.pth"),
        (("{in}", "-o", "{out}", "--threshold", "2"), "between 0 and 1"),
        (("{in}", "-o", "{in}/README.txt"), "is a file"),
    ],
)
def test_wrong_arguments_are_explained_and_nothing_is_made(cohort, tmp_path, capsys, arguments, message):
    given = [one.replace("{in}", str(cohort)).replace("{out}", str(tmp_path / "out")) for one in arguments]
    assert run("batch", *given) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process of Windows at once")
def test_a_request_to_stop_ends_the_run_cleanly_and_it_goes_on(tmp_path):
    cohort = write_cohort(tmp_path / "in", pictures=80, volumes=0, series=0)
    command = [sys.executable, "-m", "SAMLungSegLib", "batch", str(cohort), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    results = tmp_path / "out" / "segmentations"
    while process.poll() is None and not (results.is_dir() and len(list(results.glob("*_lungs.png"))) > 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error and "nothing is half-written" in error
    done = len(pd.read_csv(tmp_path / "out" / "table.csv"))
    assert 3 < done < 80 and len(list(results.glob("*_lungs.png"))) == done
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert f"80 cases: 80 done, 0 failed; {80 - done} of them in this run." in again.stdout


@pytest.mark.slow
def test_two_processes_give_what_one_gives(cohort, tmp_path, capfd):
    pytest.importorskip("distributed", reason="Dask is not installed")
    assert run("batch", cohort, "-o", tmp_path / "one") == 0
    assert run("batch", cohort, "-o", tmp_path / "two", "--workers", "2") == 0
    one, two = (pd.read_csv(tmp_path / name / "table.csv") for name in ("one", "two"))
    same = [name for name in one if not name.startswith("seconds")]
    pd.testing.assert_frame_equal(one[same], two[same])


def test_several_processes_without_dask_say_what_to_install(cohort, tmp_path, dark_is_lung, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run("batch", cohort, "-o", tmp_path / "out", "--workers", "2") == 2
    assert "pip install 'samlungseg[cluster]'" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_that_do_not_start_are_told(cohort, tmp_path, dark_is_lung, capsys):
    pytest.importorskip("distributed", reason="Dask is not installed")
    dask = pytest.importorskip("dask")
    with dask.config.set({"distributed.worker.preload": ["no_such_module"]}):
        assert run("batch", cohort, "-o", tmp_path / "out", "--workers", "2") == 2
    assert "2 processes could not be started" in capsys.readouterr().err


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_told(cohort, tmp_path, dark_is_lung, capsys, monkeypatch):
    pytest.importorskip("distributed", reason="Dask is not installed")
    monkeypatch.setattr("SAMLungSegLib.batch.executors._CONNECT_SECONDS", 1)
    assert run("batch", cohort, "-o", tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9") == 2
    assert "does not answer" in capsys.readouterr().err


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit) as stop:
        run("batch", "--help")
    assert stop.value.code == 0 and "it was stopped" in " ".join(capsys.readouterr().out.split())

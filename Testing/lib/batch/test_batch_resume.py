"""Another run over a cohort: what it keeps, what it does again, and the journal that tells it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace

import pandas as pd
import pytest
from cohorts import chest_hu, chest_picture, segmented, write_broken, write_image

from SAMLungSegLib.batch import BatchError, Settings, preview, run
from SAMLungSegLib.batch import journal as journals
from SAMLungSegLib.batch.journal import Journal, read_history
from SAMLungSegLib.errors import PromptError, SettingsError
from SAMLungSegLib.files import writable_folder
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.pipeline import Options, VolumePoint

pytestmark = pytest.mark.usefixtures("dark_is_lung")


def test_a_second_run_asks_the_model_nothing(cohort, tmp_path):
    first = run(cohort, tmp_path / "out")
    second = run(cohort, tmp_path / "out")
    assert second.processed == 0 and second.rows == first.rows
    assert len(segmented(tmp_path / "out")) == 5


def test_new_images_are_added(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    write_image(cohort / "new.png", chest_picture(9))
    assert run(cohort, tmp_path / "out").processed == 1
    assert segmented(tmp_path / "out")[5:] == ["new"]


def test_a_changed_image_is_segmented_again_and_a_touched_one_is_not(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    write_image(cohort / "xrays" / "0" / "x000.png", chest_picture(7))
    os.utime(cohort / "xrays" / "1" / "x001.png", (1, 1))
    assert run(cohort, tmp_path / "out").done == 5
    assert segmented(tmp_path / "out")[5:] == ["xrays__0__x000"]
    assert run(cohort, tmp_path / "out").processed == 0


def test_the_same_voxels_elsewhere_in_the_patient_are_another_image(tmp_path):
    write_image(tmp_path / "in" / "ct.nrrd", chest_hu(), (6, 6, 40))
    run(tmp_path / "in", tmp_path / "out")
    write_image(tmp_path / "in" / "ct.nrrd", chest_hu(), (6, 6, 50))
    rows = run(tmp_path / "in", tmp_path / "out").rows
    assert rows[0]["right_ml"] == pytest.approx((chest_hu()[:, :, :32] == -850).sum() * 6 * 6 * 50 / 1000)


@pytest.mark.parametrize(
    "change",
    [
        {"options": Options(threshold=0.6)},
        {"options": Options(lungs="left")},
        {"format": "nii.gz"},
        {"model": ModelChoice(input_size=512)},
    ],
    ids=["threshold", "lungs", "format", "model"],
)
def test_another_setting_does_all_again(cohort, tmp_path, change):
    run(cohort, tmp_path / "out")
    assert run(cohort, tmp_path / "out", replace(Settings(), **change)).processed == 5


def test_another_device_does_nothing_again(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    assert run(cohort, tmp_path / "out", Settings(device="cpu")).processed == 0


def test_changed_weights_do_all_again(cohort, tmp_path):
    weights = tmp_path / "mine.pth"
    weights.write_bytes(b"first")
    settings = Settings(model=ModelChoice(weights=weights))
    assert run(cohort, tmp_path / "out", settings).processed == 5
    weights.write_bytes(b"second")
    assert run(cohort, tmp_path / "out", settings).processed == 5
    assert run(cohort, tmp_path / "out", settings).processed == 0


def test_a_result_that_was_deleted_is_made_again(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    (tmp_path / "out" / "segmentations" / "xrays__0__x000_lungs.png").unlink()
    run(cohort, tmp_path / "out")
    assert segmented(tmp_path / "out")[5:] == ["xrays__0__x000"]


def test_pictures_can_be_left_out_and_added(cohort, tmp_path):
    run(cohort, tmp_path / "out", Settings(overlays="none"))
    assert not (tmp_path / "out" / "overlays").exists()
    assert run(cohort, tmp_path / "out").processed == 5
    assert run(cohort, tmp_path / "out", Settings(overlays="none")).processed == 0


def test_large_pictures_are_made_on_request_and_stay(tmp_path):
    write_image(tmp_path / "in" / "ct.nrrd", chest_hu(), (6, 6, 40))
    small = run(tmp_path / "in", tmp_path / "out")
    assert "full_overlay" not in small.rows[0]
    full = run(tmp_path / "in", tmp_path / "out", Settings(overlays="full"))
    assert full.processed == 1 and full.rows[0]["full_overlay"] == "overlays/full/ct.png"
    assert (tmp_path / "out" / "overlays" / "full" / "ct.png").stat().st_size > 10_000
    page = (tmp_path / "out" / "summary.html").read_text()
    assert '<a href="overlays/full/ct.png"><img src="overlays/ct.png"' in page
    assert run(tmp_path / "in", tmp_path / "out").processed == 0
    with pytest.raises(SettingsError, match="none, small, full"):
        Settings(overlays="large")


def test_failed_cases_are_tried_again_on_request_only(cohort, tmp_path):
    broken = write_broken(cohort, "text")
    assert len(run(cohort, tmp_path / "out").failed) == 1
    again = run(cohort, tmp_path / "out")
    assert again.processed == 0 and len(again.failed) == 1
    assert run(cohort, tmp_path / "out", retry_failed=True).processed == 1
    write_image(broken, chest_hu())
    assert run(cohort, tmp_path / "out").failed == ()


def test_a_preview_says_what_a_run_would_do_and_writes_nothing(cohort, tmp_path):
    write_broken(cohort, "text")
    plan = preview(cohort, tmp_path / "out")
    assert (len(plan.tasks), plan.kept, plan.failed) == (6, [], [])
    assert not (tmp_path / "out").exists()
    run(cohort, tmp_path / "out")
    write_image(cohort / "new.png", chest_picture(9))
    os.utime(cohort / "xrays" / "1" / "x001.png", (1, 1))
    plan = preview(cohort, tmp_path / "out")
    assert [task.case.id for task in plan.tasks] == ["new", "xrays__1__x001"]
    assert (plan.touched, len(plan.kept), plan.failed) == (1, 4, ["text"])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text on other systems")
def test_a_file_name_that_is_no_text_does_not_break_the_table(cohort, tmp_path):
    os.rename(os.fsencode(cohort / "xrays" / "0" / "x000.png"), os.fsencode(cohort) + b"/caf\xe9.png")
    result = run(cohort, tmp_path / "out")
    assert result.cases == 5 and result.done >= 4
    assert (tmp_path / "out" / "summary.html").is_file()
    assert "caf" in set(pd.read_csv(tmp_path / "out" / "table.csv")["id"])


def test_prompts_for_all_images_alike_are_refused():
    with pytest.raises(PromptError, match="in a list of images"):
        Settings(Options(points=(VolumePoint((1, 2)),)))


# ---- the journal


def test_a_line_that_was_cut_short_does_not_count(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    path = tmp_path / "out" / "journal.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join(lines)[:-40])
    last = json.loads(lines[-1])["id"]
    assert run(cohort, tmp_path / "out").done == 5
    assert segmented(tmp_path / "out")[5:] == [last]
    assert run(cohort, tmp_path / "out").processed == 0


def test_a_stop_while_the_journal_goes_to_the_disk_leaves_its_case_in_the_table(cohort, tmp_path, monkeypatch):
    """As of a busy disk, to which a line takes a second."""
    sync = journals.sync_appended

    def stopped(file, path):
        sync(file, path)
        raise KeyboardInterrupt

    run(cohort, tmp_path / "ended")
    entry = next(iter(read_history(tmp_path / "ended").entries.values()))
    with Journal(writable_folder(tmp_path / "out")) as journal:
        journal.finish("first", entry)
        monkeypatch.setattr(journals, "sync_appended", stopped)
        with pytest.raises(KeyboardInterrupt):
            journal.finish("second", entry)
        assert [*journal.history.entries] == ["first", "second"] and journal.finished == {"first", "second"}
    assert [*read_history(tmp_path / "out").entries] == ["first", "second"]


def test_what_the_journal_has_no_room_for_is_not_finished(cohort, tmp_path, monkeypatch):
    def full(file, path):
        raise OSError(28, "No space left on device")

    run(cohort, tmp_path / "ended")
    entry = next(iter(read_history(tmp_path / "ended").entries.values()))
    monkeypatch.setattr(journals, "sync_appended", full)
    with Journal(writable_folder(tmp_path / "out")) as journal:
        with pytest.raises(BatchError, match="cannot be written"):
            journal.finish("first", entry)
        assert not journal.history.entries and not journal.finished


def test_two_runs_in_one_folder_are_refused(cohort, tmp_path):
    (tmp_path / "out").mkdir()
    with Journal(tmp_path / "out"), pytest.raises(BatchError, match="Another run is writing"):
        run(cohort, tmp_path / "out")
    assert run(cohort, tmp_path / "out").done == 5


def test_a_case_in_which_a_run_was_stopped_comes_last(cohort, tmp_path):
    (tmp_path / "out").mkdir()
    with Journal(tmp_path / "out") as journal:
        journal.append(journals.SEGMENTING, "cts__ct000")
    run(cohort, tmp_path / "out")
    assert segmented(tmp_path / "out")[-1] == "cts__ct000"
    assert read_history(tmp_path / "out").unfinished == set()


def test_what_a_killed_run_had_begun_to_write_is_removed(cohort, tmp_path):
    folder = tmp_path / "out" / "segmentations"
    folder.mkdir(parents=True)
    for name in (f".{'0a' * 16}.seg.nrrd", ".x_lungs.json.12.partial", ".mine"):
        (folder / name).touch()
    run(cohort, tmp_path / "out")
    assert [path.name for path in folder.glob(".*")] == [".mine"]


def test_results_among_the_images_are_refused(cohort):
    with pytest.raises(BatchError, match="among the images"):
        run(cohort, cohort)


def test_an_output_folder_below_the_images_is_not_looked_at(cohort):
    assert run(cohort, cohort / "out").cases == 5
    assert run(cohort, cohort / "out").cases == 5

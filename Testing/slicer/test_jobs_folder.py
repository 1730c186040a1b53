"""Folders: the files of the command line, one row for each image, and nothing that stops the night."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import slicer

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError, PromptError, VolumeError
from SAMLungSegLib.volume import read_volume, write_labelmap
from SAMLungSegSlicer.jobs import FolderJob, Settings, releaseMemory
from SAMLungSegSlicer.jobs.models import models


@pytest.fixture(autouse=True)
def nothing_kept():
    yield
    releaseMemory()


@pytest.fixture
def model(monkeypatch) -> chests.DarknessModel:
    """A model that takes no time, in the place of any other."""
    model = chests.DarknessModel()
    monkeypatch.setattr(models, "get", lambda settings: model)
    return model


@pytest.fixture
def cohort(tmp_path):
    """A CT, an X-ray, and a file that is broken."""
    folder = tmp_path / "cohort"
    folder.mkdir()
    phantom = chests.phantom()
    volume = chests.libraryVolume(chests.axialChest())
    image = sitk.GetImageFromArray(phantom.hu_kji)
    image.SetSpacing([4.0, 4.0, 36.0])
    sitk.WriteImage(image, str(folder / "chest.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(chests.xray()), str(folder / "frontal.png"))
    (folder / "broken.nrrd").write_bytes(b"NRRD0004\n")
    (folder / "notes.txt").write_text("for people")
    assert volume.array_kji.shape == phantom.hu_kji.shape
    slicer.mrmlScene.Clear(0)
    return folder


def casesOf(inputFolder, outputFolder, settings=None, *, run=None, **options):
    job = FolderJob(inputFolder, outputFolder, settings or Settings(), **options)
    return {case.name: case for case in job.run(**run or {})}


def filesIn(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def labelmapsIn(folder) -> list[str]:
    return [name for name in filesIn(folder) if not name.endswith(".json")]


def test_files_and_voxels_are_those_of_the_command_line(cohort, tmp_path):
    inputs = sorted(str(path) for path in cohort.iterdir())
    assert main(["segment", *inputs, "-o", str(tmp_path / "cli"), "--device", "cpu"]) == 2
    casesOf(cohort, tmp_path / "ours", Settings(device="cpu"))
    assert {"chest_lungs.seg.nrrd", "frontal_lungs.png"} < set(filesIn(tmp_path / "cli"))
    assert filesIn(tmp_path / "ours") == filesIn(tmp_path / "cli")
    for name in ("chest_lungs.json", "frontal_lungs.json"):
        assert (tmp_path / "ours" / name).read_text() == (tmp_path / "cli" / name).read_text()
    for name in ("chest_lungs.seg.nrrd", "frontal_lungs.png"):
        ours, theirs = read_volume(tmp_path / "ours" / name), read_volume(tmp_path / "cli" / name)
        assert ours.array_kji.any()
        assert np.array_equal(ours.array_kji, theirs.array_kji)
        assert np.array_equal(ours.ijk_to_ras, theirs.ijk_to_ras)


def test_each_image_has_a_row_and_a_broken_one_says_why(cohort, tmp_path, model):
    job, told = FolderJob(cohort, tmp_path / "out", Settings()), []
    table = job.finish(job.run(progress=lambda *images: told.append(images)))
    rows = slicer.util.dataframeFromTable(table).set_index("name")
    assert list(rows["state"]) == ["failed", "done", "done"]
    assert list(rows.index) == ["broken", "chest", "frontal"]
    assert "broken.nrrd" in rows.loc["broken", "reason"]
    assert rows.loc["chest", "file"] == str(tmp_path / "out" / "chest_lungs.seg.nrrd")
    labelmap = read_volume(rows.loc["chest", "file"]).array_kji
    assert rows.loc["chest", "right_ml"] == pytest.approx((labelmap == 1).sum() * 0.576)
    assert rows.loc["chest", "left_ml"] == pytest.approx((labelmap == 2).sum() * 0.576)
    assert rows.loc["chest", "seconds"] > 0
    assert np.isnan(rows.loc["frontal", "right_ml"])
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert table.GetName() == "cohort lungs"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0


def test_results_that_exist_are_kept_and_the_rest_is_done(cohort, tmp_path, model):
    output = tmp_path / "out"
    output.mkdir()
    (output / "chest_lungs.seg.nrrd").write_bytes(b"by hand")
    cases = casesOf(cohort, output)
    assert {name: case.state for name, case in cases.items()} == {
        "broken": "failed",
        "chest": "exists",
        "frontal": "done",
    }
    assert cases["chest"].file == str(output / "chest_lungs.seg.nrrd")
    assert (output / "chest_lungs.seg.nrrd").read_bytes() == b"by hand"
    assert casesOf(cohort, output, overwrite=True)["chest"].state == "done"
    assert (output / "chest_lungs.seg.nrrd").read_bytes() != b"by hand"


def test_a_run_that_was_cancelled_goes_on_where_it_stopped(cohort, tmp_path, model):
    done = []
    run = {"progress": lambda *images: done.append(images), "cancelled": lambda: len(done) == 2}
    cases = casesOf(cohort, tmp_path / "out", run=run)
    assert [case.state for case in cases.values()] == ["failed", "done", "cancelled"]
    assert labelmapsIn(tmp_path / "out") == ["chest_lungs.seg.nrrd"]
    cases = casesOf(cohort, tmp_path / "out")
    assert [case.state for case in cases.values()] == ["failed", "exists", "done"]


def test_cancelling_within_an_image_leaves_no_file_of_it(cohort, tmp_path, model):
    cases = casesOf(cohort, tmp_path / "out", run={"cancelled": lambda: model.encoded >= 3})
    assert cases["chest"].state == "cancelled"
    assert not (tmp_path / "out").exists()


def test_a_defect_of_ours_costs_one_image_only(cohort, tmp_path, model, monkeypatch, caplog):
    decode = model.decode

    def failing(embedding, prompts):
        if embedding.size_hw == (96, 96):
            raise ZeroDivisionError("oh")
        return decode(embedding, prompts)

    monkeypatch.setattr(model, "decode", failing)
    cases = casesOf(cohort, tmp_path / "out")
    assert cases["chest"].reason == "ZeroDivisionError: oh"
    assert cases["frontal"].state == "done"
    assert "chest.nii.gz failed" in caplog.text


def test_two_images_of_one_name_are_not_written_over_each_other(cohort, tmp_path, model):
    (cohort / "chest.mha").write_bytes(b"")
    job = FolderJob(cohort, tmp_path / "out", Settings())
    chest = [case for case in job.run() if case.name == "chest"]
    assert [case.state for case in chest] == ["failed", "failed"]
    assert "both be written to" in chest[1].reason


def test_settings_and_format_hold_for_all_images(cohort, tmp_path, model):
    casesOf(cohort, tmp_path / "out", Settings(lungs="left"), format="nii.gz")
    assert labelmapsIn(tmp_path / "out") == ["chest_lungs.nii.gz", "frontal_lungs.nii.gz"]
    assert set(np.unique(read_volume(tmp_path / "out" / "chest_lungs.nii.gz").array_kji)) == {0, 2}
    assert "PNG holds one slice" in casesOf(cohort, tmp_path / "png", format="png")["chest"].reason


def test_results_within_the_folder_are_not_taken_for_images(cohort, model):
    volume = chests.libraryVolume(chests.axialChest())
    (cohort / "out").mkdir()
    write_labelmap(np.zeros(volume.size_kji, np.uint8), volume, cohort / "out" / "old.nii.gz")
    assert list(casesOf(cohort, cohort / "out")) == ["broken", "chest", "frontal"]


def test_what_is_wrong_for_every_image_is_told_before_the_work(cohort, tmp_path):
    with pytest.raises(VolumeError, match="another output folder"):
        FolderJob(cohort, cohort, Settings())
    with pytest.raises(VolumeError, match="cannot be written as 'mgz'"):
        FolderJob(cohort, tmp_path / "out", Settings(), format="mgz")
    with pytest.raises(VolumeError, match="is not a folder"):
        FolderJob(tmp_path / "absent", tmp_path / "out", Settings())
    with pytest.raises(VolumeError, match="is a file"):
        FolderJob(cohort, cohort / "notes.txt", Settings())
    with pytest.raises(PromptError, match="Threshold"):
        FolderJob(cohort, tmp_path / "out", Settings(threshold=0)).run()
    with pytest.raises(ModelError, match="no model"):
        FolderJob(cohort, tmp_path / "out", Settings(model="lung-huge")).run()
    assert not (tmp_path / "out").exists()

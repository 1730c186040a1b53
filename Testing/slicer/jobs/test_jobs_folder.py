"""Folders: the files of `samlungseg batch`, one row for each image, and nothing that stops the night."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import slicer

from SAMLungSegLib.batch import BatchError
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError, SettingsError
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.volume import read_volume
from SAMLungSegSlicer.jobs import FolderJob, Settings

pytestmark = pytest.mark.usefixtures("nothing_kept")


@pytest.fixture
def model(monkeypatch) -> chests.DarknessModel:
    """A model that takes no time, in the place of any other."""
    model = chests.DarknessModel()
    monkeypatch.setattr(ModelChoice, "load", lambda self, device="auto": model)
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


def rowsOf(inputFolder, outputFolder, settings=None, *, run=None, **options) -> dict:
    job = FolderJob(inputFolder, outputFolder, settings or Settings(), **options)
    return {row["id"]: row for row in job.run(**run or {}).rows}


def labelmapsIn(folder) -> list[str]:
    return sorted(path.name for path in (folder / "segmentations").iterdir() if path.suffix != ".json")


def test_files_and_voxels_are_those_of_the_command_line(cohort, tmp_path):
    assert main(["batch", str(cohort), "-o", str(tmp_path / "cli"), "--device", "cpu"]) == 2
    rowsOf(cohort, tmp_path / "ours", Settings(device="cpu"))
    ours, theirs = (
        sorted(str(path.relative_to(tmp_path / run)) for path in (tmp_path / run).rglob("*")) for run in ("ours", "cli")
    )
    assert ours == theirs
    assert labelmapsIn(tmp_path / "ours") == ["chest_lungs.seg.nrrd", "frontal_lungs.png"]
    for name in labelmapsIn(tmp_path / "ours"):
        one, other = (read_volume(tmp_path / run / "segmentations" / name) for run in ("ours", "cli"))
        assert one.array_kji.any()
        assert np.array_equal(one.array_kji, other.array_kji)
        assert np.array_equal(one.ijk_to_ras, other.ijk_to_ras)


def test_each_image_has_a_row_and_a_broken_one_says_why(cohort, tmp_path, model):
    job, told = FolderJob(cohort, tmp_path / "out", Settings()), []
    table = job.finish(job.run(progress=lambda *images: told.append(images)))
    rows = slicer.util.dataframeFromTable(table).set_index("id")
    assert list(rows["state"]) == ["failed", "done", "done"]
    assert list(rows.index) == ["broken", "chest", "frontal"]
    assert "broken.nrrd" in rows.loc["broken", "reason"]
    labelmap = read_volume(tmp_path / "out" / rows.loc["chest", "segmentation"]).array_kji
    assert rows.loc["chest", "right_ml"] == pytest.approx((labelmap == 1).sum() * 0.576)
    assert rows.loc["chest", "left_ml"] == pytest.approx((labelmap == 2).sum() * 0.576)
    assert np.isnan(rows.loc["frontal", "right_ml"])
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert table.GetName() == "cohort lungs"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0


def test_a_run_that_was_cancelled_goes_on_where_it_stopped(cohort, tmp_path, model):
    first = rowsOf(cohort, tmp_path / "out", run={"cancelled": lambda: model.encoded >= 3})
    assert "chest" not in first and "frontal" not in first
    assert not any((tmp_path / "out").rglob("*_lungs.*"))
    second = rowsOf(cohort, tmp_path / "out")
    assert [row["state"] for row in second.values()] == ["failed", "done", "done"]
    encoded = model.encoded
    assert rowsOf(cohort, tmp_path / "out") == second
    assert model.encoded == encoded


def test_an_image_that_failed_is_tried_again_on_request(cohort, tmp_path, model):
    rowsOf(cohort, tmp_path / "out")
    assert rowsOf(cohort, tmp_path / "out", retryFailed=True)["broken"]["state"] == "failed"


def test_settings_and_format_hold_for_all_images(cohort, tmp_path, model):
    rowsOf(cohort, tmp_path / "out", Settings(lungs="left"), format="nii.gz")
    assert labelmapsIn(tmp_path / "out") == ["chest_lungs.nii.gz", "frontal_lungs.nii.gz"]
    found = read_volume(tmp_path / "out" / "segmentations" / "chest_lungs.nii.gz").array_kji
    assert set(np.unique(found)) == {0, 2}


def test_what_is_wrong_for_every_image_is_told_before_the_work(cohort, tmp_path):
    with pytest.raises(BatchError, match="another output folder"):
        FolderJob(cohort, cohort, Settings()).run()
    with pytest.raises(SettingsError, match="cannot be written as 'mgz'"):
        FolderJob(cohort, tmp_path / "out", Settings(), format="mgz")
    with pytest.raises(SettingsError, match="Threshold"):
        FolderJob(cohort, tmp_path / "out", Settings(threshold=0))
    with pytest.raises(ModelError, match="no model"):
        FolderJob(cohort, tmp_path / "out", Settings(model="lung-huge")).run()
    assert not (tmp_path / "out").exists()

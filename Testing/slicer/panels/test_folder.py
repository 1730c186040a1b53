"""A folder segmented from the panel: progress, cancel, going on, the table, and a row that is opened."""

from __future__ import annotations

from pathlib import Path

import chests
import dicomfiles
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import slicer
import widgettools as tools
from PySide6.QtCore import Qt

from SAMLungSegLib.models.choice import ModelChoice

pytestmark = pytest.mark.usefixtures("nothing_kept")


def use(monkeypatch, model):
    monkeypatch.setattr(ModelChoice, "load", lambda self, device="auto": model)
    return model


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Two CTs, and a file that is broken."""
    folder = tmp_path / "scans"
    folder.mkdir()
    image = sitk.GetImageFromArray(chests.phantom().hu_kji)
    image.SetSpacing([4.0, 4.0, 36.0])
    for name in ("first", "second"):
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    (folder / "broken.nrrd").write_bytes(b"NRRD0004\n")
    return folder


@pytest.fixture
def window(module_window, cohort, tmp_path):
    window = module_window(size=(1100, 900))
    ui = window.ui
    ui.folderCollapsibleButton.collapsed = False
    ui.folderInputPathLineEdit.currentPath = str(cohort)
    ui.folderOutputPathLineEdit.currentPath = str(tmp_path / "lungs")
    window.process_events()
    return window


def ended(window):
    long = window.widget._context.longWorker
    window.wait_until(lambda: not long.isBusy() and not window.widget.worker.isBusy(), 60)


def shown(window) -> list[dict[str, str]]:
    """Texts of the table as it is shown, by the column's title."""
    model, view = window.ui.folderTable.model(), window.ui.folderTable
    columns = [n for n in range(model.columnCount()) if not view.isColumnHidden(n)]
    titles = [model.headerData(n, Qt.Horizontal) for n in columns]
    return [
        dict(zip(titles, [model.index(row, n).data() for n in columns], strict=True)) for row in range(model.rowCount())
    ]


def test_folders_must_be_chosen_first(module_window, cohort):
    window = module_window(size=(1100, 900))
    ui = window.ui
    assert not ui.folderStartButton.enabled and "images first" in ui.folderStartButton.toolTip
    ui.folderInputPathLineEdit.currentPath = str(cohort)
    window.process_events()
    assert not ui.folderStartButton.enabled and "results first" in ui.folderStartButton.toolTip
    assert not ui.folderCancelButton.enabled and not ui.folderTable.visible


def test_a_person_segments_a_folder_and_opens_a_row(window, monkeypatch, tmp_path):
    use(monkeypatch, chests.DarknessModel())
    ui = window.ui
    window.click(ui.folderStartButton)
    ended(window)
    assert "2 of 3 images done, 1 failed" in ui.folderLabel.text and "summary.html" in ui.folderLabel.text
    rows = shown(window)
    assert [row["State"] for row in rows] == ["failed", "done", "done"]
    assert "broken.nrrd" in rows[0]["Reason"] and rows[1]["Right lung (ml)"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    ui.folderTable.doubleClicked.emit(ui.folderTable.model().index(1, 0))
    volume = ui.inputSelector.currentNode()
    assert volume.GetName() == "first"
    found = chests.lungsOf(ui.outputSelector.currentNode(), volume)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "lungs/segmentations/first_lungs.seg.nrrd")))
    assert found.any() and np.array_equal(found > 0, written > 0)
    window.grab(tmp_path / "folder.png")


@pytest.mark.parametrize("written", ["dcm", "rtstruct.dcm"])
def test_lungs_of_a_series_are_written_as_dicom(window, monkeypatch, tmp_path, written):
    pytest.importorskip("highdicom")
    use(monkeypatch, chests.DarknessModel())
    dicomfiles.ct_series(tmp_path / "series", chests.phantom().hu_kji, spacing_kji=(36.0, 4.0, 4.0), PatientID="P7")
    ui = window.ui
    ui.folderInputPathLineEdit.currentPath = str(tmp_path / "series")
    titles = [ui.folderFormatSelector.itemText(number) for number in range(ui.folderFormatSelector.count)]
    ui.folderFormatSelector.setCurrentIndex(next(n for n, one in enumerate(titles) if one.startswith(f"{written} (")))
    window.click(ui.folderStartButton)
    ended(window)
    assert "1 of 1 images done" in ui.folderLabel.text
    (file,) = (tmp_path / "lungs/segmentations").glob("*_lungs.*dcm")
    assert file.name.endswith(f"_lungs.{written}")
    found, source = pydicom.dcmread(file), pydicom.dcmread(next((tmp_path / "series").iterdir()))
    assert found.Modality == {"dcm": "SEG", "rtstruct.dcm": "RTSTRUCT"}[written]
    assert (found.PatientID, found.StudyInstanceUID) == ("P7", source.StudyInstanceUID)


def test_cancelled_it_keeps_what_is_done_and_goes_on_from_there(window, monkeypatch):
    ui, model = window.ui, use(monkeypatch, tools.HeldModel())
    window.click(ui.folderStartButton)
    window.wait_until(model.reached.is_set, 60)
    assert not ui.folderStartButton.enabled and ui.folderProgressBar.visible
    window.click(ui.folderCancelButton)
    model.release()
    ended(window)
    assert "Stopped; start again" in ui.folderLabel.text
    assert len(shown(window)) < 3
    window.click(ui.folderStartButton)
    ended(window)
    assert [row["State"] for row in shown(window)] == ["failed", "done", "done"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1


def test_the_rest_of_the_panel_works_meanwhile(window, monkeypatch):
    ui, model = window.ui, use(monkeypatch, tools.HeldModel())
    window.click(ui.folderStartButton)
    window.wait_until(model.reached.is_set, 60)
    tools.answer_at_once(monkeypatch)
    volume = tools.show(chests.axialChest())
    window.choose(ui.inputSelector, volume)
    window.click(ui.segmentVolumeButton)
    tools.idle(window, "segment")
    assert chests.lungsOf(ui.outputSelector.currentNode(), volume).any()
    assert window.widget._context.longWorker.isBusy()
    model.release()
    ended(window)
    assert "2 of 3 images done" in ui.folderLabel.text


def test_a_folder_that_cannot_be_used_is_said(window, cohort):
    window.ui.folderOutputPathLineEdit.currentPath = str(cohort)
    window.click(window.ui.folderStartButton)
    ended(window)
    assert "another output folder" in window.ui.statusLabel.text and window.ui.folderStartButton.enabled


def test_a_closed_scene_takes_the_table_along_and_not_the_run(window, monkeypatch):
    model = use(monkeypatch, tools.HeldModel())
    window.click(window.ui.folderStartButton)
    window.wait_until(model.reached.is_set, 60)
    slicer.mrmlScene.Clear(0)
    model.release()
    ended(window)
    assert window.ui.folderTable.visible and len(shown(window)) == 3
    slicer.mrmlScene.Clear(0)
    window.process_events()
    assert not window.ui.folderTable.visible

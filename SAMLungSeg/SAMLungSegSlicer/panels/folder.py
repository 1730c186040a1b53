"""A folder of images, segmented into files in the background; what is done stays, and a new start goes on from it."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctk
import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer.context import Context, setEnabledWithReason
from SAMLungSegSlicer.jobs import FolderJob
from SAMLungSegSlicer.panels.model import ModelPanel, longJobReason
from SAMLungSegSlicer.parameters import settingsOf
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    from SAMLungSegLib.batch import BatchResult

CHANNEL = "folder"
FORMATS = (None, "seg.nrrd", "nrrd", "nii.gz", "png", "dcm", "rtstruct.dcm")
WIDEST_COLUMN = 160  # pixels; reasons and notes are long
SHOWN_COLUMNS = (
    *("id", "state", "reason", "right_ml", "left_ml", "mean_hu", "laa950_percent", "cardiothoracic_ratio"),
    *("quality", "flags", "notes"),
)


class FolderPanel:
    """Folder in, folder out, by the settings of the panel; the scene gets the table only."""

    def __init__(self, context: Context, model: ModelPanel) -> None:
        self._context = context
        self._model = model
        self._table: slicer.vtkMRMLTableNode | None = None
        self._output = Path()
        self._stop = threading.Event()
        self._startedAt = 0.0
        ui = context.ui
        for line in (ui.folderInputPathLineEdit, ui.folderOutputPathLineEdit):
            line.filters = ctk.ctkPathLineEdit.Dirs
            line.connect("currentPathChanged(QString)", self._onPath)
        titles = {
            None: _("as the image"),
            "dcm": _("dcm (DICOM Segmentation)"),
            "rtstruct.dcm": _("rtstruct.dcm (RT Structure Set)"),
        }
        for name in FORMATS:
            ui.folderFormatSelector.addItem(titles.get(name, name))
        ui.folderStartButton.connect("clicked(bool)", self.onStart)
        ui.folderCancelButton.connect("clicked(bool)", self.onCancel)
        ui.folderTable.verticalHeader().hide()
        ui.folderTable.connect("doubleClicked(QModelIndex)", self.onOpen)

    def refresh(self) -> None:
        """Which buttons can work."""
        ui, isBusy = self._context.ui, self._context.longWorker.isBusy(CHANNEL)
        setEnabledWithReason(
            ui.folderStartButton,
            self._unavailableReason(),
            _("Segment all images below the folder that are not done yet, with the settings of this panel."),
        )
        setEnabledWithReason(
            ui.folderCancelButton,
            "" if isBusy else _("No folder is being segmented."),
            _("Stop; what is done stays, and Start goes on from there."),
        )
        ui.folderProgressBar.visible = isBusy
        if self._table is not None and not slicer.mrmlScene.IsNodePresent(self._table):
            self._table = None
            ui.folderTable.setMRMLTableNode(None)
        ui.folderTable.visible = self._table is not None

    def onStart(self) -> None:
        """Segment what is not done yet."""
        context, parameters = self._context, self._context.parameters
        with context.guarded():
            if not context.hasConsent():
                return
            features = dependencies.withModel("batch", parameters.model, parameters.customWeights)
            if self._format == "dcm":
                features += ("dicom",)
            if not dependencies.ensure(*features):
                return
            self._say(_("Starting..."))
            context.afterImport(("SAMLungSegLib.batch", *context.segmentingModules), CHANNEL, self._submit)
        context.changed()

    def onCancel(self) -> None:
        """Stop after the images that are under way."""
        self._stop.set()
        self._say(_("Stopping..."))

    def onOpen(self, index: Any) -> None:
        """Load the image of a row, with its lungs where they are a Slicer segmentation."""
        case = self._rowOf(index.sibling(index.row(), 0).data())
        image, parameters = Path(case["image"]), self._context.parameters
        if not image.is_file():
            self._say(_("{path} is no single file; load it by Slicer's DICOM module.").format(path=image))
            return
        with self._context.guarded():
            parameters.inputVolume = slicer.util.loadVolume(str(image))
            lungs = self._output / case["segmentation"] if case["segmentation"] else None
            if lungs is not None and lungs.name.endswith(".seg.nrrd"):
                parameters.outputSegmentation = slicer.util.loadSegmentation(str(lungs))
            slicer.util.setSliceViewerLayers(background=parameters.inputVolume, fit=True)

    @property
    def _format(self) -> str | None:
        """Of the results; None for what suits each image."""
        return FORMATS[self._context.ui.folderFormatSelector.currentIndex]

    def _rowOf(self, caseId: str) -> dict[str, str]:
        """Texts of a row by column; the view may be sorted."""
        table = self._table
        names = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
        rows = (
            [table.GetCellText(row, column) for column in range(len(names))] for row in range(table.GetNumberOfRows())
        )
        return next((dict(zip(names, row, strict=True)) for row in rows if row[0] == caseId), {})

    def _unavailableReason(self) -> str:
        context, ui = self._context, self._context.ui
        if reason := longJobReason(context, CHANNEL):
            return reason
        if not Path(ui.folderInputPathLineEdit.currentPath or "?").is_dir():
            return _("Choose a folder with images first.")
        if not ui.folderOutputPathLineEdit.currentPath.strip():
            return _("Choose a folder for the results first.")
        return self._model.unavailableReason()

    def _submit(self) -> None:
        context, ui = self._context, self._context.ui
        if context.parameters is None:
            return
        self._output = Path(ui.folderOutputPathLineEdit.currentPath.strip())
        job = FolderJob(
            ui.folderInputPathLineEdit.currentPath.strip(),
            self._output,
            settingsOf(context.parameters),
            format=self._format,
            retryFailed=ui.folderRetryCheckBox.checked,
        )
        self._stop.clear()
        self._startedAt = time.monotonic()
        ui.folderProgressBar.setRange(0, 0)
        context.longWorker.submit(
            partial(_run, job, self._stop),
            channel=CHANNEL,
            done=partial(self._finish, job),
            failed=self._onFailed,
            progress=self._onProgress,
            cancelled=context.changed,
        )

    def _onPath(self, _path: str) -> None:
        self._context.changed()

    def _onProgress(self, done: int, total: int) -> None:
        bar = self._context.ui.folderProgressBar
        bar.setRange(0, total)
        bar.setValue(done)
        bar.setFormat(_("Image {done} of {total}").format(done=done, total=total))
        if not self._stop.is_set():
            self._say(_("The rest of Slicer can be used meanwhile."))

    def _finish(self, job: FolderJob, result: BatchResult) -> None:
        with self._context.guarded():
            self._table = job.finish(result, self._table)
            self._showTable()
            self._say(_words(result, time.monotonic() - self._startedAt))
        self._context.changed()

    def _onFailed(self, error: BaseException) -> None:
        self._say()
        self._context.show(error)

    def _showTable(self) -> None:
        view, table = self._context.ui.folderTable, self._table
        view.setMRMLTableNode(table)
        view.resizeColumnsToContents()
        rows = range(table.GetNumberOfRows())
        for column in range(table.GetNumberOfColumns()):
            isEmpty = all(table.GetCellText(row, column) in ("", "nan") for row in rows)
            view.setColumnHidden(column, isEmpty or table.GetColumnName(column) not in SHOWN_COLUMNS)
            view.setColumnWidth(column, min(view.columnWidth(column), WIDEST_COLUMN))

    def _say(self, text: str = "") -> None:
        goesOn = _("What is done stays: start again with the same folders to go on where it stopped.")
        self._context.ui.folderLabel.text = text or goesOn


def _run(job: FolderJob, stop: threading.Event, progress: Any, cancelled: Any) -> BatchResult:
    """Stopped by the user it still has a result: what is done."""
    return job.run(progress, lambda: stop.is_set() or cancelled())


def _words(result: BatchResult, seconds: float) -> str:
    said = _("{done} of {cases} images done, {failed} failed, {new} of them now, in {seconds:.0f} s.").format(
        done=result.done,
        cases=result.cases,
        failed=len(result.failed),
        new=result.processed,
        seconds=seconds,
    )
    if not result.is_complete:
        said += " " + _("Stopped; start again to go on from here.")
    report = next((path for path in result.files if path.suffix == ".html"), None)
    return f"{said} {_('Report: {path}').format(path=report)}" if report else said

"""The segmentation compared with a reference: table, plot, CSV, and the slices to look at first."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import EVALUATING, Context, fitHeight, setEnabledWithReason
from SAMLungSegSlicer.jobs import EvaluateJob, EvaluationNodes
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    from SAMLungSegLib.evaluation import Evaluation

CHANNEL = "evaluate"
HIDDEN_COLUMNS = (
    "volume",
    "slices",
    "reference_voxels",
    "prediction_voxels",
    "reference_ml",
    "prediction_ml",
    "empty",
)


class EvaluatePanel:
    """Results show only when there are some."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._evaluation: Evaluation | None = None
        self._nodes: EvaluationNodes | None = None
        self._compared: slicer.vtkMRMLSegmentationNode | None = None
        ui = context.ui
        ui.evaluateButton.connect("clicked(bool)", self.onEvaluate)
        ui.saveCsvButton.connect("clicked(bool)", self.onSaveCsv)
        ui.worstList.connect("currentRowChanged(int)", self.onWorstSlice)
        ui.summaryTable.verticalHeader().hide()

    def refresh(self) -> None:
        """Which buttons can work."""
        ui = self._context.ui
        setEnabledWithReason(
            ui.evaluateButton,
            self._unavailableReason(),
            _("Dice, Jaccard and surface distances of each lung, and a plot."),
        )
        setEnabledWithReason(
            ui.saveCsvButton, "" if self._isOfOutput() else _("Evaluate first."), _("Save the values of all slices.")
        )
        ui.resultsWidget.visible = self._isOfOutput()

    def forget(self) -> None:
        """Show no results, as when the scene closes."""
        self._evaluation = self._nodes = self._compared = None
        self._context.ui.summaryTable.setMRMLTableNode(None)
        self._context.ui.worstList.clear()

    def onEvaluate(self) -> None:
        """Compare the output segmentation with the reference."""
        context = self._context
        with context.guarded():
            if not dependencies.ensure("evaluate"):
                return
            context.say(_("Comparing..."))
            context.afterImport(EVALUATING, CHANNEL, self._submit)
        context.changed()

    def onSaveCsv(self) -> None:
        """Ask for a file and write the values of all slices into it."""
        suggestion = f"{self._nodes.sliceTable.GetName()}.csv"
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Save the values of all slices"), suggestion, "CSV (*.csv)"
        )
        if not path:
            return
        with self._context.guarded():
            from SAMLungSegLib.files import write_csv

            write_csv(self._evaluation.per_slice, Path(path))
            self._context.say(_("Saved {path}.").format(path=path))

    def onWorstSlice(self, row: int) -> None:
        """Show the slice of a row of the list in all views."""
        if self._nodes is not None and 0 <= row < len(self._nodes.worst):
            bridge.jumpTo(self._nodes.worst[row].worldRas)

    def _isOfOutput(self) -> bool:
        """Whether there are results, and of the present segmentation rather than another patient's."""
        parameters = self._context.parameters
        return self._nodes is not None and parameters is not None and parameters.outputSegmentation is self._compared

    def _unavailableReason(self) -> str:
        parameters = self._context.parameters
        if parameters is None or parameters.outputSegmentation is None:
            return _("Segment first, or choose a segmentation.")
        if parameters.reference is None:
            return _("Choose a reference first.")
        if parameters.reference is parameters.outputSegmentation:
            return _("This is the segmentation itself; choose another reference.")
        return _("A comparison is running.") if self._context.worker.isBusy(CHANNEL) else ""

    def _submit(self) -> None:
        parameters = self._context.parameters
        if parameters is None:
            return
        job = EvaluateJob(
            parameters.outputSegmentation,
            parameters.reference,
            parameters.inputVolume,
            toleranceMm=parameters.toleranceMm,
        )
        self._context.worker.submit(
            job.run,
            channel=CHANNEL,
            done=partial(self._finish, job, parameters.outputSegmentation),
            failed=self._context.show,
            cancelled=self._onCancelled,
        )

    def _onCancelled(self) -> None:
        self._context.say()
        self._context.changed()

    def _finish(self, job: EvaluateJob, compared: slicer.vtkMRMLSegmentationNode | None, result: Evaluation) -> None:
        with self._context.guarded():
            nodes = job.finish(result)
            if nodes is None:
                self._context.say(_("What was compared has been removed meanwhile."))
            else:
                self._evaluation, self._nodes, self._compared = result, nodes, compared
                self._show(nodes)
        self._context.changed()

    def _show(self, nodes: EvaluationNodes) -> None:
        ui = self._context.ui
        _showTable(ui.summaryTable, nodes.summaryTable)
        ui.worstList.clear()
        for worst in nodes.worst:
            ui.worstList.addItem(worst.label)
        self._context.say(" ".join(nodes.notes) or _("Compared."))
        plots = getattr(slicer.modules, "plots", None)
        if plots is not None:
            plots.logic().ShowChartInLayout(nodes.plotChart)


def _showTable(view: Any, table: slicer.vtkMRMLTableNode) -> None:
    """The measurements first: a person has one volume in mind, and looks for Dice rather than for voxel counts."""
    view.setMRMLTableNode(table)
    for column in range(table.GetNumberOfColumns()):
        view.setColumnHidden(column, table.GetColumnName(column) in HIDDEN_COLUMNS)
    view.resizeColumnsToContents()
    view.resizeRowsToContents()
    fitHeight(view)

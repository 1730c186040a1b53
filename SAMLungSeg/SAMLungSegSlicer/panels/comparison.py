"""One button: the model, a threshold and growing from seeds side by side."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from SAMLungSegSlicer.context import EVALUATING, Context, fitHeight, setEnabledWithReason
from SAMLungSegSlicer.jobs import CompareMethodsJob
from SAMLungSegSlicer.panels.model import ModelPanel
from SAMLungSegSlicer.parameters import settingsOf
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    import pandas as pd
    import slicer

CHANNEL = "methods"
_MODULES = (*EVALUATING, "SAMLungSegLib.evaluation.methods", "SAMLungSegLib.classical")


class ComparisonPanel:
    """The button also stops what it began; its table shows for the volume that it is about."""

    def __init__(self, context: Context, model: ModelPanel) -> None:
        self._context = context
        self._model = model
        self._shown: tuple[slicer.vtkMRMLVolumeNode, slicer.vtkMRMLTableNode, str] | None = None
        context.ui.compareButton.connect("clicked(bool)", self.onCompare)
        context.ui.comparisonTable.verticalHeader().hide()

    def refresh(self) -> None:
        """Whether the button can work, and whether its table is about the present volume."""
        ui, parameters = self._context.ui, self._context.parameters
        isBusy = self._context.worker.isBusy(CHANNEL)
        ui.compareButton.text = _("Stop comparing") if isBusy else _("Compare with classical methods")
        setEnabledWithReason(ui.compareButton, "" if isBusy else self._unavailableReason(), _tip())
        volumeNode = parameters and parameters.inputVolume
        isShown = self._shown is not None and self._shown[0] is volumeNode
        ui.comparisonTable.visible = ui.comparisonLabel.visible = isShown

    def forget(self) -> None:
        """Show nothing, as when the scene closes."""
        self._shown = None
        self._context.ui.comparisonTable.setMRMLTableNode(None)

    def onCompare(self) -> None:
        """Compare, or stop it."""
        context = self._context
        if context.worker.isBusy(CHANNEL):
            context.worker.cancel(CHANNEL)
            return
        with context.guarded():
            if not context.hasConsent():
                return
            if not dependencies.ensure(context.segmenting, "evaluate"):
                return
            context.say(_("Comparing..."))
            modules = (*context.segmentingModules, *_MODULES)
            context.afterImport(modules, CHANNEL, self._submit, cancelled=self._onCancelled)
        context.changed()

    def _unavailableReason(self) -> str:
        parameters, worker = self._context.parameters, self._context.worker
        if parameters is None or parameters.inputVolume is None:
            return _("Choose a volume first.")
        image = parameters.inputVolume.GetImageData()
        isFlat = image is not None and 1 in image.GetDimensions()
        if parameters.modality == "XRAY" or (parameters.modality == "auto" and isFlat):
            return _("For CT only: on X-rays, thresholds do not find lungs.")
        if worker.isBusy("segment"):
            return _("A segmentation is running; wait or cancel it.")
        return self._model.unavailableReason()

    def _submit(self) -> None:
        parameters = self._context.parameters
        if parameters is None:
            return
        reference, against = self._reference()
        job = CompareMethodsJob(parameters.inputVolume, settingsOf(parameters), reference)
        self._context.worker.submit(
            job.run,
            channel=CHANNEL,
            done=partial(self._finish, job, parameters.inputVolume, against),
            failed=self._context.show,
            progress=self._onProgress,
            cancelled=self._onCancelled,
        )

    def _reference(self) -> tuple[Any | None, str]:
        """What the methods are compared with, and how that is said."""
        parameters = self._context.parameters
        reference, lungs = parameters.reference, parameters.outputSegmentation
        if reference is not None and reference is not lungs:
            return reference, _("Dice against the reference {name}.").format(name=reference.GetName())
        alike = _(
            "This says how alike the methods are, not which is right: choose a reference under Evaluate for that."
        )
        if lungs is not None:
            return lungs, _("Dice against {name}.").format(name=lungs.GetName()) + " " + alike
        return None, _("Dice against what the model finds.") + " " + alike

    def _onProgress(self, done: int, total: int) -> None:
        self._context.say(_("Comparing: method {number} of {total}...").format(number=done + 1, total=total))

    def _onCancelled(self) -> None:
        self._context.say(_("The comparison was stopped."))
        self._context.changed()

    def _finish(self, job: CompareMethodsJob, volumeNode: Any, against: str, result: pd.DataFrame) -> None:
        with self._context.guarded():
            table = job.finish(result)
            if table is None:
                self._context.say(_("What was compared has been removed meanwhile."))
            else:
                self._show(volumeNode, table, against)
        self._context.changed()

    def _show(self, volumeNode: Any, table: Any, against: str) -> None:
        ui = self._context.ui
        self._shown = (volumeNode, table, against)
        ui.comparisonTable.setMRMLTableNode(table)
        ui.comparisonTable.resizeColumnsToContents()
        ui.comparisonTable.resizeRowsToContents()
        fitHeight(ui.comparisonTable)
        ui.comparisonLabel.text = against
        self._context.say(_("Compared."))


def _tip() -> str:
    return _(
        "Finds the lungs of the CT by the model without prompts, by a threshold (air in the body, without trachea and "
        "bowel gas), and grown from seeds that are placed automatically, by a watershed of the image's gradient. This "
        "is not the GrowCut of Slicer's 'Grow from seeds', whose seeds a person paints. No segmentation changes."
    )

"""The cardiothoracic ratio of an X-ray whose lungs are segmented; shown for X-rays only."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import Context, setEnabledWithReason
from SAMLungSegSlicer.jobs import CardiothoracicJob, cardiothoracicTable
from SAMLungSegSlicer.parameters import mayBeXray, settingsOf
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    from SAMLungSegLib.cardiothoracic import CardiothoracicRatio

CHANNEL = "cardiothoracic"
_MODULES = ("SAMLungSegLib.cardiothoracic", "SAMLungSegLib.modality", "pandas")


class CardiothoracicPanel:
    """Measures on click; what was measured is read from the volume's table, so that it comes back with the scene."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stamps: dict[str, tuple] = {}  # of the lungs that were measured, by the table's ID
        self._shown: slicer.vtkMRMLVolumeNode | None = None
        context.ui.cardiothoracicButton.connect("clicked(bool)", self.onMeasure)

    def refresh(self) -> None:
        """Show the section for X-rays, with the ratio of the chosen one."""
        ui, parameters = self._context.ui, self._context.parameters
        volumeNode = parameters and parameters.inputVolume
        ui.cardiothoracicCollapsibleButton.visible = parameters is not None and mayBeXray(parameters)
        setEnabledWithReason(
            ui.cardiothoracicButton,
            self._unavailableReason(),
            _("Measure the heart against the chest, by the lungs and, where it is segmented, by the heart."),
        )
        ui.cardiothoracicLabel.text = self._textOf(volumeNode)
        if parameters is not None and volumeNode is not self._shown:
            bridge.setWidthsVisible(self._shown, False)
            bridge.setWidthsVisible(volumeNode, True)
            self._shown = volumeNode

    def onMeasure(self) -> None:
        """Measure, in the background."""
        context = self._context
        with context.guarded():
            if not dependencies.ensure("evaluate"):
                return
            context.say(_("Measuring..."))
            context.afterImport(_MODULES, CHANNEL, self._submit)
        context.changed()

    def forget(self) -> None:
        """Know nothing of any volume, as when the scene closes."""
        self._stamps.clear()
        self._shown = None

    def _unavailableReason(self) -> str:
        parameters = self._context.parameters
        if parameters is None or parameters.inputVolume is None:
            return _("Choose an X-ray first.")
        if parameters.outputSegmentation is None:
            return _("Segment the lungs first, or choose a segmentation.")
        if not {1, 2} <= bridge.findLungSegments(parameters.outputSegmentation).keys():
            return _("The segmentation lacks a lung; segment both.")
        return _("It is being measured.") if self._context.worker.isBusy(CHANNEL) else ""

    def _submit(self) -> None:
        parameters = self._context.parameters
        if parameters is None:
            return
        segmentationNode = parameters.outputSegmentation
        job = CardiothoracicJob(parameters.inputVolume, segmentationNode, modality=settingsOf(parameters).modality)
        self._context.worker.submit(
            job.run,
            channel=CHANNEL,
            done=partial(self._finish, job, bridge.stampOf(segmentationNode)),
            failed=self._context.show,
            cancelled=self._onCancelled,
        )

    def _onCancelled(self) -> None:
        self._context.say()
        self._context.changed()

    def _finish(self, job: CardiothoracicJob, stamp: tuple, result: CardiothoracicRatio) -> None:
        with self._context.guarded():
            nodes = job.finish(result)
            if nodes is None:
                self._context.say(_("The X-ray has been removed meanwhile."))
            else:
                self._stamps[nodes.table.GetID()] = stamp
                self._context.say(_("Measured: cardiothoracic ratio {ratio:.2f}.").format(ratio=result.ratio))
        self._context.changed()

    def _textOf(self, volumeNode: slicer.vtkMRMLVolumeNode | None) -> str:
        """The row of a volume's table in words, whether it still fits, and the limits."""
        table = cardiothoracicTable(volumeNode) if volumeNode is not None else None
        if table is None or not table.GetNumberOfRows():
            return _limits()
        _image, *cells = (table.GetCellText(0, column) for column in range(table.GetNumberOfColumns()))
        names = [table.GetColumnName(column) for column in range(1, table.GetNumberOfColumns())]
        ratio, *widths = (f"{name}: {cell}" for name, cell in zip(names[:-1], cells[:-1], strict=True))
        parts = [f"<b>{ratio}</b>", f"{', '.join(widths)}.", cells[-1], _limits()]
        if self._isOutdated(table):
            parts.insert(1, _("The lungs have changed since; measure again."))
        return "<br>".join(filter(None, parts))

    def _isOutdated(self, table: slicer.vtkMRMLTableNode) -> bool:
        segmentationNode = self._context.parameters.outputSegmentation
        stamp = self._stamps.get(table.GetID())
        return stamp is not None and segmentationNode is not None and bridge.stampOf(segmentationNode) != stamp


def _limits() -> str:
    return _(
        "For an upright PA view in deep inspiration without rotation: AP and portable views make the heart look "
        "larger; effusion and collapse move the borders. For research, not for diagnosis."
    )

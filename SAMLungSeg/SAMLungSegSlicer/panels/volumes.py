"""Sizes and densities of the lungs, measured again in the background whenever they or the image change."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import Context, fitHeight, setEnabledWithReason
from SAMLungSegSlicer.jobs import MeasureJob
from SAMLungSegSlicer.jobs.measuring import sizesTable
from SAMLungSegSlicer.live.prefetch import CHANNEL as AHEAD
from SAMLungSegSlicer.live.preview import SEGMENTATION_EVENTS
from SAMLungSegSlicer.promptnodes import VOLUME_EVENTS
from SAMLungSegSlicer.runtime import dependencies
from SAMLungSegSlicer.watching import Watched, Watcher

if TYPE_CHECKING:
    from SAMLungSegLib.volumetry import LungSizes

CHANNEL = "volumes"
QUIET_MS = 400  # without a change before lungs are measured, so that a stroke of a brush is not held up
_MODULES = ("SAMLungSegLib.volumetry",)

logger = logging.getLogger(__name__)


class VolumesPanel(Watcher):
    """A table of right, left and both lungs. Any other work comes first: the worker stops the measuring for it."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._measured: tuple[tuple, LungSizes] | None = None
        self._pending: tuple | None = None
        self._failed: tuple[tuple, str] | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.connect("timeout()", self._measure)
        ui = context.ui
        ui.copySizesButton.connect("clicked(bool)", self.onCopy)
        ui.sizesTable.verticalHeader().hide()

    def refresh(self) -> None:
        """Follow other nodes, and measure a moment later if something has changed."""
        parameters = self._context.parameters
        if parameters is None:
            self._timer.stop()
            self.watch()
            self._context.worker.cancel(CHANNEL)
        else:
            volumeNode, lungsNode = parameters.inputVolume, parameters.outputSegmentation
            self.watch(
                Watched(volumeNode, VOLUME_EVENTS, self._onEvent), Watched(lungsNode, _LUNGS_EVENTS, self._onEvent)
            )
        self._onEvent()

    def onCopy(self) -> None:
        """Put the numbers into a table of the scene, and show it where the layout has a view of tables."""
        with self._context.guarded():
            table = sizesTable(self._measured[1], self._context.parameters.outputSegmentation)
            application = slicer.app.applicationLogic()
            application.GetSelectionNode().SetActiveTableID(table.GetID())
            application.PropagateTableSelection()
            self._context.say(_("Table '{name}' is in the scene.").format(name=table.GetName()))

    def _onEvent(self, _node: Any = None, _event: object = None) -> None:
        key = self._key()
        if key is not None and key not in (self._pending, self._keyOf(self._measured), self._keyOf(self._failed)):
            self._timer.start()
        self._show(key)

    @staticmethod
    def _keyOf(result: tuple[tuple, object] | None) -> tuple | None:
        return result and result[0]

    def _key(self) -> tuple | None:
        """What changes when the numbers may; None where there is nothing to measure."""
        parameters = self._context.parameters
        if parameters is None or parameters.inputVolume is None or parameters.outputSegmentation is None:
            return None
        volumeNode, lungsNode = parameters.inputVolume, parameters.outputSegmentation
        stamp, image = bridge.stampOf(lungsNode), volumeNode.GetImageData()
        if not stamp or image is None:
            return None
        try:
            matrices = (bridge.ijkToWorldMatrix(volumeNode).tobytes(), bridge.nodeToWorldMatrix(lungsNode).tobytes())
        except SAMLungSegError:  # measuring says what is wrong
            matrices = ()
        return volumeNode.GetID(), image.GetMTime(), lungsNode.GetID(), stamp, matrices, parameters.modality

    def _measure(self) -> None:
        key, worker = self._key(), self._context.worker
        if key is None or dependencies.missing("measure"):
            return
        if worker.isBusy() and not worker.isBusy(AHEAD):
            self._timer.start()
            return
        self._pending = key
        failed = partial(self._onFailed, key)
        self._context.afterImport(_MODULES, CHANNEL, self._submit, failed=failed, cancelled=self._onCancelled)

    def _submit(self) -> None:
        key, parameters = self._key(), self._context.parameters
        self._pending = key
        if key is None:
            return
        modality = None if parameters.modality == "auto" else parameters.modality
        try:
            job = MeasureJob(parameters.inputVolume, parameters.outputSegmentation, modality)
        except SAMLungSegError as error:
            self._onFailed(key, error)
            return
        self._context.worker.submit(
            job.run,
            channel=CHANNEL,
            done=partial(self._onMeasured, key),
            failed=partial(self._onFailed, key),
            cancelled=self._onCancelled,
            background=True,
        )

    def _onMeasured(self, key: tuple, sizes: LungSizes) -> None:
        self._pending, self._measured = None, (key, sizes)
        self._onEvent()

    def _onFailed(self, key: tuple, error: BaseException) -> None:
        logger.info("The lungs are not measured: %s", error)
        self._pending, self._failed = None, (key, str(error))
        self._onEvent()

    def _onCancelled(self) -> None:
        self._pending = None
        self._onEvent()

    def _show(self, key: tuple | None) -> None:
        """The numbers, and whether they are those of the lungs as they are now."""
        ui, isCurrent = self._context.ui, key is not None and key == self._keyOf(self._measured)
        isOfOthers = key is None or self._measured is None or _nodesOf(key) != _nodesOf(self._measured[0])
        if isOfOthers or key == self._keyOf(self._failed):
            ui.sizesTable.visible = False
        else:
            _fill(ui.sizesTable, self._measured[1])
            ui.sizesTable.enabled = isCurrent
        ui.sizesLabel.text = self._remark(key, isCurrent)
        ui.sizesLabel.visible = bool(ui.sizesLabel.text)
        reason = "" if isCurrent else _("There are no lungs that are measured.")
        setEnabledWithReason(
            ui.copySizesButton,
            reason,
            _("Put all numbers, also of thirds, into a table of the scene, to be saved."),
        )

    def _remark(self, key: tuple | None, isCurrent: bool) -> str:
        if key is None:
            return _("Lungs are listed and measured here once there are some.")
        if key == self._keyOf(self._failed):
            return _("Not measured: {error}").format(error=self._failed[1])
        if not isCurrent:
            return _("Measuring...")
        return " ".join(self._measured[1].notes)


_LUNGS_EVENTS = (
    *SEGMENTATION_EVENTS,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
)


def _nodesOf(key: tuple) -> tuple[str, str]:
    """IDs of the volume and the segmentation that were measured."""
    return key[0], key[2]


def _fill(table: Any, sizes: LungSizes) -> None:
    titles = {"ml": _("Volume (ml)"), "cm2": _("Area (cm²)"), "px": _("Area (pixels)")}
    ofCt = [_("Density (HU)"), _("Below -950 HU (%)"), _("Mass (g)")] if sizes.modality == "CT" else []
    headers = [_("Lung"), titles[sizes.unit], *ofCt]
    table.setColumnCount(len(headers))
    table.setHorizontalHeaderLabels([header.replace(" (", "\n(") for header in headers])  # the panel is narrow
    table.setRowCount(len(sizes.rows))
    for index, row in enumerate(sizes.rows):
        densities = [_number(row.mean_hu, "HU"), _number(row.densities.laa950_percent, "%"), _number(row.mass_g, "g")]
        texts = [row.name.capitalize(), _number(row.size, sizes.unit), *densities]
        for column, text in enumerate(texts[: len(headers)]):
            item = qt.QTableWidgetItem(text)
            if column:
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            table.setItem(index, column, item)
    table.horizontalHeader().setStretchLastSection(False)  # else the last column keeps what width it had
    table.resizeColumnsToContents()
    table.horizontalHeader().setStretchLastSection(True)
    table.resizeRowsToContents()
    fitHeight(table)
    table.toolTip = _tip(sizes)
    table.visible = True


def _number(value: float, unit: str) -> str:
    """As many decimals as mean something; a dash where there is no value."""
    if value != value:
        return "-"
    return f"{value:.1f}" if unit in ("ml", "cm2", "%") and value < 1000 else f"{value:.0f}"


def _tip(sizes: LungSizes) -> str:
    if sizes.unit == "cm2" and sizes.modality == "XRAY":
        return _("Area on the detector; in the patient it is smaller, by a magnification that the image does not tell.")
    if sizes.unit == "px":
        return _("The image does not say how large its pixels are.")
    return _(
        "Of the segments as they are now; measured again after each change. Density is the mean of the voxels. 'Copy "
        "to table' has all numbers, also of the upper, middle and lower thirds."
    )

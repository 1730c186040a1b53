"""What was segmented: the list of segments, 3D, and where to export it."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import Context, setEnabledWithReason
from SAMLungSegSlicer.watching import Watched, Watcher

LIST_DELAY_MS = 100
_EVENTS = (
    vtk.vtkCommand.ModifiedEvent,
    slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent,
    slicer.vtkSegmentation.ContainedRepresentationNamesModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
)


class ResultsPanel(Watcher):
    """Slicer's own list of segments, and two buttons beside it."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._timer = qt.QTimer()  # lists are drawn apart from the lungs themselves, or the window is deaf for longer
        self._timer.setSingleShot(True)
        self._timer.setInterval(LIST_DELAY_MS)
        self._timer.connect("timeout()", self._list)
        ui = context.ui
        ui.show3DButton.connect("clicked(bool)", self.onShow3D)
        ui.exportButton.connect("clicked(bool)", self.onExport)
        for name in ("opacityColumnVisible", "statusColumnVisible"):
            setattr(ui.segmentsTable, name, False)

    def refresh(self) -> None:
        """Follow the output segmentation."""
        node = self._output()
        self.watch(Watched(node, _EVENTS, self._onEvent))
        if node is None:
            self._timer.stop()
            self._list()
        elif self._context.ui.segmentsTable.segmentationNode() is not node:
            self._timer.start()
        self._onEvent()

    def onShow3D(self) -> None:
        """Make the surfaces, or remove them."""
        context, node = self._context, self._output()
        with context.guarded():
            if bridge.hasSurfaces(node):
                bridge.hideSurfaces(node)
                context.say()
            else:
                context.say(_("Making the surfaces; this takes some seconds for a large volume..."))
                context.ui.statusLabel.repaint()  # the window is not drawn again before they are there
                with slicer.util.WaitCursor():
                    bridge.showSurfaces(node)
                context.say(_showInViews())
        self._onEvent()

    def onExport(self) -> None:
        """Open Slicer's module that writes segmentations into files."""
        with self._context.guarded():
            slicer.util.selectModule("Segmentations")

    def _list(self) -> None:
        table, node = self._context.ui.segmentsTable, self._output()
        if table.segmentationNode() is not node:
            table.setSegmentationNode(node)
        table.visible = node is not None

    def _output(self) -> slicer.vtkMRMLSegmentationNode | None:
        parameters = self._context.parameters
        return None if parameters is None else parameters.outputSegmentation

    def _onEvent(self, _node: Any = None, _event: object = None) -> None:
        ui, node = self._context.ui, self._output()
        reason = self._reasonAgainst3D(node)
        setEnabledWithReason(
            ui.show3DButton,
            reason,
            _("Show the segments as surfaces in the 3D view. Each edit is slower while they are shown."),
        )
        ui.show3DButton.checked = node is not None and bridge.hasSurfaces(node)
        reason = "" if node is not None else _("Segment first, or choose a segmentation.")
        setEnabledWithReason(ui.exportButton, reason, _exportTip())

    def _reasonAgainst3D(self, node: Any | None) -> str:
        if node is None or not bridge.stampOf(node):
            return _("Segment first, or choose a segmentation.")
        volumeNode = self._context.parameters.inputVolume
        image = volumeNode and volumeNode.GetImageData()
        if image is not None and 1 in image.GetDimensions():
            return _("A flat image has no surfaces.")
        return ""


def _showInViews() -> str:
    """Have the surfaces in view; what to say of it."""
    layoutManager = slicer.app.layoutManager()
    if layoutManager is None or not layoutManager.threeDViewCount:
        return _("The surfaces are there; choose a layout with a 3D view to see them.")
    layoutManager.resetThreeDViews()
    return _("The lungs are shown in 3D.")


def _exportTip() -> str:
    return _(
        "Open the Segmentations module, whose 'Export to files' writes STL, OBJ, NRRD, NIfTI. Slicer's 'Save' writes "
        "the segmentation itself (.seg.nrrd). For DICOM, right-click it in the Data module, 'Export to DICOM'."
    )

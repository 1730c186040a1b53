"""Accept or discard the preview; undo and redo of what was written."""

from __future__ import annotations

from slicer.i18n import tr as _

from SAMLungSegSlicer.bridge.history import SegmentationHistory, historyOf
from SAMLungSegSlicer.context import Context, keptParts, setEnabledWithReason
from SAMLungSegSlicer.live.preview import PreviewController


class CorrectPanel:
    """Four buttons below the prompts."""

    def __init__(self, context: Context, preview: PreviewController) -> None:
        self._context = context
        self._preview = preview
        ui = context.ui
        ui.acceptButton.connect("clicked(bool)", self.onAccept)
        ui.discardButton.connect("clicked(bool)", self.onDiscard)
        ui.undoButton.connect("clicked(bool)", self.onUndo)
        ui.redoButton.connect("clicked(bool)", self.onRedo)

    def refresh(self) -> None:
        """Which buttons can work."""
        ui, history = self._context.ui, self._history()
        reason = "" if self._preview.isShown else _("There is no preview; place a point or a box.")
        setEnabledWithReason(
            ui.acceptButton, reason, _("Write the preview into the segmentation; only this slice changes.")
        )
        setEnabledWithReason(ui.discardButton, reason, _("Hide the preview; the segmentation stays as it is."))
        canUndo = self._preview.hasStrokes or (history is not None and history.canUndo())
        canRedo = history is not None and history.canRedo()
        setEnabledWithReason(
            ui.undoButton, "" if canUndo else _("There is nothing to undo."), _("Take the last change back.")
        )
        setEnabledWithReason(
            ui.redoButton, "" if canRedo else _("There is nothing to redo."), _("Do the change again.")
        )

    def onAccept(self) -> None:
        """Write the preview."""
        with self._context.guarded():
            kept = self._preview.accept()
            self._context.say(" ".join([_("The slice is written."), *keptParts(kept)]))
        self._context.changed()

    def onDiscard(self) -> None:
        """Hide the preview."""
        with self._context.guarded():
            self._preview.discard()
        self._context.changed()

    def onUndo(self) -> None:
        """Take the last stroke back that is not yet accepted, else the last change of the segmentation."""
        with self._context.guarded():
            if not self._preview.undoStroke():
                self._history().undo()
                self._preview.reactivate()
        self._context.changed()

    def onRedo(self) -> None:
        """Do an undone change again."""
        with self._context.guarded():
            self._history().redo()
            self._preview.reactivate()
        self._context.changed()

    def _history(self) -> SegmentationHistory | None:
        parameters = self._context.parameters
        if parameters is None or parameters.outputSegmentation is None:
            return None
        return historyOf(parameters.outputSegmentation)

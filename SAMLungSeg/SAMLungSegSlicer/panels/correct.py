"""Accept or discard what is previewed, a slice or a propagation; undo and redo of what was written."""

from __future__ import annotations

from slicer.i18n import tr as _

from SAMLungSegSlicer.bridge.history import SegmentationHistory, historyOf
from SAMLungSegSlicer.context import Context, keptParts, setEnabledWithReason
from SAMLungSegSlicer.live.preview import PreviewController
from SAMLungSegSlicer.live.propagation import PropagationController


class CorrectPanel:
    """Four buttons below the prompts."""

    def __init__(self, context: Context, preview: PreviewController, propagation: PropagationController) -> None:
        self._context = context
        self._preview = preview
        self._propagation = propagation
        ui = context.ui
        ui.acceptButton.connect("clicked(bool)", self.onAccept)
        ui.discardButton.connect("clicked(bool)", self.onDiscard)
        ui.undoButton.connect("clicked(bool)", self.onUndo)
        ui.redoButton.connect("clicked(bool)", self.onRedo)

    def refresh(self) -> None:
        """Which buttons can work."""
        ui, history = self._context.ui, self._history()
        isShown = self._preview.isShown or self._propagation.isShown
        reason = "" if isShown else _("There is no preview; place a point or a box.")
        what = _("Write the preview into the segmentation; only this slice changes. (A)")
        if self._propagation.isShown and not self._preview.isShown:
            what = _("Write what was propagated into the segmentation, in one step. (A)")
        setEnabledWithReason(ui.acceptButton, reason, what)
        setEnabledWithReason(ui.discardButton, reason, _("Hide the preview; the segmentation stays as it is. (D)"))
        canUndo = self._preview.hasStrokes or (history is not None and history.canUndo())
        canRedo = history is not None and history.canRedo()
        setEnabledWithReason(
            ui.undoButton, "" if canUndo else _("There is nothing to undo."), _("Take the last change back. (Z)")
        )
        setEnabledWithReason(
            ui.redoButton, "" if canRedo else _("There is nothing to redo."), _("Do the change again. (Y)")
        )

    def onAccept(self) -> None:
        """Write the preview."""
        with self._context.guarded():
            if self._preview.isShown:
                kept = self._preview.accept()
                self._context.say(" ".join([_("The slice is written and locked."), *keptParts(kept)]))
            else:
                self._context.say(self._propagation.accept())
        self._context.changed()

    def onDiscard(self) -> None:
        """Hide the preview."""
        with self._context.guarded():
            if self._preview.isShown:
                self._preview.discard()
            else:
                self._propagation.discard()
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

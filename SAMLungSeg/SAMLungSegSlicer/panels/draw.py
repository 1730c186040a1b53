"""Brush, lasso and scribble: what is drawn in a slice view corrects its slice."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.models.registry import MODELS
from SAMLungSegSlicer.context import Context, setEnabledWithReason
from SAMLungSegSlicer.live.drawing import ViewPencils
from SAMLungSegSlicer.live.lines import applyLine
from SAMLungSegSlicer.live.pencil import Kind, Line, Tip
from SAMLungSegSlicer.live.preview import PreviewController
from SAMLungSegSlicer.panels.escape import EscapeKey
from SAMLungSegSlicer.watching import Watched, Watcher


class DrawPanel(Watcher):
    """Three buttons, one of which may be on, whether they erase, and the radius of the brush."""

    def __init__(self, context: Context, preview: PreviewController) -> None:
        super().__init__()
        self._context, self._preview = context, preview
        self._kind: Kind | None = None
        self._pencils = ViewPencils(self._onDrawn)
        self._escape = EscapeKey(self.stop)
        ui = context.ui
        self._buttons: dict[Kind, Any] = {
            "brush": ui.brushButton,
            "lasso": ui.lassoButton,
            "scribble": ui.scribbleButton,
        }
        ui.brushButton.connect("clicked(bool)", self.onBrush)
        ui.lassoButton.connect("clicked(bool)", self.onLasso)
        ui.scribbleButton.connect("clicked(bool)", self.onScribble)
        ui.eraseButton.connect("toggled(bool)", self._onErase)

    def exit(self) -> None:
        """Draw no more, watch nothing."""
        self.stop()
        self.watch()

    def refresh(self) -> None:
        """Which buttons can work; the pencil follows layout and radius."""
        parameters, ui = self._context.parameters, self._context.ui
        if parameters is None:
            self.exit()
            return
        interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        self.watch(Watched(interaction, (interaction.InteractionModeChangedEvent,), self._onInteractionMode))
        noVolume = "" if parameters.inputVolume else _("Choose a volume first.")
        noPoints = noVolume
        if not MODELS[parameters.model].capabilities.accepts("points"):
            noPoints = noVolume or _("This model accepts boxes only; choose another one to scribble.")
        ctrl = _("Hold Ctrl to erase; Esc or this button ends it.")
        brush = _("Paint over the slice with the left mouse button: it belongs to the lung where a stroke begins.")
        lasso = _("Draw around a region with the left mouse button: it belongs to the lung where the line begins.")
        scribble = _(
            "Draw a line through lung that is missing, with Ctrl through what is wrongly lung: points along it."
        )
        setEnabledWithReason(ui.brushButton, noVolume, f"{brush} {ctrl} (P)")
        setEnabledWithReason(ui.lassoButton, noVolume, f"{lasso} {ctrl} (C)")
        setEnabledWithReason(ui.scribbleButton, noPoints, f"{scribble} {_('Esc or this button ends it.')} (S)")
        if self._kind is not None and not self._buttons[self._kind].enabled:
            self.stop()
        self._follow()

    def onBrush(self, isWanted: bool = True) -> None:
        """Start or stop painting."""
        self._use("brush" if isWanted else None)

    def onLasso(self, isWanted: bool = True) -> None:
        """Start or stop drawing around regions."""
        self._use("lasso" if isWanted else None)

    def onScribble(self, isWanted: bool = True) -> None:
        """Start or stop drawing lines that become points."""
        self._use("scribble" if isWanted else None)

    def stop(self) -> None:
        """Draw no more; what was drawn stays as it is."""
        self._use(None)

    def _use(self, kind: Kind | None) -> None:
        if kind is not None:  # which ends the placing of points and boxes
            interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        self._kind = kind
        for one, button in self._buttons.items():
            button.checked = one == kind
        self._escape.listen(kind is not None)
        self._follow()

    def _follow(self) -> None:
        parameters = self._context.parameters
        if self._kind is None or parameters is None:
            self._pencils.stop()
        else:
            self._pencils.start(Tip(self._kind, parameters.brushRadiusMm, bool(self._context.ui.eraseButton.checked)))

    def _onErase(self, _isOn: bool) -> None:
        self._follow()

    def _onInteractionMode(self, interaction: Any, _event: object) -> None:
        if self._kind is not None and interaction.GetCurrentInteractionMode() == interaction.Place:
            self.stop()

    def _onDrawn(self, line: Line) -> None:
        with self._context.guarded():
            applyLine(line, self._context.parameters, self._preview)

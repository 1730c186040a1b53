"""What the Segment Editor shows below its effects while this one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import qt
from slicer.i18n import tr as _

from SAMLungSegSlicer.context import setEnabledWithReason
from SAMLungSegSlicer.live.pencil import Kind

_COLUMNS = 3


class EffectOptions:
    """Tools, radius, buttons, a status line.

    Attributes:
        statusLabel: what `Context.say` writes to.
    """

    def __init__(
        self,
        scriptedEffect: Any,
        use: Callable[[Kind | None], None],
        actions: dict[str, Callable[[], None]],
        changed: Callable[[], None],
    ) -> None:
        """Put the widgets into the effect's frame.

        Args:
            scriptedEffect: Slicer's.
            use: gets the tool that the user has chosen, None where it was given up.
            actions: of the buttons 'apply', 'discard' and 'clear'.
            changed: called when radius or 'Erase' have.
        """
        self._use, self._connected = use, []
        self._tools = {kind: self._tool(kind, title, tip) for kind, title, tip in _tools()}
        grid = qt.QGridLayout()
        for index, button in enumerate(self._tools.values()):
            grid.addWidget(button, index // _COLUMNS, index % _COLUMNS)
        self._erase = qt.QPushButton(_("Erase"))
        self._erase.checkable = True
        self._erase.toolTip = _("Take lung away instead of adding it; the Ctrl key does so for one stroke.")
        grid.addWidget(self._erase, 1, _COLUMNS - 1)
        scriptedEffect.addOptionsWidget(grid)
        self._radius = qt.QDoubleSpinBox()
        self._radius.suffix = _(" mm")
        self._radius.setRange(0.5, 50)
        scriptedEffect.addLabeledOptionsWidget(_("Brush radius:"), self._radius)
        self._buttons = {"apply": _button(_("Apply")), "discard": _button(_("Discard")), "clear": _button(_("Clear"))}
        row = qt.QHBoxLayout()
        for button in self._buttons.values():
            row.addWidget(button)
        scriptedEffect.addOptionsWidget(row)
        self.statusLabel = qt.QLabel()
        self.statusLabel.wordWrap = True
        scriptedEffect.addOptionsWidget(self.statusLabel)
        for name, button in self._buttons.items():
            self._connect(button, "clicked()", actions[name])
        self._connect(self._erase, "toggled(bool)", lambda _isOn: changed())
        self._connect(self._radius, "valueChanged(double)", lambda _value: changed())

    @property
    def erases(self) -> bool:
        """Whether strokes take away."""
        return bool(self._erase.checked)

    @property
    def radiusMm(self) -> float:
        """Of the brush."""
        return float(self._radius.value)

    def show(self, kind: Kind | None, radiusMm: float, isShown: bool, hasPrompts: bool) -> None:
        """Show which tool is on, and which buttons can work."""
        for one, button in self._tools.items():
            button.checked = one == kind
        wasBlocked = self._radius.blockSignals(True)
        self._radius.value = radiusMm
        self._radius.blockSignals(wasBlocked)
        nothing = "" if isShown else _("There is no preview; place a point or a box, or draw.")
        none = "" if hasPrompts else _("There are no prompts.")
        setEnabledWithReason(self._buttons["apply"], nothing, _("Write the preview; only this slice changes."))
        setEnabledWithReason(self._buttons["discard"], nothing, _("Hide the preview; the segments stay as they are."))
        setEnabledWithReason(self._buttons["clear"], none, _("Remove all points and boxes."))

    def cleanup(self) -> None:
        """Disconnect all signals, as Slicer demands before the widgets go."""
        for widget, signal, slot in self._connected:
            widget.disconnect(signal, slot)
        self._connected = []

    def _tool(self, kind: Kind, title: str, tip: str) -> Any:
        button = qt.QPushButton(title)
        button.checkable, button.toolTip = True, tip
        self._connect(button, "clicked(bool)", partial(self._onTool, kind))
        return button

    def _onTool(self, kind: Kind, isOn: bool) -> None:
        self._use(kind if isOn else None)

    def _connect(self, widget: Any, signal: str, slot: Callable) -> None:
        widget.connect(signal, slot)
        self._connected.append((widget, signal, slot))


def _tools() -> tuple[tuple[Kind, str, str], ...]:
    return (
        ("point", _("Point"), _("Click on lung that is missing, with Ctrl on what is wrongly lung.")),
        ("scribble", _("Scribble"), _("Draw a line through lung that is missing, with Ctrl through what is not lung.")),
        ("box", _("Box"), _("Drag a box around one lung.")),
        ("brush", _("Brush"), _("Paint over the slice; it belongs to the lung where the stroke begins.")),
        ("lasso", _("Lasso"), _("Draw around a region; it belongs to the lung where the line begins.")),
    )


def _button(title: str) -> Any:
    return qt.QPushButton(title)

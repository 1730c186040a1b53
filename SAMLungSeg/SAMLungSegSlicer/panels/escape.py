"""The Esc key, for as long as there is something that it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer


class EscapeKey:
    """Esc in Slicer's main window; without that window nothing listens.

    The shortcut exists only while it is wanted: the Segment Editor has one of its own, and Qt lets neither of two act.
    """

    def __init__(self, action: Callable[[], None]) -> None:
        """Listens to nothing before `listen`.

        Args:
            action: what Esc does.
        """
        self._action = action
        self._shortcut: Any | None = None

    def listen(self, isWanted: bool) -> None:
        """Begin or end."""
        window = slicer.util.mainWindow()
        if isWanted and self._shortcut is None and window is not None:
            self._shortcut = qt.QShortcut(qt.QKeySequence(qt.Qt.Key_Escape), window)
            self._shortcut.connect("activated()", self._action)
        elif not isWanted and self._shortcut is not None:
            self._shortcut.setEnabled(False)
            self._shortcut.deleteLater()  # it may be what has called us
            self._shortcut = None

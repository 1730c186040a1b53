"""Keys of the module, for as long as it is open.

They are none of Slicer's own: its slice views use arrows, b, f, g, r, t, v, [ and ], and its Segment Editor has digits,
and z and y in the same sense, while that is open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer


class Shortcuts:
    """Keys in Slicer's main window; without that window nothing listens."""

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        """Listens to nothing before `listen`.

        Args:
            actions: what each key does, such as 'Shift+N'.
        """
        self._actions = dict(actions)
        self._shortcuts: list[Any] = []

    @property
    def keys(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._actions)

    def listen(self, isWanted: bool) -> None:
        """Begin or end."""
        window = slicer.util.mainWindow()
        if isWanted and not self._shortcuts and window is not None:
            for key, action in self._actions.items():
                shortcut = qt.QShortcut(qt.QKeySequence(key), window)
                shortcut.connect("activated()", action)
                self._shortcuts.append(shortcut)
        elif not isWanted:
            for shortcut in self._shortcuts:
                shortcut.setEnabled(False)
                shortcut.deleteLater()  # it may be what has called us
            self._shortcuts = []


def pressing(button: Any) -> Callable[[], None]:
    """What a key does that stands for a button: the same, and nothing where the button cannot be pressed."""

    def press() -> None:
        if button.enabled:
            button.click()

    return press

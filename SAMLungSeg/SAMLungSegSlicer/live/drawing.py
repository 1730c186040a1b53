"""The pencil in all slice views, while it is wanted: ahead of what the mouse does there otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from SAMLungSegSlicer.live.pencil import EVENTS, Line, Pencil, Tip

PRIORITY = 10.0  # above Slicer's own interactor style


class ViewPencils:
    """Observes the interactors of the slice views of the layout; none while it is off."""

    def __init__(self, drawn: Callable[[Line], None]) -> None:
        """Begins off.

        Args:
            drawn: gets each line.
        """
        self._drawn = drawn
        self._pencils: dict[str, Pencil] = {}  # by layout name of the slice view
        self._tags: list[tuple[Any, int]] = []

    @property
    def isOn(self) -> bool:
        """Whether the left mouse button draws."""
        return bool(self._pencils)

    def start(self, tip: Tip) -> None:
        """Draw with this in the views that there are now."""
        names = list(slicer.app.layoutManager().sliceViewNames())
        if list(self._pencils) != names:
            self.stop()
            for name in names:
                self._observe(name)
        for pencil in self._pencils.values():
            pencil.use(tip)

    def stop(self) -> None:
        """Observe nothing, and forget a line that is being drawn."""
        for interactor, tag in self._tags:
            interactor.RemoveObserver(tag)
        for pencil in self._pencils.values():
            pencil.cancel()
        self._tags, self._pencils = [], {}

    def _observe(self, viewName: str) -> None:
        view = slicer.app.layoutManager().sliceWidget(viewName).sliceView()
        self._pencils[viewName] = pencil = Pencil(view, self._drawn)
        interactor = view.interactor()
        for event in EVENTS:
            tags: list[int] = []

            def onEvent(caller: Any, name: str, pencil: Pencil = pencil, tags: list[int] = tags) -> None:
                if pencil.handle(name):
                    caller.GetCommand(tags[0]).SetAbortFlag(1)

            tags.append(interactor.AddObserver(event, onEvent, PRIORITY))
            self._tags.append((interactor, tags[0]))

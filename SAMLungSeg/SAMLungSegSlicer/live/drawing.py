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
        self._pencils: dict[Any, Pencil] = {}  # by slice view
        self._tags: list[tuple[Any, int]] = []

    @property
    def isOn(self) -> bool:
        """Whether the left mouse button draws."""
        return bool(self._pencils)

    def start(self, tip: Tip) -> None:
        """Draw with this in the views that there are now."""
        views = _sliceViews()
        if list(self._pencils) != views:
            self.stop()
            for view in views:
                self._observe(view)
        for pencil in self._pencils.values():
            pencil.use(tip)

    def stop(self) -> None:
        """Observe nothing, and forget a line that is being drawn."""
        for interactor, tag in self._tags:
            interactor.RemoveObserver(tag)
        for pencil in self._pencils.values():
            pencil.cancel()
        self._tags, self._pencils = [], {}

    def _observe(self, view: Any) -> None:
        self._pencils[view] = pencil = Pencil(view, self._drawn)
        interactor = view.interactor()
        for event in EVENTS:
            tags: list[int] = []

            def onEvent(caller: Any, name: str, pencil: Pencil = pencil, tags: list[int] = tags) -> None:
                if pencil.handle(name):
                    caller.GetCommand(tags[0]).SetAbortFlag(1)

            tags.append(interactor.AddObserver(event, onEvent, PRIORITY))
            self._tags.append((interactor, tags[0]))


def _sliceViews() -> list[Any]:
    manager = slicer.app.layoutManager()
    return [manager.sliceWidget(name).sliceView() for name in manager.sliceViewNames()]

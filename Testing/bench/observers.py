"""VTK observers that are removed together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Observers:
    """Adds observers to VTK objects and removes all of them at once."""

    def __init__(self) -> None:
        self._tags: list[tuple[Any, int]] = []

    def add(self, vtk_object: Any, events: Any, callback: Callable) -> None:
        """Observes one event, or each of a list."""
        for event in events if isinstance(events, (list, tuple)) else [events]:
            self._tags.append((vtk_object, vtk_object.AddObserver(event, callback)))

    def clear(self) -> None:
        """Removes every observer that was added."""
        for vtk_object, tag in self._tags:
            vtk_object.RemoveObserver(tag)
        self._tags.clear()

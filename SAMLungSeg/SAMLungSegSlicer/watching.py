"""Following nodes of the scene that come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from slicer.util import VTKObservationMixin


class Watched(NamedTuple):
    """A node, or None where there is none yet, and what is called as (node, event) when something happens to it."""

    node: Any | None
    events: Sequence[int]
    call: Callable[[Any, object], None]


class Watcher(VTKObservationMixin):
    """Observes the nodes that it was told last, and no others.

    Telling the same nodes again costs nothing, so that it can be done whenever anything may have changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watched: list[Watched] = []

    def watch(self, *wanted: Watched) -> None:
        """Observe these, in place of what was observed; without any, nothing."""
        present = [one for one in wanted if one.node is not None]
        if present == self._watched:
            return
        self.removeObservers()
        self._watched = present
        for node, events, call in present:
            for event in events:
                self.addObserver(node, event, call)

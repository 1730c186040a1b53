"""What a widget must not leave behind: observers, running timers and threads."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from typing import Any

import qt
import slicer
import vtk
from shiboken6 import isValid


def observer_count(vtk_object: Any) -> int:
    """The number of observers of a VTK object, Python's and C++'s."""
    newest = vtk_object.AddObserver(vtk.vtkCommand.UserEvent, lambda caller, event: None)
    vtk_object.RemoveObserver(newest)
    return sum(vtk_object.GetCommand(tag) is not None for tag in range(1, newest))


def snapshot() -> Counter[str]:
    """Observers of the scene, of its nodes and of the logics; active timers; threads."""
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    counts = Counter({f"observer of {node.GetID()}": observer_count(node) for node in nodes})
    counts["observer of the scene"] = observer_count(scene)
    counts["observer of the application logic"] = observer_count(slicer.app.applicationLogic())
    for module in slicer.app.moduleManager().all():
        if module.logic() is not None:
            counts[f"observer of {module.name}'s logic"] = observer_count(module.logic())
    for signal, _ in slicer.app.connections():
        counts[f"slot of {signal}"] += 1
    counts.update(f"thread {thread.name}" for thread in threading.enumerate())
    counts["active timer"] = len(_active_timers())
    return counts


def _active_timers() -> list[qt.QTimer]:
    gc.collect()
    timers = [item for item in gc.get_objects() if isinstance(item, qt.QTimer)]
    return [timer for timer in timers if isValid(timer) and timer.isActive()]


def left_since(before: Counter[str]) -> list[str]:
    """What there is more of than at an earlier `snapshot`."""
    return sorted(f"{count} x {what}" for what, count in (snapshot() - before).items())

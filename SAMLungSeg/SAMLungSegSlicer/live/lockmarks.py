"""A word in the corner of each slice view whose slice is locked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

COLOR = (0.45, 0.7, 1.0)
FONT_SIZE = 16
MARGIN = 10  # pixels from the left and the upper border of the view


class LockMarks:
    """Marks in the views of the layout; none before `update`."""

    def __init__(self) -> None:
        self._marked: dict[Any, vtk.vtkTextActor] = {}  # by slice view

    @property
    def views(self) -> tuple[str, ...]:
        """Layout names of the views that are marked."""
        return tuple(view.mrmlSliceNode().GetLayoutName() for view in self._marked)

    def update(self, isLocked: Callable[[slicer.vtkMRMLSliceNode], bool]) -> None:
        """Mark the views whose slice node is said to show a locked slice, and no others."""
        manager = slicer.app.layoutManager()
        views = [] if manager is None else [manager.sliceWidget(name).sliceView() for name in manager.sliceViewNames()]
        for view in [one for one in self._marked if one not in views or not isLocked(one.mrmlSliceNode())]:
            self._remove(view)
        for view in views:
            if view not in self._marked and isLocked(view.mrmlSliceNode()):
                self._marked[view] = _addMark(view)

    def clear(self) -> None:
        """Mark nothing."""
        for view in list(self._marked):
            self._remove(view)

    def _remove(self, view: Any) -> None:
        _renderer(view).RemoveViewProp(self._marked.pop(view))
        view.scheduleRender()


def _addMark(view: Any) -> vtk.vtkTextActor:
    mark = vtk.vtkTextActor()
    mark.SetInput(_("Locked"))
    mark.GetPositionCoordinate().SetCoordinateSystemToNormalizedViewport()
    mark.SetPosition(MARGIN / max(view.width, 1), 1 - (MARGIN + FONT_SIZE) / max(view.height, 1))
    style = mark.GetTextProperty()
    style.SetFontSize(FONT_SIZE)
    style.SetColor(*COLOR)
    style.BoldOn()
    style.ShadowOn()
    _renderer(view).AddViewProp(mark)
    view.scheduleRender()
    return mark


def _renderer(view: Any) -> vtk.vtkRenderer:
    return view.renderWindow().GetRenderers().GetFirstRenderer()

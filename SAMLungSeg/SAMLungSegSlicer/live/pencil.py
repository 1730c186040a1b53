"""Drawing with the left mouse button in a slice view: the line so far, shown until the button is released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import slicer
import vtk

COLOR, ERASING_COLOR = (1.0, 0.85, 0.1), (1.0, 0.35, 0.3)
LINE_WIDTH = 2
CIRCLE = np.exp(2j * np.pi * np.linspace(0, 1, 49))
STEP_PX = 2.0  # shorter moves are no new point
EVENTS = (
    "LeftButtonPressEvent",
    "LeftButtonDoubleClickEvent",
    "MouseMoveEvent",
    "LeftButtonReleaseEvent",
    "LeaveEvent",
)

Kind = Literal["brush", "lasso", "scribble", "point", "box"]


@dataclass(frozen=True)
class Tip:
    """What the pencil draws with.

    Attributes:
        kind: of its lines.
        radiusMm: of a brush.
        erases: also without the Ctrl key.
    """

    kind: Kind
    radiusMm: float = 5.0
    erases: bool = False


@dataclass(frozen=True)
class Line:
    """What was drawn.

    Attributes:
        tip: drawn with.
        sliceNode: of the view.
        points: float (N, 3), in mm of the world.
        erases: whether it takes away.
    """

    tip: Tip
    sliceNode: slicer.vtkMRMLSliceNode
    points: np.ndarray
    erases: bool


class Pencil:
    """One slice view's. Whoever owns it passes the events of the view's interactor on."""

    def __init__(self, view: Any, drawn: Callable[[Line], None]) -> None:
        """Shows nothing yet.

        Args:
            view: a qMRMLSliceView.
            drawn: gets each line when the button is released.
        """
        self._view, self._drawn = view, drawn
        self._tip = Tip("brush")
        self._positions: list[tuple[int, int]] = []  # in pixels of the view
        self._points: list[np.ndarray] = []
        self._erases = False
        self._outline = _Outline(view)

    @property
    def isDrawing(self) -> bool:
        """Whether the button is down."""
        return bool(self._points)

    def use(self, tip: Tip) -> None:
        """Draw with this from the next line on."""
        self._tip = tip

    def handle(self, event: str) -> bool:
        """Act on one of `EVENTS`; whether nobody else should."""
        interactor = self._view.interactor()
        position = interactor.GetEventPosition()
        if event in ("LeftButtonPressEvent", "LeftButtonDoubleClickEvent"):
            self._erases = self._tip.erases or bool(interactor.GetControlKey())
            self.cancel()  # the outline is put above what was shown since
            self._add(position)
        elif event == "MouseMoveEvent" and self.isDrawing:
            self._add(position)
        elif event == "LeftButtonReleaseEvent" and self.isDrawing:
            self._finish()
        elif event == "LeaveEvent" and not self.isDrawing:
            self._outline.remove()
            return False
        else:
            self._outline.show([], self._brushAt(position), COLOR)
            return False
        return True

    def cancel(self) -> None:
        """Forget the line, and show nothing."""
        self._positions, self._points = [], []
        self._outline.remove()

    def _add(self, position: tuple[int, int]) -> None:
        if not self._positions or np.hypot(*np.subtract(position, self._positions[-1])) >= STEP_PX:
            self._positions.append(position)
            toWorld = self._view.mrmlSliceNode().GetXYToRAS()
            self._points.append(np.array(toWorld.MultiplyPoint((*position, 0, 1))[:3]))
        color = ERASING_COLOR if self._erases else COLOR
        self._outline.show(self._shape(position), self._brushAt(position), color)

    def _shape(self, position: tuple[int, int]) -> list[tuple[int, int]]:
        """What is shown of the line, in pixels of the view."""
        (left, top), (right, bottom) = self._positions[0], position
        if self._tip.kind == "box":
            return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        return [*self._positions, self._positions[0]] if self._tip.kind == "lasso" else self._positions

    def _finish(self) -> None:
        line = Line(self._tip, self._view.mrmlSliceNode(), np.array(self._points), self._erases)
        self._positions, self._points = [], []
        self._outline.remove()
        self._drawn(line)

    def _brushAt(self, position: tuple[int, int]) -> np.ndarray:
        """Float (N, 2), pixels of the view around which the brush reaches; none for other tips."""
        if self._tip.kind != "brush":
            return np.empty((0, 2))
        toWorld = slicer.util.arrayFromVTKMatrix(self._view.mrmlSliceNode().GetXYToRAS())
        radii = self._tip.radiusMm / np.linalg.norm(toWorld[:3, :2], axis=0)
        return np.asarray(position) + np.stack([CIRCLE.real, CIRCLE.imag], axis=1) * radii


class _Outline:
    """Lines over a view, in its pixels."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self._data = vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._data)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(mapper)
        self._actor.GetProperty().SetLineWidth(LINE_WIDTH)
        self._isAdded = False

    def show(self, path: Any, ring: Any, color: tuple[float, float, float]) -> None:
        """Show two lines of points (N, 2), each of which may be empty."""
        points, lines = vtk.vtkPoints(), vtk.vtkCellArray()
        for line in (path, ring):
            if len(line) < 2:
                continue
            lines.InsertNextCell(len(line))
            for x, y in line:
                lines.InsertCellPoint(points.InsertNextPoint(x, y, 0))
        self._data.SetPoints(points)
        self._data.SetLines(lines)
        self._actor.GetProperty().SetColor(color)
        if not self._isAdded:
            self._renderer().AddViewProp(self._actor)
            self._isAdded = True
        self._view.scheduleRender()

    def remove(self) -> None:
        if self._isAdded:
            self._renderer().RemoveViewProp(self._actor)
            self._isAdded = False
            self._view.scheduleRender()

    def _renderer(self) -> vtk.vtkRenderer:
        return self._view.renderWindow().GetRenderers().GetFirstRenderer()

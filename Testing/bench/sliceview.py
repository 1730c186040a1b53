"""Slicer's slice views: the real slice logic and displayable managers, drawn into a Qt widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk

from bench import offscreen
from bench.observers import Observers

DISPLAYABLE_MANAGERS = (
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)


class SliceRenderer:
    """One slice view without its widget: render window, displayable managers, interactor."""

    def __init__(self, logic: Any, application_logic: Any, on_change: Callable[[], None]) -> None:
        self.logic, self.on_change = logic, on_change
        self.window = offscreen.render_window(256, 256)
        self.renderer, self.overlay = vtk.vtkRenderer(), vtk.vtkRenderer()
        self.overlay.SetLayer(1)
        self.window.SetNumberOfLayers(2)
        for renderer in (self.renderer, self.overlay):
            renderer.GetActiveCamera().ParallelProjectionOn()
            self.window.AddRenderer(renderer)
        self.interactor = vtk.vtkGenericRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.interactor.Initialize()
        self._observers = Observers()
        self._add_image()
        self._add_managers(application_logic)
        self._add_style()

    def _add_image(self) -> None:
        self._mapper, self._image = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self._observers.add(self.logic, vtk.vtkCommand.ModifiedEvent, self._on_logic_modified)

    def _add_managers(self, application_logic: Any) -> None:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application_logic)
        for name in DISPLAYABLE_MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.managers = slicer.vtkMRMLDisplayableManagerGroup()
        self.managers.SetRenderer(self.renderer)
        self.managers.Initialize(factory, self.renderer)
        self.managers.SetMRMLDisplayableNode(self.logic.GetSliceNode())
        self._observers.add(self.managers, vtk.vtkCommand.UpdateEvent, self._on_update)

    def _add_style(self) -> None:
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetSliceLogic(self.logic)
        self._style.SetDisplayableManagers(self.managers)
        self.interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._style.SetInteractor(self.interactor)

    def _on_logic_modified(self, caller: Any, event: str) -> None:
        connection = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        if connection is not None and not self.renderer.HasViewProp(self._image):
            self.renderer.AddViewProp(self._image)
        self._image.SetVisibility(connection is not None)
        self.on_change()

    def _on_update(self, caller: Any, event: str) -> None:
        self.on_change()

    def resize(self, width: int, height: int) -> None:
        self.window.SetSize(width, height)
        self.interactor.SetSize(width, height)
        self.interactor.ConfigureEvent()
        self.logic.ResizeSliceNode(width, height)

    def close(self) -> None:
        """Gives the window and every observer back."""
        self._observers.clear()
        self._style.SetDisplayableManagers(None)
        self._style.SetInteractor(None)
        self.managers.SetMRMLDisplayableNode(None)
        offscreen.give_back(self.window)


class qMRMLSliceView(qt.QWidget):
    """The picture of a slice; the mouse goes to MRML's interactor."""

    def __init__(self, logic: Any, application_logic: Any, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._renderer = SliceRenderer(logic, application_logic, self.update)
        self.setMouseTracking(True)
        self.setFocusPolicy(qt.Qt.StrongFocus)
        self.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Expanding)
        self.setMinimumSize(120, 100)

    def mrmlSliceNode(self) -> Any:
        return self._renderer.logic.GetSliceNode()

    def renderWindow(self) -> vtk.vtkRenderWindow:
        return self._renderer.window

    def interactor(self) -> vtk.vtkRenderWindowInteractor:
        return self._renderer.interactor

    def displayableManagerByClassName(self, name: str) -> Any:
        return self._renderer.managers.GetDisplayableManagerByClassName(name)

    def scheduleRender(self) -> None:
        self.update()

    def forceRender(self) -> None:
        self.repaint()

    def closeView(self) -> None:
        self._renderer.close()

    def rasToPosition(self, ras: Any) -> qt.QPoint:
        """The pixel of the widget that shows a position (mm, RAS) of the slice."""
        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.mrmlSliceNode().GetXYToRAS(), to_xy)
        x, y, _, _ = to_xy.MultiplyPoint((*ras, 1.0))
        return qt.QPoint(round(x), self.height - 1 - round(y))

    def resizeEvent(self, event: qt.QResizeEvent) -> None:
        self._renderer.resize(self.width, self.height)

    def paintEvent(self, event: qt.QPaintEvent) -> None:
        painter = qt.QPainter(self)
        painter.drawImage(0, 0, offscreen.picture(self._renderer.window))
        painter.end()

    def _forward(self, event: Any, vtk_event: Callable[[], None], key: str = "\0") -> None:
        if isinstance(event, (qt.QMouseEvent, qt.QWheelEvent)):
            position = event.position()
            x, y = round(position.x()), self.height - 1 - round(position.y())
        else:
            x, y = self.interactor().GetEventPosition()
        control = bool(event.modifiers() & qt.Qt.ControlModifier)
        shift = bool(event.modifiers() & qt.Qt.ShiftModifier)
        self.interactor().SetEventInformation(x, y, int(control), int(shift), key, 0, key)
        vtk_event()

    def mousePressEvent(self, event: qt.QMouseEvent) -> None:
        self._forward(event, getattr(self.interactor(), _button(event) + "ButtonPressEvent"))

    def mouseReleaseEvent(self, event: qt.QMouseEvent) -> None:
        self._forward(event, getattr(self.interactor(), _button(event) + "ButtonReleaseEvent"))

    def mouseMoveEvent(self, event: qt.QMouseEvent) -> None:
        self._forward(event, self.interactor().MouseMoveEvent)

    def wheelEvent(self, event: qt.QWheelEvent) -> None:
        interactor = self.interactor()
        forward = event.angleDelta().y() > 0
        self._forward(event, interactor.MouseWheelForwardEvent if forward else interactor.MouseWheelBackwardEvent)

    def leaveEvent(self, event: qt.QEvent) -> None:
        self.interactor().LeaveEvent()

    def enterEvent(self, event: qt.QEvent) -> None:
        self.interactor().EnterEvent()


def _button(event: qt.QMouseEvent) -> str:
    return {qt.Qt.LeftButton: "Left", qt.Qt.RightButton: "Right"}.get(event.button(), "Middle")


class qMRMLSliceWidget(qt.QWidget):
    """A slice view below a bar of its colour with a slider for the offset; it is drawn once it is first shown."""

    def __init__(self, logic: Any, application_logic: Any, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        node = logic.GetSliceNode()
        self.name = f"qMRMLSliceWidget{node.GetLayoutName()}"
        self._logic, self._application_logic, self._view = logic, application_logic, None
        self._build(qt.QColor.fromRgbF(*node.GetLayoutColor()).name())
        self._observers = Observers()
        self._observers.add(node, vtk.vtkCommand.ModifiedEvent, self._on_slice_modified)

    def _build(self, color: str) -> None:
        self._layout = qt.QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(0)
        self._bar, self._label = qt.QWidget(self), qt.QLabel("")
        self._slider = qt.QSlider(qt.Qt.Horizontal)
        self._bar.styleSheet = f"background-color: {color}; color: black"
        row = qt.QHBoxLayout(self._bar)
        row.setContentsMargins(4, 1, 4, 1)
        for widget in (qt.QLabel(self._logic.GetSliceNode().GetLayoutLabel()), self._slider, self._label):
            row.addWidget(widget)
        self._layout.addWidget(self._bar)
        self._slider.valueChanged.connect(self._on_slider)

    def _on_slider(self, position: int) -> None:
        low, _, step = self._offsets()
        self._logic.SetSliceOffset(low + position * step)

    def _on_slice_modified(self, caller: Any, event: str) -> None:
        low, high, step = self._offsets()
        offset = self._logic.GetSliceOffset()
        blocked = self._slider.blockSignals(True)
        self._slider.setRange(0, max(round((high - low) / step), 0))
        self._slider.value = round((offset - low) / step)
        self._slider.blockSignals(blocked)
        self._label.text = f"{offset:.1f} mm"

    def _offsets(self) -> tuple[float, float, float]:
        bounds, resolution = [0.0] * 2, vtk.mutable(1.0)
        self._logic.GetSliceOffsetRangeResolution(bounds, resolution)
        return bounds[0], bounds[1], float(resolution) or 1.0

    def showEvent(self, event: qt.QShowEvent) -> None:
        self.sliceView()
        super().showEvent(event)

    def sliceView(self) -> qMRMLSliceView:
        if self._view is None:
            self._view = qMRMLSliceView(self._logic, self._application_logic, self)
            self._layout.addWidget(self._view)
        return self._view

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceOrientation(self) -> str:
        return self.mrmlSliceNode().GetOrientation()

    def setSliceOrientation(self, orientation: str) -> None:
        self.mrmlSliceNode().SetOrientation(orientation)

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()
        self.mrmlSliceNode().UpdateMatrices()

    def sliceController(self) -> qMRMLSliceWidget:
        """Slicer's controller; the bench's widget answers to the little that is used of it."""
        return self

    def closeView(self) -> None:
        """Gives the render window and every observer back."""
        self._observers.clear()
        if self._view is not None:
            self._view.closeView()

"""VTK render windows that draw into memory, and their pictures as Qt images."""

from __future__ import annotations

import numpy as np
import qt
import vtk
from vtk.util.numpy_support import vtk_to_numpy

_idle: list[vtk.vtkRenderWindow] = []  # with their OpenGL contexts and shaders, which take long to make


def render_window(width: int, height: int) -> vtk.vtkRenderWindow:
    """A window that is never shown, without renderers: one that was given back, or a new one."""
    if _idle:
        window = _idle.pop()
    else:
        window = vtk.vtkRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetMultiSamples(0)
    window.SetSize(width, height)
    return window


def give_back(window: vtk.vtkRenderWindow) -> None:
    """Takes renderers and interactor out of a window, into which another view may draw then."""
    renderers = window.GetRenderers()
    for renderer in [renderers.GetItemAsObject(index) for index in range(renderers.GetNumberOfItems())]:
        window.RemoveRenderer(renderer)
    window.SetNumberOfLayers(1)
    window.SetInteractor(None)
    _idle.append(window)


def picture(window: vtk.vtkRenderWindow) -> qt.QImage:
    """Renders the window; an RGB image of its size."""
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.ShouldRerenderOff()
    grab.SetInputBufferTypeToRGB()
    grab.Update()
    image = grab.GetOutput()
    columns, rows, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)
    flipped = np.ascontiguousarray(pixels[::-1])
    return qt.QImage(flipped.data, columns, rows, 3 * columns, qt.QImage.Format_RGB888).copy()

"""Slicer's plain widgets: those that hold a scene, and numbers with units."""

from __future__ import annotations

import sys
from typing import Any

import qt
import slicer
from PySide6.QtCore import Signal

from bench.qtlayer.ctk_numbers import ctkRangeWidget, ctkSliderWidget
from bench.qtlayer.custom import custom_widget, kept


class SceneHolder:
    """Mixin: keeps the scene and tells when it changes."""

    _scene: Any = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


@custom_widget
class qMRMLWidget(SceneHolder, qt.QWidget):
    """A widget that hands its scene to its children."""

    mrmlSceneChanged = Signal(object)


@custom_widget
class qSlicerWidget(SceneHolder, qt.QWidget):
    """A widget that hands its scene to its children."""

    mrmlSceneChanged = Signal(object)


@custom_widget
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """What a scripted module's widget fills.

    Attributes:
        isEntered: whether the user has the module open.
    """

    isEntered = False

    def __init__(self, moduleName: str = "", parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._moduleName = moduleName
        self._widget: Any = None

    def self(self) -> Any:
        """The Python widget."""
        return self._widget

    def fill(self, widgetClass: type) -> None:
        """Makes the Python widget as Slicer does, and publishes it."""
        self._widget = widgetClass(self)
        setattr(slicer.modules, f"{self._moduleName}Widget", self._widget)
        self._widget.setup()

    def reload(self) -> None:
        """Makes the Python widget anew, of the class that the module's file has now."""
        self.fill(getattr(sys.modules[self._moduleName], f"{self._moduleName}Widget"))

    def enter(self) -> None:
        self.isEntered = True
        if hasattr(self._widget, "enter"):
            self._widget.enter()

    def exit(self) -> None:
        self.isEntered = False
        if hasattr(self._widget, "exit"):
            self._widget.exit()


@custom_widget
class qMRMLSliderWidget(ctkSliderWidget):
    """A slider that shows units."""

    quantity = kept("quantity", str, "")
    unitAwareProperties = kept("unitAwareProperties", int, 0)

    def setMRMLScene(self, scene: Any) -> None:
        """Units are not drawn on the bench."""


@custom_widget
class qMRMLSpinBox(qt.QDoubleSpinBox):
    """A spin box that shows units."""

    quantity = kept("quantity", str, "")

    def setMRMLScene(self, scene: Any) -> None:
        """Units are not drawn on the bench."""


@custom_widget
class qMRMLRangeWidget(ctkRangeWidget):
    """A range that shows units."""

    quantity = kept("quantity", str, "")

    def setMRMLScene(self, scene: Any) -> None:
        """Units are not drawn on the bench."""

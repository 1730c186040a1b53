"""qSlicerMarkupsPlaceWidget: places the points of one markups node by clicks in the views."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from PySide6.QtCore import Property, Signal

from bench.observers import Observers
from bench.qtlayer.custom import custom_widget, forwarded
from bench.qtlayer.mrml.nodecombobox import qMRMLNodeComboBox

logger = logging.getLogger(__name__)


def _option(name: str, default: bool) -> Property:
    key = f"_{name}"

    def write(self: qSlicerMarkupsPlaceWidget, visible: bool) -> None:
        self.__dict__[key] = visible
        self.updateWidget()

    return Property(bool, lambda self: self.__dict__.get(key, default), write)


@custom_widget
class qSlicerMarkupsPlaceWidget(qt.QWidget):
    """Buttons to place and to delete points; place mode is the scene's, shared by all such widgets."""

    activeMarkupsFiducialPlaceModeChanged = Signal(bool)
    activeMarkupsPlaceModeChanged = Signal(bool)
    mrmlSceneChanged = Signal(object)

    ShowPlaceMultipleMarkupsOption, HidePlaceMultipleMarkupsOption = 0, 1
    ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = 2, 3

    deleteAllControlPointsOptionVisible = _option("deleteAllControlPointsOptionVisible", True)
    deleteAllMarkupsOptionVisible = _option("deleteAllControlPointsOptionVisible", True)
    unsetLastControlPointOptionVisible = _option("unsetLastControlPointOptionVisible", False)
    unsetAllControlPointsOptionVisible = _option("unsetAllControlPointsOptionVisible", False)
    buttonsVisible = forwarded("_buttons", "visible", bool)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = self._node = None
        self._multiple = self.ShowPlaceMultipleMarkupsOption
        self._signaled = self._updating = False
        self._defaultColor = qt.QColor(0, 1, 0)
        self._singletonObservers, self._nodeObservers = Observers(), Observers()
        self.destroyed.connect(self._singletonObservers.clear)
        self.destroyed.connect(self._nodeObservers.clear)
        self._buildButtons()
        self._buildMenus()
        self.updateWidget()

    def _buildButtons(self) -> None:
        self._buttons = qt.QWidget(self)
        outer, inner = qt.QHBoxLayout(self), qt.QHBoxLayout(self._buttons)
        outer.addWidget(self._buttons)
        self._color = self._button("ColorButton", "■", "Color")
        self._place = self._button("PlaceButton", "⊕", "Place a control point")
        self._delete = self._button("DeleteButton", "⌫", "Delete last added control point")
        self._more = self._button("MoreButton", "…", "More options")
        for layout in (outer, inner):
            layout.setContentsMargins(0, 0, 0, 0)
        for button in (self._color, self._place, self._delete, self._more):
            inner.addWidget(button)
        self._place.checkable = True
        self._place.toggled.connect(self.setPlaceModeEnabled)
        self._delete.clicked.connect(self.modifyLastPoint)

    def _button(self, name: str, text: str, toolTip: str) -> qt.QToolButton:
        button = qt.QToolButton(self._buttons)
        button.name, button.text, button.toolTip = name, text, toolTip
        return button

    def _buildMenus(self) -> None:
        self._placeMenu, self._deleteMenu = qt.QMenu("Place options", self), qt.QMenu("Delete options", self._delete)
        self._persistent = self._placeMenu.addAction("Place multiple control points")
        self._persistent.checkable = True
        self._persistent.toggled.connect(self.setPlaceModePersistency)
        self._unsetLast = self._menuAction("Unset last control point", self.unsetLastDefinedPoint)
        self._unsetAll = self._menuAction("Unset all control points", self.unsetAllPoints)
        self._deleteAll = self._menuAction("Delete all control points", self.deleteAllPoints)
        self._place.setMenu(self._placeMenu)
        self._place.setPopupMode(qt.QToolButton.MenuButtonPopup)

    def _menuAction(self, text: str, slot: Callable) -> qt.QAction:
        action = self._deleteMenu.addAction(text)
        action.triggered.connect(lambda: slot())
        return action

    # The scene and the node ----------------------------------------------------------------------------------------

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self._singletonObservers.clear()
        if scene is not None:
            watched = [vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLSelectionNode.ActivePlaceNodePlacementValidEvent]
            self._singletonObservers.add(self.interactionNode(), vtk.vtkCommand.ModifiedEvent, self.updateWidget)
            self._singletonObservers.add(self.selectionNode(), watched, self.updateWidget)
        self.updateWidget()
        self.mrmlSceneChanged.emit(scene)

    def interactionNode(self) -> Any:
        return self._scene.GetNodeByID("vtkMRMLInteractionNodeSingleton") if self._scene is not None else None

    def selectionNode(self) -> Any:
        return self._scene.GetNodeByID("vtkMRMLSelectionNodeSingleton") if self._scene is not None else None

    def currentNode(self) -> Any:
        return self._node

    currentMarkupsNode = currentNode

    def currentMarkupsFiducialNode(self) -> Any:
        return self._node if self._node is not None and self._node.IsA("vtkMRMLMarkupsFiducialNode") else None

    def setCurrentNode(self, node: Any) -> None:
        markups = slicer.vtkMRMLMarkupsNode
        node = node if isinstance(node, markups) else None
        if node is self._node:
            return
        self._nodeObservers.clear()
        self._node = node
        if node is not None:
            events = [vtk.vtkCommand.ModifiedEvent, markups.PointAddedEvent, markups.PointRemovedEvent]
            events += [markups.DisplayModifiedEvent, markups.PointPositionDefinedEvent]
            events += [markups.PointPositionUndefinedEvent, markups.FixedNumberOfControlPointsModifiedEvent]
            self._nodeObservers.add(node, events, self.updateWidget)
        self.updateWidget()

    # Place mode ----------------------------------------------------------------------------------------------------

    def _setCurrentNodeActive(self, active: bool) -> None:
        if active != self.currentNodeActive:
            self._activate(self._node if active else None)
            if not active:
                self.interactionNode().SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.ViewTransform)

    def _currentNodeActive(self) -> bool:
        if self._node is None or self._scene is None:
            return False
        selection = self.selectionNode()
        active = slicer.modules.markups.logic().GetActiveListID() == self._node.GetID()
        return active and selection.GetActivePlaceNodeClassName() == self._node.GetClassName()

    currentNodeActive = Property(bool, _currentNodeActive, _setCurrentNodeActive)

    @staticmethod
    def _activate(node: Any) -> None:
        slicer.modules.markups.logic().SetActiveList(node)

    def _placeModeEnabled(self) -> bool:
        if not self.currentNodeActive:
            return False
        return self.interactionNode().GetCurrentInteractionMode() == slicer.vtkMRMLInteractionNode.Place

    def _setPlaceModeEnabled(self, enabled: bool) -> None:
        if self._node is None or self._scene is None:
            if enabled:
                logger.critical("place mode needs a scene and a current markups node")
            return
        mode = slicer.vtkMRMLInteractionNode
        if enabled:
            if not self.currentNodeActive:
                self._activate(self._node)
            self._forcePersistency()
        self.interactionNode().SetCurrentInteractionMode(mode.Place if enabled else mode.ViewTransform)

    placeModeEnabled = Property(bool, _placeModeEnabled, _setPlaceModeEnabled)

    def _forcePersistency(self) -> None:
        if self._multiple in (self.ForcePlaceSingleMarkup, self.ForcePlaceMultipleMarkups):
            self.placeModePersistency = self._multiple == self.ForcePlaceMultipleMarkups

    def _setPlaceModePersistency(self, persistent: bool) -> None:
        self.interactionNode().SetPlaceModePersistence(persistent)

    placeModePersistency = Property(
        bool, lambda self: bool(self.interactionNode().GetPlaceModePersistence()), _setPlaceModePersistency
    )

    def _setPlaceMultipleMarkups(self, option: int) -> None:
        self._multiple = option
        shown = option == self.ShowPlaceMultipleMarkupsOption
        self._place.setMenu(self._placeMenu if shown else None)
        self._place.setPopupMode(qt.QToolButton.MenuButtonPopup if shown else qt.QToolButton.DelayedPopup)
        if self.placeModeEnabled:
            self._forcePersistency()

    placeMultipleMarkups = Property(int, lambda self: self._multiple, _setPlaceMultipleMarkups)

    # Points --------------------------------------------------------------------------------------------------------

    def modifyLastPoint(self) -> None:
        """Deletes the last point, or unsets it where the number of points is fixed."""
        if self._node is not None and self._node.GetFixedNumberOfControlPoints():
            self.unsetLastDefinedPoint()
        else:
            self.deleteLastPoint()

    def deleteLastPoint(self) -> None:
        if self._node is not None and self._node.GetNumberOfControlPoints():
            self._node.RemoveNthControlPoint(self._node.GetNumberOfControlPoints() - 1)

    def deleteAllPoints(self) -> None:
        if self._node is not None:
            self._node.RemoveAllControlPoints()

    def unsetLastDefinedPoint(self) -> None:
        count = self._node.GetNumberOfControlPoints() if self._node is not None else 0
        for index in reversed(range(count)):
            if self._node.GetNthControlPointPositionStatus(index) != self._node.PositionUndefined:
                self._node.UnsetNthControlPointPosition(index)
                return

    def unsetAllPoints(self) -> None:
        if self._node is not None:
            self._node.UnsetAllControlPoints()

    # Appearance ----------------------------------------------------------------------------------------------------

    def _getNodeColor(self) -> qt.QColor:
        display = self._node.GetDisplayNode() if self._node is not None else None
        return self._defaultColor if display is None else qt.QColor.fromRgbF(*display.GetSelectedColor())

    def _setNodeColor(self, color: qt.QColor) -> None:
        display = self._node.GetDisplayNode() if self._node is not None else None
        if display is not None:
            display.SetSelectedColor(color.redF(), color.greenF(), color.blueF())

    def _setDefaultNodeColor(self, color: qt.QColor) -> None:
        self._defaultColor = color
        self.updateWidget()

    nodeColor = Property(qt.QColor, _getNodeColor, _setNodeColor)
    defaultNodeColor = Property(qt.QColor, lambda self: self._defaultColor, _setDefaultNodeColor)

    def placeButton(self) -> qt.QToolButton:
        return self._place

    def deleteButton(self) -> qt.QToolButton:
        return self._delete

    def colorButton(self) -> qt.QToolButton:
        return self._color

    def moreButton(self) -> qt.QToolButton:
        return self._more

    def updateWidget(self, caller: Any = None, event: Any = None) -> None:
        """Shows the state of the node and of the scene's place mode."""
        if self._updating or "_deleteAll" not in self.__dict__:
            return
        self._updating = True
        ready = self._node is not None and self._scene is not None
        self._showState(ready)
        self._signalPlaceMode(ready and self.placeModeEnabled)
        self._updating = False

    def _showState(self, ready: bool) -> None:
        fixed = ready and bool(self._node.GetFixedNumberOfControlPoints())
        self._color.enabled = self._more.enabled = ready
        self._color.styleSheet = f"color: {self.nodeColor.name()}"
        self._place.enabled = ready and not self._node.GetControlPointPlacementComplete()
        self._delete.enabled = ready and self._node.GetNumberOfControlPoints() > 0
        self._deleteAll.visible = self.deleteAllControlPointsOptionVisible and not fixed
        self._unsetLast.visible = self.unsetLastControlPointOptionVisible and not fixed
        self._unsetAll.visible = self.unsetAllControlPointsOptionVisible
        anyOption = self._deleteAll.visible or self._unsetLast.visible or self._unsetAll.visible
        self._delete.setMenu(self._deleteMenu if anyOption else None)
        self._delete.setPopupMode(qt.QToolButton.MenuButtonPopup if anyOption else qt.QToolButton.DelayedPopup)
        for item, checked in (
            (self._place, self.placeModeEnabled),
            (self._persistent, ready and self.placeModePersistency),
        ):
            blocked = item.blockSignals(True)
            item.checked = checked
            item.blockSignals(blocked)

    def _signalPlaceMode(self, enabled: bool) -> None:
        if enabled != self._signaled:
            self._signaled = enabled
            self.activeMarkupsFiducialPlaceModeChanged.emit(enabled)
            self.activeMarkupsPlaceModeChanged.emit(enabled)


@custom_widget
class qSlicerSimpleMarkupsWidget(qt.QWidget):
    """A node selector and a place widget."""

    markupsNodeChanged = Signal()
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._selector, self._place = qMRMLNodeComboBox(self), qSlicerMarkupsPlaceWidget(self)
        self._selector.nodeTypes = ["vtkMRMLMarkupsFiducialNode"]
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._selector)
        layout.addWidget(self._place)
        self._selector.currentNodeChanged.connect(self._onNodeChanged)

    def setMRMLScene(self, scene: Any) -> None:
        self._selector.setMRMLScene(scene)
        self._place.setMRMLScene(scene)
        self.mrmlSceneChanged.emit(scene)

    def _onNodeChanged(self, node: Any) -> None:
        self._place.setCurrentNode(node)
        self.markupsNodeChanged.emit()

    def currentNode(self) -> Any:
        return self._selector.currentNode()

    def setCurrentNode(self, node: Any) -> None:
        self._selector.setCurrentNode(node)

    def markupsPlaceWidget(self) -> qSlicerMarkupsPlaceWidget:
        return self._place

    def markupsSelectorComboBox(self) -> qMRMLNodeComboBox:
        return self._selector

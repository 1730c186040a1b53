"""``slicer.app.layoutManager()``: the slice views, three at first."""

from __future__ import annotations

from typing import Any

import qt
import slicer

from bench.sliceview import qMRMLSliceWidget

VIEWS = {"Red": ("Axial", "#f34a33"), "Yellow": ("Sagittal", "#edd54c"), "Green": ("Coronal", "#6eb04b")}


def create_slice_logic(name: str, application_logic: Any, scene: Any) -> Any:
    """The logic and the nodes of a slice view, as the application's layout makes them."""
    orientation, color = VIEWS[name]
    logic = _new_slice_logic(application_logic, scene)
    node = logic.AddSliceNode(name)
    node.SetOrientation(orientation)
    node.SetMappedInLayout(1)
    node.SetLayoutColor(*qt.QColor(color).getRgbF()[:3])
    node.SetLayoutLabel(name[0])
    return logic


def _new_slice_logic(application_logic: Any, scene: Any) -> Any:
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application_logic)
    application_logic.GetSliceLogics().AddItem(logic)
    logic.SetMRMLScene(scene)
    return logic


class LayoutManager:
    """The part of qSlicerLayoutManager that scripted modules use; there is no 3D, table or plot view."""

    threeDViewCount = tableViewCount = plotViewCount = 0

    def __init__(self, application_logic: Any, scene: Any) -> None:
        self.layout = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        self._application_logic, self._scene = application_logic, scene
        self._logics = {name: create_slice_logic(name, application_logic, scene) for name in VIEWS}
        self._widgets: dict[str, qMRMLSliceWidget] = {}
        self._layout_logic: Any = None

    def sliceViewNames(self) -> tuple[str, ...]:
        """Those of the layout."""
        return tuple(name for name, logic in self._logics.items() if logic.GetSliceNode().IsMappedInLayout())

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        """The view's widget; made when first asked for."""
        if name not in self._widgets and name in self._logics:
            self._widgets[name] = qMRMLSliceWidget(self._logics[name], self._application_logic)
        return self._widgets.get(name)

    def mrmlSliceLogics(self) -> Any:
        return self._application_logic.GetSliceLogics()

    def layoutLogic(self) -> Any:
        """Slicer's own; made when first asked for, as it adds a 3D view to the scene."""
        if self._layout_logic is None:
            self._layout_logic = slicer.vtkMRMLLayoutLogic()
            self._layout_logic.SetMRMLScene(self._scene)
        return self._layout_logic

    def setLayout(self, layout: int) -> None:
        """Has the slice views that Slicer's own layout logic gives the layout; new ones show no volume yet."""
        self.layout = layout
        self.layoutLogic().GetLayoutNode().SetViewArrangement(layout)
        views = self.layoutLogic().GetViewNodes()
        nodes = [views.GetItemAsObject(index) for index in range(views.GetNumberOfItems())]
        mapped = {node.GetLayoutName(): node for node in nodes if node.IsA("vtkMRMLSliceNode")}
        for name, node in mapped.items():
            if name not in self._logics:
                self._logics[name] = _new_slice_logic(self._application_logic, self._scene)
                self._logics[name].SetSliceNode(node)
        for name, logic in self._logics.items():
            logic.GetSliceNode().SetMappedInLayout(name in mapped)

    def resetSliceViews(self) -> None:
        for logic in self._logics.values():
            logic.FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """There is none."""

    def threeDWidget(self, index: int) -> None:
        return None

    def tableWidget(self, index: int) -> None:
        return None

    def plotWidget(self, index: int) -> None:
        return None

    def close(self) -> None:
        """Deletes the views."""
        for widget in self._widgets.values():
            widget.closeView()
            widget.delete()
        self._widgets.clear()
        self._logics.clear()
        self._layout_logic = None

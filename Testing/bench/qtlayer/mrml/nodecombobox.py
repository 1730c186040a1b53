"""qMRMLNodeComboBox: a person's choice among the scene's nodes."""

from __future__ import annotations

from typing import Any

import qt
import vtk
from PySide6.QtCore import Property, Signal

from bench.observers import Observers
from bench.qtlayer.custom import custom_widget

CREATE, RENAME, DELETE = "create:", "rename", "delete"


def _setting(name: str, kind: type | str, default: Any) -> Property:
    key = f"_{name}"

    def write(self: qMRMLNodeComboBox, value: Any) -> None:
        self.__dict__[key] = list(value) if isinstance(value, (list, tuple)) else value
        self._refresh()

    def read(self: qMRMLNodeComboBox) -> Any:
        value = self.__dict__.get(key, default)
        return tuple(value) if isinstance(value, list) else value

    return Property(kind, read, write)


@custom_widget
class qMRMLNodeComboBox(qt.QWidget):
    """Lists the nodes of some classes; can create, rename and delete."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    mrmlSceneChanged = Signal(object)

    nodeTypes = _setting("nodeTypes", "QStringList", ())
    hideChildNodeTypes = _setting("hideChildNodeTypes", "QStringList", ())
    showHidden = _setting("showHidden", bool, False)
    showChildNodeTypes = _setting("showChildNodeTypes", bool, True)
    noneEnabled = _setting("noneEnabled", bool, False)
    noneDisplay = _setting("noneDisplay", str, "None")
    addEnabled = _setting("addEnabled", bool, True)
    removeEnabled = _setting("removeEnabled", bool, True)
    renameEnabled = _setting("renameEnabled", bool, False)
    editEnabled = _setting("editEnabled", bool, False)
    selectNodeUponCreation = _setting("selectNodeUponCreation", bool, True)
    interactionNodeSingletonTag = _setting("interactionNodeSingletonTag", str, "")
    baseName = _setting("baseName", str, "")

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = qt.QComboBox(self)
        self._box.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._scene: Any = None
        self._current = ""
        self._attributes: list[tuple[str, str, Any]] = []
        self._refreshing = False
        self._sceneObservers, self._nodeObservers = Observers(), Observers()
        self._listed: list[str] = []
        self.destroyed.connect(self._sceneObservers.clear)
        self.destroyed.connect(self._nodeObservers.clear)
        self._box.activated.connect(self._onActivated)

    # Which nodes ---------------------------------------------------------------------------------------------------

    def addAttribute(self, nodeType: str, name: str, value: Any = None) -> None:
        """Lists nodes of a class only where they have an attribute (of this value)."""
        self.removeAttribute(nodeType, name)
        self._attributes.append((nodeType, name, None if value is None else str(value)))
        self._refresh()

    def removeAttribute(self, nodeType: str, name: str) -> None:
        self._attributes = [item for item in self._attributes if item[:2] != (nodeType, name)]
        self._refresh()

    def _lists(self, node: Any) -> bool:
        name = node.GetClassName()
        if not any(name == kind or (self.showChildNodeTypes and node.IsA(kind)) for kind in self.nodeTypes):
            return False
        if name not in self.nodeTypes and any(node.IsA(kind) for kind in self.hideChildNodeTypes):
            return False
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        return all(
            not node.IsA(kind) or node.GetAttribute(attribute) == (value or node.GetAttribute(attribute) or "missing")
            for kind, attribute, value in self._attributes
        )

    def nodes(self) -> list:
        """The nodes that are listed, in the scene's order."""
        if self._scene is None:
            return []
        every = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
        return [node for node in every if self._lists(node)]

    def nodeCount(self) -> int:
        return len(self.nodes())

    def nodeFromIndex(self, index: int) -> Any:
        nodes = self.nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    # The scene -----------------------------------------------------------------------------------------------------

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._sceneObservers.clear()
        self._scene = scene
        if scene is not None:
            self._sceneObservers.add(scene, scene.NodeAddedEvent, self._onNodeAdded)
            self._sceneObservers.add(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved)
            ends = [scene.NodeRemovedEvent, scene.EndBatchProcessEvent, scene.EndCloseEvent, scene.EndImportEvent]
            self._sceneObservers.add(scene, ends, lambda caller, event: self._refresh())
        self._refresh()
        self.mrmlSceneChanged.emit(scene)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, scene: Any, event: str, node: Any) -> None:
        if self._lists(node) and not scene.IsBatchProcessing():
            self._refresh()
            self.nodeAdded.emit(node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, scene: Any, event: str, node: Any) -> None:
        if self._lists(node):
            self.nodeAboutToBeRemoved.emit(node)

    def _onNodeModified(self, node: Any, event: str) -> None:
        row = self._box.findData(node.GetID())
        if row < 0 or not self._lists(node):
            self._refresh()
        elif self._box.itemText(row) != node.GetName():
            self._box.setItemText(row, node.GetName())
            if node.GetID() == self._current:
                self.currentNodeRenamed.emit(node.GetName())

    # The list ------------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        if self._refreshing or (self._scene is not None and self._scene.IsBatchProcessing()):
            return
        self._refreshing = True
        before, nodes = self._listed, self.nodes()
        self._listed = [node.GetID() for node in nodes]
        self._fill(nodes)
        self._refreshing = False
        self._select(self._current if self._current in self._listed else self._successor(before))

    def _successor(self, before: list[str]) -> str:
        """The node that takes the place of one that is gone; else the first, where a node has to be chosen."""
        choices = ([""] if self.noneEnabled else []) + self._listed
        if self._current in before:
            row = before.index(self._current) + (1 if self.noneEnabled else 0)
            return choices[min(row, len(choices) - 1)] if choices else ""
        return choices[0] if choices else ""

    def _fill(self, nodes: list) -> None:
        self._box.clear()
        self._nodeObservers.clear()
        if self.noneEnabled or not nodes:
            self._box.addItem(self.noneDisplay if self.noneEnabled else "Select a node", "")
        for node in nodes:
            self._box.addItem(node.GetName() or node.GetID(), node.GetID())
            self._nodeObservers.add(node, vtk.vtkCommand.ModifiedEvent, self._onNodeModified)
        self._addActions()

    def _addActions(self) -> None:
        actions = [(f"Create new {self._newName(kind)}", CREATE + kind) for kind in self.nodeTypes if self.addEnabled]
        if self.renameEnabled:
            actions.append(("Rename current node", RENAME))
        if self.removeEnabled:
            actions.append(("Delete current node", DELETE))
        if actions and self._scene is not None:
            self._box.insertSeparator(self._box.count)
            for text, data in actions:
                self._box.addItem(text, data)

    def _newName(self, kind: str) -> str:
        if self.baseName or self._scene is None:
            return self.baseName
        return self._scene.GetTagByClassName(kind) or kind

    # The choice ----------------------------------------------------------------------------------------------------

    def _select(self, nodeID: str) -> None:
        changed, self._current = nodeID != self._current, nodeID
        self._box.setCurrentIndex(self._box.findData(nodeID))
        if changed:
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(nodeID)

    def _onActivated(self, row: int) -> None:
        chosen = self._box.itemData(row) or ""
        self._box.setCurrentIndex(self._box.findData(self._current))
        if chosen.startswith(CREATE):
            self.addNode(chosen.removeprefix(CREATE))
        elif chosen == DELETE:
            self.removeCurrentNode()
        elif chosen == RENAME:
            self.renameCurrentNode()
        else:
            self._select(chosen)
            self.nodeActivated.emit(self.currentNode())

    def addNode(self, nodeType: str = "") -> Any:
        """Creates a node as the entry 'Create new ...' does."""
        kind = nodeType or self.nodeTypes[0]
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(self.baseName or node.GetDefaultNodeNamePrefix()))
        for attributed, name, value in self._attributes:
            if node.IsA(attributed):
                node.SetAttribute(name, value or "")
        node = self._scene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        name = qt.QInputDialog.getText(self, "Rename node", "New name:", qt.QLineEdit.Normal, node.GetName())
        if name:
            node.SetName(name)

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, nodeID: str | None) -> None:
        """Chooses a listed node; anything else is None where that is allowed, or the first."""
        self._refresh()
        self._select(nodeID if nodeID in self._listed else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    currentNodeID = Property(str, lambda self: self._current, setCurrentNodeID)

    def comboBox(self) -> qt.QComboBox:
        """The list itself, for a test that acts as a person."""
        return self._box

    def addMenuAction(self, action: qt.QAction) -> None:
        raise NotImplementedError("the test bench's qMRMLNodeComboBox has no menu actions")

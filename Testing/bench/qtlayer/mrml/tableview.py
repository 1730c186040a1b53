"""qMRMLTableView: shows a table node."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

import qt
import vtk
from PySide6.QtCore import Property, Signal

from bench.observers import Observers
from bench.qtlayer.custom import custom_widget, kept


@custom_widget
class qMRMLTableView(qt.QTableView):
    """A read-only view; column titles, or names without one, head the columns only where the node says so."""

    mrmlSceneChanged = Signal(object)
    transposed = kept("transposed", bool, False)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node = self._scene = None
        self._observers = Observers()
        self.destroyed.connect(self._observers.clear)
        self._model = qt.QStandardItemModel(self)
        self.setModel(self._model)
        self.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene

    def _lockFirstRow(self, locked: bool) -> None:
        if self._node is not None:
            self._node.SetUseColumnTitleAsColumnHeader(locked)

    firstRowLocked = Property(
        bool, lambda self: self._node is not None and self._node.GetUseColumnTitleAsColumnHeader(), _lockFirstRow
    )

    def mrmlTableNode(self) -> Any:
        return self._node

    def setMRMLTableNode(self, node: Any) -> None:
        self._observers.clear()
        self._node = node
        if node is not None:
            self._observers.add(node, vtk.vtkCommand.ModifiedEvent, self._onModified)
        self._fill()

    def _onModified(self, caller: Any, event: str) -> None:
        self._fill()

    def _fill(self) -> None:
        self._model.clear()
        table = self._node.GetTable() if self._node is not None else None
        if table is None:
            return
        columns = range(table.GetNumberOfColumns())
        names = [table.GetColumnName(column) or "" for column in columns]
        if self._node.GetUseColumnTitleAsColumnHeader():
            self._model.setHorizontalHeaderLabels([self._node.GetColumnTitle(name) or name for name in names])
        else:
            self._model.setHorizontalHeaderLabels([ascii_uppercase[column % 26] for column in columns])
            self._model.appendRow([qt.QStandardItem(name) for name in names])
        for row in range(table.GetNumberOfRows()):
            self._model.appendRow([qt.QStandardItem(table.GetValue(row, column).ToString()) for column in columns])

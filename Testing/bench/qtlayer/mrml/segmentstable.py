"""qMRMLSegmentsTableView: the segments of a segmentation node, with their visibility and colour."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from PySide6.QtCore import Property, Signal

from bench.observers import Observers
from bench.qtlayer.custom import custom_widget, kept
from bench.qtlayer.mrml.basic import qMRMLWidget

VISIBILITY, COLOR, OPACITY, NAME = range(4)
_HEADER = ("", "Color", "Opacity", "Name")
_SHOWN, _HIDDEN = "●", "○"


def _column_visible(column: int) -> Property:
    return Property(
        bool,
        lambda self: not self._view.isColumnHidden(column),
        lambda self, visible: self._view.setColumnHidden(column, not visible),
    )


@custom_widget
class qMRMLSegmentsTableView(qMRMLWidget):
    """Lists segments; a click on the first column shows or hides one, a double click on a name edits it."""

    selectionChanged = Signal(object, object)
    segmentAboutToBeModified = Signal(str)

    visibilityColumnVisible = _column_visible(VISIBILITY)
    colorColumnVisible = _column_visible(COLOR)
    opacityColumnVisible = _column_visible(OPACITY)
    statusColumnVisible = kept("statusColumnVisible", bool, True)
    layerColumnVisible = kept("layerColumnVisible", bool, False)
    filterBarVisible = kept("filterBarVisible", bool, False)
    headerVisible = Property(
        bool,
        lambda self: not self._view.horizontalHeader().isHidden(),
        lambda self, visible: self._view.horizontalHeader().setVisible(visible),
    )

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._readOnly = self._isFilling = False
        self._observers = Observers()
        self.destroyed.connect(self._observers.clear)
        self._model = qt.QStandardItemModel(self)
        self._model.itemChanged.connect(self._onItemChanged)
        self._view = qt.QTableView(self)
        self._view.setModel(self._model)
        self._view.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        self._view.verticalHeader().hide()
        self._view.horizontalHeader().setStretchLastSection(True)
        self._view.clicked.connect(self._onClicked)
        self._view.selectionModel().selectionChanged.connect(lambda new, old: self.selectionChanged.emit(new, old))
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._view)
        self._fill()

    def tableWidget(self) -> qt.QTableView:
        """The table itself."""
        return self._view

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._observers.clear()
        self._node = node if node is not None and node.IsA("vtkMRMLSegmentationNode") else None
        if self._node is not None:
            kinds = slicer.vtkSegmentation
            events = (kinds.SegmentAdded, kinds.SegmentRemoved, kinds.SegmentModified, kinds.SegmentsOrderModified)
            events += (slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent,)
            self._observers.add(self._node, events, lambda caller, event: self._fill())
        self._fill()

    def setMRMLScene(self, scene: Any) -> None:
        if self._node is not None and self._node.GetScene() is not scene:
            self.setSegmentationNode(None)
        super().setMRMLScene(scene)

    def _setReadOnly(self, readOnly: bool) -> None:
        self._readOnly = readOnly
        self._fill()

    readOnly = Property(bool, lambda self: self._readOnly, _setReadOnly)
    segmentCount = Property(int, lambda self: self._model.rowCount())

    def displayedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(self._node.GetSegmentation().GetSegmentIDs()) if self._node is not None else ()

    def segmentIDForRow(self, row: int) -> str:
        ids = self.displayedSegmentIDs()
        return ids[row] if 0 <= row < len(ids) else ""

    def rowForSegmentID(self, segmentID: str) -> int:
        ids = self.displayedSegmentIDs()
        return ids.index(segmentID) if segmentID in ids else -1

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(self.segmentIDForRow(index.row()) for index in self._view.selectionModel().selectedRows())

    def clearSelection(self) -> None:
        self._view.clearSelection()

    def setSelectedSegmentIDs(self, segmentIDs: Any) -> None:
        self.clearSelection()
        for row in map(self.rowForSegmentID, segmentIDs):
            self._view.selectRow(row)

    def _display(self) -> Any:
        return self._node.GetDisplayNode() if self._node is not None else None

    def _fill(self) -> None:
        selected, self._isFilling = self.selectedSegmentIDs(), True
        hidden = [self._view.isColumnHidden(column) for column in range(len(_HEADER))]
        self._model.clear()
        self._model.setHorizontalHeaderLabels(_HEADER)
        for segmentId in self.displayedSegmentIDs():
            self._model.appendRow(self._items(segmentId))
        for column, isHidden in enumerate(hidden):
            self._view.setColumnHidden(column, isHidden)
        self._view.resizeColumnsToContents()
        self._view.horizontalHeader().setStretchLastSection(True)
        self._isFilling = False
        if selected:
            self.setSelectedSegmentIDs(selected)

    def _items(self, segmentId: str) -> list[qt.QStandardItem]:
        segment, display = self._node.GetSegmentation().GetSegment(segmentId), self._display()
        isShown = display is not None and display.GetSegmentVisibility(segmentId)
        opacity = display.GetSegmentOpacity3D(segmentId) if display is not None else 1.0
        items = [qt.QStandardItem(text) for text in (_SHOWN if isShown else _HIDDEN, "", f"{opacity:.2f}")]
        items[COLOR].setBackground(qt.QBrush(qt.QColor.fromRgbF(*segment.GetColor())))
        items.append(qt.QStandardItem(segment.GetName()))
        for item in items:
            item.setEditable(item is items[NAME] and not self._readOnly)
        return items

    def _onClicked(self, index: qt.QModelIndex) -> None:
        display = self._display()
        if index.column() == VISIBILITY and display is not None:
            segmentId = self.segmentIDForRow(index.row())
            display.SetSegmentVisibility(segmentId, not display.GetSegmentVisibility(segmentId))

    def _onItemChanged(self, item: qt.QStandardItem) -> None:
        if self._isFilling or item.column() != NAME:
            return
        segmentId = self.segmentIDForRow(item.row())
        self.segmentAboutToBeModified.emit(segmentId)
        self._node.GetSegmentation().GetSegment(segmentId).SetName(item.text())

"""CTK's buttons."""

from __future__ import annotations

from typing import Any

import qt
from PySide6.QtCore import Property, Signal

from bench.qtlayer.custom import custom_widget, forwarded, kept

UNLIMITED_HEIGHT = 16777215  # QWIDGETSIZE_MAX


@custom_widget
class ctkCollapsibleButton(qt.QWidget):
    """A group box whose title folds its contents away."""

    toggled = Signal(bool)
    clicked = Signal(bool)
    contentsCollapsed = Signal(bool)

    collapsedHeight = kept("collapsedHeight", int, 10)
    flat = kept("flat", bool, False)
    contentsFrameShape = kept("contentsFrameShape", int, 0)
    text = forwarded("_title", "text", str)

    def __init__(self, *arguments: Any) -> None:
        parents = [argument for argument in arguments if isinstance(argument, qt.QWidget)]
        super().__init__(parents[0] if parents else None)
        self._collapsed = False
        self._title = qt.QToolButton(self)
        self._title.setToolButtonStyle(qt.Qt.ToolButtonTextBesideIcon)
        self._title.setArrowType(qt.Qt.DownArrow)
        self._title.setAutoRaise(True)
        self._title.text = next((argument for argument in arguments if isinstance(argument, str)), "")
        self._title.clicked.connect(self._onTitleClicked)
        self.setContentsMargins(6, self._title.sizeHint.height() + 4, 0, 2)

    def _onTitleClicked(self) -> None:
        self.collapsed = not self._collapsed
        self.clicked.emit(not self._collapsed)

    def click(self) -> None:
        self._title.click()

    def _setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self._title.setArrowType(qt.Qt.RightArrow if collapsed else qt.Qt.DownArrow)
        self._showContents()
        self.contentsCollapsed.emit(collapsed)
        self.toggled.emit(not collapsed)

    def _showContents(self) -> None:
        for child in self.findChildren(qt.QWidget, options=qt.Qt.FindDirectChildrenOnly):
            if child is not self._title:
                child.setVisible(not self._collapsed)
        self.setMaximumHeight(self._title.sizeHint.height() + 6 if self._collapsed else UNLIMITED_HEIGHT)

    collapsed = Property(bool, lambda self: self._collapsed, _setCollapsed)
    checked = Property(bool, lambda self: not self._collapsed, lambda self, value: self._setCollapsed(not value))

    def childEvent(self, event: qt.QChildEvent) -> None:
        super().childEvent(event)
        child = event.child()
        if self.__dict__.get("_collapsed") and event.added() and child.isWidgetType() and child is not self._title:
            child.hide()

    def showEvent(self, event: qt.QShowEvent) -> None:
        super().showEvent(event)
        if self._collapsed:
            self._showContents()

    def resizeEvent(self, event: qt.QResizeEvent) -> None:
        self._title.setGeometry(0, 0, self.width, self._title.sizeHint.height())
        super().resizeEvent(event)


@custom_widget
class ctkCheckBox(qt.QCheckBox):
    """A check box."""


@custom_widget
class ctkPushButton(qt.QPushButton):
    """A push button."""


@custom_widget
class ctkMenuButton(qt.QPushButton):
    """A push button with a menu beside it."""


@custom_widget
class ctkCheckablePushButton(qt.QPushButton):
    """A push button with a check box on it."""

    checkBoxToggled = Signal(bool)
    checkBoxControlsButton = kept("checkBoxControlsButton", bool, True)
    checkBoxControlsButtonToggleState = kept("checkBoxControlsButtonToggleState", bool, True)


@custom_widget
class ctkColorPickerButton(qt.QPushButton):
    """A button that shows a colour."""

    colorChanged = Signal(qt.QColor)
    displayColorName = kept("displayColorName", bool, True)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._color = qt.QColor()

    def _setColor(self, color: qt.QColor) -> None:
        if color != self._color:
            self._color = color
            self.styleSheet = f"background-color: {color.name()}"
            self.colorChanged.emit(color)

    color = Property(qt.QColor, lambda self: self._color, _setColor)

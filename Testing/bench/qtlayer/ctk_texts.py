"""CTK's combo box, path widgets and message box."""

from __future__ import annotations

from pathlib import Path

import qt
from PySide6.QtCore import Property, Signal

from bench.qtlayer.custom import custom_widget, forwarded, kept


@custom_widget
class ctkComboBox(qt.QComboBox):
    """A combo box with a text for when nothing is chosen."""

    defaultText = kept("defaultText", str, "")
    forceDefault = kept("forceDefault", bool, False)


@custom_widget
class ctkPathLineEdit(qt.QWidget):
    """A line for a path with a button to browse."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    Dirs, Files, Drives, NoSymLinks = 0x001, 0x002, 0x004, 0x008
    Readable, Writable, Executable = 0x010, 0x020, 0x040

    nameFilters = kept("nameFilters", "QStringList", [])
    settingKey = kept("settingKey", str, "")
    label = kept("label", str, "")
    showHistoryButton = kept("showHistoryButton", bool, True)
    showBrowseButton = forwarded("_browse", "visible", bool)
    currentPath = forwarded("_line", "text", str)
    filters = kept("filters", int, 0x002)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._line = qt.QLineEdit(self)
        self._browse = qt.QToolButton(self)
        self._browse.text = "…"
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(self._browse)
        self._line.textChanged.connect(self.currentPathChanged)
        self._browse.clicked.connect(self.browse)

    def browse(self) -> None:
        """Asks for a folder where only folders are wanted, else for a file."""
        if self.filters & self.Dirs and not self.filters & self.Files:
            path = qt.QFileDialog.getExistingDirectory(self, "Select a directory...", self.currentPath)
        else:
            path = qt.QFileDialog.getOpenFileName(self, "Open a file", self.currentPath, ";;".join(self.nameFilters))
        if path:
            self.currentPath = path

    def addCurrentPathToHistory(self) -> None:
        """The bench keeps no history."""

    def isValidInput(self) -> bool:
        return Path(self.currentPath).exists()


@custom_widget
class ctkDirectoryButton(qt.QPushButton):
    """A button that shows and asks for a folder."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    caption = kept("caption", str, "")

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self.clicked.connect(self.browse)

    def browse(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self, self.caption, self.directory)
        if folder:
            self.directory = folder
            self.directorySelected.emit(folder)

    def _setDirectory(self, folder: str) -> None:
        if folder != self.text:
            self.text = folder
            self.directoryChanged.emit(folder)

    directory = Property(str, lambda self: self.text, _setDirectory)


class ctkMessageBox(qt.QMessageBox):
    """A message box with 'Don't show this message again'."""

    dontShowAgainVisible = kept("dontShowAgainVisible", bool, False)
    dontShowAgain = kept("dontShowAgain", bool, False)
    dontShowAgainSettingsKey = kept("dontShowAgainSettingsKey", str, "")


class ctkWidgetsUtils:
    """Pictures of widgets."""

    @staticmethod
    def grabWidget(widget: qt.QWidget) -> qt.QImage:
        return widget.grab().toImage()

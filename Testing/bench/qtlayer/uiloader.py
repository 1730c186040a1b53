"""Loads .ui files with the bench's custom widgets."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import reduce
from operator import or_

from PySide6 import QtCore, QtUiTools
from PySide6.QtCore import QObject
from PySide6.QtWidgets import QWidget

from bench.qtlayer import pythonqt
from bench.qtlayer.custom import CUSTOM_WIDGETS


class QUiLoader(QtUiTools.QUiLoader):
    """Knows the custom widgets, and makes connections in Python, as their slots are Python methods."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._created: list[QWidget] = []

    def createWidget(self, className: str, parent: QWidget | None = None, name: str = "") -> QWidget:
        if className not in CUSTOM_WIDGETS:
            return super().createWidget(className, parent, name)
        widget = CUSTOM_WIDGETS[className](parent)
        widget.setObjectName(name)
        self._created.append(widget)
        return widget

    def load(self, device: QtCore.QIODevice, parent: QWidget | None = None) -> QWidget | None:
        """The widget of a .ui file.

        Raises:
            NotImplementedError: the file names a custom widget that the bench does not have.
            LookupError: the file connects an object that it does not define.
        """
        root = ET.fromstring(bytes(device.readAll()))
        _refuse_unknown(root)
        enums = _take_enums(root)
        connections = [{part.tag: part.text for part in item} for item in root.iter("connection")]
        for section in root.findall("connections") + root.findall("customwidgets"):
            root.remove(section)
        widget = super().load(_buffer(root), parent)
        if widget is not None:
            widget._custom_children = self._created
            for name, attribute, value in enums:
                setattr(_find(widget, name), attribute, value)
            for connection in connections:
                _connect(widget, connection)
        return widget


def _buffer(root: ET.Element) -> QtCore.QBuffer:
    buffer = QtCore.QBuffer()
    buffer.setData(QtCore.QByteArray(ET.tostring(root)))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    return buffer


def _refuse_unknown(root: ET.Element) -> None:
    known = set(CUSTOM_WIDGETS) | set(QtUiTools.QUiLoader().availableWidgets()) | {"Line"}
    unknown = sorted({element.get("class", "") for element in root.iter("widget")} - known)
    if unknown:
        raise NotImplementedError(
            f"the test bench has no widget of class {', '.join(unknown)}: add it to bench/qtlayer"
        )


def _take_enums(root: ET.Element) -> list[tuple[str, str, int]]:
    """Removes the properties whose values are names of enumerators of custom widgets, which Qt does not know."""
    taken = []
    for element in root.iter("widget"):
        for item in element.findall("property"):
            text = item.findtext("enum") or item.findtext("set") or ""
            names = [part.split("::") for part in text.split("|")]
            if names[0][0] in CUSTOM_WIDGETS:
                values = [getattr(CUSTOM_WIDGETS[part[0]], part[-1]) for part in names]
                taken.append((element.get("name", ""), item.get("name", ""), reduce(or_, values)))
                element.remove(item)
    return taken


def _connect(root: QWidget, connection: dict[str, str]) -> None:
    sender, receiver = (_find(root, connection[end]) for end in ("sender", "receiver"))
    slot = getattr(receiver, connection["slot"].partition("(")[0])
    pythonqt.connect(sender, connection["signal"], slot)


def _find(root: QWidget, name: str) -> QObject:
    found = root if root.objectName == name else root.findChild(QObject, name)
    if found is None:
        raise LookupError(f"the .ui file connects {name!r}, which it does not define")
    return found

"""Which widgets show which types, and how."""

from __future__ import annotations

import abc
import enum
import pathlib
import typing
from collections.abc import Callable, Sequence
from typing import Any

import ctk
import qt
import slicer
from slicer.parameterNodeWrapper.annotations import (
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    first,
    split,
)

_connectors: list[type[GuiConnector]] = []


class GuiConnector(abc.ABC):
    """Reads and writes one widget, and tells when a person changed it."""

    signals: typing.ClassVar[dict[str, str]] = {}

    @staticmethod
    @abc.abstractmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        """Whether the widget can show values of the (annotated) type."""

    @classmethod
    def create(cls, widget: Any, datatype: Any) -> GuiConnector:
        return cls(widget, *split(datatype))

    def __init__(self, widget: Any, kind: Any, annotations: Sequence) -> None:
        self._widget, self._kind, self._annotations = widget, kind, annotations
        self._callback: Callable[[], None] | None = None
        self.prepare()

    def prepare(self) -> None:  # noqa: B027  (most widgets need nothing)
        """Sets the widget up for the type."""

    def widget(self) -> Any:
        return self._widget

    def changed(self, *values: Any) -> None:
        if self._callback is not None:
            self._callback()

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        """Calls back whenever the widget changes; None ends that."""
        signal = self.signal()
        if signal is not None and (callback is None) != (self._callback is None):
            (signal.disconnect if callback is None else signal.connect)(self.changed)
        self._callback = callback

    @abc.abstractmethod
    def signal(self) -> Any:
        """The widget's signal; None where it has none."""

    @abc.abstractmethod
    def read(self) -> Any:
        """The widget's value."""

    @abc.abstractmethod
    def write(self, value: Any) -> None:
        """Shows a value."""


def parameterNodeGuiConnector(cls: type[GuiConnector] | None = None) -> Any:
    """Class decorator: `createGuiConnector` offers this connector."""
    if cls is None:
        return parameterNodeGuiConnector
    _connectors.append(cls)
    return cls


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    """The first connector for a widget and an (annotated) type.

    Raises:
        RuntimeError: there is none, or the type lacks the bounds or choices that the widget needs.
    """
    for connector in _connectors:
        if connector.canRepresent(widget, datatype):
            return connector.create(widget, datatype)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget)}'")


@parameterNodeGuiConnector
class Checkable(GuiConnector):
    """A check box or a checkable button."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return split(datatype)[0] is bool and type(widget) in (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton)

    def prepare(self) -> None:
        self._widget.checkable = True

    def signal(self) -> Any:
        return self._widget.toggled

    def read(self) -> bool:
        return self._widget.checked

    def write(self, value: bool) -> None:
        self._widget.checked = value


@parameterNodeGuiConnector
class Number(GuiConnector):
    """A slider or spin box; sliders need bounds."""

    WHOLE = (qt.QSlider, qt.QSpinBox)
    REAL = (qt.QDoubleSpinBox, ctk.ctkDoubleSpinBox, slicer.qMRMLSpinBox, ctk.ctkDoubleSlider)
    SLIDERS = (ctk.ctkSliderWidget, slicer.qMRMLSliderWidget)

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        kind = split(datatype)[0]
        if type(widget) in Number.WHOLE:
            return kind is int
        return kind in (int, float) and type(widget) in Number.REAL + Number.SLIDERS

    def prepare(self) -> None:
        minimum, maximum = self._bounds()
        if None in (minimum, maximum) and type(self._widget) in (qt.QSlider, *self.SLIDERS):
            raise RuntimeError("Cannot have a connection to a slider where the type is unbounded.")
        limit = 2**31 - 1 if type(self._widget) in self.WHOLE else float("inf")
        decimals, step = first(self._annotations, Decimals), first(self._annotations, SingleStep)
        if self._kind is int and type(self._widget) not in self.WHOLE:
            self._widget.decimals = 0
        elif decimals is not None:
            self._widget.decimals = decimals.value
        if step is not None:
            self._widget.singleStep = step.value
        self._widget.minimum = -limit if minimum is None else minimum
        self._widget.maximum = limit if maximum is None else maximum

    def _bounds(self) -> tuple[Any, Any]:
        within = first(self._annotations, WithinRange)
        low, high = first(self._annotations, Minimum) or within, first(self._annotations, Maximum) or within
        return getattr(low, "minimum", None), getattr(high, "maximum", None)

    def signal(self) -> Any:
        return self._widget.valueChanged

    def read(self) -> Any:
        return self._kind(self._widget.value)

    def write(self, value: float) -> None:
        self._widget.value = self._kind(value)


@parameterNodeGuiConnector
class OneOfChoices(GuiConnector):
    """A combo box of the values of `Choice`, or of the members of an enum."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        kind = split(datatype)[0]
        member = isinstance(kind, type) and issubclass(kind, enum.Enum)
        return type(widget) in (qt.QComboBox, ctk.ctkComboBox) and (member or kind in (int, float, str, bool))

    def prepare(self) -> None:
        choice = first(self._annotations, Choice)
        if issubclass(self._kind, enum.Enum):
            self._choices = list(self._kind)
            label = getattr(self._kind, "label", lambda member: member.name)
            labels = [label(member) for member in self._kind]
        elif choice is None:
            raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
        else:
            self._choices = list(choice.choices)
            labels = [str(value) for value in self._choices]
        self._widget.clear()
        self._widget.addItems(labels)

    def signal(self) -> Any:
        return self._widget.currentIndexChanged

    def read(self) -> Any:
        return self._choices[self._widget.currentIndex]

    def write(self, value: Any) -> None:
        if value not in self._choices:
            raise ValueError(f"Unable to find value {value} in choices {self._choices}")
        self._widget.currentIndex = self._choices.index(value)


@parameterNodeGuiConnector
class Line(GuiConnector):
    """A line of text."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return type(widget) is qt.QLineEdit and split(datatype)[0] is str

    def signal(self) -> Any:
        return self._widget.textChanged

    def read(self) -> str:
        return self._widget.text

    def write(self, value: str) -> None:
        if value != self._widget.text:  # writing moves the cursor
            self._widget.text = value


@parameterNodeGuiConnector
class Label(Line):
    """A label: it is only written."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return type(widget) is qt.QLabel and split(datatype)[0] is str

    def signal(self) -> None:
        return None


@parameterNodeGuiConnector
class Page(GuiConnector):
    """A text of several lines."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return type(widget) is qt.QTextEdit and split(datatype)[0] is str

    def signal(self) -> Any:
        return self._widget.textChanged

    def read(self) -> str:
        return self._widget.toPlainText()

    def write(self, value: str) -> None:
        self._widget.setPlainText(value)


@parameterNodeGuiConnector
class PathLine(GuiConnector):
    """A line for a path."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return type(widget) is ctk.ctkPathLineEdit and split(datatype)[0] is pathlib.Path

    def signal(self) -> Any:
        return self._widget.currentPathChanged

    def read(self) -> pathlib.Path:
        return pathlib.Path(self._widget.currentPath)

    def write(self, value: pathlib.Path) -> None:
        self._widget.currentPath = str(value)


@parameterNodeGuiConnector
class DirectoryButton(GuiConnector):
    """A button that shows a folder."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return type(widget) is ctk.ctkDirectoryButton and split(datatype)[0] is pathlib.Path

    def signal(self) -> Any:
        return self._widget.directoryChanged

    def read(self) -> pathlib.Path:
        return pathlib.Path(self._widget.directory)

    def write(self, value: pathlib.Path) -> None:
        self._widget.directory = str(value)


@parameterNodeGuiConnector
class NodeSelector(GuiConnector):
    """A node selector; it lists the type's classes."""

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return type(widget) is slicer.qMRMLNodeComboBox and all(
            kind is type(None) or (isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode))
            for kind in _options(split(datatype)[0])
        )

    def prepare(self) -> None:
        classes = [kind for kind in _options(self._kind) if kind is not type(None)]
        self._widget.nodeTypes = [cls().GetClassName() for cls in classes]

    def signal(self) -> Any:
        return self._widget.currentNodeChanged

    def read(self) -> Any:
        return self._widget.currentNode()

    def write(self, value: Any) -> None:
        self._widget.setCurrentNode(value)


def _options(kind: Any) -> tuple:
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)

"""The decorator ``parameterNodeWrapper``."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qt
import slicer
import vtk
from slicer.parameterNodeWrapper.annotations import Default, Validator, first, split
from slicer.parameterNodeWrapper.connectors import GuiConnector, createGuiConnector
from slicer.parameterNodeWrapper.serializers import createSerializer

SlicerParameterNamePropertyName = "SlicerParameterName"


@dataclass
class Parameter:
    """One typed parameter."""

    name: str
    datatype: Any
    serializer: Any
    validators: list[Validator]
    default: Default

    def isIn(self, node: Any) -> bool:
        return self.serializer.isIn(node, self.name)

    def read(self, node: Any) -> Any:
        if not self.isIn(node):
            self.write(node, self.default.value)
        return self.serializer.read(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        self.serializer.validate(value)
        for validator in self.validators:
            validator.validate(value)
        self.serializer.write(node, self.name, value)


def _parameter(cls: type, name: str, hint: Any) -> Parameter:
    kind, annotations = split(hint)
    serializer = createSerializer(kind)
    default = Default(getattr(cls, name)) if hasattr(cls, name) else first(annotations, Default)
    validators = [item for item in annotations if isinstance(item, Validator)]
    return Parameter(name, hint, serializer, validators, default or Default(serializer.default))


def _property(parameter: Parameter) -> property:
    return property(
        lambda self: parameter.read(self.parameterNode),
        lambda self, value: parameter.write(self.parameterNode, value),
    )


class _Wrapper:
    """What the decorated class gains."""

    allParameters: typing.ClassVar[dict[str, Parameter]] = {}

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._connected: dict[int, tuple[dict[str, GuiConnector], int]] = {}
        self._updating = False
        self._nextTag = 0
        for parameter in self.allParameters.values():
            if not parameter.isIn(parameterNode):
                parameter.write(parameterNode, parameter.default.value)

    def getValue(self, name: str) -> Any:
        return self._named(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._named(name).write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return self._named(name).default

    def isCached(self, name: str) -> bool:
        return False

    @classmethod
    def dataType(cls, name: str) -> Any:
        return cls._named(name).datatype

    @classmethod
    def _named(cls, name: str) -> Parameter:
        if name not in cls.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {sorted(cls.allParameters)}")
        return cls.allParameters[name]

    def connectGui(self, gui: Any) -> int:
        """Binds the widgets that have the dynamic property SlicerParameterName; a tag for `disconnectGui`."""
        isWidget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if isWidget else gui.__dict__.values()
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Binds widgets, or connectors, to parameters by name."""
        kinds = {name: self.dataType(name) for name in mapping}
        connectors = {
            name: target if isinstance(target, GuiConnector) else createGuiConnector(target, kinds[name])
            for name, target in mapping.items()
        }
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._writing(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._show())
        tag, self._nextTag = self._nextTag, self._nextTag + 1
        self._connected[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        """Ends what `connectGui` began; does nothing where it has ended."""
        connectors, observer = self._connected.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def _writing(self, name: str, connector: GuiConnector) -> Callable[[], None]:
        def write() -> None:
            with slicer.util.NodeModify(self):
                if not self._updating:
                    self.setValue(name, connector.read())

        return write

    def _show(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _ in list(self._connected.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> None:
        self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Callable, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: the annotated names become typed parameters of a parameter node.

    Raises:
        ValueError: a parameter has a name that the wrapper needs.
    """
    if classtype is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(classtype, include_extras=True)
    reserved = sorted(name for name in hints if hasattr(_Wrapper, name))
    if reserved:
        raise ValueError(f"Cannot use reserved name '{reserved[0]}' in a parameterNodeWrapper")
    parameters = {name: _parameter(classtype, name, hint) for name, hint in hints.items()}
    members = {name: _property(parameter) for name, parameter in parameters.items()}
    kept = {"__module__": classtype.__module__, "__doc__": classtype.__doc__, "allParameters": parameters}
    return type(classtype.__name__, (_Wrapper, classtype), members | kept)


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    return isinstance(classOrObj, _Wrapper) or (isinstance(classOrObj, type) and issubclass(classOrObj, _Wrapper))


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    """The child that is bound to a parameter; None where there is none."""
    children = widget.findChildren(qt.QWidget)
    bound = (child for child in children if child.property(SlicerParameterNamePropertyName) == parameter)
    return next(bound, None)

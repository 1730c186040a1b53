"""Changes PySide6's classes to PythonQt's habits.

PythonQt, the binding inside Slicer, reads a Qt property as an attribute (``label.text``), connects signals by their C++
signature (``button.connect("clicked(bool)", slot)``) and drops arguments that a slot does not take.
"""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Callable, Iterable
from typing import Any

import shiboken6
from PySide6.QtCore import QObject

SIGNAL_TYPES = {"int": int, "bool": bool, "double": float, "QString": str}

_adapted: set[type] = set()
_connections: dict[tuple, list[Callable]] = {}
_plain_connect = QObject.connect
_plain_disconnect = QObject.disconnect
_plain_getattribute = QObject.__getattribute__


def adapt_module(module: types.ModuleType) -> None:
    """Adapts every class of a PySide6 module."""
    for member in list(vars(module).values()):
        if inspect.isclass(member) and issubclass(member, QObject):
            adapt_class(member)


def adapt_class(cls: type) -> None:
    """Turns the Qt properties of a class into Python properties; setters such as ``setText`` stay callable."""
    if cls in _adapted or not hasattr(cls, "staticMetaObject"):
        return
    _adapted.add(cls)
    for base in cls.__mro__[1:]:
        adapt_class(base)
    meta = cls.staticMetaObject
    for index in range(meta.propertyCount()):
        name = meta.property(index).name()
        own = index >= meta.propertyOffset() or name in cls.__dict__
        if own and not name.startswith("_") and not isinstance(cls.__dict__.get(name), property):
            _set_attribute(cls, name, _property(cls, name, meta.property(index).isWritable()))


class QtProperty(property):
    """A property of the instances, while the class still has the method of that name (``QTimer.singleShot(...)``)."""

    method: Any = None

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return super().__get__(instance, owner) if instance is not None else self.method or self


def _property(cls: type, name: str, writable: bool) -> QtProperty:
    getter = getattr(cls, name, None)
    setter = getattr(cls, "set" + name[0].upper() + name[1:], None)
    write = None
    if setter is not None:
        write = lambda self, value: setter(self, value)  # noqa: E731
    elif writable:
        write = lambda self, value: QObject.setProperty(self, name, value)  # noqa: E731
    made = QtProperty(_reading(name, getter), write)
    made.method = getter
    return made


def _reading(name: str, getter: Any) -> Callable:
    def read(self: QObject) -> Any:
        if callable(getter):
            with contextlib.suppress(TypeError):  # not the getter but a static function, such as QTimer.singleShot
                return getter(self)
        return QObject.property(self, name)

    return read


def _set_attribute(cls: type, name: str, value: object) -> None:
    try:
        setattr(cls, name, value)
    except (TypeError, AttributeError):  # a class that PySide6 has closed: its property stays a method
        return


def install() -> None:
    """Gives every QObject PythonQt's ``name``, ``delete``, ``className``, ``connect`` and ``disconnect``."""
    QObject.name = property(
        lambda self: QObject.property(self, "objectName"), lambda self, name: self.setObjectName(name)
    )
    QObject.delete = lambda self: shiboken6.delete(self)
    QObject.className = lambda self: self.metaObject().className()
    QObject.__getattribute__ = _getattribute


def _getattribute(self: QObject, name: str) -> Any:
    # PySide6 looks these two up in a way of its own, so that replacing them on the class has no effect.
    if name == "connect":
        return types.MethodType(connect, self)
    if name == "disconnect":
        return types.MethodType(disconnect, self)
    return _plain_getattribute(self, name)


def connect(sender: QObject, *arguments: Any) -> Any:
    """``sender.connect("signal(types)", slot)``, or ``(signal, receiver, "slot(types)")``."""
    if isinstance(arguments[0], QObject):  # the static form, which Qt's own classes use
        return _plain_connect(*arguments)
    slot = _slot(arguments[1:])
    wrapped = truncating(slot)
    signal(sender, arguments[0]).connect(wrapped)
    _connections.setdefault(_key(sender, arguments[0], slot), []).append(wrapped)
    return True


def disconnect(sender: QObject, *arguments: Any) -> Any:
    """Ends what `connect` began; False where there was no such connection."""
    if isinstance(arguments[0], QObject):
        return _plain_disconnect(*arguments)
    wrapped = _connections.get(_key(sender, arguments[0], _slot(arguments[1:])))
    if not wrapped:
        return False
    signal(sender, arguments[0]).disconnect(wrapped.pop())
    return True


def signal(sender: QObject, signature: str) -> Any:
    """The bound signal of a C++ signature such as ``valueChanged(int)``."""
    name, _, rest = signature.partition("(")
    bound = getattr(sender, name)
    names = [
        part for part in rest.rstrip(")").replace("const ", "").replace("&", "").replace(" ", "").split(",") if part
    ]
    if not names or not hasattr(bound, "__getitem__"):
        return bound
    parameters = tuple(SIGNAL_TYPES.get(part, part) for part in names)
    try:
        return bound[parameters if len(parameters) > 1 else parameters[0]]
    except (KeyError, IndexError, TypeError):
        return bound


def truncating(slot: Callable) -> Callable:
    """A slot that is called with no more arguments than it takes, as PythonQt calls it."""
    count = _argument_count(slot)
    if count is None:
        return lambda *arguments: slot(*arguments)
    return lambda *arguments: slot(*arguments[:count])


def _argument_count(slot: Callable) -> int | None:
    try:
        parameters: Iterable[inspect.Parameter] = inspect.signature(slot).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )


def _slot(target: tuple) -> Callable:
    return target[0] if len(target) == 1 else getattr(target[0], target[1].partition("(")[0])


def _key(sender: QObject, signature: str, slot: Callable) -> tuple:
    return (id(sender), signature, id(getattr(slot, "__self__", None)), getattr(slot, "__func__", slot))

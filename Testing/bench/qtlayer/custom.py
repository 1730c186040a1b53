"""Custom widgets: their register, and the Qt properties by which .ui files set them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from PySide6.QtCore import Property
from PySide6.QtWidgets import QWidget

CUSTOM_WIDGETS: dict[str, type[QWidget]] = {}

Widget = TypeVar("Widget", bound=type[QWidget])


def custom_widget(cls: Widget) -> Widget:
    """Class decorator: .ui files may name this class, and each of its Qt properties has a method ``setProperty``."""
    CUSTOM_WIDGETS[cls.__name__] = cls
    for base in cls.__mro__:
        for name, member in list(vars(base).items()):
            setter = "set" + name[0].upper() + name[1:]
            if isinstance(member, Property) and member.fset is not None and not hasattr(cls, setter):
                setattr(cls, setter, _setter(name))
    return cls


def _setter(name: str) -> Callable:
    def set_property(self: QWidget, value: Any) -> None:
        setattr(self, name, value)

    return set_property


def kept(name: str, kind: type | str, default: Any) -> Property:
    """A Qt property that is remembered and has no other effect on the bench."""
    key = f"_{name}"
    return Property(
        kind, lambda self: self.__dict__.get(key, default), lambda self, value: self.__dict__.__setitem__(key, value)
    )


def forwarded(child: str, name: str, kind: type | str) -> Property:
    """A Qt property that is the same property of a child widget, kept in the attribute ``child``."""
    return Property(
        kind,
        lambda self: getattr(getattr(self, child), name),
        lambda self, value: setattr(getattr(self, child), name, value),
    )

"""The adapters that there are, by the name that cards call them.

A method registers itself; a file in this package is found without being named anywhere, one elsewhere once it is
imported.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from SAMLungSegLib.errors import ModelError

if TYPE_CHECKING:  # torch takes seconds to import
    from SAMLungSegLib.adapters.base import Adapter

    Method = TypeVar("Method", bound=type[Adapter])

PREFIX = "image_encoder.adapters."  # of the names of their weights

_METHODS: dict[str, type[Adapter]] = {}


def register_adapter(name: str) -> Callable[[Method], Method]:
    """Make a class of adapters known as `name`, which cards hold: a class decorator.

    Raises:
        ModelError: another class has that name.
    """

    def register(method: Method) -> Method:
        if name in _METHODS:
            raise ModelError(f"There is an adapter '{name}' already, {_METHODS[name].__name__}; choose another name.")
        method.name = name
        _METHODS[name] = method
        return method

    return register


def adapter_names() -> tuple[str, ...]:
    """All methods, in alphabetical order."""
    _import_methods()
    return tuple(sorted(_METHODS))


def adapter_class(name: str) -> type[Adapter]:
    """The method called `name`.

    Raises:
        ModelError: no such method; the message lists those there are.
    """
    names = adapter_names()
    if name not in names:
        raise ModelError(f"There is no adapter {name!r}; choose one of {', '.join(names)}.")
    return _METHODS[name]


def adapter_from(name: str, settings: Mapping[str, Any]) -> Adapter:
    """The adapter that a card describes.

    Args:
        name: of the method.
        settings: as of `Adapter.settings`; what is left out is as by default.
    Raises:
        ModelError: no such method, or settings that it does not have or that are not possible.
    """
    method = adapter_class(name)
    known = [field.name for field in fields(method)]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ModelError(f"The adapter '{name}' has no setting {unknown[0]!r}; it has {', '.join(known)}.")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    try:
        return method(**values)
    except TypeError as error:
        raise ModelError(f"The settings of the adapter '{name}' are not possible ({error}).") from error


@cache
def _import_methods() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")

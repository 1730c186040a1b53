"""The adapters that there are, by the name that cards call them.

A method registers itself; a file in this package is found without being named anywhere, one elsewhere once it is
imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from SAMLungSegLib.named import NamedClasses

if TYPE_CHECKING:  # torch takes seconds to import
    from SAMLungSegLib.adapters.base import Adapter

    Method = TypeVar("Method", bound=type[Adapter])

PREFIX = "image_encoder.adapters."  # of the names of their weights

METHODS: NamedClasses[Adapter] = NamedClasses("adapter", __name__.rpartition(".")[0])


def register_adapter(name: str) -> Callable[[Method], Method]:
    """Make a class of adapters known as `name`, which cards hold: a class decorator.

    Raises:
        ModelError: another class has that name.
    """

    def register(method: Method) -> Method:
        METHODS.add(name, method)
        method.name = name
        return method

    return register


def adapter_names() -> tuple[str, ...]:
    """All methods, in alphabetical order."""
    return METHODS.names()


def adapter_class(name: str) -> type[Adapter]:
    """The method called `name`.

    Raises:
        ModelError: no such method; the message lists those there are.
    """
    return METHODS.named(name)


def adapter_from(name: str, settings: Mapping[str, Any]) -> Adapter:
    """The adapter that a card describes.

    Args:
        name: of the method.
        settings: as of `Adapter.settings`; what is left out is as by default.
    Raises:
        ModelError: no such method, or settings that it does not have or that are not possible.
    """
    return METHODS.made(name, settings)

"""An extension of a model, and the ones that there are, by the name that cards call them.

Its weights are a part of the network, `network.extension`, beside image encoder, prompt encoder and mask decoder; what
training writes of it lies under 'extension.' in a file of weights, whose card names the extension and its settings.

A file in this package is found without being named anywhere, one elsewhere once it is imported.
"""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from SAMLungSegLib.errors import ModelError

if TYPE_CHECKING:  # torch takes seconds to import
    from SAMLungSegLib.models.trainable import TrainableModel

    Kind = TypeVar("Kind", bound=type["Extension"])

PREFIX = "extension."  # of the names of their weights

_EXTENSIONS: dict[str, type[Extension]] = {}


class Extension(ABC):
    """An extension with its settings: a frozen dataclass whose fields are numbers, texts and tuples of these.

    Attributes:
        name: under which it is registered.
    """

    name: ClassVar[str]

    @abstractmethod
    def added_to(self, model: TrainableModel) -> TrainableModel:
        """A model with the extension, whose predictions of what the other could predict are the same at the start.

        Args:
            model: without an extension; its network gets the module `extension`, on the model's device. Random numbers
                are torch's. It may be changed and returned, or another one with the same network.
        Raises:
            ModelError: it cannot have this extension.
        """

    @property
    def settings(self) -> dict[str, Any]:
        """As a card holds them."""
        return {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()}  # type: ignore[call-overload]  # of a dataclass


def extend(model: TrainableModel, extension: Extension) -> TrainableModel:
    """The model with an extension, which `extension_of` names from then on.

    Raises:
        ModelError: as `Extension.added_to`, or the model has one.
    """
    if has_extension(model):
        raise ModelError(f"Model {model.name} has the extension '{extension_of(model).name}' already; load it anew.")
    extended = extension.added_to(model)
    extended.network.extension.made_by = extension
    return extended


def has_extension(model: TrainableModel) -> bool:
    """Whether a model has one."""
    return hasattr(model.network, "extension")


def extension_of(model: TrainableModel) -> Extension:
    """The extension that a model has.

    Raises:
        ModelError: it has none.
    """
    found: Extension = model.part("extension").made_by
    return found


def register_extension(name: str) -> Callable[[Kind], Kind]:
    """Make a class of extensions known as `name`, which cards hold: a class decorator.

    Raises:
        ModelError: another class has that name.
    """

    def register(kind: Kind) -> Kind:
        if name in _EXTENSIONS:
            raise ModelError(f"There is an extension '{name}' already; choose another name.")
        kind.name = name
        _EXTENSIONS[name] = kind
        return kind

    return register


def extension_names() -> tuple[str, ...]:
    """All there are, in alphabetical order."""
    _import_extensions()
    return tuple(sorted(_EXTENSIONS))


def extension_from(name: str, settings: Mapping[str, Any]) -> Extension:
    """The extension that a card describes.

    Raises:
        ModelError: no such extension, or settings that it does not have or that are not possible.
    """
    if name not in extension_names():
        raise ModelError(
            f"There is no extension {name!r}; known are {', '.join(extension_names()) or 'none'}. Weights of a newer "
            "version need that version."
        )
    kind = _EXTENSIONS[name]
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # each is a dataclass
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ModelError(f"The extension '{name}' has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}.")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()})
    except TypeError as error:
        raise ModelError(f"The settings of the extension '{name}' are not possible ({error}).") from error


@cache
def _import_extensions() -> None:
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")

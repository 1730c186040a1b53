"""An extension of a model, and the ones that there are, by the name that cards call them.

Its weights are a part of the network, `network.extension`, beside image encoder, prompt encoder and mask decoder; what
training writes of it lies under 'extension.' in a file of weights, whose card names the extension and its settings.

A file in this package is found without being named anywhere, one elsewhere once it is imported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.named import NamedClasses

if TYPE_CHECKING:  # torch takes seconds to import
    from SAMLungSegLib.models.trainable import TrainableModel

    Kind = TypeVar("Kind", bound=type["Extension"])

PREFIX = "extension."  # of the names of their weights

EXTENSIONS: NamedClasses[Extension] = NamedClasses(
    "extension", __name__.rpartition(".")[0], remedy="Weights of a newer version need that version."
)


@dataclass(frozen=True)
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
        return {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()}


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
        EXTENSIONS.add(name, kind)
        kind.name = name
        return kind

    return register


def extension_names() -> tuple[str, ...]:
    """All there are, in alphabetical order."""
    return EXTENSIONS.names()


def extension_from(name: str, settings: Mapping[str, Any]) -> Extension:
    """The extension that a card describes.

    Raises:
        ModelError: no such extension, or settings that it does not have or that are not possible.
    """
    return EXTENSIONS.made(name, settings)

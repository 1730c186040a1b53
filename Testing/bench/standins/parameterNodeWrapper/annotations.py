"""What may be written in ``Annotated[...]``: defaults, validators, hints for widgets."""

from __future__ import annotations

import abc
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Decimals:
    """Decimals that a spin box shows."""

    value: int


@dataclass
class SingleStep:
    """Step of a spin box."""

    value: float


class Default:
    """The value where none was set."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


class Validator(abc.ABC):
    """Refuses values."""

    @abc.abstractmethod
    def validate(self, value: Any) -> None:
        """Raises ValueError or TypeError where the value may not be set."""


class NotNone(Validator):
    """Anything but None."""

    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("the value must not be None")


@dataclass
class IsInstance(Validator):
    """An object of a class, or None."""

    classtype: Any

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"the value must be of type {self.classtype}, not {type(value)}: {value!r}")


@dataclass
class WithinRange(Validator):
    """From minimum to maximum."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"the value must be within [{self.minimum}, {self.maximum}], not {value}")


@dataclass
class Minimum(Validator):
    """No less than minimum."""

    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"the value must be at least {self.minimum}, not {value}")


@dataclass
class Maximum(Validator):
    """No more than maximum."""

    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"the value must be at most {self.maximum}, not {value}")


@dataclass
class Choice(Validator):
    """One of several."""

    choices: Sequence

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"the value must be one of {self.choices}, not {value!r}")


@dataclass
class Exclude(Validator):
    """None of several."""

    excludedValues: Sequence

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"the value must not be one of {self.excludedValues}")


def split(hint: Any) -> tuple[Any, list]:
    """The type and the annotations of a type hint; ``A | B`` becomes ``Union[A, B]``."""
    annotations: list = []
    if typing.get_origin(hint) is typing.Annotated:
        hint, *annotations = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        hint = typing.Union[tuple(typing.get_args(hint))]  # noqa: UP007  (made, not written)
    return hint, annotations


def first(annotations: Sequence, kind: type) -> Any:
    """The first annotation of a class; None where there is none."""
    return next((item for item in annotations if isinstance(item, kind)), None)

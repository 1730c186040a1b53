"""How values of each type are kept in a parameter node."""

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.parameterNodeWrapper.annotations import IsInstance, NotNone, Validator, split


@dataclass
class Text:
    """A value written as text."""

    validators: list[Validator]
    default: Any
    parse: Callable[[str], Any]
    format: Callable[[Any], str] = str

    def isIn(self, node: Any, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, self.format(value))

    def validate(self, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)

    def read(self, node: Any, name: str) -> Any:
        return self.parse(node.GetParameter(name))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


@dataclass
class Node:
    """A reference to another node of the scene."""

    validators: list[Validator]
    default: Any = None

    def isIn(self, node: Any, name: str) -> bool:
        return node.HasParameter(name)

    def validate(self, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")  # None is a value too, so that a reference alone does not say that one was set
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class OneOf:
    """A value of one of several types; each has a place of its own in the node."""

    def __init__(self, options: list) -> None:
        self.options = options
        optional = len(options) == 2 and options[1] is NONE
        self.default = None if optional else options[0].default

    def isIn(self, node: Any, name: str) -> bool:
        return any(option.isIn(node, f"{name}.{index}") for index, option in enumerate(self.options))

    def validate(self, value: Any) -> None:
        self._fitting(value)

    def _fitting(self, value: Any) -> int:
        """Index of the option that takes the value; None is taken by None only, not by a node type."""
        refusals: list[Exception] = [TypeError(f"no type of the Union takes {value!r}: add None to it")]
        for index, option in enumerate(self.options):
            if value is None and option is not NONE:
                continue
            try:
                option.validate(value)
            except (TypeError, ValueError) as refusal:
                refusals.append(refusal)
            else:
                return index
        raise refusals[-1]

    def write(self, node: Any, name: str, value: Any) -> None:
        chosen = self._fitting(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self.options[chosen].write(node, f"{name}.{chosen}", value)

    def read(self, node: Any, name: str) -> Any:
        held = (index for index, option in enumerate(self.options) if option.isIn(node, f"{name}.{index}"))
        index = next(held)
        return self.options[index].read(node, f"{name}.{index}")

    def remove(self, node: Any, name: str) -> None:
        for index, option in enumerate(self.options):
            option.remove(node, f"{name}.{index}")


class _MustBeNone(Validator):
    def validate(self, value: Any) -> None:
        if value is not None:
            raise ValueError("the value must be None")


NONE = Text([_MustBeNone()], None, lambda text: None, lambda value: "None")
_PLAIN = {
    int: Text([NotNone(), IsInstance(int)], 0, int),
    float: Text([NotNone(), IsInstance((int, float))], 0, float),
    str: Text([NotNone(), IsInstance(str)], "", str),
    bool: Text([NotNone(), IsInstance(bool)], False, lambda text: text == "True"),
    pathlib.Path: Text([NotNone(), IsInstance(pathlib.Path)], pathlib.Path(), pathlib.Path),
    type(None): NONE,
}


def createSerializer(kind: Any) -> Any:
    """How a type is kept.

    Raises:
        TypeError: the stand-in does not keep such a type.
    """
    if typing.get_origin(kind) is typing.Union:
        return OneOf([createSerializer(split(option)[0]) for option in typing.get_args(kind)])
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return Node([IsInstance(kind)])
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return Text([IsInstance(kind)], next(iter(kind)), _member_of(kind), lambda member: member.name)
    raise TypeError(f"the test bench's parameterNodeWrapper keeps no {kind}")


def _member_of(kind: type[enum.Enum]) -> Callable[[str], enum.Enum]:
    def parse(name: str) -> enum.Enum:
        if name not in kind.__members__:
            raise ValueError(f"the parameter node holds {name!r}, which is no name in {kind!r}")
        return kind[name]

    return parse

"""Classes that are chosen by a name and settings, such as adapters: each registers itself, and none is listed anywhere.

A file in the package of such classes is found by itself, one elsewhere once it is imported.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any, Generic, TypeVar

from SAMLungSegLib.errors import ModelError, SAMLungSegError

Base = TypeVar("Base")


class NamedClasses(Generic[Base]):
    """The dataclasses of a kind, by name.

    Args:
        what: a class is called in messages, such as 'adapter'.
        package: whose files are imported before names are looked up.
        error: that is raised.
        remedy: what to do where a name is not known; default: choose one of those there are.
    """

    def __init__(
        self, what: str, package: str, error: type[SAMLungSegError] = ModelError, *, remedy: str | None = None
    ) -> None:
        self._what, self._package, self._error, self._remedy = what, package, error, remedy
        self._classes: dict[str, type[Base]] = {}
        self._is_imported = False

    def add(self, name: str, one: type[Base]) -> None:
        """Make a class known.

        Raises:
            SAMLungSegError: of the kind that was given: another class has that name.
        """
        if name in self._classes:
            article, other = "an" if self._what[0] in "aeiou" else "a", self._classes[name].__name__
            raise self._error(f"There is {article} {self._what} '{name}' already, {other}; choose another name.")
        self._classes[name] = one

    def names(self) -> tuple[str, ...]:
        """All there are, in alphabetical order."""
        if not self._is_imported:
            for module in pkgutil.iter_modules(import_module(self._package).__path__):
                import_module(f"{self._package}.{module.name}")
            self._is_imported = True
        return tuple(sorted(self._classes))

    def named(self, name: str) -> type[Base]:
        """The class called `name`.

        Raises:
            SAMLungSegError: of the kind that was given: there is none; the message lists those there are.
        """
        names = self.names()
        if name not in names:
            listed = ", ".join(names) or "none"
            advice = f"choose one of {listed}" if self._remedy is None else f"known are {listed}. {self._remedy}"
            raise self._error(f"There is no {self._what} '{name}'; {advice.rstrip('.')}.")
        return self._classes[name]

    def check_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings that a class does not have.

        Raises:
            SAMLungSegError: of the kind that was given: it has none of that name, or there is no such class.
        """
        known = [one.name for one in fields(self.named(name))]  # type: ignore[arg-type]  # each is a dataclass
        unknown = next((key for key in settings if key not in known), None)
        if unknown is not None:
            raise self._error(
                f"The {self._what} '{name}' has no setting '{unknown}'; it has {', '.join(known) or 'none'}."
            )

    def made(self, name: str, settings: Mapping[str, Any]) -> Base:
        """An object of a class, with settings as a JSON file holds them, where lists stand for tuples.

        Raises:
            SAMLungSegError: of the kind that was given: no such class, or settings that it does not have or that are
                not possible.
        """
        self.check_settings(name, settings)
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
        try:
            return self._classes[name](**values)
        except TypeError as error:
            raise self._error(f"The settings of the {self._what} '{name}' are not possible ({error}).") from error

"""Exceptions that no caller sees: those of Qt slots and VTK observers, which Slicer prints in its Python console."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType


class Faults:
    """Collects such exceptions, so that a test can fail by them."""

    def __init__(self) -> None:
        self._caught: list[BaseException] = []
        self._hook = sys.excepthook

    def __enter__(self) -> Faults:
        self._hook, sys.excepthook = sys.excepthook, self._catch
        return self

    def __exit__(self, *exception: object) -> None:
        sys.excepthook = self._hook

    def _catch(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self._caught.append(error)
        traceback.print_exception(kind, error, trace)

    def take(self) -> list[BaseException]:
        """The exceptions since the last call."""
        caught, self._caught = self._caught, []
        return caught

    def untold(self, told: list[str]) -> list[str]:
        """Those whose message is in none of the texts that a person was shown."""
        unseen = [error for error in self._caught if not any(str(error) and str(error) in text for text in told)]
        return ["".join(traceback.format_exception(error)).strip() for error in unseen]


faults = Faults()

"""What the library warns of while it works on a case, for the case's row of the table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

_LIBRARY = logging.getLogger("SAMLungSegLib")


class _Collector(logging.Handler):
    """Keeps the warnings of one thread."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes, self._thread = notes, get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and record.getMessage() not in self._notes:
            self._notes.append(record.getMessage())


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """The library's warnings of this thread, until the block ends."""
    notes: list[str] = []
    collector = _Collector(notes)
    _LIBRARY.addHandler(collector)
    try:
        yield notes
    finally:
        _LIBRARY.removeHandler(collector)

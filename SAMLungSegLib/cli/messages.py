"""What the library says on the way, on stderr: at once for one image, each kind of warning once over many of them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from tqdm import tqdm

from SAMLungSegLib.errors import SAMLungSegError

logger = logging.getLogger(__name__)

_LIBRARY = logging.getLogger("SAMLungSegLib")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLACEHOLDER = re.compile(r"%[-+.\d]*[a-z]")


def say_failure(error: Exception, about: object) -> None:
    """One line on stderr that says why something has no result."""
    if isinstance(error, SAMLungSegError | OSError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = f"{about} needs more memory than there is; give a smaller part of it."
    else:
        logger.info("%s failed", about, exc_info=error)
        text = f"{about} cannot be used, unexpected {type(error).__name__}: {error}"
    say(f"samlungseg: {one_line(text)}")


def one_line(text: str) -> str:
    """A message whose names hold line breaks or other control characters, with these written as \\n, \\x1b."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


@contextmanager
def messages_on_stderr(*, verbose: bool, many: bool) -> Iterator[None]:
    """Show the warnings of a command above its progress bars.

    Args:
        verbose: say what is done as well, of each image, and every warning when it comes up.
        many: the command works on many images: hold warnings until the end and say each kind once, with a count.
    """
    console = _Console(hold=many and not verbose)
    before = _LIBRARY.level
    _LIBRARY.setLevel(logging.DEBUG if verbose else before)
    logging.getLogger().addHandler(console)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(console)
        _LIBRARY.setLevel(before)
        console.say_held()


def once_with_count(notes: Iterable[tuple[str, str]]) -> Iterator[str]:
    """'case: note' for each kind of note, with the number of further cases that it is about.

    Args:
        notes: name of a case and what is noted about it; notes that differ in numbers only are one kind.
    """
    cases: dict[str, dict[str, str]] = {}
    for case, note in notes:
        cases.setdefault(_NUMBER.sub("#", note), {}).setdefault(case, note)
    for noted in cases.values():
        (case, note), *more = noted.items()
        yield _counted(f"{case}: {note}", len(more))


def _counted(text: str, more: int) -> str:
    return f"{text} (and {more} more case{'s' if more > 1 else ''})" if more else text


class _Console(logging.Handler):
    """Writes above progress bars; may hold warnings back. What is less than an error is said once."""

    def __init__(self, *, hold: bool) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self._hold = hold
        self._said: set[str] = set()
        self._held: dict[str, dict[str, None]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record) if record.exc_info else one_line(self.format(record))
        if self._hold and record.levelno == logging.WARNING:
            self._held.setdefault(_kind(record), {})[text] = None
        elif text not in self._said or record.levelno > logging.WARNING:
            self._said.add(text)
            say(text)

    def say_held(self) -> None:
        for first, *more in self._held.values():
            say(_counted(first, len(more)))
        self._held.clear()


def say(text: str) -> None:
    """Write a line on stderr, above progress bars."""
    with suppress(OSError):  # nobody reads any more
        tqdm.write(text, file=sys.stderr)


def _kind(record: logging.LogRecord) -> str:
    """What warnings have in common that are said of different cases: the text around names and numbers."""
    template, arguments = str(record.msg), record.args if isinstance(record.args, tuple) else ()
    if arguments and re.search("[a-z]", _PLACEHOLDER.sub("", template)):
        return template
    text = record.getMessage()
    head, colon, _ = text.partition(": ")  # what another process says is put together already
    about = str(arguments[0]) if arguments else head if colon else ""
    return _NUMBER.sub("#", text.replace(about, ""))

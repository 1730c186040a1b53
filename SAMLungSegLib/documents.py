"""Documents that were handed over, such as cards, recipes and lists: read within limits, or refused in words.

Whatever a file holds, reading it ends soon and in one kind of error: pipes and devices are not opened, and neither
size nor depth nor numbers go beyond what any document of this program needs.
"""

from __future__ import annotations

import json
import math
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from SAMLungSegLib.errors import SAMLungSegError

MOST_BYTES = 16 << 20
MOST_DEPTH = 50
_MOST_DIGITS = 100
_LARGEST_NUMBER = 1e300
_NOT_WAITING = getattr(os, "O_NONBLOCK", 0)


class DocumentError(SAMLungSegError):
    """A document cannot be read: absent, no regular file, too large, or not of its format."""


def read_bytes(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """What a regular file holds.

    Raises:
        DocumentError: with its name; it is absent, a folder, a pipe or a device, or larger than `most_bytes`.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DocumentError(f"{path} is no regular file")
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:  # the latter for names that no file can have
        raise DocumentError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(content) > most_bytes:
        raise DocumentError(f"{path} has more than {most_bytes / (1 << 20):g} MB")
    return content


def read_text(path: Path, *, most_bytes: int = MOST_BYTES) -> str:
    """The text in a UTF-8 file, with or without byte order mark.

    Raises:
        DocumentError: as `read_bytes`, or it is no such text.
    """
    content = read_bytes(path, most_bytes=most_bytes)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path} is no text in UTF-8") from error


def read_json(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """What a JSON file says.

    Raises:
        DocumentError: as `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, most_bytes=most_bytes), str(path))


def parse_json(text: str | bytes, what: str) -> Any:
    """What a JSON text says; stricter than Python, which takes NaN, 1e999, names twice, and any depth that it can.

    Args:
        text: the document.
        what: it is called in messages.
    Raises:
        DocumentError: it is not JSON, deeper than `MOST_DEPTH`, or says a number that is not finite or a name twice.
    """
    try:
        content = json.loads(
            text, parse_int=_whole, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_object
        )
    except RecursionError:
        raise DocumentError(f"{what} is nested more than {MOST_DEPTH} deep") from None
    except ValueError as error:
        raise DocumentError(f"{what} is not JSON ({error})") from error
    if is_deep(content):
        raise DocumentError(f"{what} is nested more than {MOST_DEPTH} deep")
    return content


def read_toml(path: Path, *, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        DocumentError: as `read_text`, or it is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # which not every Python has before anything is installed
        import tomli as tomllib

    text = read_text(path, most_bytes=most_bytes)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not TOML ({error})") from error


def is_matrix(content: Any) -> bool:
    """Whether it is four rows of four finite numbers."""
    rows = content if isinstance(content, list) else []
    is_square = len(rows) == 4 and all(isinstance(row, list) and len(row) == 4 for row in rows)
    return is_square and all(is_number(value) for row in rows for value in row)


def is_number(value: Any) -> bool:
    """Whether it is a finite number; truth is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST_NUMBER


def is_deep(content: Any) -> bool:
    """Whether lists and objects lie in one another more than `MOST_DEPTH` times."""
    level = [content]
    for _ in range(MOST_DEPTH + 1):
        level = [child for one in level for child in _children(one)]
        if not level:
            return False
    return True


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe as well that nobody writes to."""
    return os.open(path, flags | _NOT_WAITING)


def _children(one: Any) -> Sequence[Any]:
    return list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else ()


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text) if len(text) <= _MOST_DIGITS else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no finite number")
    return number


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("an object has a name twice")
    return fields

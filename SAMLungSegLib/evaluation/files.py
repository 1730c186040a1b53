"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> Path:
    """Write a file as UTF-8; its path."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write a table with six significant digits; its path."""
    return write_text(table.to_csv(index=False, float_format="%.6g"), path)

"""The pieces of a study: each is made once, and kept as long as what it was made with is the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from SAMLungSegLib.files import as_output_error, writable_folder, write_text

RESULT_NAME = "result.json"
RUNS = "runs"


def pieces_folder(output: Path, *, overwrite: bool) -> Path:
    """Where the pieces of a study lie in its output folder; without those of another study if wished."""
    folder = writable_folder(output) / RUNS
    if overwrite and folder.is_dir():
        with as_output_error(folder):
            shutil.rmtree(folder)
    return folder


def piece(folder: Path, facts: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result in `folder` if it was made with the same facts, otherwise a new one, written when it is complete."""
    path, facts = folder / RESULT_NAME, json.loads(json.dumps(facts))
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["made_with"] == facts:
            return kept
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    writable_folder(folder)
    result = json.loads(json.dumps({"made_with": facts, **make()}))  # numbers as they will be read
    write_text(json.dumps(result, indent=1) + "\n", path)
    return result

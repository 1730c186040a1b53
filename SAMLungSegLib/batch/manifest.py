"""A list of images: a table (.csv) or a list of objects (.json)."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.folders import case_of_file
from SAMLungSegLib.batch.settings import BatchError
from SAMLungSegLib.documents import DocumentError, parse_json, read_text
from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.intensity import MODALITIES
from SAMLungSegLib.pipeline import VolumeBox, VolumePoint
from SAMLungSegLib.replay import prompts_from
from SAMLungSegLib.volume.dicom import modality_of_code

MANIFEST_EXTENSIONS = (".csv", ".json")

_LARGEST_BYTES = 1 << 28
_NOT_PROMPTS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    SAMLungSegError,
)


def cases_of_manifest(path: Path) -> Iterator[Case]:
    """A case for each row: `image`, and where given `id`, `series`, `modality`, `reference` and `prompts`.

    Modality is auto, ct, xray or a DICOM code such as DX. Paths are relative to the manifest. Prompts are a JSON
    object {"points": [{"ijk": [...], "positive": true}], "boxes": [{"first_ijk": [...], "last_ijk": [...]}]}, or the
    path of a file with one, such as the recipe of an earlier result. Other columns are left alone.

    Raises:
        BatchError: the file cannot be read, or has no images.
    """
    rows = _rows(path)
    if not rows or not all(isinstance(row, Mapping) and row.get("image") for row in rows):
        raise BatchError(f"{path} is no list of images; give a table with a column 'image', or such a JSON list.")
    twice = [name for name, count in Counter(str(row["id"]) for row in rows if row.get("id")).items() if count > 1]
    if twice:
        raise BatchError(f"{path} has the id '{twice[0]}' more than once; give each image one of its own.")
    for row in rows:
        yield _case(row, path.parent)


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        text = read_text(path, most_bytes=_LARGEST_BYTES)
        is_table = path.suffix.lower() == ".csv"
        content = list(csv.DictReader(io.StringIO(text))) if is_table else json.loads(text)
    except (DocumentError, ValueError, csv.Error, RecursionError) as error:
        raise BatchError(f"{path} cannot be read as a list of images: {error}.") from error
    return content if isinstance(content, list) else []


def _case(row: Mapping[str, Any], folder: Path) -> Case:
    path = folder / str(row["image"])
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    try:
        case = case_of_file(path, name)
    except (OSError, ValueError) as error:  # such as a name that no file can have
        case = Case(name, path, problem=f"{str(path)!r} cannot be an image: {error}.")
    case = replace(
        case,
        id=str(row.get("id") or case.id),
        given_id=str(row["id"]) if row.get("id") else None,
        series=str(row["series"]) if row.get("series") else None,
        reference=folder / str(row["reference"]) if row.get("reference") else None,
    )
    try:
        case = replace(case, modality=_modality(row.get("modality")))
    except BatchError as error:
        return replace(case, problem=f"{path}: {error}")
    try:
        points, boxes = _prompts(row.get("prompts"), folder)
    except _NOT_PROMPTS as error:
        return replace(case, problem=f"The prompts of {path} cannot be used ({error}); see docs/cohorts.md.")
    return replace(case, points=points, boxes=boxes)


def _modality(given: Any) -> str | None:
    """'CT', 'XRAY', or None where it is to be guessed.

    Raises:
        BatchError: neither CT nor X-ray.
    """
    code = str(given or "auto").strip().upper()
    if code == "AUTO":
        return None
    modality = code if code in MODALITIES else modality_of_code(code)
    if modality is None:
        raise BatchError(f"Modality '{given}' is neither CT nor X-ray; give auto, ct or xray.")
    return modality


def _prompts(given: Any, folder: Path) -> tuple[tuple[VolumePoint, ...], tuple[VolumeBox, ...]]:
    """Points and boxes of an object, of its text, or of a file with one."""
    if not given:
        return (), ()
    if isinstance(given, str) and not given.lstrip().startswith("{"):
        given = read_text(folder / given)
    fields = parse_json(given, "the text") if isinstance(given, str) else given
    return prompts_from(fields.get("options", fields))

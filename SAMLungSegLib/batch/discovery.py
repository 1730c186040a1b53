"""The images of a cohort, broken ones among them, with names that stay the same."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.folders import case_of_file, cases_below
from SAMLungSegLib.batch.settings import BatchError
from SAMLungSegLib.documents import DocumentError, parse_json, read_text
from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.evaluation.pairs import case_name
from SAMLungSegLib.files import real_path
from SAMLungSegLib.modality import MODALITIES
from SAMLungSegLib.pipeline import VolumeBox, VolumePoint
from SAMLungSegLib.provenance import prompts_from
from SAMLungSegLib.volume import is_image_path
from SAMLungSegLib.volume.dicom import modality_of_code
from SAMLungSegLib.volume.formats import pair_header

logger = logging.getLogger(__name__)

_MAGIC = re.compile(r"[*?\[]")
_UNSAFE = re.compile(r"[^\w.+-]+")
_LONGEST_ID_BYTES = 150
_MARK_LENGTH = 6


def find_cases(
    inputs: Sequence[str | Path], *, reference: Path | None = None, without: Iterable[Path] = ()
) -> list[Case]:
    """The cases of folders (with all below them), manifests (.csv, .json), patterns (with * or ?) and files.

    Args:
        inputs: any number of each.
        reference: folder with labelmaps, or one labelmap; a case is compared with the one of its name.
        without: folders to leave out.
    Returns:
        In the order of their ids.
    Raises:
        BatchError: there is no case, a manifest cannot be used, or no reference is named like a case.
    """
    if reference is not None and not reference.exists():
        raise BatchError(f"{reference} does not exist; give a folder of labelmaps, or one labelmap.")
    left_out = frozenset(real_path(path) for path in (*without, *([reference] if reference else [])))
    found = _once(_of_inputs(inputs, left_out))
    if not found:
        raise BatchError(f"{' and '.join(map(str, inputs))} holds no image; give a folder, a list or a pattern.")
    cases = sorted(_with_safe_ids(found), key=lambda case: case.id)
    return with_references(cases, reference.absolute()) if reference else cases


def _identity(case: Case) -> tuple[object, ...]:
    """What two cases have in common that are one: all that a list can say of them."""
    told = {
        "id": case.given_id,
        "reference": case.reference and str(case.reference),
        "modality": case.modality,
        "problem": case.problem,
    }
    return case.path, case.series, case.points, case.boxes, *(one for one in told.items() if one[1] is not None)


def _once(cases: Iterable[Case]) -> list[Case]:
    """The cases without those that were given before."""
    given = list(cases)
    found = {_identity(case): case for case in given}
    if len(found) < len(given):
        twice = next(one[0] for one, count in Counter(map(_identity, given)).items() if count > 1)
        logger.warning(
            "%d of %d images were given more than once and count once, such as %s.",
            len(given) - len(found),
            len(given),
            twice,
        )
    return list(found.values())


def _of_inputs(inputs: Sequence[str | Path], left_out: frozenset[Path]) -> Iterator[Case]:
    """What is wrong with one of several inputs costs that one; with all of them, the run."""
    problems = []
    for one in inputs:
        try:
            yield from _of_input(os.path.abspath(one), left_out)
        except (BatchError, OSError, ValueError) as error:
            problem = error if isinstance(error, BatchError) else BatchError(f"{one} cannot be used: {error}.")
            problems.append(Case(Path(one).name or "input", Path(one), problem=str(problem)))
            if len(problems) == len(inputs):
                raise problem from error
    yield from problems


def _of_input(text: str, left_out: frozenset[Path]) -> Iterator[Case]:
    path = Path(text)
    if path.is_dir():
        yield from cases_below(path, left_out)
    elif path.suffix.lower() in MANIFEST_EXTENSIONS and path.is_file():
        yield from cases_of_manifest(path)
    elif os.path.lexists(path):
        yield case_of_file(path, path.name)
    elif _MAGIC.search(text):
        yield from _of_pattern(text, left_out)
    else:
        raise BatchError(f"{path} does not exist; give a folder, a list of images, a pattern or an image.")


def _of_pattern(pattern: str, left_out: frozenset[Path]) -> Iterator[Case]:
    parts = Path(pattern).parts
    base = Path(*parts[: next(index for index, part in enumerate(parts) if _MAGIC.search(part))])
    matches = sorted({pair_header(Path(match)) for match in glob.glob(pattern, recursive=True)})
    for path in matches:
        if path.is_dir():
            yield from cases_below(path, left_out, base)
        elif is_image_path(path):
            yield case_of_file(path, path.relative_to(base).as_posix())


def _with_safe_ids(cases: Sequence[Case]) -> Iterator[Case]:
    """Ids as file names; those that would be equal, also where upper and lower case are one, get a mark each."""
    names = [_safe(case.id) for case in cases]
    count = Counter(name.casefold() for name in names)
    for case, name in zip(cases, names, strict=True):
        is_alone = count[name.casefold()] == 1
        yield replace(case, id=name if is_alone else f"{name}-{_mark(str(_identity(case)))}")


def _safe(name: str) -> str:
    safe = _UNSAFE.sub("_", name.replace("/", "__")).strip("._") or "image"
    if len(safe.encode()) <= _LONGEST_ID_BYTES:
        return safe
    return f"{safe.encode()[:_LONGEST_ID_BYTES].decode(errors='ignore')}-{_mark(name)}"


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_MARK_LENGTH]


def labelmaps_below(reference: Path) -> list[Path]:
    """The labelmap, or all below a folder; hidden ones do not count."""
    if not reference.is_dir():
        return [reference]
    return sorted(path for path in reference.rglob("*") if is_image_path(path) and not path.name.startswith("."))


def with_references(cases: Sequence[Case], reference: Path) -> list[Case]:
    """Cases with the labelmap of their name: the name in the cohort, or else the file's if only one has it.

    Raises:
        BatchError: no case has one.
    """
    files = labelmaps_below(reference)
    by_id = {_safe(_place_and_name(path.relative_to(reference))): path for path in files if path != reference}
    by_name: dict[str, list[Path]] = {}
    for path in files:
        by_name.setdefault(case_name(path), []).append(path)
    paired = [_with_reference(case, by_id, by_name, len(cases) == len(files) == 1) for case in cases]
    if not any(case.reference for case in paired):
        raise BatchError(f"{reference} holds no labelmap named like a case, such as {cases[0].id}.")
    return paired


def _place_and_name(relative: Path) -> str:
    """A relative path without extension and without endings that say what kind of file it is."""
    return (relative.parent / case_name(relative)).as_posix()


def _with_reference(case: Case, by_id: dict[str, Path], by_name: dict[str, list[Path]], is_only_pair: bool) -> Case:
    if case.reference is not None:
        return case
    alike = by_name.get(case_name(case.path), [])
    if is_only_pair:
        alike = next(iter(by_name.values()))
    found = by_id.get(case.id) or (alike[0] if len(alike) == 1 else None)
    return replace(case, reference=found)


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
    path of a file with one, such as the provenance record of an earlier result. Other columns are left alone.

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

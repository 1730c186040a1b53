"""Images and masks of the user's own, in several sets, as a manifest lists them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from SAMLungSegLib.documents import DocumentError, is_number, read_json, read_text, read_toml
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.evaluation.sides import check_labels
from SAMLungSegLib.training.data.cases import StudyCase, paired_cases, with_distinct_names
from SAMLungSegLib.training.data.organs import DrawnOrgans
from SAMLungSegLib.training.data.splits import PARTS
from SAMLungSegLib.volume import image_name
from SAMLungSegLib.volume.folders import is_dicom_folder

COLUMNS = ("image", "mask", "set", "patient", "split", "weight", "right", "left", "both", "modality", "organs")
SIDES = ("right", "left", "both")
MODALITIES = {"": None, "auto": None, "ct": "CT", "xray": "XRAY"}


def read_manifest(path: Path) -> list[StudyCase]:
    """The cases of all rows of a manifest.

    A row has `image` and `mask`, two files, a DICOM folder and a file, or two folders of images of the same names,
    relative to the manifest, and may have

    - `set`, its name; that of the folder if left out.
    - `split`: 'training', 'validation' or 'held_out', in all rows or in none.
    - `patient`: all images of one are in the same part.
    - `weight`: how often an image is drawn, relative to the others; 1 if left out.
    - `right`, `left`, `both`: label values of the mask, such as 1 or '1 2'; how masks tell the lungs by themselves
      says `evaluation.sides.side_codes`.
    - `modality`: 'ct', 'xray', or 'auto'.
    - `organs` that the mask draws, for adaptation: '1 pancreas 2 kidney', or a label set's name; lungs if left out.

    Args:
        path: a .csv file with these columns, or a .json or .toml file with a list `sets` of such rows.
    Raises:
        VolumeError: the file cannot be read, a row says something else, or files are missing or without a partner.
        SettingsError: label values that no labelmap could have.
    """
    rows = _rows(path)
    if not rows:
        raise VolumeError(f"{path} lists no images; give at least one row with image and mask.")
    cases = [case for number, row in enumerate(rows, start=1) for case in _cases(row, path.parent, f"{path}, {number}")]
    if len({bool(case.split) for case in cases}) > 1:
        raise VolumeError(f"{path} says the split of some rows only; give it in all of them, or in none.")
    return with_distinct_names(cases, path.parent)


def _rows(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        if path.suffix.lower() == ".csv":
            return list(csv.DictReader(io.StringIO(read_text(path))))
        content = read_toml(path) if path.suffix.lower() == ".toml" else read_json(path)
    except (DocumentError, ValueError, csv.Error, RecursionError) as error:
        raise VolumeError(f"{path} cannot be read as a manifest: {error}.") from error
    rows = content.get("sets") if isinstance(content, Mapping) else content
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise VolumeError(f"{path} is no manifest; give a list 'sets' of tables with image and mask each.")
    return rows


def _cases(row: Mapping[str, Any], folder: Path, where: str) -> list[StudyCase]:
    unknown = sorted(str(name) for name in set(row) - set(COLUMNS))
    if unknown:
        raise VolumeError(f"{where}: there is no column {', '.join(unknown)}; use {', '.join(COLUMNS)}.")
    for name in ("image", "mask"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise VolumeError(f"{where} has no {name}; give a file or a folder.")
    image, mask = folder / row["image"], folder / row["mask"]
    if image.is_dir() and mask.is_dir():
        cases = paired_cases(image, mask)
    elif mask.is_file() and (image.is_file() or is_dicom_folder(image)):
        cases = [StudyCase(image.parent.name, image_name(image), image, mask)]
    else:
        raise VolumeError(
            f"{where}: {image} and {mask} are neither two files nor two folders, nor a DICOM folder and a file; "
            "correct the paths."
        )
    facts = {
        "modality": _one_of(row, "modality", MODALITIES, where),
        "split": _one_of(row, "split", {"": "", **{part: part for part in PARTS}}, where),
        "patient": str(row.get("patient") or ""),
        "weight": _weight(row, where),
        "labels": _labels(row, where),
        "organs": _organs(row, folder, where),
    }
    if row.get("set"):
        facts["subset"] = str(row["set"])
    return [replace(case, **facts) for case in cases]


def _one_of(row: Mapping[str, Any], name: str, possible: Mapping[str, Any], where: str) -> Any:
    given = str(row.get(name) or "").strip().lower()
    if given not in possible:
        raise VolumeError(f"{where}: {name} is '{given}', expected one of {', '.join(filter(None, possible))}.")
    return possible[given]


def _weight(row: Mapping[str, Any], where: str) -> float:
    given = row.get("weight")
    if given in (None, ""):
        return 1.0
    try:
        weight = float(given)
    except (TypeError, ValueError):
        weight = float("nan")
    if isinstance(given, bool) or not is_number(weight) or weight <= 0:
        raise VolumeError(f"{where}: weight is {given!r}, expected a number above 0.")
    return weight


def _labels(row: Mapping[str, Any], where: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    labels = {side: _values(row[side], side, where) for side in SIDES if row.get(side) not in (None, "", [])}
    if labels:
        check_labels(labels)
    return tuple(labels.items())


def _organs(row: Mapping[str, Any], folder: Path, where: str) -> DrawnOrgans | None:
    given = row.get("organs")
    if given in (None, ""):
        return None
    try:
        return DrawnOrgans.parse(str(given), folder)
    except SettingsError as error:
        raise VolumeError(f"{where}: organs: {error}") from error


def _values(given: Any, side: str, where: str) -> tuple[int, ...]:
    listed = given if isinstance(given, list) else str(given).split()
    try:
        return tuple(int(str(value)) for value in listed)
    except ValueError as error:
        raise VolumeError(f"{where}: {side} is {given!r}, expected label values such as 1 or '1 2'.") from error

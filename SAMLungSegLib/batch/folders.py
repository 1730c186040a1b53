"""The images below a folder: files as they are, DICOM by series."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.journal import JOURNAL_NAME
from SAMLungSegLib.files import file_signature, real_path
from SAMLungSegLib.volume.formats import DICOM_EXTENSIONS, given_name, image_extension, is_marked_as_dicom, pair_header
from SAMLungSegLib.volume.guarded import series_of_files

logger = logging.getLogger(__name__)

_SEGMENTATION_EXTENSION = ".seg.nrrd"
_RESULT_ENDING, _OVERLAY_ENDING = "_lungs", "_lungs_overlay"
_DATA_OF_HEADERS = {".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz", ".img"), ".hdr": (".img", ".IMG")}
_META_BYTES = 1024
# DICOM objects without a picture: media directory, presentation states, waveforms, registration and segmentation,
# reports, documents, radiotherapy structures and plans.
_WITHOUT_PICTURE = tuple(
    f"1.2.840.10008.{one}".encode()
    for one in (
        *("1.3.10", "5.1.4.1.1.11.", "5.1.4.1.1.9.", "5.1.4.1.1.66", "5.1.4.1.1.88.", "5.1.4.1.1.104."),
        *("5.1.4.1.1.481.3", "5.1.4.1.1.481.5"),
    )
)


class _Slice(NamedTuple):
    """A DICOM file and what its header says; `series` is None where it cannot be read."""

    path: Path
    series: str | None
    modality: str | None


def cases_below(folder: Path, left_out: frozenset[Path] = frozenset(), base: Path | None = None) -> Iterator[Case]:
    """A case for each image file and DICOM series of a folder and all folders below it.

    Hidden files, results of this program and links that lead round in a circle are left out. DICOM files are grouped
    by their series, wherever they lie; X-rays of one series are an image each. Files that look like images and cannot
    be opened are cases with a problem.

    Args:
        folder: to look through, links to other folders included.
        left_out: folders, resolved, that are not looked at.
        base: what the names are relative to; `folder` itself by default.
    """
    base = base or folder
    slices: list[Path] = []
    for parent, names, unreadable in _walk(folder, left_out):
        yield from (Case(_name(path, base), path, problem=reason) for path, reason in unreadable)
        for name in names:
            path = parent / name
            extension = image_extension(path)
            if extension in (None, *DICOM_EXTENSIONS):
                slices += [path] if _is_dicom(path, extension) else []
            elif not _is_result(path):
                yield case_of_file(path, _name(path, base))
    yield from _cases_of_dicom(slices, base)


def case_of_file(path: Path, name: str) -> Case:
    """The case of one file or DICOM folder, which may not be there."""
    path = pair_header(path)
    name = name[: len(name) - len(image_extension(path) or "")]
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return Case(name, path, problem=f"{path} is no regular file; give an image file or a DICOM folder.")
        return Case(name, path, stamp=file_signature(_files_of(path)))
    except OSError as error:
        return Case(name, path, problem=f"{path} cannot be opened: {error.strerror or error}.")


def _files_of(path: Path) -> Sequence[Path]:
    """The files that hold an image: all of a folder, and the data beside a header."""
    if path.is_dir():
        return sorted(child for child in path.iterdir() if child.is_file())
    stem = path.name[: len(path.name) - len(path.suffix)]
    beside = [path.with_name(stem + extension) for extension in _DATA_OF_HEADERS.get(path.suffix.lower(), ())]
    return [path, *(data for data in beside if data.is_file())]


def _walk(folder: Path, left_out: frozenset[Path]) -> Iterator[tuple[Path, list[str], list[tuple[Path, str]]]]:
    """Each folder once, with the visible names in it and the folders that cannot be looked into."""
    seen = {_place(folder)}
    unreadable: list[tuple[Path, str]] = []

    def note(error: OSError) -> None:
        unreadable.append((Path(error.filename), f"{error.filename} cannot be looked into: {error.strerror}."))

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=note):
        folders[:] = sorted(name for name in folders if _is_new(Path(parent, name), seen, left_out))
        if JOURNAL_NAME in names:
            logger.info("%s holds the results of a run and is left out", parent)
            folders.clear()
            continue
        yield Path(parent), sorted(name for name in names if not name.startswith(".")), unreadable.copy()
        unreadable.clear()
    if unreadable:
        yield folder, [], unreadable


def _is_new(folder: Path, seen: set[tuple[int, int]], left_out: frozenset[Path]) -> bool:
    """Whether a folder is to be looked at: neither hidden, nor left out, nor seen before under another name."""
    if folder.name.startswith(".") or real_path(folder) in left_out:
        return False
    try:
        place = _place(folder)
    except OSError:  # which is told when it is looked into
        return True
    is_new = place not in seen
    seen.add(place)
    return is_new


def _place(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _name(path: Path, base: Path) -> str:
    """Where an image lies in the cohort; the cohort's own name where it is the image."""
    relative = path.relative_to(base)
    return relative.as_posix() if relative.parts else given_name(base)


def _is_result(path: Path) -> bool:
    """Whether this program has written a file: it says so itself, or has a provenance record beside it."""
    name = path.name[: -len(image_extension(path))]
    if name.endswith(_OVERLAY_ENDING):
        name = name.removesuffix(_OVERLAY_ENDING) + _RESULT_ENDING
    has_record = name.endswith(_RESULT_ENDING) and path.with_name(f"{name}.json").is_file()
    return has_record or path.name.lower().endswith(_SEGMENTATION_EXTENSION)


def _is_dicom(path: Path, extension: str | None) -> bool:
    """Whether a file is a DICOM image, by its name or its first bytes."""
    if not path.is_file():
        return extension is not None
    try:
        with path.open("rb") as file:
            head = file.read(_META_BYTES)
    except OSError:
        return extension is not None
    return (extension is not None or is_marked_as_dicom(path)) and not any(one in head for one in _WITHOUT_PICTURE)


def _cases_of_dicom(paths: Sequence[Path], base: Path) -> Iterator[Case]:
    slices = _headers(paths)
    series_in: dict[Path, set[str | None]] = {}
    by_series: dict[str, list[_Slice]] = {}
    for one in slices:
        series_in.setdefault(one.path.parent, set()).add(one.series)
        key = str(one.path) if one.series is None or one.modality == "XRAY" else one.series or str(one.path.parent)
        by_series.setdefault(key, []).append(one)
    for members in by_series.values():
        if len(members) == 1:
            yield case_of_file(members[0].path, _name(members[0].path, base))
        else:
            yield _case_of_series(members[0].series, [one.path for one in members], series_in, base)


def _headers(paths: Sequence[Path]) -> list[_Slice]:
    files = [path for path in paths if path.is_file()]
    found = dict(zip(files, series_of_files(files), strict=True))
    return [_Slice(path, *(found.get(path) or (None, None))) for path in paths]


def _case_of_series(series: str, paths: list[Path], series_in: dict[Path, set[str | None]], base: Path) -> Case:
    folders = {path.parent for path in paths}
    common = Path(os.path.commonpath(folders))
    is_alone = len(folders) == 1 and len(series_in[common]) == 1
    name = _name(common, base) if common != base or is_alone else ""
    is_scattered = len(folders) > 1 or None in series_in[common]  # what cannot be read must not be opened again
    case = Case(
        name if is_alone else f"{name}/{series.rpartition('.')[2]}".strip("/"),
        common,
        None if is_alone else series,
        tuple(paths) if is_scattered else (),
        slices=len(paths),
    )
    try:
        return replace(case, stamp=file_signature(paths))
    except OSError as error:
        return replace(case, problem=f"{common} cannot be read: {error.strerror or error}.")

"""Reading files that come from anywhere: all that opens them happens in a process whose death costs nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.isolation import Budget, ReaderDeathError, call
from SAMLungSegLib.volume.suspicion import check_regular
from SAMLungSegLib.volume.telling import tell_read
from SAMLungSegLib.volume.types import Volume

logger = logging.getLogger(__name__)

_SERVED = "SAMLungSegLib.volume.served"
_HEADERS_AT_ONCE = 64

Series = tuple[str, str | None]


def read_volume(path: str | os.PathLike, *, series: str | None = None, allow_gaps: bool = True) -> Volume:
    """Read an image with its place in the patient.

    A DICOM folder gives its one series, sorted along the slice normal; a DICOM file gives just this file. MONOCHROME1
    X-rays come inverted, so that bone is bright, and grey pictures saved in colour come as grey. Pictures (PNG, JPEG,
    TIFF) are taken as displayed, with columns towards the patient's left, and their pixels are not mm.

    Another process reads it, within limits of time and memory that grow with the file.

    Args:
        path: an image file (`IMAGE_EXTENSIONS`; any other name is tried as DICOM) or a folder of DICOM files.
        series: in a folder of several series, the series instance UID or a prefix or suffix that only it has.
        allow_gaps: whether a DICOM series whose slices are unevenly spaced is read with a warning, or refused.
    Raises:
        VolumeError: the file is absent, damaged, of another kind, in colour, 4D, or the folder has several series; or
            it crashes what reads it, or takes too long or too much memory.
        GeometryError: the directions or spacings of the file cannot be used.
    """
    path = Path(path)
    check_regular(path)
    budget = Budget.of_files(_files_of(path))
    return _volume(call(f"{_SERVED}:volume", [str(path), series, allow_gaps], path, budget), path)


def read_series(paths: Sequence[Path], folder: Path, allow_gaps: bool = True) -> Volume:
    """Read the DICOM files of one series below `folder`, which names the volume; as `read_volume` otherwise."""
    for path in paths:
        check_regular(path)
    arguments = [list(map(str, paths)), str(folder), allow_gaps]
    return _volume(call(f"{_SERVED}:volume_of_series", arguments, folder, Budget.of_files(paths)), folder)


def series_of_files(paths: Iterable[Path]) -> Iterator[Series | None]:
    """Series instance UID (empty where it has none) and 'CT', 'XRAY' or None of DICOM images, in their order.

    None where a file is no DICOM image, or crashes what reads it.
    """
    waiting = iter(paths)
    while some := list(islice(waiting, _HEADERS_AT_ONCE)):
        yield from _series_of(some)


def _series_of(paths: Sequence[Path]) -> list[Series | None]:
    try:
        found = call(f"{_SERVED}:series", [list(map(str, paths))], paths[0], Budget.of_headers(len(paths)), attempts=1)
        return [one and (str(one[0]), one[1]) for one in found]
    except ReaderDeathError:  # which of them it was is found one by one
        return [None] if len(paths) == 1 else [one for path in paths for one in _series_of([path])]


def size_of(path: Path) -> tuple[int, ...]:
    """Voxels along each axis of an image file, by its header.

    Raises:
        VolumeError, GeometryError: it cannot be read.
    """
    check_regular(path)
    return tuple(map(int, call(f"{_SERVED}:size", [str(path)], path, Budget.of_headers(1))))


def metadata_of(path: Path, name: str) -> str | None:
    """A text that an image file holds under a name, or in the segments' tags of that name where Slicer wrote it.

    Raises:
        VolumeError, GeometryError: it cannot be read.
    """
    check_regular(path)
    text = call(f"{_SERVED}:metadata", [str(path), name], path, Budget.of_headers(1))
    return None if text is None else str(text)


def _files_of(path: Path) -> list[Path]:
    try:
        return list(path.iterdir()) if path.is_dir() else [path]
    except OSError:  # which is told by what reads it
        return []


def _volume(values: dict[str, Any], source: Path) -> Volume:
    try:
        volume = Volume(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    except (TypeError, AttributeError) as error:
        raise VolumeError(f"{source} cannot be read: what came of it is no volume ({error}).") from error
    tell_read(logger, source, volume)
    return volume

"""What `guarded` has done in a process of its own: arguments and values are of JSON's types and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.volume.dicom import read_dicom_series, series_of
from SAMLungSegLib.volume.itk import readable
from SAMLungSegLib.volume.reading import read_volume_here
from SAMLungSegLib.volume.suspicion import check_before_opening
from SAMLungSegLib.volume.types import Volume

_HEADER_THREADS = 8

Values = dict[str, Any]


def volume(path: str, series: str | None, allow_gaps: bool) -> Values:
    """The fields of `read_volume_here`."""
    return _values(read_volume_here(path, series=series, allow_gaps=allow_gaps))


def volume_of_series(paths: Sequence[str], folder: str, allow_gaps: bool) -> Values:
    """The fields of `read_dicom_series`."""
    return _values(read_dicom_series([Path(path) for path in paths], Path(folder), allow_gaps))


def _values(volume: Volume) -> Values:
    return {field.name: getattr(volume, field.name) for field in fields(volume)}


def series(paths: Sequence[str]) -> list[tuple[str, str | None] | None]:
    """`series_of` each; None where it cannot be read."""
    with ThreadPoolExecutor(_HEADER_THREADS) as threads:
        return list(threads.map(_series_or_none, paths))


def _series_or_none(path: str) -> tuple[str, str | None] | None:
    try:
        return series_of(Path(path))
    except SAMLungSegError:
        return None


def size(path: str) -> list[int]:
    """Voxels along each axis, by the header."""
    return list(_header(path).GetSize())


def metadata(path: str, name: str) -> str | None:
    """A text that the header holds under a name, or that all tags of that name of Slicer's segments hold alike."""
    header = _header(path)
    if header.HasMetaDataKey(name):
        return header.GetMetaData(name)
    texts = {text for key in header.GetMetaDataKeys() for text in _tags(header, key, name)}
    return texts.pop() if len(texts) == 1 else None


def _tags(header: sitk.ImageFileReader, key: str, name: str) -> list[str]:
    """Texts of the tags of a segment that have a name, where Slicer's 'name:text|name:text' stands under the key."""
    if not (key.startswith("Segment") and key.endswith("_Tags")):
        return []
    parts = [one.partition(":") for one in header.GetMetaData(key).split("|")]
    return [text for tag, _, text in parts if tag == name]


def _header(path: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    with readable(Path(path)):
        check_before_opening(Path(path))
        reader.SetFileName(path)
        reader.ReadImageInformation()
    return reader

"""Files that are empty, truncated, or without their data file or spacing.

ITK reads some of them without complaint, as noise or grey, and refuses others for a reason that is not theirs.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.volume.formats import (
    HEADED_EXTENSIONS,
    JPEG_EXTENSIONS,
    NIFTI_EXTENSIONS,
    PAIR_DATA_EXTENSION,
    PAIR_EXTENSION,
    is_marked_as_dicom,
    pair_data,
)
from SAMLungSegLib.volume.nifti import is_gzipped, nifti_header

_JPEG_END = b"\xff\xd9"
_JPEG_TRAILER_BYTES = 1 << 16
_LARGEST_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 24
_LONGEST_TAIL_BYTES = 1 << 26
_FIELD = re.compile(r"([\w ]+?)\s*(?:=|:(?!=))\s*(.*?)\s*")  # MetaImage 'name = value', NRRD 'name: value'
_YES = ("true", "1")

Fields = dict[str, str]


def check_present(path: Path, extension: str | None) -> None:
    """Refuse an empty file, a header alone, or what ITK would call damaged or guess, before it opens it.

    Raises:
        VolumeError: there are no bytes, the data file of a header is missing or the header of a data file, or it is
            NIfTI-2 or ANALYZE 7.5.
    """
    if path.stat().st_size == 0:
        raise VolumeError(f"{path} is empty (0 bytes); copy or download it again.")
    if path.suffix.lower() == PAIR_DATA_EXTENSION and not is_marked_as_dicom(path):
        raise VolumeError(
            f"{path} cannot be read, its header {path.stem}{PAIR_EXTENSION} is missing; copy it to {path.parent}."
        )
    data_path = None
    if extension in NIFTI_EXTENSIONS:
        _check_nifti(path, extension)
    if extension == PAIR_EXTENSION:
        data_path = pair_data(path)
    elif extension in HEADED_EXTENSIONS:
        data_path = _data_path(path, _header(path)[0])
    if data_path is not None and not data_path.is_file():
        raise VolumeError(
            f"{path} cannot be read, its data file {data_path.name} is missing; copy it to {data_path.parent}."
        )


def check_complete(path: Path, extension: str, reader: sitk.ImageFileReader) -> None:
    """Refuse a truncated file, before ITK reads its values.

    Args:
        reader: which has read the header.
    Raises:
        VolumeError: the file holds less than its header promises.
    """
    if extension in HEADED_EXTENSIONS:
        _check_data_file(path, value_bytes(reader))
        return
    if extension in NIFTI_EXTENSIONS:
        header = nifti_header(path)
        path = pair_data(path) if extension == PAIR_EXTENSION else path
        complete = _has_unpacked_bytes(path, value_bytes(reader) if header is None else header.end)
    else:
        complete = extension not in JPEG_EXTENSIONS or _JPEG_END in _last_bytes(path, _JPEG_TRAILER_BYTES)
    if not complete:
        raise VolumeError(f"{path} is truncated; copy or download it again.")


def check_spacing(path: Path, extension: str, reader: sitk.ImageFileReader) -> None:
    """Refuse a NIfTI file whose voxels have no size: ITK takes 1 mm for it.

    Raises:
        GeometryError: the spacing along an axis with several voxels is zero.
    """
    if extension not in NIFTI_EXTENSIONS:
        return
    header = nifti_header(path)
    spacings_mm = () if header is None else header.spacings_mm
    for axis, (size, spacing) in enumerate(zip(reader.GetSize(), spacings_mm, strict=False)):
        if size > 1 and spacing == 0:
            raise GeometryError(f"{path} has a spacing of zero along its axis {axis}; repair the header (pixdim).")


def value_bytes(reader: sitk.ImageFileReader) -> int:
    """Bytes that the voxels take in memory, by the header that was read; scaled ones take more than in the file."""
    kind = reader.GetPixelID()
    is_complex = kind in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)  # two components, counted in the size
    components = 1 if is_complex else reader.GetNumberOfComponents()
    return math.prod(reader.GetSize()) * components * sitk.Image([1, 1], kind).GetSizeOfPixelComponent()


def stored_bytes(path: Path, extension: str, reader: sitk.ImageFileReader) -> int:
    """Bytes that the voxels take in the file, unpacked, by the header that was read."""
    header = nifti_header(path) if extension in NIFTI_EXTENSIONS else None
    return value_bytes(reader) if header is None else header.value_bytes


# ---- MetaImage and NRRD


def _header(path: Path) -> tuple[Fields, int]:
    """The fields of a header, their names in lower case and without spaces, and how many bytes it takes."""
    with path.open("rb") as file:
        head = file.read(_LARGEST_HEADER_BYTES)
    is_nrrd = head.startswith(b"NRRD")
    fields: Fields = {}
    length = 0
    for line in head.splitlines(keepends=True):
        length += len(line)
        match = _FIELD.fullmatch(line.decode("utf-8", "surrogateescape"))
        if match is not None:
            fields[match[1].lower().replace(" ", "")] = match[2]
        if "elementdatafile" in fields or (is_nrrd and not line.strip()):
            break
    return fields, length


def _data_path(path: Path, fields: Fields) -> Path | None:
    """The file that holds the values: `path` itself where the header names none, None where it names several."""
    named = fields.get("elementdatafile") or fields.get("datafile") or "LOCAL"
    if named.upper() == "LOCAL":
        return path
    is_several = named.split()[0].upper() == "LIST" or "%" in named
    return None if is_several else path.parent / named


def _check_data_file(path: Path, value_bytes: int) -> None:
    fields, header_bytes = _header(path)
    data_path = _data_path(path, fields)
    if data_path is None:
        return
    here = data_path.stat().st_size - (header_bytes if data_path == path else 0)
    if here < _stored_bytes(fields, value_bytes):
        what = path if data_path == path else f"{path} cannot be read, its data file {data_path.name}"
        raise VolumeError(f"{what} is truncated; copy or download it again.")


def _stored_bytes(fields: Fields, value_bytes: int) -> int:
    """How many bytes the values take in their file; 0 where the header does not say."""
    if fields.get("compresseddata", "").lower() in _YES:
        size = fields.get("compresseddatasize", "")
        return int(size) if size.isdecimal() else 0
    is_plain = fields.get("binarydata", "").lower() in _YES or fields.get("encoding", "").lower() == "raw"
    return value_bytes if is_plain else 0


# ---- NIfTI and JPEG


def _check_nifti(path: Path, extension: str) -> None:
    header, is_named_as_pair = nifti_header(path), extension == PAIR_EXTENSION
    if header is None and is_named_as_pair:
        raise VolumeError(f"{path} is no header of a NIfTI-1 image; convert the image to NIfTI (.nii) or NRRD.")
    if header is None:
        return
    if header.version == 0:
        raise VolumeError(
            f"{path} is ANALYZE 7.5, which does not say which side is the patient's left; convert it to NIfTI with the "
            "program that knows."
        )
    if header.version > 1:
        raise VolumeError(f"{path} is NIfTI-{header.version}, which cannot be read; convert it to NIfTI-1 or NRRD.")
    if header.is_pair != is_named_as_pair:
        what, name = ("the header of a pair", ".hdr and .img") if header.is_pair else ("a whole image", ".nii")
        raise VolumeError(f"{path} is {what} by its content; name it {name}.")


def _last_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(count, path.stat().st_size), os.SEEK_END)
        return file.read()


def _has_unpacked_bytes(path: Path, expected: int) -> bool:
    """Whether a file, gzipped or not, holds `expected` bytes.

    A gzip file ends with its unpacked size modulo 2**32. Only where that does not fit, because the file is truncated
    or consists of several gzip members, everything is unpacked.

    Raises:
        VolumeError: there is no end to it.
    """
    if not is_gzipped(path):
        return path.stat().st_size >= expected
    promised = int.from_bytes(_last_bytes(path, 4), "little")
    if (promised - expected) % (1 << 32) < _LARGEST_HEADER_BYTES:
        return True
    unpacked = 0
    try:
        with gzip.open(path) as file:
            while unpacked <= expected + _LONGEST_TAIL_BYTES and (chunk := file.read(_CHUNK_BYTES)):
                unpacked += len(chunk)
    except (EOFError, OSError, zlib.error):
        return False
    if unpacked > expected + _LONGEST_TAIL_BYTES:
        raise VolumeError(f"{path} holds far more than the {expected} bytes that its header announces; repair it.")
    return unpacked >= expected

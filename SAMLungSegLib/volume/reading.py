"""Reading NIfTI, NRRD, MetaImage, DICOM and pictures into a `Volume`."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume.dicom import DICOM_EXTENSIONS, read_dicom_file, read_dicom_folder
from SAMLungSegLib.volume.itk import ijk_to_ras_of, readable
from SAMLungSegLib.volume.pixels import check_dimensions, grey_array, without_trailing_axes
from SAMLungSegLib.volume.types import Volume

_NIFTI_EXTENSIONS = (".nii.gz", ".nii")
_PICTURE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_JPEG_EXTENSIONS = (".jpg", ".jpeg")
IMAGE_EXTENSIONS = (*_NIFTI_EXTENSIONS, ".nrrd", ".nhdr", ".mha", ".mhd", *DICOM_EXTENSIONS, *_PICTURE_EXTENSIONS)

_JPEG_END = b"\xff\xd9"
_JPEG_TRAILER_BYTES = 1 << 16
_GZIP_START = b"\x1f\x8b"
_LARGEST_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 24


def is_image_path(path: str | os.PathLike) -> bool:
    """Whether the name ends like an image that `read_volume` reads; DICOM files may have other names as well."""
    return _extension(Path(path)) is not None


def read_volume(path: str | os.PathLike, *, series: str | None = None) -> Volume:
    """Read an image with its place in the patient.

    A DICOM folder gives its one series, sorted along the slice normal; a DICOM file gives just this file. MONOCHROME1
    X-rays come inverted, so that bone is bright, and grey pictures saved in colour come as grey. Pictures (PNG, JPEG,
    TIFF) are taken as displayed, with columns towards the patient's left, and their pixels are not mm.

    Args:
        path: an image file (`IMAGE_EXTENSIONS`; any other name is tried as DICOM) or a folder of DICOM files.
        series: in a folder of several series, the series instance UID or a prefix or suffix that only it has.
    Raises:
        VolumeError: the file is absent, damaged, of another kind, in colour, 4D, or the folder has several series.
        GeometryError: the directions or spacings of the file cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        return read_dicom_folder(path, series)
    if not path.is_file():
        raise VolumeError(f"{path} does not exist; give an image file or a folder of DICOM files.")
    if series is not None:
        raise VolumeError(f"A series was chosen ({series}) but {path} is a file; choose a series with a DICOM folder.")
    extension = _extension(path)
    if extension is None or extension in DICOM_EXTENSIONS:
        return read_dicom_file(path, image_name(path))
    return _read_plain_file(path, extension)


def _extension(path: Path) -> str | None:
    name = path.name.lower()
    return next((extension for extension in IMAGE_EXTENSIONS if name.endswith(extension)), None)


def image_name(path: str | os.PathLike) -> str:
    """A file's name without its image extension, or a folder's name: what `read_volume` calls the volume."""
    name = Path(path).resolve().name
    if Path(path).is_dir():
        return name
    for extension in (".seg.nrrd", *IMAGE_EXTENSIONS):
        if name.lower().endswith(extension):
            return name[: -len(extension)] or name
    return name


def _read_plain_file(path: Path, extension: str) -> Volume:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with readable(path):
        reader.ReadImageInformation()
        check_dimensions(path, reader.GetSize())
        _check_complete(path, extension, reader)
        image = reader.Execute()
    is_picture = extension in _PICTURE_EXTENSIONS
    if is_picture and image.GetDimension() > 2 and image.GetSize()[2] > 1:
        raise VolumeError(
            f"{path} has {image.GetSize()[2]} pages without geometry; give one picture, or convert to NIfTI or NRRD."
        )
    image = without_trailing_axes(image)
    return Volume(grey_array(image, path), ijk_to_ras_of(image), image_name(path), None, not is_picture)


def _check_complete(path: Path, extension: str, reader: sitk.ImageFileReader) -> None:
    """Refuse the truncated files that ITK reads without complaint, as noise or grey.

    Raises:
        VolumeError: the file holds less than its header promises.
    """
    if extension in _NIFTI_EXTENSIONS:
        bytes_per_value = sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
        expected = int(np.prod(reader.GetSize())) * reader.GetNumberOfComponents() * bytes_per_value
        complete = _has_unpacked_bytes(path, expected)
    else:
        complete = extension not in _JPEG_EXTENSIONS or _JPEG_END in _last_bytes(path, _JPEG_TRAILER_BYTES)
    if not complete:
        raise VolumeError(f"{path} is truncated; copy or download it again.")


def _last_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(-min(count, path.stat().st_size), os.SEEK_END)
        return file.read()


def _has_unpacked_bytes(path: Path, expected: int) -> bool:
    """Whether a file, gzipped or not, holds `expected` bytes and a header.

    A gzip file ends with its unpacked size modulo 2**32. Only where that does not fit, because the file is truncated
    or consists of several gzip members, everything is unpacked.
    """
    with path.open("rb") as file:
        if file.read(2) != _GZIP_START:
            return path.stat().st_size >= expected
    promised = int.from_bytes(_last_bytes(path, 4), "little")
    if (promised - expected) % (1 << 32) < _LARGEST_HEADER_BYTES:
        return True
    unpacked = 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                unpacked += len(chunk)
    except (EOFError, OSError, zlib.error):
        return False
    return unpacked >= expected

"""Which files are images, by their names."""

from __future__ import annotations

import os
from pathlib import Path

PAIR_EXTENSION = ".hdr"  # of a NIfTI-1 image whose values are in a file of their own
PAIR_DATA_EXTENSION = ".img"
NIFTI_EXTENSIONS = (".nii.gz", ".nii", PAIR_EXTENSION)
HEADED_EXTENSIONS = (".nrrd", ".nhdr", ".mha", ".mhd")
DICOM_EXTENSIONS = (".dcm", ".dicom", ".ima")
JPEG_EXTENSIONS = (".jpg", ".jpeg")
PICTURE_EXTENSIONS = (".png", *JPEG_EXTENSIONS, ".tif", ".tiff")
IMAGE_EXTENSIONS = (*NIFTI_EXTENSIONS, *HEADED_EXTENSIONS, *DICOM_EXTENSIONS, *PICTURE_EXTENSIONS)
ACCEPTED = (
    "a DICOM file or folder, NIfTI (.nii, .nii.gz, .hdr with .img), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), PNG, "
    "JPEG or TIFF"
)

_DICOM_PREAMBLE_BYTES = 128
_DICOM_MARK = b"DICM"


def image_extension(path: Path) -> str | None:
    """The one of `IMAGE_EXTENSIONS` that the name ends with, in lower case."""
    name = path.name.lower()
    return next((extension for extension in IMAGE_EXTENSIONS if name.endswith(extension)), None)


def is_image_path(path: str | os.PathLike) -> bool:
    """Whether the name ends like an image that `read_volume` reads; DICOM files may have other names as well."""
    return image_extension(Path(path)) is not None


def pair_header(path: Path) -> Path:
    """The `.hdr` beside an `.img`, which stands for both; `path` itself where there is none, or it is no `.img`."""
    if path.suffix.lower() != PAIR_DATA_EXTENSION:
        return path
    header = _with_extension(path, PAIR_EXTENSION)
    return header if header.is_file() else path


def pair_data(path: Path) -> Path:
    """The `.img` that holds the values of a `.hdr`, whether it is there or not."""
    return _with_extension(path, PAIR_DATA_EXTENSION)


def _with_extension(path: Path, extension: str) -> Path:
    return path.with_suffix(extension.upper() if path.suffix.isupper() else extension)


def given_name(path: str | os.PathLike) -> str:
    """The last part of a path as it was given: a link's own name, not that of what it leads to."""
    return Path(os.path.abspath(path)).name


def image_name(path: str | os.PathLike) -> str:
    """A file's name without its image extension, or a folder's name: what `read_volume` calls the volume."""
    name = given_name(pair_header(Path(path)))
    if Path(path).is_dir():
        return name
    for extension in (".seg.nrrd", ".rtstruct.dcm", *IMAGE_EXTENSIONS):
        if name.lower().endswith(extension):
            return name[: -len(extension)] or name
    return name


def is_marked_as_dicom(path: Path) -> bool:
    """Whether `path` is a file that says of itself that it is DICOM; one that cannot be opened does not."""
    try:
        with path.open("rb") as file:
            return file.read(_DICOM_PREAMBLE_BYTES + len(_DICOM_MARK))[_DICOM_PREAMBLE_BYTES:] == _DICOM_MARK
    except OSError:
        return False

"""Results of segmenting: what their files are called, and which formats fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from SAMLungSegLib.errors import SettingsError

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    from SAMLungSegLib.volume import Volume

Overlays = Literal["none", "small", "full"]  # pictures of a case in a cohort
OVERLAY_CHOICES: tuple[Overlays, ...] = get_args(Overlays)
FORMATS = ("seg.nrrd", "nrrd", "nii.gz", "png", "dcm", "rtstruct.dcm")


def default_format(path: Path) -> str:
    """PNG for flat pictures, otherwise Slicer's segmentation."""
    from SAMLungSegLib.volume.formats import PICTURE_EXTENSIONS

    return "png" if path.suffix.lower() in PICTURE_EXTENSIONS and not path.is_dir() else "seg.nrrd"


def check_format(volume: Volume, extension: str) -> None:
    """Refuse a format that cannot hold the result, before the work is done.

    Raises:
        SettingsError: PNG for more than one slice, or DICOM without highdicom.
        OutputError, GeometryError: DICOM of an image that was not read from DICOM.
    """
    if extension == "rtstruct.dcm":
        from SAMLungSegLib.volume.structuresets import check_structure_set_possible

        check_structure_set_possible(volume)
    if extension == "dcm":
        from SAMLungSegLib.volume.dicomout import check_dicom_possible

        check_dicom_possible(volume)
    if extension == "png" and 1 not in volume.size_kji:
        raise SettingsError(
            f"PNG holds one slice and {volume.name} has several; give seg.nrrd, nrrd or nii.gz as format."
        )


def result_path(image: Path, folder: Path, extension: str | None = None) -> Path:
    """The file in `folder` that the lungs of an image go to; the format is `default_format` where none is given."""
    from SAMLungSegLib.volume import image_name

    return folder / f"{image_name(image)}_lungs.{extension or default_format(image)}"

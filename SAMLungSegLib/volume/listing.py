"""Which images a folder holds."""

from __future__ import annotations

import os
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume.dicom import read_dicom_file
from SAMLungSegLib.volume.formats import is_image_path, is_marked_as_dicom
from SAMLungSegLib.volume.itk import readable


def images_in(folder: str | os.PathLike) -> list[Path]:
    """What `read_volume` may be given of a folder, in the order of the names.

    That is each image file, DICOM files of any name among them, and each sub-folder in which there is DICOM somewhere.
    A folder that directly holds the slices of one DICOM series is itself one of its images. Hidden files and all others
    are left out; whether a file is sound is not looked at.

    Raises:
        VolumeError: there is no such folder, it holds no image, or slices of a DICOM series lie beside other DICOM.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VolumeError(f"{folder} is not a folder; give the folder that holds the images.")
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    dicom = [path for path in visible if path.is_file() and is_marked_as_dicom(path)]
    images = [path for path in visible if path not in set(dicom) and _is_image(path)]
    images += [folder] if _are_one_stack(folder, dicom) else dicom
    if not images:
        raise VolumeError(f"{folder} holds no image; give the folder that holds the images or DICOM folders.")
    return sorted(images)


def _is_image(path: Path) -> bool:
    return _holds_dicom(path) if path.is_dir() else is_image_path(path)


def _holds_dicom(folder: Path) -> bool:
    return any(is_marked_as_dicom(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _are_one_stack(folder: Path, dicom: list[Path]) -> bool:
    """Whether DICOM files are the slices of one volume, not images each by itself such as X-rays.

    Raises:
        VolumeError: some are and some are not.
    """
    if len(dicom) < 2:
        return False
    with readable(folder):
        uids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        series = [sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in uids]
    stacks = [paths for paths in series if len(paths) > 1 and not _is_xray(Path(paths[0]))]
    if stacks and len(series) > 1:
        raise VolumeError(
            f"{folder} holds {len(series)} DICOM series, one of them with {len(stacks[0])} slices; give each series a "
            "sub-folder of its own."
        )
    return bool(stacks)


def _is_xray(path: Path) -> bool:
    return read_dicom_file(path, path.name).modality_hint == "XRAY"

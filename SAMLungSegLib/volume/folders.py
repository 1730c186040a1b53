"""The images of a folder, and what one without DICOM images of its own offers instead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from SAMLungSegLib.volume.formats import DICOM_EXTENSIONS, image_extension, is_image_path, is_marked_as_dicom

_FILES_LOOKED_AT = 1000


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, and its sub-folders of DICOM files, one image each; hidden ones are left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and (is_dicom_folder(path) or (is_image_path(path) and not path.is_dir()))
    )


def is_dicom_folder(path: Path) -> bool:
    """Whether `path` is a folder that directly holds a DICOM file."""
    return path.is_dir() and any(is_marked_as_dicom(one) for one in islice(_plain_files(path), _FILES_LOOKED_AT))


def files_of(image: Path) -> list[Path]:
    """The file of an image, or all of its DICOM folder."""
    return list(_plain_files(image)) if image.is_dir() else [image]


def _plain_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))


def advice_for(folder: Path) -> str:
    """One phrase about the image files of `folder` and the DICOM below it, or which folder to give."""
    if next(folder.iterdir(), None) is None:
        return "it is empty"
    found = [phrase for phrase in (_about_images(folder), _about_subfolders(folder)) if phrase]
    damaged = _about_damaged(folder) or "give the folder that directly holds one series, or an image file"
    return "; ".join(found) or damaged


def _about_images(folder: Path) -> str | None:
    names = sorted(path.name for path in folder.iterdir() if _is_plain_image(path))
    if not names:
        return None
    if len(names) == 1:
        return f"it holds the image file {names[0]}: give the file"
    held = f"{len(names)} image files such as {names[0]}"
    return f"it holds {held}: give one of them, or the folder to `samlungseg batch`"


def _about_damaged(folder: Path) -> str | None:
    """Where no DICOM image was found, a file that should be one is none."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file())
    dicom = next((one for one in files if image_extension(one) in DICOM_EXTENSIONS or is_marked_as_dicom(one)), None)
    return dicom and f"{dicom.name} is damaged or holds no image: copy or export it again"


def _is_plain_image(path: Path) -> bool:
    return image_extension(path) not in (None, *DICOM_EXTENSIONS) and path.name[0] != "." and path.is_file()


def _about_subfolders(folder: Path) -> str | None:
    files = list(islice(_files_below(folder), _FILES_LOOKED_AT))
    holder = next((path.parent for path in files if is_marked_as_dicom(path)), None)
    if holder:
        return f"its sub-folder {holder.relative_to(folder)} holds DICOM: give that"
    image = next((path for path in files if _is_plain_image(path)), None)
    held = image and f"its sub-folders hold image files such as {image.relative_to(folder)}"
    return held and f"{held}: give one of them, or the folder to `samlungseg batch`"


def _files_below(folder: Path) -> Iterator[Path]:
    """Files of the sub-folders, in the order of their names."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        if Path(parent) != folder:
            yield from (Path(parent, name) for name in sorted(names))

"""What is refused before ITK opens a file, because ITK would crash, hang, or read what is no file."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.isolation import memory_of_machine
from SAMLungSegLib.volume.formats import HEADED_EXTENSIONS, image_extension

_MOST_HEADER_BYTES = 1 << 20
_LONGEST_LINE_BYTES = 4000
_MOST_DIMENSIONS = 10
_FIELD = re.compile(rb"\s*([\w ]+?)\s*(?:=|:(?!=))\s*(.*?)\s*")
_PATTERN = re.compile(rb"[^%]*%0?\d{0,2}d[^%]*")  # of numbered data files
_PATTERN_FILES = 100_000
_MOST_EXPANSION = 1100  # values for each byte on the disk: deflate packs 1032 equal ones into one
_MEMORY_FACTOR = 2  # the values, and once more where they are converted


def check_regular(path: Path) -> None:
    """Refuse pipes, devices and sockets, also in a folder: opening one may wait for ever.

    Raises:
        VolumeError: with its name.
    """
    if _is_special(path):
        raise VolumeError(f"{path} is no regular file; give an image file or a folder of DICOM files.")
    try:
        found = next((child for child in path.iterdir() if _is_special(child)), None) if path.is_dir() else None
    except OSError:  # which is told when it is read
        return
    if found is not None:
        raise VolumeError(f"{path} holds {found.name}, which is no regular file; move it elsewhere.")


def _is_special(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_before_opening(path: Path) -> None:
    """Refuse what ITK does not survive.

    Raises:
        VolumeError: the file is not regular, or a MetaImage or NRRD header says what none should.
    """
    check_regular(path)
    if image_extension(path) in HEADED_EXTENSIONS and path.is_file():
        _check_header(path)


def check_size(path: Path, value_bytes: int) -> None:
    """Refuse a size that cannot be true, or is more than this machine can hold.

    Args:
        path: of which the header was read.
        value_bytes: that its voxels take, by the header.
    Raises:
        VolumeError: with the size.
    """
    if value_bytes > _MOST_EXPANSION * _bytes_on_disk(path):
        raise VolumeError(f"{path} is truncated; copy or download it again.")
    memory = memory_of_machine()
    if memory is not None and _MEMORY_FACTOR * value_bytes > memory:
        gib = value_bytes / (1 << 30)
        raise VolumeError(
            f"{path} holds {gib:.1f} GiB of voxels, too much for the {memory / (1 << 30):.0f} GiB of memory here; give "
            "a smaller part of it."
        )


def _bytes_on_disk(path: Path) -> int:
    """Of the file and of those beside it, where its values may be."""
    if image_extension(path) not in (".mhd", ".nhdr"):
        return path.stat().st_size
    return sum(child.stat().st_size for child in path.parent.iterdir() if child.is_file())


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER_BYTES)
    is_nrrd = head.startswith(b"NRRD")
    for line in head.splitlines():
        if is_nrrd and not line.strip():
            return
        name, value = _field(line)
        if len(line) > _LONGEST_LINE_BYTES and not (is_nrrd and b":=" in line):
            raise VolumeError(f"{path} has a line of {len(line)} bytes in its header; repair or export it again.")
        _check_field(path, name, value)
        if name == "elementdatafile":
            return


def _field(line: bytes) -> tuple[str, bytes]:
    """Name in lower case without spaces, and value; both empty where the line has none."""
    match = _FIELD.fullmatch(line) if len(line) <= _LONGEST_LINE_BYTES else None
    return (match[1].decode("ascii", "replace").lower().replace(" ", ""), match[2]) if match else ("", b"")


def _check_field(path: Path, name: str, value: bytes) -> None:
    shown = value[:40].decode("utf-8", "replace")
    if name in ("ndims", "dimension") and not (value.isdigit() and 1 <= int(value[:9]) <= _MOST_DIMENSIONS):
        raise VolumeError(f"{path} has '{shown}' as its number of dimensions; expected 2 or 3, repair the header.")
    if name in ("elementdatafile", "datafile") and b"%" in value:
        pattern, *numbers = value.split()
        is_sound = _PATTERN.fullmatch(pattern) and all(re.fullmatch(rb"-?\d{1,6}", one) for one in numbers)
        if not is_sound:
            raise VolumeError(f"{path} names its data files by '{shown}'; expected %d and numbers, repair the header.")

"""What is refused before ITK opens a file, because ITK would crash, hang, or read what is no file."""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.isolation import memory_of_machine
from SAMLungSegLib.volume.formats import HEADED_EXTENSIONS, PAIR_EXTENSION, image_extension, pair_data

_MOST_HEADER_BYTES = 1 << 20
_LONGEST_LINE_BYTES = 2000
_MOST_DIMENSIONS = 10
_PATTERN = re.compile(rb"[^%]*%0?\d{0,2}d[^%]*")  # of numbered data files
_PATTERN_NUMBER = re.compile(rb"-?\d{1,6}")
_LONGEST_NAME_BYTES = 4096
_META_FIELD = re.compile(rb"([^=:\r\0]*)[=:][=: \t]*(.*)", re.DOTALL)
_NRRD_FIELD = re.compile(rb"([^:]*):(.*)", re.DOTALL)
_LAST_FIELD = b"ElementDataFile"
_META_PLACES = {
    *(b"transformmatrix", b"orientation", b"rotation", b"offset", b"position", b"origin"),
    *(b"centerofrotation", b"elementspacing", b"elementsize"),
}
_NRRD_PLACES = {b"spacedirections", b"spaceorigin", b"spacings", b"thicknesses", b"axismins", b"axismaxs"}
_LARGEST_PLACE = 1e12  # mm; ITK computes for ever on directions such as 1e308
_LIST = b"LIST"
_UPWARDS = re.compile(rb"\.[. ]+")
_IMPOSSIBLE = re.compile(rb"[\0-\x1f]|^[-~]")  # '-' is the standard input
_HDF5_START = b"\x89HDF\r\n\x1a\n"
_LARGEST_SEEK = 1 << 62
_TIFF_EXTENSIONS = (".tif", ".tiff")
_MOST_EXPANSION = 1100  # values for each byte on the disk: deflate packs 1032 equal ones into one
_HARMLESS_BYTES = 1 << 28  # of a picture that is all black and in 1 bit, say
_MEMORY_FACTOR = 3  # the values, once more where they are converted, and where they are used
_MOST_PAGES = 100_000
_TIFF_HEADS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}  # the last two with 64-bit offsets


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
        VolumeError: the file is not regular, a MetaImage or NRRD header says what none should or names files
            elsewhere, the pages of a TIFF have no end, or it is HDF5.
        GeometryError: such a header places its voxels by what are no numbers, or nowhere near a patient.
    """
    check_regular(path)
    extension = image_extension(path)
    if path.is_file() and _is_hdf5(path):
        raise VolumeError(f"{path} is HDF5, which is not read; convert it to NIfTI or NRRD.")
    if extension == PAIR_EXTENSION:
        check_regular(pair_data(path))
    if extension in HEADED_EXTENSIONS and path.is_file():
        _check_header(path)
    if extension in _TIFF_EXTENSIONS and path.is_file():
        _check_pages(path)


def check_size(path: Path, value_bytes: int, stored_bytes: int | None = None) -> None:
    """Refuse a size that cannot be true, or is more than this machine can hold.

    Args:
        path: of which the header was read.
        value_bytes: that its voxels take in memory, by the header.
        stored_bytes: that they take in the file, unpacked; as many where None.
    Raises:
        VolumeError: with the size.
    """
    stored_bytes = value_bytes if stored_bytes is None else stored_bytes
    if stored_bytes > max(_HARMLESS_BYTES, _MOST_EXPANSION * _bytes_on_disk(path)):
        raise VolumeError(
            f"{path} is truncated: it announces {stored_bytes} bytes of voxels; copy or download it again."
        )
    memory = memory_of_machine()
    if memory is not None and _MEMORY_FACTOR * value_bytes > memory:
        gib = value_bytes / (1 << 30)
        raise VolumeError(
            f"{path} holds {gib:.1f} GiB of voxels, too much for the {memory / (1 << 30):.0f} GiB of memory here; give "
            "a smaller part of it."
        )


def _bytes_on_disk(path: Path) -> int:
    """Of the file and of those beside it, where its values may be."""
    if image_extension(path) not in (".mhd", ".nhdr", PAIR_EXTENSION):
        return path.stat().st_size
    return sum(child.stat().st_size for child in path.parent.iterdir() if child.is_file())


def _is_hdf5(path: Path) -> bool:
    """Whether ITK reads a file as HDF5, whatever its name; that can hold links to other files."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place < size:  # it may begin at 0, 512, 1024, 2048 and so on
            file.seek(place)
            if file.read(len(_HDF5_START)) == _HDF5_START:
                return True
            place = max(512, 2 * place)
    return False


def _check_header(path: Path) -> None:
    """Of MetaImage, each line must be 'name = value': ITK makes one of several that are not, and sees other fields."""
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER_BYTES)
    is_nrrd = head.startswith(b"NRRD")
    is_header = is_nrrd or _LAST_FIELD in head
    lines = iter(head.split(b"\n") if is_header else ())
    for line in lines:
        if is_nrrd and not line.strip():
            return
        if len(line) > _LONGEST_LINE_BYTES and not (is_nrrd and b":=" in line[:_LONGEST_LINE_BYTES]):
            raise VolumeError(f"{path} has a line of {len(line)} bytes in its header; repair or export it again.")
        field = (_NRRD_FIELD if is_nrrd else _META_FIELD).fullmatch(line)
        if field is None:
            if line.strip() and not is_nrrd:
                raise VolumeError(f"{path} has '{_shown(line)}' in its header, which is no 'name = value'; repair it.")
            continue
        name, value = field[1].lstrip().rstrip(b" \t"), field[2].strip()
        _check_field(path, name, value, lines, is_nrrd)
        if name == _LAST_FIELD and value[:4] != _LIST:  # behind which the values may be
            return
    if len(head) == _MOST_HEADER_BYTES:
        raise VolumeError(f"{path} has no end of its header within {len(head)} bytes; repair or export it again.")


def _check_field(path: Path, name: bytes, value: bytes, lines: Iterator[bytes], is_nrrd: bool) -> None:
    key = name.lower().replace(b" ", b"")
    if key in (b"ndims", b"dimension"):
        _check_dimensions(path, value)
    elif key in (b"elementdatafile", b"datafile"):
        _check_data_files(path, value, lines)
    elif key in (_NRRD_PLACES if is_nrrd else _META_PLACES):
        _check_places(path, name, value, has_unknown=is_nrrd)


def _check_dimensions(path: Path, value: bytes) -> None:
    if not (value.isdigit() and 1 <= int(value[:9]) <= _MOST_DIMENSIONS):
        raise VolumeError(
            f"{path} has '{_shown(value)}' as its number of dimensions; expected 2 or 3, repair the header."
        )


def _check_places(path: Path, name: bytes, value: bytes, has_unknown: bool) -> None:
    """Of directions, spacings and origins; NRRD says 'none' or 'nan' where an axis has none."""
    for word in re.split(rb"[\s(),]+" if has_unknown else rb"\s+", value):
        if not word or (has_unknown and word.lower() in (b"none", b"nan")):
            continue
        try:
            is_sound = abs(float(word)) <= _LARGEST_PLACE
        except ValueError:
            is_sound = False
        if not is_sound:
            raise GeometryError(
                f"{path} has '{_shown(word)}' in '{_shown(name)}' of its header; expected numbers up to "
                f"{_LARGEST_PLACE:g}, repair or export it again."
            )


def _check_data_files(path: Path, value: bytes, lines: Iterator[bytes]) -> None:
    """Of the names in the header, and of those that follow it line by line."""
    names = [value]
    if value[:4] == _LIST:
        names = [line.strip() for line in lines]
    elif b"%" in value:
        names, numbers = value.split()[:1], value.split()[1:]
        if not (_PATTERN.fullmatch(names[0]) and all(_PATTERN_NUMBER.fullmatch(one) for one in numbers)):
            raise VolumeError(
                f"{path} names its data files by '{_shown(value)}'; expected %d and numbers, repair the header."
            )
    for name in names:
        _check_data_file(path, name)
    if b"%" in value:
        check_regular((path.parent / os.fsdecode(names[0])).parent)


def _check_data_file(path: Path, name: bytes) -> None:
    """Whoever has written a header must not choose which files are read, so its data lie in its folder or below."""
    folders = re.split(rb"[/\\]", name)
    is_absolute = name[:1] in (b"/", b"\\") or name[1:2] == b":"
    if is_absolute or any(map(_UPWARDS.fullmatch, folders)) or _IMPOSSIBLE.search(name):
        raise VolumeError(
            f"{path} has '{_shown(name)}' as a data file, which is not in the folder of the header; move that file "
            "beside the header and name it there without a folder."
        )
    if _is_special(path.parent / os.fsdecode(name[:_LONGEST_NAME_BYTES])):
        raise VolumeError(f"{path} has '{_shown(name)}' as a data file, which is no regular file; repair it.")


def _shown(value: bytes) -> str:
    return value[:40].decode("utf-8", "replace")


def _check_pages(path: Path) -> None:
    """Follow the chain of pages, which may lead back to itself."""
    with path.open("rb") as file:
        head = file.read(16).ljust(16, b"\0")
        order = _TIFF_HEADS.get(head[:4])
        if order is None:
            return
        is_big = b"+" in head[:4]
        offset, count = (struct.Struct(order + one) for one in ("QQ" if is_big else "IH"))
        (place,), entry_bytes = offset.unpack_from(head, 8 if is_big else 4), 20 if is_big else 12
        seen: set[int] = set()
        while place and len(seen) < _MOST_PAGES:
            if place in seen:
                raise VolumeError(f"{path} is corrupted, its pages follow each other in a circle; export it again.")
            seen.add(place)
            file.seek(min(place, _LARGEST_SEEK))
            entries = file.read(count.size)
            if len(entries) < count.size:
                return
            file.seek(min(count.unpack(entries)[0] * entry_bytes, _LARGEST_SEEK), os.SEEK_CUR)
            following = file.read(offset.size)
            if len(following) < offset.size:
                return
            (place,) = offset.unpack(following)

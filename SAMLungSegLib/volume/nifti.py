"""What the header of a NIfTI file says of how its voxels are stored, before ITK turns them into values."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

_GZIP_START = b"\x1f\x8b"
_MARK_OF_ONE_FILE, _MARK_OF_PAIR = b"n+", b"ni"
_LONGEST_HEAD_BYTES = 540
_LARGEST_OFFSET = 1 << 30
_VALUE_BYTES = {
    **dict.fromkeys((2, 256), 1),
    **dict.fromkeys((4, 512), 2),
    128: 3,
    **dict.fromkeys((8, 16, 768, 2304), 4),
    **dict.fromkeys((32, 64, 1024, 1280), 8),
    **dict.fromkeys((1536, 1792), 16),
    2048: 32,
}  # by datatype


@dataclass(frozen=True)
class _Version:
    """Where a version of the header has what, in bytes from its start, and as what."""

    header_bytes: int
    sizes: tuple[int, str]
    datatype: int
    spacings: tuple[int, str]
    offset: tuple[int, str]
    scaling: tuple[int, str]
    mark: int


_VERSIONS = (
    _Version(348, (40, "8h"), 70, (80, "3f"), (108, "f"), (112, "2f"), 344),
    _Version(540, (16, "8q"), 12, (112, "3d"), (168, "q"), (176, "2d"), 4),
)


@dataclass(frozen=True)
class NiftiHeader:
    """Of either version, in either byte order.

    Attributes:
        version: 1, 2, or 0 of ANALYZE 7.5, which has the first one's fields and no mark.
        is_pair: whether the values are in a file of their own.
        spacings_mm: the first three of pixdim, as stored.
        value_bytes: that the voxels take in the file, unpacked, whatever scl_slope and scl_inter turn them into; 0 of
            a datatype that is not known.
        undue_offset: scl_inter where scl_slope is 0 or no number, so that it must not be added; else 0.
        end: of the voxels, in bytes from the start of the unpacked file that holds them.
    """

    version: int
    is_pair: bool
    spacings_mm: tuple[float, float, float]
    value_bytes: int
    undue_offset: float
    end: int


def is_gzipped(path: Path) -> bool:
    """Whether a file says of itself that it is packed, whatever its name."""
    with path.open("rb") as file:
        return file.read(len(_GZIP_START)) == _GZIP_START


def nifti_header(path: Path) -> NiftiHeader | None:
    """The header of a file, gzipped or not; None where it is of neither version, or cannot be unpacked."""
    with (gzip.open if is_gzipped(path) else open)(path, "rb") as file:
        try:
            head = file.read(_LONGEST_HEAD_BYTES)
        except (EOFError, zlib.error):
            return None
    for order, version in product("<>", _VERSIONS):
        if len(head) >= version.header_bytes and struct.unpack_from(f"{order}i", head)[0] == version.header_bytes:
            return _parsed(head, order, version)
    return None


def _parsed(head: bytes, order: str, version: _Version) -> NiftiHeader:
    def field(place: int, kind: str) -> tuple:
        return struct.unpack_from(order + kind, head, place)

    dimensions, *sizes = field(*version.sizes)
    (datatype,), (offset,) = field(version.datatype, "h"), field(*version.offset)
    value_bytes = math.prod(max(size, 1) for size in sizes[: max(dimensions, 0)]) * _VALUE_BYTES.get(datatype, 0)
    mark = head[version.mark : version.mark + 2]
    first = 0 if mark == _MARK_OF_PAIR else version.header_bytes
    start = int(offset) if first < offset < _LARGEST_OFFSET else first
    slope, inter = field(*version.scaling)
    is_scaled = math.isfinite(slope) and slope != 0
    undue_offset = inter if math.isfinite(inter) and not is_scaled else 0.0
    return NiftiHeader(
        _VERSIONS.index(version) + 1 if mark in (_MARK_OF_ONE_FILE, _MARK_OF_PAIR) else 0,
        mark == _MARK_OF_PAIR,
        field(*version.spacings),
        value_bytes,
        undue_offset,
        start + value_bytes,
    )

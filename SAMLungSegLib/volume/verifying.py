"""Whether a labelmap that was just written holds every voxel, to its last byte.

ITK does not do this: it writes no word about a full disk, and reads files whose end is missing.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from SAMLungSegLib.volume.formats import NIFTI_EXTENSIONS

_CHUNK_BYTES = 1 << 22
_NIFTI_HEADER_BYTES = 352
_LAST_OF_METAIMAGE = b"ElementDataFile = LOCAL\n"


def check_holds(path: Path, array_kji: np.ndarray) -> None:
    """Compare the voxels of a NIfTI, NRRD or MetaImage file, as `write_labelmap` writes them, with what is meant.

    Args:
        path: of the file; NRRD and MetaImage are compressed.
        array_kji: what was written.
    Raises:
        ValueError, OSError, EOFError, zlib.error: the file holds less, more or something else.
    """
    expected = memoryview(np.ascontiguousarray(array_kji)).cast("B")
    with _stored_values(path) as values:
        for start in range(0, len(expected), _CHUNK_BYTES):
            if values.read(_CHUNK_BYTES) != expected[start : start + _CHUNK_BYTES]:
                raise ValueError("other voxels than were written")
        if values.read(1):  # at the end of a stream its checksum is compared
            raise ValueError("more than was written")


@contextmanager
def _stored_values(path: Path) -> Iterator[BinaryIO]:
    """The unpacked values of all voxels, to read."""
    name = path.name.lower()
    with path.open("rb") as file:
        if name.endswith(NIFTI_EXTENSIONS):
            values = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file
            values.read(_NIFTI_HEADER_BYTES)
        elif name.endswith(".mha"):
            _skip_lines(file, _LAST_OF_METAIMAGE)
            values = io.BytesIO(zlib.decompress(file.read()))
        else:
            _skip_lines(file, b"\n")
            values = gzip.GzipFile(fileobj=file)
        yield values


def _skip_lines(file: BinaryIO, last: bytes) -> None:
    for line in file:
        if line == last:
            return
    raise ValueError("the header ends before its end")

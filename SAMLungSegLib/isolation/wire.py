"""Messages between two processes: JSON with arrays behind it, checked on arrival and never unpickled."""

from __future__ import annotations

import json
import math
import struct
from typing import IO, Any

import numpy as np

_LENGTH = struct.Struct("<Q")
_LONGEST_TEXT_BYTES = 1 << 28
_ARRAY = "__array__"
_KINDS = "biuf"


class WireError(Exception):
    """What arrives is cut short or no message."""


def send(file: IO[bytes], message: Any) -> None:
    """Write a message of JSON's types and arrays to an unbuffered file."""
    arrays: list[np.ndarray] = []
    text = json.dumps(_packed(message, arrays)).encode()
    _write(file, memoryview(_LENGTH.pack(len(text)) + text))
    for array in arrays:
        _write(file, memoryview(array.reshape(-1)).cast("B"))


def receive(file: IO[bytes], most_bytes: int | None = None) -> Any:
    """Read a message from an unbuffered file; tuples have become lists.

    Args:
        file: to read.
        most_bytes: that its arrays may take together.
    Raises:
        WireError: the other side has ended, or sent something else.
    """
    (length,) = _LENGTH.unpack(_read(file, bytearray(_LENGTH.size)))
    if length > _LONGEST_TEXT_BYTES:
        raise WireError(f"a message of {length} bytes")
    text = _read(file, bytearray(length))
    arrays: list[np.ndarray] = []
    try:
        message = _unpacked(json.loads(bytes(text)), arrays, most_bytes)
    except (ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise WireError(f"no message ({type(error).__name__}: {error})") from error
    for array in arrays:
        _read(file, memoryview(array.reshape(-1)).cast("B"))
    return message


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """JSON's types, with a description where an array was; the arrays in the order of their descriptions."""
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value))
        return {_ARRAY: [value.dtype.str, list(value.shape)]}
    if isinstance(value, dict):
        return {key: _packed(one, arrays) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(one, arrays) for one in value]
    return value


def _unpacked(value: Any, arrays: list[np.ndarray], most_bytes: int | None) -> Any:
    if isinstance(value, list):
        return [_unpacked(one, arrays, most_bytes) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {_ARRAY}:
        return {key: _unpacked(one, arrays, most_bytes) for key, one in value.items()}
    array = _empty(*value[_ARRAY], most_bytes)
    arrays.append(array)
    return array


def _empty(code: str, shape: list[int], most_bytes: int | None) -> np.ndarray:
    dtype = np.dtype(code)
    if dtype.kind not in _KINDS or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError(f"an array of {code} {shape}")
    size = math.prod(shape) * dtype.itemsize
    if most_bytes is not None and size > most_bytes:
        raise ValueError(f"an array of {size} bytes")
    return np.empty(shape, dtype)


def _write(file: IO[bytes], data: memoryview) -> None:
    while len(data):
        data = data[file.write(data) :]


def _read(file: IO[bytes], into: Any) -> Any:
    rest = memoryview(into)
    while len(rest):
        count = file.readinto(rest)
        if not count:
            raise WireError("the other side has ended")
        rest = rest[count:]
    return into

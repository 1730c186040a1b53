"""Embeddings on disk, found by their content.

One safetensors file for each slice, float16, never unpickled. A file appears whole or not at
all, carries a checksum, and is as good as absent when it is damaged; so any number of processes may share a folder, and
any of them may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from SAMLungSegLib.errors import OutputError
from SAMLungSegLib.files import write_bytes
from SAMLungSegLib.models.base import Embedding
from SAMLungSegLib.models.registry import cache_folder

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 20 << 30
_SUFFIX = ".safetensors"
_PART_SUFFIX = ".part"
_ABANDONED_AFTER_S = 3600
_VERSION = "2"
_KEPT_SHARE = 0.9  # of the cap, after an eviction


def embeddings_folder() -> Path:
    """Where embeddings lie: `embeddings` in $SAMLUNGSEG_CACHE, or in the user's cache folder of this program."""
    return cache_folder() / "embeddings"


class CacheSize(NamedTuple):
    """What a cache holds: number of `slices` and their `size_bytes`."""

    slices: int
    size_bytes: int


class EmbeddingCache:
    """Embeddings by what was encoded: the slice's own grey levels and the encoder that saw them.

    A copy of an image under another name is found again; another window or other encoder weights are not. The least
    recently used embeddings go first when the cap is reached.
    """

    def __init__(self, folder: Path | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Open the cache in `folder` (default: `embeddings_folder()`), which is made when something is written."""
        self.folder = folder or embeddings_folder()
        self.max_bytes = max_bytes
        self._bytes_until_check = 0
        self._is_writable = True

    def key(self, grey: np.ndarray, fingerprint: str) -> str:
        """Name of the embedding of a slice, uint8 (H, W), under the encoder called `fingerprint`."""
        digest = hashlib.sha256(f"{fingerprint} {grey.shape} {grey.dtype}\n".encode())
        digest.update(np.ascontiguousarray(grey))
        return digest.hexdigest()

    def get(self, key: str) -> Embedding | None:
        """The embedding stored under `key`, its arrays float32 of NumPy; None if there is none or it is damaged."""
        path = self._path(key)
        try:
            features, metadata = _read(path)
            if metadata.get("version") != _VERSION:  # of an earlier program, whose checksum left out the size
                return None
            height, width = map(int, metadata["size_hw"].split())
            if metadata["checksum"] != _checksum(key, features, (height, width)):
                raise ValueError("the checksum is wrong")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            logger.warning("The stored embedding %s is damaged and will be made again: %s", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return Embedding(tuple(one.astype(np.float32) for one in features), (height, width))

    def put(self, key: str, embedding: Embedding) -> Embedding:
        """Store an embedding and return it as `get` will, so that a hit and a miss give the same.

        A disk that is full or cannot be written only costs the time to encode again: it is logged once.
        """
        halves = [_half(one) for one in embedding.features]
        if self._is_writable:
            try:
                self._write(self._path(key), halves, embedding.size_hw)
            except (OSError, OutputError) as error:
                self._is_writable = False
                logger.warning("Embeddings cannot be kept in %s: %s", self.folder, error)
        return Embedding(tuple(one.astype(np.float32) for one in halves), embedding.size_hw)

    def size(self) -> CacheSize:
        """What the folder holds now."""
        sizes = [status.st_size for _, status in self._files()]
        return CacheSize(len(sizes), sum(sizes))

    def clear(self) -> CacheSize:
        """Delete every embedding; returns what there was."""
        before = self.size()
        for path, _ in self._files(_SUFFIX, _PART_SUFFIX):
            with contextlib.suppress(OSError):
                path.unlink()
        return before

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _write(self, path: Path, features: Sequence[np.ndarray], size_hw: tuple[int, int]) -> None:
        from safetensors.numpy import save

        height, width = size_hw
        checksum = _checksum(path.stem, features, size_hw)
        metadata = {"version": _VERSION, "size_hw": f"{height} {width}", "checksum": checksum}
        content = save({str(index): one for index, one in enumerate(features)}, metadata)
        self._make_room(len(content))
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(content, path, durable=False)  # the checksum tells what a loss of power has damaged

    def _make_room(self, needed_bytes: int) -> None:
        """Delete the least recently used files where the cap would be passed.

        The folder is looked through only after a twentieth of the cap was written, for other processes write too.
        """
        self._bytes_until_check -= needed_bytes
        if self._bytes_until_check > 0:
            return
        self._bytes_until_check = self.max_bytes // 20
        self._delete_abandoned_parts()
        files = sorted(self._files(), key=lambda file: file[1].st_mtime_ns)
        total = sum(status.st_size for _, status in files) + self._bytes_until_check + needed_bytes
        if total <= self.max_bytes:
            return
        for path, status in files:
            if total <= self.max_bytes * _KEPT_SHARE:
                return
            with contextlib.suppress(OSError):  # another process has deleted it, or reads it just now on Windows
                path.unlink()
                total -= status.st_size

    def _delete_abandoned_parts(self) -> None:
        for path, status in self._files(_PART_SUFFIX):
            if time.time() - status.st_mtime > _ABANDONED_AFTER_S:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _files(self, *suffixes: str) -> Iterable[tuple[Path, os.stat_result]]:
        """Files of the cache and what is known of them; those that vanish meanwhile are left out."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffixes or (_SUFFIX,)):
                    with contextlib.suppress(OSError):
                        yield Path(entry.path), entry.stat()


def _half(feature: Any) -> np.ndarray:
    """A tensor, or an array, as float16."""
    tensor = getattr(feature, "detach", None)
    return np.ascontiguousarray(feature if tensor is None else tensor().cpu().half().numpy(), np.float16)


def _read(path: Path) -> tuple[list[np.ndarray], dict[str, str]]:
    """The arrays of a file in their order, and its metadata."""
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():  # opening a pipe waits for ever
        raise ValueError("it is no regular file")
    try:
        with safe_open(path, framework="np") as file:
            names = sorted(file.keys(), key=int)
            return [file.get_tensor(name) for name in names], file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(error) from error


def _checksum(key: str, features: Sequence[np.ndarray], size_hw: tuple[int, int]) -> str:
    """Of all that is stored, and of where: tensors with their type and shape in their order, and the slice's size."""
    height, width = size_hw
    digest = hashlib.sha256(f"{key} {height} {width} {len(features)}\n".encode())
    for one in features:
        digest.update(f"torch.{one.dtype} {tuple(one.shape)}\n".encode())  # so called by PyTorch, which wrote the first
        digest.update(np.ascontiguousarray(one))
    return digest.hexdigest()

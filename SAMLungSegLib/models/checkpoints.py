"""Weights: download and verify files, and put them into a network."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import filelock

from SAMLungSegLib.documents import DocumentError, read_json
from SAMLungSegLib.errors import ModelError, OutputError
from SAMLungSegLib.files import move_into_place, write_text, writing
from SAMLungSegLib.models.download import Cancelled, DownloadCancelledError, Progress, download, stop_if
from SAMLungSegLib.models.registry import CACHE_VARIABLE, ModelSpec, bundled_file, models_folder
from SAMLungSegLib.models.tensors import load_arrays, load_state_dict

if TYPE_CHECKING:  # torch takes seconds to import, and neither downloading nor verifying needs it
    from torch import Tensor, nn

State = Mapping[str, Any]  # tensors, or arrays, by name
Status = Literal["ok", "absent", "wrong hash", "unverified"]

OTHER_NETWORK_SHARE = 0.1

logger = logging.getLogger(__name__)

__all__ = [
    "DownloadCancelledError",
    "apply_weights",
    "checkpoint_path",
    "fetch",
    "file_sha256",
    "load_arrays",
    "load_state_dict",
    "verify",
]


def checkpoint_path(spec: ModelSpec, folder: Path | None = None) -> Path:
    """Where the weights of `spec` lie or will lie.

    Raises:
        ModelError: the weights are bundled and missing.
    """
    if spec.is_bundled:
        return bundled_file(spec.file_name)
    return (folder or models_folder()) / spec.file_name


def verify(spec: ModelSpec, *, folder: Path | None = None) -> Status:
    """Compare the local weights of `spec` with the hash of the registry.

    A file that was hashed before and has kept its size and time is not read again. Where no hash is published, the
    first one seen is recorded and later changes are noticed.

    Returns:
        'ok', 'absent', 'wrong hash', or 'unverified' if no hash is published.
    """
    try:
        path = checkpoint_path(spec, folder)
        if not path.is_file():
            return "absent"
    except ModelError:
        return "absent"
    recorded = {} if spec.is_bundled else _read_receipt(path)
    unchanged = recorded.get("stamp") == _stamp(path)
    got = recorded["sha256"] if unchanged else file_sha256(path)
    if got != (spec.sha256 or recorded.get("sha256", got)):
        return "wrong hash"
    if not unchanged and not spec.is_bundled:
        _write_receipt(path, got)
    return "ok" if spec.sha256 else "unverified"


def fetch(
    spec: ModelSpec,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
    url: str | None = None,
) -> Path:
    """Download the weights of `spec` unless they are here, verify them, and return their path.

    An interrupted download is resumed. Two processes may ask for the same file: the second waits for the first.

    Args:
        folder: where to keep them; the cache folder if None.
        progress: called with the bytes here and in total (0 if unknown).
        cancelled: asked several times a second; return True to stop.
        url: another address of the same file, such as a mirror.
    Raises:
        CancelledError: stopped by `cancelled`.
        ModelError: no connection, no space, or the hash is wrong; says what to do.
    """
    status = verify(spec, folder=folder)
    if spec.is_bundled:
        return _bundled(spec, status)
    path = checkpoint_path(spec, folder)
    if status in ("ok", "unverified"):
        return path
    if spec.url is None:
        raise ModelError(f"The weights of {spec.name} cannot be downloaded; {spec.remedy}.")
    with _only_one(path, cancelled):
        status = verify(spec, folder=folder)
        if status in ("ok", "unverified"):
            return path
        if status == "wrong hash":
            logger.warning("%s has the wrong SHA-256: moved to %s, downloading again", path, _set_aside(path, path))
        part = download(
            url or spec.url, path, name=spec.name, size_bytes=spec.size_bytes, progress=progress, cancelled=cancelled
        )
        return _accept(spec, part, path, cancelled)


def apply_weights(module: nn.Module, state: Mapping[str, Tensor], *, what: str) -> Literal["full", "decoder"]:
    """Load `state` into a network with `image_encoder`, `prompt_encoder` and `mask_decoder`.

    Args:
        module: the network, changed in place.
        state: all weights, or those of the mask decoder with or without the prefix 'mask_decoder.'; weights of the
            prompt encoder beside them are loaded too.
        what: what the weights are called in messages, such as a path.
    Returns:
        'full' or 'decoder'.
    Raises:
        ModelError: keys are missing or unexpected or have another shape; nothing was loaded.
    """
    state = fitted(module.state_dict(), state, network=type(module).__name__, what=what)
    module.load_state_dict(state, strict=False)
    return "full" if holds_encoder(state) else "decoder"


OPTIONAL_PARTS = ("whole_branch", "corrector")  # that earlier weights of lung-compact do not have


def fitted(wanted: State, state: State, *, network: str, what: str) -> State:
    """`state` with the names that the network has for it.

    Args:
        wanted: a whole state dict of the network: tensors, arrays, or whatever has `shape` and `dtype`.
        state: all weights, or those of the mask decoder, as `apply_weights` takes them.
        network: what messages call the network.
        what: what they call the weights.
    Raises:
        ModelError: keys are missing or unexpected or have another shape.
    """
    state = _with_part_names(wanted, state)
    parts = {key.partition(".")[0] for key in state}
    absent = {part for part in OPTIONAL_PARTS if part not in parts}
    wanted = {key: one for key, one in wanted.items() if key.partition(".")[0] not in absent}
    if not holds_encoder(state):
        wanted = {key: one for key, one in wanted.items() if key.partition(".")[0] in parts | {"mask_decoder"}}
    problems = _differences(wanted, state)
    if problems:
        guess = ", they look like weights of another network" if _is_another_network(wanted, state) else ""
        raise ModelError(
            f"The weights {what} do not fit {network}{guess}: {'; '.join(problems)}. "
            "Give weights of the same architecture."
        )
    return state


def holds_encoder(state: State) -> bool:
    """Whether weights have an image encoder, without which they belong on top of others."""
    return any(key.partition(".")[0] == "image_encoder" for key in state)


# ---- files


def file_sha256(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file, lower-case hexadecimal; `check` is called regularly and may raise to stop it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            check()
            digest.update(chunk)
    return digest.hexdigest()


def copy_beside(file: Path, target: Path) -> None:
    """Put a copy of `file` into the folder of `target`, unless it is there already or there is no such file."""
    copy = target.with_name(file.name)
    if file.is_file() and file.resolve() != copy.resolve():
        with file.open("rb") as source, writing(copy) as copied:
            shutil.copyfileobj(source, copied)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _receipt_path(path: Path) -> Path:
    return Path(f"{path}.verified")


def _read_receipt(path: Path) -> dict[str, Any]:
    try:
        receipt = read_json(_receipt_path(path))
        return {"sha256": str(receipt["sha256"]), "stamp": list(receipt["stamp"])}
    except (DocumentError, TypeError, KeyError):
        return {}


def _write_receipt(path: Path, sha256: str) -> None:
    with contextlib.suppress(OSError, OutputError):  # a read-only cache of several users: hash again next time
        write_text(json.dumps({"sha256": sha256, "stamp": _stamp(path)}), _receipt_path(path))


def _set_aside(file: Path, path: Path) -> Path:
    """Move a damaged `file` to where nobody takes it for the weights at `path`."""
    aside = Path(f"{path}.wrong-hash")
    move_into_place(file, aside)
    _receipt_path(path).unlink(missing_ok=True)
    return aside


def _bundled(spec: ModelSpec, status: Status) -> Path:
    path = bundled_file(spec.file_name)
    if status == "wrong hash":
        raise ModelError(f"The bundled weights {path} are damaged (SHA-256 is not {spec.sha256}); install again.")
    return path


def _accept(spec: ModelSpec, part: Path, path: Path, cancelled: Cancelled | None) -> Path:
    got = file_sha256(part, lambda: stop_if(cancelled, path))
    if spec.sha256 not in (None, got):
        aside = _set_aside(part, path)
        raise ModelError(
            f"The download of {spec.name} has SHA-256 {got}, expected {spec.sha256}; it was moved to {aside}. "
            "Run again, or download it over another network."
        )
    move_into_place(part, path)
    _write_receipt(path, got)
    if spec.sha256 is None:
        logger.warning("No SHA-256 is published for %s: it cannot be verified; recorded %s", spec.name, got)
    return path


@contextlib.contextmanager
def _only_one(path: Path, cancelled: Cancelled | None) -> Iterator[None]:
    """Let one process at a time download to `path`; the system frees the lock of a process that dies."""
    lock = filelock.FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            stop_if(cancelled, path)
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0.5)
    except OSError as error:
        raise ModelError(
            f"Cannot write to {path.parent} ({error}); set {CACHE_VARIABLE} to a folder you can write to."
        ) from error
    try:
        yield
    finally:
        lock.release()


# ---- tensors


def _with_part_names(wanted: State, state: State) -> State:
    """Prefix bare keys of a mask decoder with 'mask_decoder.'; leave others alone."""
    own = {key.split(".")[1] for key in wanted if key.startswith("mask_decoder.")}
    if all(key.partition(".")[0] in own for key in state):
        return {f"mask_decoder.{key}": value for key, value in state.items()}
    return state


def _differences(wanted: State, given: State) -> list[str]:
    """One phrase for each kind of difference, with its count and the first key."""
    shapes = [
        f"{key} is {tuple(given[key].shape)}, expected {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in given and given[key].shape != value.shape
    ]
    kinds = {
        "missing": [key for key in wanted if key not in given],
        "unexpected": [key for key in given if key not in wanted],
        "of another shape": shapes,
        "of another kind of number": [
            key for key, value in wanted.items() if key in given and _is_float(given[key]) != _is_float(value)
        ],
    }
    return [f"{len(keys)} {kind} ({keys[0]}{', ...' if len(keys) > 1 else ''})" for kind, keys in kinds.items() if keys]


def _is_float(value: Any) -> bool:
    """Of a tensor or an array."""
    return "float" in str(value.dtype)


def _is_another_network(wanted: State, given: State) -> bool:
    matching = sum(key in given and given[key].shape == value.shape for key, value in wanted.items())
    return matching < OTHER_NETWORK_SHARE * len(wanted)

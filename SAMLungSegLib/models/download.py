"""Download a large file over HTTP, and go on where the last attempt stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from SAMLungSegLib.errors import CancelledError, ModelError
from SAMLungSegLib.files import open_partial
from SAMLungSegLib.models.registry import CACHE_VARIABLE
from SAMLungSegLib.models.reply import CHUNK_BYTES, ReplyError, Span, requested

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]
DownloadCancelledError = CancelledError  # as it was called

SPARE_BYTES = 64 << 20
MOST_BYTES = 20 * 10**9

_WEB_PAGE = (b"<!doctype html", b"<html")


def download(
    url: str,
    path: Path,
    *,
    name: str,
    size_bytes: int,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Fetch what is missing of the file `path` into `path` + '.part'.

    A partial file of another version is not noticed here: compare the hash of the result.

    Args:
        path: where the file will lie in the end; its folder exists.
        name: what messages call it.
        size_bytes: its size; 0 if unknown, then no more than MOST_BYTES are taken.
        progress: called with the bytes here and in total (0 if unknown).
        cancelled: asked several times a second, whatever the server does.
    Returns:
        Path of the complete '.part' file.
    Raises:
        CancelledError: stopped by `cancelled`.
        ModelError: no connection, too slow a one, no space, another size is offered, or a reply that makes no sense.
            The partial file holds what fits the request, and nothing of a reply that is longer than it says.
    """
    part = Path(f"{path}.part")
    try:
        have = part.stat().st_size if part.exists() else 0
        if have and have == size_bytes:
            return part
        have = have if have < size_bytes or not size_bytes else 0
        _check_space(part.parent, name, size_bytes - have)
        with requested(url, have, lambda: stop_if(cancelled, path)) as (span, pieces):
            total = _total_bytes(span, url, name, size_bytes)
            _check_space(part.parent, name, total - span.start)
            _save(pieces, span, part, total, progress)
    except (OSError, ReplyError) as error:
        has_arrived = part.exists() and part.stat().st_size > 0
        remedy = "What has arrived is kept: run again to resume" if has_arrived else "Run again later"
        raise ModelError(
            f"Cannot download {name} from {url}: {error}. {remedy}, or download the file by hand and save it as {path}."
        ) from error
    return part


def stop_if(cancelled: Cancelled | None, path: Path) -> None:
    """Raise CancelledError if the caller wants to stop the download of `path`."""
    if cancelled is not None and cancelled():
        raise CancelledError(f"The download of {path.name} was cancelled; run again to resume it.")


def _total_bytes(span: Span, url: str, name: str, size_bytes: int) -> int:
    """Size of the whole file, 0 if nobody says; refused if it is not what it should be."""
    total = max(span.total or size_bytes, span.end or 0)
    if size_bytes and total != size_bytes:
        raise ModelError(
            f"{url} offers {total} bytes, {name} has {size_bytes}: it is another file, or a proxy answers in "
            "its place; check the network, or download the file by hand."
        )
    if not size_bytes and total > MOST_BYTES:
        raise ReplyError(f"the server offers {total} bytes, more than the {MOST_BYTES} that are taken")
    return total


def _check_space(folder: Path, name: str, needed_bytes: int) -> None:
    needed_bytes = max(needed_bytes, 0)
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + SPARE_BYTES:
        raise ModelError(
            f"{name} needs {needed_bytes / 1e6:.0f} MB, {folder} has {free / 1e6:.0f} MB free; "
            f"make room or set {CACHE_VARIABLE} to another folder."
        )


def _save(pieces: Iterator[bytes], span: Span, part: Path, total: int, progress: Progress | None) -> None:
    """Write what arrives behind the first `span.start` bytes of `part`, which is left alone until something does."""
    first = next(pieces, b"")
    if not first:
        raise ReplyError("the connection ended before anything came")
    if first[:100].lstrip().lower().startswith(_WEB_PAGE):
        raise ReplyError("a web page came in its place, as where a network asks to log in first")
    most = _most_bytes(span, total, part.parent)
    done = told = span.start
    with open_partial(part, done) as file:
        for piece in chain([first], pieces):
            if done + len(piece) > most:
                file.truncate(span.start)
                raise ReplyError(f"the server sends more than {most} bytes")
            file.write(piece)
            done += len(piece)
            if progress is not None and done - told == CHUNK_BYTES:
                progress(done, total)
                told = done
    if progress is not None and done != told:
        progress(done, total)
    if total and done != total:
        raise ReplyError(f"the connection ended after {done} of {total} bytes")


def _most_bytes(span: Span, total: int, folder: Path) -> int:
    """How large the file may become; where nobody says how large it is, what the disk has room for."""
    if span.end is not None:
        return span.end
    return total or min(MOST_BYTES, span.start + shutil.disk_usage(folder).free - SPARE_BYTES)

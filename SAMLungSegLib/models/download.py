"""Download a large file over HTTP, and go on where the last attempt stopped."""

from __future__ import annotations

import http.client
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.files import open_partial
from SAMLungSegLib.models.registry import CACHE_VARIABLE

Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]

TIMEOUT_S = 30
CHUNK_BYTES = 1 << 18
SPARE_BYTES = 64 << 20


class DownloadCancelledError(ModelError):
    """The caller asked to stop; the partial file is kept for the next attempt."""


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
        size_bytes: its size; 0 if unknown.
        progress: called with the bytes here and in total (0 if unknown).
        cancelled: asked before each chunk.
    Returns:
        Path of the complete '.part' file.
    Raises:
        DownloadCancelledError: stopped by `cancelled`.
        ModelError: no connection, no space, or another size is offered.
    """
    part = Path(f"{path}.part")
    have = part.stat().st_size if part.exists() else 0
    if have and have == size_bytes:
        return part
    _check_space(part.parent, name, size_bytes - have)
    try:
        with _open(url, have) as response:
            start, total = _span(response, size_bytes)
            if size_bytes and total != size_bytes:
                raise ModelError(
                    f"{url} offers {total} bytes, {name} has {size_bytes}: it is another file, or a proxy answers in "
                    "its place; check the network, or download the file by hand."
                )
            _stream(response, part, start, total, progress, cancelled)
    except (OSError, http.client.HTTPException) as error:
        has_arrived = part.exists() and part.stat().st_size > 0
        remedy = "What has arrived is kept: run again to resume" if has_arrived else "Run again later"
        raise ModelError(
            f"Cannot download {name} from {url}: {_reason(error, url)}. {remedy}, "
            f"or download the file by hand and save it as {path}."
        ) from error
    return part


def stop_if(cancelled: Cancelled | None, path: Path) -> None:
    """Raise DownloadCancelledError if the caller wants to stop the download of `path`."""
    if cancelled is not None and cancelled():
        raise DownloadCancelledError(f"The download of {path.name} was cancelled; run again to resume it.")


def _reason(error: Exception, url: str) -> str:
    if not isinstance(error, urllib.error.URLError) or isinstance(error, urllib.error.HTTPError):
        return str(error)
    reason = getattr(error.reason, "strerror", None) or error.reason
    return f"there is no connection to {urllib.parse.urlsplit(url).netloc} ({reason}), check the network"


def _check_space(folder: Path, name: str, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + SPARE_BYTES:
        raise ModelError(
            f"{name} needs {needed_bytes / 1e6:.0f} MB, {folder} has {free / 1e6:.0f} MB free; "
            f"make room or set {CACHE_VARIABLE} to another folder."
        )


def _open(url: str, start: int) -> http.client.HTTPResponse:
    """Ask for the bytes from `start` on; for all of them if the server has fewer."""
    headers = {"User-Agent": "SAMLungSeg", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return _open(url, 0)
        raise


def _span(response: http.client.HTTPResponse, expected: int) -> tuple[int, int]:
    """First byte of the response within the file, and the size of the whole file (0 if unknown).

    A server that does not know ranges answers 200 with the file from its first byte.
    """
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0, int(response.headers.get("Content-Length") or expected)
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        raise http.client.HTTPException("the server sent a part without saying which")
    start, total = match.groups()
    return int(start), expected if total == "*" else int(total)


def _stream(
    response: http.client.HTTPResponse,
    part: Path,
    start: int,
    total: int,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> None:
    done = start
    with open_partial(part, start) as file:
        while True:
            stop_if(cancelled, part.with_suffix(""))
            chunk = response.read(CHUNK_BYTES)
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if total and done != total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")

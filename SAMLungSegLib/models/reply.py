"""The reply of an HTTP server, received on a thread of its own: nobody waits forever, and may leave at any moment.

Whatever a server sends, and however slowly, nothing but a ReplyError comes out of here.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

CHUNK_BYTES = 1 << 18
CONNECT_S = 10
PATIENCE_S = 30
LEAST_BYTES_PER_S = 1000
POLL_S = 0.1
THREAD_NAME = "download"

_QUEUED = 8
_LONGEST_REASON = 300
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)


class ReplyError(Exception):
    """There is no reply, or none of use; the message is one printable line without a full stop."""

    def __init__(self, reason: str) -> None:
        line = " ".join("".join(letter if letter.isprintable() else " " for letter in reason).split())
        super().__init__(line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}...")


@dataclass(frozen=True)
class Span:
    """What a server says that it sends of a file.

    Attributes:
        start: first byte: the one asked for, or 0 where the server begins anew.
        end: byte after the last one; None if the server does not say.
        total: size of the whole file; None if the server does not say.
    """

    start: int
    end: int | None
    total: int | None


@contextlib.contextmanager
def requested(url: str, start: int, check: Callable[[], None]) -> Iterator[tuple[Span, Iterator[bytes]]]:
    """Ask for the bytes of a file from `start` on, and wait until the reply begins.

    Args:
        url: begins with http:// or https://, as must all that it redirects to.
        start: first byte; where the server has no such part, the file is asked for as a whole.
        check: called at least every POLL_S while waiting; what it raises ends the transfer.
    Returns:
        What the server says that it sends; and the pieces that arrive, none across a multiple of CHUNK_BYTES from the
        start of the span.
    Raises:
        ReplyError: (the pieces as well) no connection, no reply for PATIENCE_S, less than LEAST_BYTES_PER_S after that,
            or a reply that contradicts itself or the request.
    """
    receiver = _Receiver(url, start, check)
    try:
        yield receiver.span(), receiver.pieces()
    finally:
        receiver.close()


class _Receiver:
    """Hands over what another thread receives: a span, pieces, and an empty piece at the end, or an error."""

    def __init__(self, url: str, start: int, check: Callable[[], None]) -> None:
        self._check = check
        self._arrived: queue.Queue[Span | bytes | ReplyError] = queue.Queue(_QUEUED)
        self._patience_s = float(PATIENCE_S)
        self._line = _Line()
        threading.Thread(target=self._receive, args=(url, start), name=THREAD_NAME, daemon=True).start()

    def span(self) -> Span:
        return self._next(f"the server has not answered for {PATIENCE_S} s")

    def pieces(self) -> Iterator[bytes]:
        self._patience_s = PATIENCE_S
        while piece := self._next(f"less than {LEAST_BYTES_PER_S / 1000:g} kB a second arrives"):
            yield piece

    def close(self) -> None:
        self._line.close()

    def _next(self, impatience: str) -> Span | bytes:
        """What arrives next. Each second of waiting costs patience, each byte earns some."""
        while True:
            self._check()
            item = None
            begun = time.monotonic()
            with contextlib.suppress(queue.Empty):
                item = self._arrived.get(timeout=POLL_S)
            self._patience_s -= time.monotonic() - begun
            if isinstance(item, ReplyError):
                raise item
            if isinstance(item, bytes):
                self._patience_s = min(PATIENCE_S, self._patience_s + len(item) / LEAST_BYTES_PER_S)
            if item is not None and (self._patience_s > 0 or not item):
                return item
            if self._patience_s <= 0:
                raise ReplyError(impatience)

    def _receive(self, url: str, start: int) -> None:
        try:
            response, span = _answer(self._line, url, start)
            with response:
                self._put(span)
                count = 0
                while (piece := response.read1(CHUNK_BYTES - count % CHUNK_BYTES)) and self._put(piece):
                    count += len(piece)
            self._put(b"")
        except Exception as error:  # a server can make Python's client raise almost anything
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            self._put(error if isinstance(error, ReplyError) else ReplyError(_reason(error, url)))

    def _put(self, item: Span | bytes | ReplyError) -> bool:
        """Whether somebody still takes it."""
        while not self._line.is_closed:
            with contextlib.suppress(queue.Full):
                self._arrived.put(item, timeout=POLL_S)
                return True
        return False


class _Line:
    """The connections of a transfer. Closing it ends what is under way on them, whatever another thread waits for."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.is_closed = False

    def add(self, connected: socket.socket) -> None:
        """Take a second handle of a socket: TLS takes the first away."""
        with self._lock:
            self._sockets.append(connected.dup())
        if self.is_closed:
            self.close()

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            for handle in self._sockets:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)
                handle.close()
            self._sockets.clear()


class _Connection(http.client.HTTPConnection):
    line: _Line

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(PATIENCE_S + CONNECT_S)  # where closing the line does not wake the thread
        self.line.add(self.sock)


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    """Connects as `_Connection` does, and encrypts then."""


class _Connections(urllib.request.AbstractHTTPHandler):
    """Opens http and https on a line."""

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, _Connection), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, _SecureConnection), request)

    def _connection(self, kind: type[_Connection], host: str, **options) -> _Connection:
        connection = kind(host, **options)
        connection.line = self._line
        return connection


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, response, code, message, headers, url):
        response.close()  # or its body is read whole, however long it is
        if not _is_http(url):
            raise urllib.error.HTTPError(url, code, message, headers, response)
        return super().redirect_request(request, response, code, message, headers, url)


def _opener(line: _Line) -> urllib.request.OpenerDirector:
    """Opens http and https, and no file, ftp or data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Connections(line),
        _Redirects(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _answer(line: _Line, url: str, start: int) -> tuple[http.client.HTTPResponse, Span]:
    """The response with the bytes from `start` on; with all of them if the server has no such part."""
    if not _is_http(url):
        raise ReplyError("its address begins with neither http:// nor https://")
    headers = {"User-Agent": "SAMLungSeg", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = _opener(line).open(urllib.request.Request(url, headers=headers), timeout=CONNECT_S)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        return _answer(line, url, 0)
    try:
        return response, _span(response, start)
    except ReplyError:
        response.close()
        if response.status != HTTPStatus.PARTIAL_CONTENT or not start:
            raise
        return _answer(line, url, 0)


def _span(response: http.client.HTTPResponse, asked: int) -> Span:
    """What a response says that it holds. A server that does not know ranges sends the file from its first byte."""
    if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise ReplyError(f"the server answered {response.status} in place of the file")
    encoding = _header(response, "Content-Encoding")
    if encoding.lower() not in ("", "identity"):
        raise ReplyError(f"the server sends it as {encoding}, which was not asked for")
    announced = _header(response, "Content-Length")
    if not re.fullmatch("[0-9]{0,18}", announced):
        raise ReplyError(f"the server gives it the size {announced[:20]!r}, which is none")
    length = int(announced) if announced else None
    if response.status == HTTPStatus.OK:
        return Span(0, length, length)
    match = _RANGE.fullmatch(_header(response, "Content-Range"))
    if match is None:
        raise ReplyError("the server sent a part without saying which")
    start, end = int(match[1]), int(match[2]) + 1
    total = None if match[3] == "*" else int(match[3])
    if start != asked or not start < end <= (total or end) or length not in (None, end - start):
        raise ReplyError(f"the server sent {match[0]}, asked for were the bytes from {asked} on")
    return Span(start, end, total)


def _header(response: http.client.HTTPResponse, name: str) -> str:
    """The value of a header, '' if it is not there."""
    values = {value.strip() for value in response.headers.get_all(name, [])}
    if len(values) > 1:
        raise ReplyError(f"the server contradicts itself in {name}")
    return "".join(values)


def _reason(error: Exception, url: str) -> str:
    """Why there is no reply, in words that are not the server's."""
    cause = getattr(error, "reason", error)
    detail = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if isinstance(error, urllib.error.HTTPError):
        return _refusal(error)
    if isinstance(error, urllib.error.URLError):
        host = url.partition("://")[2].partition("/")[0]
        return f"there is no connection to {host} ({detail}), check the network"
    if isinstance(error, OSError):
        return f"the connection broke ({detail})"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended before the file did"
    if isinstance(error, http.client.BadStatusLine):
        return "what answers is no web server"
    return f"the answer of the server makes no sense ({detail})"


def _refusal(error: urllib.error.HTTPError) -> str:
    if error.code // 100 != 3:
        return f"the server answered {error.code} ({http.client.responses.get(error.code, 'unknown')})"
    if _is_http(error.url):
        return "the redirections of the server lead nowhere"
    return f"the server redirects to {error.url}, which is neither http nor https"

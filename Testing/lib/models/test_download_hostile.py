"""Downloads from servers that lie, send rubbish, or say nothing: the right file or words, soon, and no rubbish kept."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import re
import socket
import socketserver
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import download, reply
from SAMLungSegLib.models.checkpoints import DownloadCancelledError, fetch
from SAMLungSegLib.models.registry import ModelSpec

PAYLOAD = random.Random(5).randbytes(600_000)
SIZE = len(PAYLOAD)
HERE = 100_000  # bytes of an earlier attempt
ZEROS = bytes(1 << 17)


def head(status, *headers):
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


def chunked(*chunks):
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def part(content_range, body=PAYLOAD, *headers):
    return head("206 Partial", f"Content-Range: {content_range}", f"Content-Length: {len(body)}", *headers) + body


def endless(start, piece=ZEROS):
    return lambda: itertools.chain([start], itertools.repeat(piece))


def slowly(text, start=b""):
    """Send the start, then the text over and over, a byte at a time."""
    return lambda: itertools.chain([start], (time.sleep(0.02) or bytes([byte]) for byte in itertools.cycle(text)))


REFUSED = {  # what the server sends, and the words
    "size_abc": (head("200 OK", "Content-Length: abc") + PAYLOAD, "size 'abc', which is none"),
    "size_digits": (head("200 OK", "Content-Length: " + "9" * 5000) + PAYLOAD, "size '99999999999999999999', which is"),
    "size_negative": (head("200 OK", "Content-Length: -5") + PAYLOAD, "size '-5', which is none"),
    "size_huge": (head("200 OK", f"Content-Length: {10**17}") + PAYLOAD, f"offers {10**17} bytes"),
    "two_sizes": (head("200 OK", "Content-Length: 5", f"Content-Length: {SIZE}") + PAYLOAD, "contradicts itself"),
    "gzip": (head("200 OK", "Content-Encoding: gzip") + PAYLOAD, "sends it as gzip"),
    "web_page": (head("200 OK") + b"\n<!DOCTYPE html><title>Log in</title>", "a web page came in its place"),
    "nothing": (b"", "the connection broke .*without response"),
    "empty": (head("200 OK"), "ended before anything came"),
    "rubbish": (bytes(range(128, 256)) * 40, "what answers is no web server"),
    "long_header": (head("200 OK", "X: " + "a" * 100_000), "makes no sense"),
    "many_headers": (head("200 OK", *["X: a"] * 5000), "makes no sense .*100 headers"),
    "no_content": (head("204 No Content"), "answered 204 in place of the file"),
    "server_error": (head("500 Oops"), r"answered 500 \(Internal Server Error\)\."),
    "escapes": (head("404 \x1b[31mNot\x1b[0m \x9b\x07 found", "Content-Length: 0"), r"answered 404 \(Not Found\)\."),
    "to_a_file": (
        head("302 Found", "Location: file:///etc/passwd"),
        "redirects to file:///etc/passwd, which is neither",
    ),
    "to_ftp": (
        head("302 Found", "Location: ftp://127.0.0.1:1/x"),
        "redirects to ftp://127.0.0.1:1/x, which is neither",
    ),
    "to_data": (
        head("302 Found", "Location: data:text/plain,abc"),
        "redirects to data:text/plain,abc, which is neither",
    ),
    "to_itself": (head("302 Found", "Location: /to_itself"), "redirections of the server lead nowhere"),
    "to_no_host": (head("302 Found", "Location: http://[/"), "makes no sense"),
    "to_a_long_host": (head("302 Found", f"Location: http://{'a' * 70}.org/"), "makes no sense"),
    "to_nowhere": (head("302 Found"), "redirections of the server lead nowhere"),
    "never_a_range": (head("416 No", "Content-Length: 0"), "answered 416"),
    "no_range": (part("", PAYLOAD), "a part without saying which"),
    "starred_range": (part("bytes */*"), "a part without saying which"),
    "digits_range": (part(f"bytes {'9' * 5000}-9/{SIZE}"), "a part without saying which"),
    "far_range": (part(f"bytes {10**12}-{10**12 + 9}/{SIZE}", b"0123456789"), "asked for were the bytes from 0 on"),
    "range_behind_the_end": (part(f"bytes 0-{SIZE}/{SIZE}", PAYLOAD + b"x"), "asked for were"),
    "range_of_another_length": (part(f"bytes 0-{SIZE - 1}/{SIZE}", PAYLOAD[:-1]), "asked for were"),
    "bad_chunk": (head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\nabc", "ended before the file did"),
    "cut_chunk": (head("200 OK", "Transfer-Encoding: chunked") + b"ffffffffffff\r\nab", "ended before the file did"),
    "endless": (endless(head("200 OK")), "sends more than"),
    "endless_chunks": (endless(head("200 OK", "Transfer-Encoding: chunked"), chunked(ZEROS)), "sends more than"),
    "endless_and_a_size": (
        endless(head("200 OK", f"Content-Length: {SIZE}", "Transfer-Encoding: chunked"), chunked(ZEROS)),
        f"sends more than {SIZE} bytes",
    ),
    "endless_part": (endless(head("206 P", f"Content-Range: bytes {HERE}-{SIZE - 1}/{SIZE}")), "sends more|asked for"),
}

ACCEPTED = {  # by a client that has HERE bytes, or none where those are not asked for
    "whole": head("200 OK", f"Content-Length: {SIZE}") + PAYLOAD,
    "whole_without_a_size": head("200 OK") + PAYLOAD,
    "whole_in_chunks": head("200 OK", "Transfer-Encoding: chunked") + chunked(PAYLOAD[:7], PAYLOAD[7:]) + b"0\r\n\r\n",
    "the_same_size_twice": head("200 OK", *[f"Content-Length: {SIZE}"] * 2) + PAYLOAD,
    "the_rest": part(f"bytes {HERE}-{SIZE - 1}/{SIZE}", PAYLOAD[HERE:]),
    "the_rest_of_who_knows": part(f"bytes {HERE}-{SIZE - 1}/*", PAYLOAD[HERE:]),
    "always_the_whole_as_a_part": part(f"bytes 0-{SIZE - 1}/{SIZE}"),
    "redirected": head("302 Found", "Location: /whole"),
    "redirected_with_a_long_body": endless(head("301 Moved", "Location: /whole")),
}

SLOW = {
    "silent": b"",
    "slow_head": slowly(b"H"),
    "slow_headers": slowly(b"X: a\r\n", b"HTTP/1.1 200 OK\r\n"),
    "continue": slowly(b"HTTP/1.1 100 Continue\r\n\r\n"),
}

SILENT_BODY = head("200 OK", f"Content-Length: {SIZE}") + PAYLOAD[:HERE]


class Handler(socketserver.BaseRequestHandler):
    """Sends what `server.replies` holds for the path; those that are slow or silent keep the connection."""

    def handle(self):
        request = b""
        while b"\r\n\r\n" not in request:
            request += self.request.recv(4096) or b"\r\n\r\n"
        name = request.split()[1].decode().strip("/").partition("?")[0]
        sent = self.server.replies[name]
        self.server.asked.append(name)
        with contextlib.suppress(OSError):
            for piece in [sent] if isinstance(sent, bytes) else sent():
                self.request.sendall(piece)
            if name in SLOW or name == "silent_body":
                self.request.recv(1)


@pytest.fixture(scope="module")
def server():
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as instance:
        instance.replies = {name: sent for name, (sent, _) in REFUSED.items()} | ACCEPTED | SLOW
        instance.replies["silent_body"] = SILENT_BODY
        instance.asked = []
        thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield instance
        instance.shutdown()
        thread.join()


@pytest.fixture
def toy(server, tmp_path):
    """Calls fetch with the name of a behaviour of the server."""
    spec = ModelSpec(
        name="toy",
        family="sam",
        architecture="vit_b",
        title="",
        url=f"http://127.0.0.1:{server.server_address[1]}",
        file_name="toy.pth",
        size_bytes=SIZE,
        sha256=hashlib.sha256(PAYLOAD).hexdigest(),
        licence="",
    )
    server.asked.clear()

    def fetched(name, *, is_known=True, **options):
        known = spec if is_known else replace(spec, size_bytes=0, sha256=None)
        return fetch(known, folder=tmp_path, url=f"{spec.url}/{name}", **options)

    return fetched


@pytest.fixture
def kept(tmp_path):
    """What the partial file holds."""
    path = tmp_path / "toy.pth.part"
    return lambda: path.read_bytes() if path.exists() else b""


def nobody_receives():
    """Whether all threads that receive have ended, or do so soon."""
    deadline = time.monotonic() + 20
    while any(thread.name == reply.THREAD_NAME for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.mark.parametrize(("is_known", "have"), [(True, HERE), (False, HERE), (False, 0)])
@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_in_words_and_not_kept(name, is_known, have, toy, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST_BYTES", 2 * SIZE)
    (tmp_path / "toy.pth.part").write_bytes(PAYLOAD[:have])
    with pytest.raises(ModelError, match=REFUSED[name][1]) as caught:
        toy(name, is_known=is_known)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert kept() in (PAYLOAD[:have], b"", b"ab"[: 2 * (name == "cut_chunk")])
    assert nobody_receives()


def test_an_endless_file_of_unknown_size_leaves_room_on_the_disk(toy, kept, monkeypatch):
    free = download.SPARE_BYTES + SIZE
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(ModelError, match=f"sends more than {SIZE} bytes"):
        toy("endless", is_known=False)
    assert kept() == b""


@pytest.mark.parametrize("is_known", [True, False], ids=["size", "no_size"])
@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_unusual_and_right_is_taken(name, is_known, toy, tmp_path):
    (tmp_path / "toy.pth.part").write_bytes(PAYLOAD[:HERE])
    assert toy(name, is_known=is_known).read_bytes() == PAYLOAD


def test_where_the_server_sends_another_part_the_file_is_fetched_from_the_start(toy, server, tmp_path):
    (tmp_path / "toy.pth.part").write_bytes(PAYLOAD[:HERE])
    toy("always_the_whole_as_a_part")
    assert server.asked == ["always_the_whole_as_a_part"] * 2


def test_a_part_that_ends_behind_the_known_end_is_refused(toy, server, kept):
    server.replies["long"] = part(f"bytes 0-{SIZE}/*", PAYLOAD + b"x")
    with pytest.raises(ModelError, match=f"offers {SIZE + 1} bytes, toy has {SIZE}"):
        toy("long")
    assert kept() == b""


def test_an_address_that_is_none_of_the_web_is_refused(tmp_path):
    (tmp_path / "weights").write_bytes(PAYLOAD)
    part = tmp_path / "toy.pth"
    with pytest.raises(ModelError, match="begins with neither http:// nor https://"):
        download.download((tmp_path / "weights").as_uri(), part, name="toy", size_bytes=SIZE)


@pytest.mark.parametrize("name", SLOW)
def test_a_server_that_does_not_answer_is_given_up(name, toy, monkeypatch):
    monkeypatch.setattr(reply, "PATIENCE_S", 0.2)
    with pytest.raises(ModelError, match=r"has not answered for 0\.2 s\. Run again later"):
        toy(name)
    assert nobody_receives()


@pytest.mark.parametrize("drips", [False, True])
def test_a_body_that_stops_or_drips_is_given_up_and_what_came_is_kept(drips, toy, server, kept, monkeypatch):
    def has_come(done, total):
        monkeypatch.setattr(reply, "PATIENCE_S", 0.2)

    begun = PAYLOAD[: reply.CHUNK_BYTES + 1]
    start = head("200 OK", f"Content-Length: {SIZE}") + begun
    server.replies["silent_body"] = slowly(b"\x00", start) if drips else start
    with pytest.raises(ModelError, match=r"less than 1 kB a second arrives\. What has arrived is kept"):
        toy("silent_body", progress=has_come)
    assert kept().startswith(begun)
    assert nobody_receives()


@pytest.mark.parametrize("least", [1, 10**9])
def test_each_second_of_waiting_costs_patience_and_each_byte_earns_some(least, toy, kept, monkeypatch):
    monkeypatch.setattr(reply, "LEAST_BYTES_PER_S", least)
    monkeypatch.setattr(reply, "POLL_S", 60)
    seconds = itertools.count(step=20)  # each of three pieces or more takes 20 s, and 30 s without any are too many
    monkeypatch.setattr(reply, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    if least == 1:
        assert toy("whole").read_bytes() == PAYLOAD
    else:
        with pytest.raises(ModelError, match=r"less than 1e[+]06 kB a second arrives"):
            toy("whole")
        assert kept() == PAYLOAD[: len(kept())] != b""


@pytest.mark.parametrize("name", ["silent", "slow_headers", "silent_body"])
def test_a_download_is_cancelled_at_once_whatever_the_server_does(name, toy, server, kept):
    server.replies["silent_body"] = SILENT_BODY
    asked = itertools.count()
    begun = time.monotonic()
    with pytest.raises(DownloadCancelledError, match="run again to resume"):
        toy(name, cancelled=lambda: server.asked and (name != "silent_body" or kept()) and next(asked) > 1)
    assert time.monotonic() - begun < reply.PATIENCE_S / 3
    assert kept() == (PAYLOAD[:HERE] if name == "silent_body" else b"")
    assert nobody_receives()
    assert toy("the_rest" if name == "silent_body" else "whole").read_bytes() == PAYLOAD


def test_a_download_is_cancelled_while_the_name_of_the_server_is_looked_up(toy, monkeypatch):
    looks, goes_on = threading.Event(), threading.Event()

    def look_up(*arguments, **options):
        looks.set()
        goes_on.wait(60)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(DownloadCancelledError):
        toy("whole", cancelled=looks.is_set)
    goes_on.set()
    assert nobody_receives()


def test_a_download_is_cancelled_while_its_hash_is_computed(toy, server, kept, tmp_path):
    (tmp_path / "toy.pth.part").write_bytes(PAYLOAD)
    asked = itertools.count()
    with pytest.raises(DownloadCancelledError):
        toy("whole", cancelled=lambda: next(asked) == 1)
    assert kept() == PAYLOAD
    assert toy("whole").read_bytes() == PAYLOAD
    assert server.asked == []


def test_words_of_a_server_are_one_printable_line_and_short():
    said = str(reply.ReplyError("a\r\n\x1b[31m\u202eb" + "c" * 10_000))
    assert re.fullmatch(r"a \[31m bc+\.\.\.", said)
    assert len(said) < 400

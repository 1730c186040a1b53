"""Downloads of weights over a loopback server, and what is verified about their files."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import checkpoints, download
from SAMLungSegLib.models.checkpoints import DownloadCancelledError, fetch, verify
from SAMLungSegLib.models.registry import MODELS, ModelSpec

PAYLOAD = bytes(range(256)) * 4096  # 1 MiB: four chunks


class Handler(BaseHTTPRequestHandler):
    """Serves `server.payload`; may cut the connection, ignore ranges, or answer with an error."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append(asked)
        if server.error:
            self.send_error(server.error)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.knows_ranges else 0
        total = len(server.payload)
        if start >= total:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        end = total if server.cut_at is None else server.cut_at
        time.sleep(server.delay_s)
        self.wfile.write(server.payload[start:end])

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def server():
    instance = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    settings = {"payload": PAYLOAD, "cut_at": None, "knows_ranges": True, "error": None, "seen": [], "delay_s": 0}
    vars(instance).update(settings)
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield instance
    instance.shutdown()
    thread.join()
    instance.server_close()


@pytest.fixture
def spec(server):
    return ModelSpec(
        name="toy",
        family="sam",
        architecture="vit_b",
        title="",
        url=f"http://127.0.0.1:{server.server_port}/toy.pth",
        file_name="toy.pth",
        size_bytes=len(PAYLOAD),
        sha256=hashlib.sha256(PAYLOAD).hexdigest(),
        licence="",
    )


def test_a_download_arrives_verified_and_reports_progress(spec, server, tmp_path):
    calls = []
    path = fetch(spec, folder=tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert path == tmp_path / "toy.pth"
    assert path.read_bytes() == PAYLOAD
    assert calls[-1] == (len(PAYLOAD), len(PAYLOAD))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert verify(spec, folder=tmp_path) == "ok"
    assert server.seen == [None]


def test_a_file_that_is_here_and_right_is_neither_downloaded_nor_read_again(spec, server, tmp_path, monkeypatch):
    fetch(spec, folder=tmp_path)
    monkeypatch.setattr(checkpoints, "file_sha256", lambda path: pytest.fail("read again"))
    assert fetch(spec, folder=tmp_path) == tmp_path / "toy.pth"
    assert len(server.seen) == 1


def test_a_file_saved_by_hand_is_accepted_without_a_download(spec, server, tmp_path):
    (tmp_path / "toy.pth").write_bytes(PAYLOAD)
    assert fetch(spec, folder=tmp_path).read_bytes() == PAYLOAD
    assert server.seen == []


def test_an_interrupted_download_is_resumed_where_it_stopped(spec, server, tmp_path):
    half = len(PAYLOAD) // 2
    server.cut_at = half
    with pytest.raises(ModelError, match=rf"connection ended after {half} of .*run again.*by hand.*toy\.pth"):
        fetch(spec, folder=tmp_path)
    assert (tmp_path / "toy.pth.part").stat().st_size == half
    assert not (tmp_path / "toy.pth").exists()

    server.cut_at = None
    path = fetch(spec, folder=tmp_path)
    assert server.seen == [None, f"bytes={half}-"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == spec.sha256
    assert not (tmp_path / "toy.pth.part").exists()


def test_a_server_without_ranges_sends_the_file_from_the_start(spec, server, tmp_path):
    server.knows_ranges = False
    (tmp_path / "toy.pth.part").write_bytes(b"x" * 1000)
    assert fetch(spec, folder=tmp_path).read_bytes() == PAYLOAD
    assert server.seen == ["bytes=1000-"]


def test_a_complete_partial_file_needs_no_server(spec, server, tmp_path):
    (tmp_path / "toy.pth.part").write_bytes(PAYLOAD)
    assert fetch(spec, folder=tmp_path).read_bytes() == PAYLOAD
    assert server.seen == []


def test_a_partial_file_longer_than_the_servers_is_started_again(spec, server, tmp_path):
    (tmp_path / "toy.pth.part").write_bytes(PAYLOAD + b"x")
    assert fetch(replace(spec, size_bytes=0), folder=tmp_path).read_bytes() == PAYLOAD
    assert server.seen == [f"bytes={len(PAYLOAD) + 1}-", None]


def test_a_wrong_hash_is_named_and_the_file_moved_aside(spec, server, tmp_path):
    server.payload = bytes(len(PAYLOAD))
    got = hashlib.sha256(server.payload).hexdigest()
    with pytest.raises(ModelError, match=rf"SHA-256 {got}, expected {spec.sha256}; it was moved to .*wrong-hash"):
        fetch(spec, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {"toy.pth.lock"} == {"toy.pth.wrong-hash"}


def test_a_damaged_file_is_moved_aside_and_downloaded_again(spec, tmp_path):
    (tmp_path / "toy.pth").write_bytes(b"damaged")
    assert verify(spec, folder=tmp_path) == "wrong hash"
    assert fetch(spec, folder=tmp_path).read_bytes() == PAYLOAD
    assert (tmp_path / "toy.pth.wrong-hash").read_bytes() == b"damaged"


def test_another_size_is_refused_before_it_is_downloaded(spec, server, tmp_path):
    server.payload = b"<html>log in to the network first</html>"
    with pytest.raises(ModelError, match=r"offers 40 bytes, toy has 1048576.*proxy"):
        fetch(spec, folder=tmp_path)
    assert not (tmp_path / "toy.pth.part").exists()


def test_a_missing_page_says_where_to_save_the_file_by_hand(spec, server, tmp_path):
    server.error = 404
    with pytest.raises(ModelError, match=r"Cannot download toy from http.*404.*by hand and save it as .*toy\.pth\.$"):
        fetch(spec, folder=tmp_path)


def test_a_server_that_does_not_answer_is_reported(spec, tmp_path):
    with pytest.raises(ModelError, match=r"Cannot download toy from http://127\.0\.0\.1:9/") as caught:
        fetch(spec, folder=tmp_path, url="http://127.0.0.1:9/toy.pth")
    assert "there is no connection to 127.0.0.1:9 (" in str(caught.value)
    assert "urlopen" not in str(caught.value)
    assert "resume" not in str(caught.value)


def test_without_a_connection_an_earlier_part_is_kept_to_resume(spec, tmp_path):
    (tmp_path / "toy.pth.part").write_bytes(PAYLOAD[:1000])
    with pytest.raises(ModelError, match=r"no connection to .*What has arrived is kept: run again to resume"):
        fetch(spec, folder=tmp_path, url="http://127.0.0.1:9/toy.pth")
    assert (tmp_path / "toy.pth.part").stat().st_size == 1000


def test_one_model_that_cannot_be_fetched_does_not_stop_the_others(spec, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path))
    monkeypatch.setitem(MODELS, "toy", spec)
    monkeypatch.setitem(MODELS, "far", replace(spec, name="far", url="http://127.0.0.1:9/f", file_name="far.pth"))
    assert main(["models", "fetch", "nowhere", "far", "toy"]) == 2
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'models' / 'toy.pth'}\n"
    first, second = (line for line in printed.err.splitlines() if line.startswith("samlungseg: "))
    assert "no model 'nowhere'" in first
    assert "Cannot download far" in second


def test_cancelling_keeps_what_has_arrived(spec, server, tmp_path):
    arrived = []
    with pytest.raises(DownloadCancelledError, match="run again to resume"):
        fetch(spec, folder=tmp_path, progress=lambda done, _: arrived.append(done), cancelled=lambda: len(arrived) >= 2)
    assert (tmp_path / "toy.pth.part").stat().st_size == arrived[-1] == 2 * download.CHUNK_BYTES
    assert fetch(spec, folder=tmp_path).read_bytes() == PAYLOAD
    assert server.seen == [None, f"bytes={arrived[-1]}-"]


def test_a_full_disk_is_noticed_before_the_download(spec, server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000_000))
    with pytest.raises(ModelError, match=r"needs 1 MB, .* has 1 MB free; make room or set SAMLUNGSEG_CACHE"):
        fetch(spec, folder=tmp_path)
    assert server.seen == []


def test_a_folder_that_cannot_be_made_is_reported(spec, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"Cannot write to .*file.*set SAMLUNGSEG_CACHE"):
        fetch(spec, folder=tmp_path / "file" / "models")


def test_two_downloads_at_once_fetch_the_file_once(spec, server, tmp_path):
    server.delay_s = 0.2
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: fetch(spec, folder=tmp_path), range(2)))
    assert paths[0].read_bytes() == PAYLOAD
    assert server.seen == [None]


def test_without_a_published_hash_the_first_is_recorded_and_changes_are_noticed(spec, tmp_path, caplog):
    spec = replace(spec, sha256=None)
    assert verify(spec, folder=tmp_path) == "absent"
    path = fetch(spec, folder=tmp_path)
    assert "cannot be verified" in caplog.text
    assert verify(spec, folder=tmp_path) == "unverified"
    path.write_bytes(b"changed")
    assert verify(spec, folder=tmp_path) == "wrong hash"


def test_a_changed_file_of_the_same_size_is_noticed(spec, tmp_path):
    path = fetch(spec, folder=tmp_path)
    path.write_bytes(bytes(len(PAYLOAD)))
    os.utime(path, ns=(1, 1))
    assert verify(spec, folder=tmp_path) == "wrong hash"


def test_bundled_weights_are_verified_where_they_lie(spec, tmp_path, monkeypatch):
    bundled = replace(spec, url=None)
    assert verify(bundled) == "absent"
    with pytest.raises(ModelError, match=r"toy\.pth is missing"):
        fetch(bundled)
    monkeypatch.setattr(checkpoints, "bundled_file", lambda name: tmp_path / name)
    (tmp_path / "toy.pth").write_bytes(PAYLOAD)
    assert fetch(bundled) == tmp_path / "toy.pth"
    (tmp_path / "toy.pth").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="damaged"):
        fetch(bundled)
    assert [path.name for path in tmp_path.iterdir()] == ["toy.pth"]

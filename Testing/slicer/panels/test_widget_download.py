"""Getting the weights of a model from the panel, over a loopback server."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import chests
import pytest
import widgettools as tools

from SAMLungSegLib.models.registry import MODELS

NAME = "sam-vit-b"
PAYLOAD = bytes(range(256)) * 8192  # 2 MiB: eight chunks


class Handler(BaseHTTPRequestHandler):
    """Sends half of the weights, then waits for `server.go`, then sends the rest."""

    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(PAYLOAD) - 1}/{len(PAYLOAD)}")
        self.send_header("Content-Length", str(len(PAYLOAD) - start))
        self.end_headers()
        half = max(start, len(PAYLOAD) // 2)
        self.server.starts.append(start)
        self.wfile.write(PAYLOAD[start:half])
        self.wfile.flush()
        self.server.go.wait(30)
        self.wfile.write(PAYLOAD[half:])

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def server():
    instance = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    instance.go, instance.starts = threading.Event(), []
    thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield instance
    instance.go.set()
    instance.shutdown()
    thread.join()
    instance.server_close()


@pytest.fixture
def window(server, module_window, monkeypatch, tmp_path):
    """A window whose second model is the toy on the server."""
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path))
    toy = replace(
        MODELS[NAME],
        url=f"http://127.0.0.1:{server.server_port}/toy.pth",
        file_name="toy.pth",
        size_bytes=len(PAYLOAD),
        sha256=hashlib.sha256(PAYLOAD).hexdigest(),
    )
    monkeypatch.setitem(MODELS, NAME, toy)
    tools.answer_at_once(monkeypatch)
    tools.show(chests.axialChest())
    opened = module_window(size=(900, 600))
    tools.idle(opened)
    return opened


def choose_toy(window):
    combo = window.ui.modelSelector
    window.choose(combo, combo.itemText(1))


def halfway(window):
    """Start the download and wait until half of it is here."""
    window.click(window.ui.downloadButton)
    window.wait_until(lambda: window.ui.downloadProgressBar.value >= 50)


def test_a_model_that_is_not_here_offers_its_download_and_blocks_segmenting(window):
    ui = window.ui
    assert not ui.downloadWidget.visible
    choose_toy(window)
    assert ui.modelSelector.currentText == "sam-vit-b (2 MB, not downloaded)"
    assert ui.downloadButton.visible
    assert not ui.cancelDownloadButton.visible
    assert not ui.segmentVolumeButton.enabled
    assert ui.segmentVolumeButton.toolTip == "Download the weights of this model first."


def test_a_model_that_is_not_here_previews_nothing_without_complaint(window):
    choose_toy(window)
    volume = window.ui.inputSelector.currentNode()
    tools.place(window, window.ui.positiveButton, "Red", tools.world(volume, (30, 50, 4)))
    tools.settled(window)
    assert not tools.preview_lungs(window, volume).any()
    assert not window.ui.statusLabel.visible


def test_weights_of_the_users_own_need_no_download(window):
    choose_toy(window)
    window.ui.weightsPathLineEdit.currentPath = "/weights/mine.pth"
    assert window.ui.segmentVolumeButton.enabled
    assert not window.ui.downloadWidget.visible


def test_a_model_that_nobody_offers_asks_for_weights_and_has_no_download(window):
    ui, names = window.ui, list(MODELS)
    window.choose(ui.modelSelector, ui.modelSelector.itemText(names.index("sam-vit-tiny")))
    assert ui.modelSelector.currentText == "sam-vit-tiny"
    assert not ui.downloadButton.visible
    assert ui.segmentVolumeButton.toolTip == (
        "Give a file with weights for this model; they are not downloaded, but trained."
    )
    ui.weightsPathLineEdit.currentPath = "/weights/mine.safetensors"
    assert ui.segmentVolumeButton.enabled


def test_a_download_shows_how_far_it_is_and_then_the_model_is_ready(window, server, tmp_path):
    ui = window.ui
    choose_toy(window)
    halfway(window)
    assert ui.downloadProgressBar.format == "1 MB of 2 MB"
    assert ui.cancelDownloadButton.visible
    assert not ui.downloadButton.visible
    server.go.set()
    tools.idle(window)
    assert (tmp_path / "models" / "toy.pth").read_bytes() == PAYLOAD
    assert ui.modelSelector.currentText == "sam-vit-b (2 MB, ready)"
    assert not ui.downloadWidget.visible
    assert ui.segmentVolumeButton.enabled


def test_a_cancelled_download_goes_on_where_it_was(window, server, tmp_path):
    ui = window.ui
    choose_toy(window)
    halfway(window)
    window.click(ui.cancelDownloadButton)
    server.go.set()
    tools.idle(window)
    assert ui.statusLabel.text == "The download was stopped; it goes on from there the next time."
    assert ui.downloadButton.visible
    window.click(ui.downloadButton)
    tools.idle(window)
    assert (tmp_path / "models" / "toy.pth").read_bytes() == PAYLOAD
    assert server.starts[1] >= len(PAYLOAD) // 2


def test_damaged_weights_are_called_damaged_and_can_be_fetched_again(window, server, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "toy.pth").write_bytes(b"damaged")
    window.widget.exit()
    window.widget.enter()
    tools.idle(window)
    choose_toy(window)
    assert window.ui.modelSelector.currentText == "sam-vit-b (2 MB, damaged)"
    assert window.ui.segmentVolumeButton.toolTip == "The weights of this model are damaged; download them again."
    server.go.set()
    window.click(window.ui.downloadButton)
    tools.idle(window)
    assert (tmp_path / "models" / "toy.pth").read_bytes() == PAYLOAD


def test_without_a_connection_one_line_says_what_to_do(window, server, dialogs, monkeypatch):
    monkeypatch.setitem(MODELS, NAME, replace(MODELS[NAME], url="http://127.0.0.1:9/toy.pth"))
    choose_toy(window)
    window.click(window.ui.downloadButton)
    tools.idle(window)
    assert window.ui.statusLabel.text.startswith("⚠ Cannot download sam-vit-b")
    assert window.ui.downloadButton.visible
    assert dialogs.take() == []

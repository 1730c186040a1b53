"""Weights: downloads over a loopback server, files that do harm, state dicts that do and do not fit."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import checkpoints, download
from SAMLungSegLib.models.checkpoints import (
    DownloadCancelledError,
    apply_weights,
    fetch,
    load_state_dict,
    verify,
)
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


# ---- downloads


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


# ---- reading


STATE = {"a.weight": torch.arange(4.0), "a.steps": torch.tensor(3)}


def assert_is_state(state):
    assert set(state) == set(STATE)
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)
    assert state["a.weight"].dtype == torch.float32
    assert state["a.steps"].dtype == torch.int64


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_every_kind_of_weights_file_is_read(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path)
    assert_is_state(load_state_dict(path))


def test_the_old_format_of_torch_is_read(tmp_path):
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_is_state(load_state_dict(tmp_path / "w.pth"))


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "sam.", "model.", "module.sam."])
def test_wrappers_and_common_prefixes_are_taken_off(tmp_path, wrapper, prefix):
    content = {wrapper: {prefix + key: value for key, value in STATE.items()}, "epoch": 3}
    torch.save(content, tmp_path / "w.pth")
    assert_is_state(load_state_dict(tmp_path / "w.pth"))


def test_a_prefix_that_only_some_keys_have_stays(tmp_path):
    torch.save({"model.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w.pth")
    assert set(load_state_dict(tmp_path / "w.pth")) == {"model.a", "b"}


def test_half_precision_becomes_float32(tmp_path):
    save_file({"a.weight": STATE["a.weight"].half(), "a.steps": STATE["a.steps"]}, tmp_path / "w.safetensors")
    assert_is_state(load_state_dict(tmp_path / "w.safetensors"))


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("bare", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, bare):
    target, path = str(tmp_path / "owned"), tmp_path / "w.pth"
    content = {"a": torch.zeros(1), "b": Evil(target)}
    path.write_bytes(pickle.dumps(content, protocol=2)) if bare else torch.save(content, path)
    with pytest.raises(ModelError, match=r"was not loaded.*could run code"):
        load_state_dict(path)
    assert not os.path.exists(target)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.bin", b"", "not a weights file; give a .safetensors"),
        ("w.pth", b"", r"is empty \(0 bytes\), it is damaged"),
        ("w.pth", b"<html>", "damaged"),
        ("w.pth", b"PK\x05\x06" + bytes(18), "damaged"),
        ("w.safetensors", b"no", "damaged"),
    ],
)
def test_a_file_that_is_not_weights_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_state_dict(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_with_a_short_reason(tmp_path):
    torch.save({"a": torch.zeros(10_000)}, tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:20_000])
    with pytest.raises(ModelError, match=r"cannot be read as weights .*damaged") as caught:
        load_state_dict(tmp_path / "w.pth")
    assert "miniz" not in str(caught.value)


def test_the_warnings_of_torch_are_not_passed_on(tmp_path, recwarn):
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil(str(tmp_path / "owned")), protocol=4))
    with pytest.raises(ModelError, match="could run code"):
        load_state_dict(tmp_path / "w.pth")
    assert recwarn.list == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    torch.save(STATE | {"b.weight": torch.tensor([1.0, value])}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth hold values that are not finite, such as in 'b\.weight'"):
        load_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{}, [1], torch.zeros(2), {"a": 1}, {"a": [torch.zeros(1)]}])
def test_content_that_is_not_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"holds no weights|is not a state dict: 'a'"):
        load_state_dict(tmp_path / "w.pth")


def test_absent_weights_are_reported(tmp_path):
    with pytest.raises(ModelError, match=r"no weights at .*w\.pth"):
        load_state_dict(tmp_path / "w.pth")


# ---- applying


class Network(nn.Module):
    """The three parts that SAM and the compact network share."""

    def __init__(self):
        super().__init__()
        self.image_encoder = nn.Sequential(nn.Linear(2, 3))
        self.prompt_encoder = nn.Sequential(nn.Embedding(1, 3))
        self.mask_decoder = nn.ModuleDict({"transformer": nn.Linear(3, 3), "iou_token": nn.Embedding(1, 3)})


def filled(part="", value=7.0):
    return {key: torch.full_like(v, value) for key, v in Network().state_dict().items() if key.startswith(part)}


def changed_parts(before, network):
    return {key.partition(".")[0] for key, value in network.state_dict().items() if not value.equal(before[key])}


def apply_and_compare(state):
    network = Network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    scope = apply_weights(network, state, what="w.pth")
    return scope, changed_parts(before, network)


def test_a_full_state_loads_every_part():
    assert apply_and_compare(filled()) == ("full", {"image_encoder", "prompt_encoder", "mask_decoder"})


def test_decoder_weights_load_into_the_decoder_alone():
    assert apply_and_compare(filled("mask_decoder.")) == ("decoder", {"mask_decoder"})


def test_bare_decoder_keys_load_into_the_decoder_alone():
    state = {key.removeprefix("mask_decoder."): value for key, value in filled("mask_decoder.").items()}
    assert set(state) == {"transformer.weight", "transformer.bias", "iou_token.weight"}
    assert apply_and_compare(state) == ("decoder", {"mask_decoder"})


def test_prompt_encoder_weights_beside_the_decoders_are_loaded_too():
    state = filled("mask_decoder.") | filled("prompt_encoder.")
    assert apply_and_compare(state) == ("decoder", {"mask_decoder", "prompt_encoder"})


def test_an_encoder_without_the_rest_is_refused_and_nothing_is_loaded():
    network = Network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ModelError, match=r"w\.pth do not fit Network: 4 missing \(prompt_encoder\.0\.weight, "):
        apply_weights(network, filled("image_encoder."), what="w.pth")
    assert changed_parts(before, network) == set()


def test_differences_are_named_with_counts_and_both_shapes():
    state = filled()
    del state["mask_decoder.iou_token.weight"]
    state["mask_decoder.transformer.weight"] = torch.zeros(7, 256)
    state |= {f"adapter.{index}": torch.zeros(1) for index in range(5)}
    with pytest.raises(ModelError) as caught:
        apply_weights(Network(), state, what="w.pth")
    assert str(caught.value) == (
        "The weights w.pth do not fit Network: 1 missing (mask_decoder.iou_token.weight); "
        "5 unexpected (adapter.0, ...); "
        "1 of another shape (mask_decoder.transformer.weight is (7, 256), expected (3, 3)). "
        "Give weights of the same architecture."
    )


def test_weights_of_something_else_are_refused():
    with pytest.raises(ModelError, match=r"another network: 3 missing .*; 1 unexpected \(fc\.weight\)"):
        apply_weights(Network(), {"fc.weight": torch.zeros(2, 2)}, what="resnet.pth")

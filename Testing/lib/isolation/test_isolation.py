"""Calls in a process of their own: what they return, and what their death, hanging and memory cost."""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from SAMLungSegLib import isolation
from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.isolation import Budget, ReaderDeathError, call, interrupt, pool
from SAMLungSegLib.isolation.budget import resource
from SAMLungSegLib.isolation.wire import WireError, receive, send

BUDGET = Budget(5, 1 << 30)
posix_only = pytest.mark.skipif(resource is None, reason="the system limits no process")


def here(function, *arguments, budget=BUDGET, **options):
    return call(function, arguments, "x.nii", budget, **options)


def stored(message) -> io.BytesIO:
    file = io.BytesIO()
    send(file, message)
    file.seek(0)
    return file


def test_a_message_comes_back_with_its_arrays():
    arrays = [np.arange(24, dtype=">i2").reshape(2, 3, 4), np.zeros((0, 3)), np.arange(6.0).reshape(2, 3).T]
    back = receive(stored({"a": arrays, "b": ("x\udc80", None, 1.5)}))
    assert back["b"] == ["x\udc80", None, 1.5]
    for array, one in zip(arrays, back["a"], strict=True):
        assert one.dtype == array.dtype and np.array_equal(one, array)


@pytest.mark.parametrize(
    "text",
    [
        *(b"no JSON", b'{"__array__": ["O", [1]]}', b'{"__array__": ["<i2", [-1]]}'),
        *(b'{"__array__": ["<f8", [1000000]]}', b'{"__array__": 3}', b"[" * 100_000),
    ],
    ids=["text", "objects", "negative", "large", "number", "deep"],
)
def test_what_is_no_message_is_refused(text):
    with pytest.raises(WireError, match="no message"):
        receive(io.BytesIO(struct.pack("<Q", len(text)) + text), most_bytes=1000)


def test_a_message_that_is_cut_short_is_refused():
    content = stored({"a": np.arange(100)}).getvalue()
    for length in (0, 5, 20, len(content) - 1):
        with pytest.raises(WireError, match="ended"):
            receive(io.BytesIO(content[:length]))
    with pytest.raises(WireError, match="bytes"):
        receive(io.BytesIO(b"\xff" * 8))


def test_calls_are_answered_by_one_other_process():
    first = here("os:getpid")
    assert first != os.getpid() and here("os:getpid") == first


def test_relative_paths_mean_the_same_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert here("os:getcwd") == os.getcwd()


def test_a_death_is_an_error_about_the_file_and_the_next_call_is_answered():
    with pytest.raises(ReaderDeathError, match=r"x\.nii ended the process that read it .* corrupted") as death:
        here("os:abort")
    assert isinstance(death.value, VolumeError)
    assert here("operator:add", 1, 2) == 3


def test_a_process_that_died_of_an_earlier_file_costs_nothing():
    victim = here("os:getpid")
    os.kill(victim, 9)
    assert here("operator:add", 1, 2) == 3


@posix_only
def test_a_call_that_computes_for_too_long_is_ended():
    start = time.monotonic()
    with pytest.raises(ReaderDeathError, match="took too long"):
        here("re:fullmatch", "(a+)+b", "a" * 40, budget=Budget(0.2, 1 << 30))
    assert time.monotonic() - start < 9


def test_a_call_that_waits_for_too_long_is_ended():
    start = time.monotonic()
    with pytest.raises(ReaderDeathError, match="took too long"):
        here("time:sleep", 60, budget=Budget(0.1, 1 << 30))
    assert time.monotonic() - start < 9


@posix_only
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the size of a process")
def test_memory_is_limited_and_given_back():
    with pytest.raises(VolumeError, match="more memory than it may take"):
        here("builtins:bytearray", 1 << 31)
    assert here("operator:add", 1, 2) == 3


def test_errors_keep_their_kind_and_others_name_the_file(tmp_path):
    with pytest.raises(VolumeError, match="does not exist"):
        here("SAMLungSegLib.volume.served:volume", str(tmp_path / "absent.nii"), None, True)
    with pytest.raises(GeometryError, match="shape"):
        here("SAMLungSegLib.volume.types:check_affine", np.eye(3), "x")
    with pytest.raises(VolumeError, match=r"x\.nii is corrupted and cannot be read \(ZeroDivisionError"):
        here("operator:truediv", 1, 0)


def test_threads_do_not_wait_for_each_other():
    threads = [threading.Thread(target=here, args=("time:sleep", 0.5)) for _ in range(2)]
    here("os:getpid")
    start = time.monotonic()
    for thread in threads:
        thread.start()
    assert here("operator:add", 1, 2) == 3
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 20


def test_what_is_read_can_be_interrupted():
    def read() -> None:
        try:
            here("time:sleep", 60)
        except ReaderDeathError as error:
            errors.append(str(error))

    errors: list[str] = []
    thread = threading.Thread(target=read)
    thread.start()
    stop = time.monotonic() + 20
    while thread.is_alive() and time.monotonic() < stop:
        interrupt()
        thread.join(0.05)
    assert errors and "was left unread" in errors[0]


def test_where_no_process_can_be_started_files_are_read_here_and_that_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(pool, "_pool", pool._Pool())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert [here("os:getpid") for _ in range(2)] == [os.getpid()] * 2
    assert caplog.text.count("without protection") == 1
    with pytest.raises(VolumeError, match=r"x\.nii is corrupted"):
        here("operator:truediv", 1, 0)


def test_a_program_that_python_is_part_of_is_not_started_again(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/Slicer/bin/SlicerApp-real")
    monkeypatch.setattr(pool, "_pool", pool._Pool())
    assert here("os:getpid") == os.getpid()


def test_a_file_named_like_a_library_in_the_current_folder_is_not_run(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("import os; os._exit(3)")
    (tmp_path / "json.py").write_text("import os; os._exit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "_pool", pool._Pool())
    assert here("os:getpid") != os.getpid()


def test_the_budget_grows_with_the_files_and_what_they_announce(tmp_path):
    file = tmp_path / "large"
    with file.open("wb") as large:
        large.truncate(100_000_000)
    small, grown = Budget.of_files([tmp_path / "absent"]), Budget.of_files([file])
    assert small.cpu_seconds < 5 < grown.cpu_seconds
    assert grown.memory_bytes - small.memory_bytes == 1_200_000_000
    assert grown.with_values(10**9).memory_bytes - grown.memory_bytes == 4 * 10**9


def test_importing_it_is_light():
    import subprocess

    code = "import sys, SAMLungSegLib.isolation; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(isolation.__file__).parents[2]).returncode == 0

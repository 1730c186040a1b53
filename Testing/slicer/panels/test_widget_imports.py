"""Importing large packages in the background: what it must leave as it was."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
from takes import takes

from SAMLungSegSlicer.runtime import imports

MAX_GAP_MS = 100

GAPS = """
import sys, threading, time
sys.path[:0] = {path!r}
import importlib.util
spec = importlib.util.spec_from_file_location("imports", {file!r})
imports = importlib.util.module_from_spec(spec)
spec.loader.exec_module(imports)
thread = threading.Thread(target=imports.importQuietly, args=(("torch", "SAMLungSegLib.pipeline"),))
gaps, last = [], time.perf_counter()
thread.start()
while thread.is_alive():
    time.sleep(0.003)
    now = time.perf_counter()
    gaps.append(now - last)
    last = now
assert "torch" in sys.modules
print(sorted(gaps)[-3] * 1000)
"""


def test_modules_are_imported_and_garbage_is_collected_as_before():
    sys.modules.pop("colorsys", None)
    imports.importQuietly(("colorsys",))
    assert "colorsys" in sys.modules
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_an_import_that_fails_says_so_and_leaves_the_collection_on():
    with pytest.raises(ImportError):
        imports.importQuietly(("there_is_no_such_module",))
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_collection_that_was_off_stays_off():
    gc.disable()
    try:
        imports.importQuietly(("colorsys",))
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_nothing_more_is_imported_after_cancelling():
    sys.modules.pop("colorsys", None)
    imports.importQuietly(("colorsys",), isCancelled=lambda: True)
    assert "colorsys" not in sys.modules


@pytest.mark.slow
def test_another_thread_hardly_waits_while_torch_is_imported():
    assert min(takes(third_longest_gap_ms, MAX_GAP_MS)) < MAX_GAP_MS


def third_longest_gap_ms():
    code = GAPS.format(path=sys.path, file=imports.__file__)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)

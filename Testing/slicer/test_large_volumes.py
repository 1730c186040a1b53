"""Lungs of 512 x 512 x 400 voxels: how long the window waits, and how much memory undo takes."""

from __future__ import annotations

import tracemalloc

import bridge_nodes as nodes
import numpy as np
import pytest
from benchmarks.large_volumes import Watch, measure
from takes import takes

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge import history
from SAMLungSegSlicer.bridge.history import MAXIMUM_BYTES, bytesOfHistories, historyOf

MAX_BLOCKED_MS = 100
WRITES = ("written", "accepted", "undo", "redo")
LUNGS_BYTES = 4e6  # of one state


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("nothing_kept")
@pytest.mark.usefixtures("measured_alone")
def test_writing_undo_and_redo_block_the_window_for_less_than_a_tenth_of_a_second():
    def longest_ms():
        watch = Watch()
        used = measure(watch)
        steps = {name: own for name, (_, own) in watch.best.items() if any(word in name for word in WRITES)}
        assert len(steps) == 12
        assert used < 5 * LUNGS_BYTES
        return max(steps.values())

    assert min(takes(longest_ms, MAX_BLOCKED_MS)) < MAX_BLOCKED_MS


@pytest.mark.slow
@pytest.mark.usefixtures("measured_alone")
def test_undo_of_many_segmentations_takes_no_more_memory_than_it_says(monkeypatch):
    assert MAXIMUM_BYTES == 2**28
    monkeypatch.setattr(history, "MAXIMUM_BYTES", 2**24)
    size_kji = (16, 256, 256)  # 1 MB, and of noise, which cannot be kept smaller
    volume = nodes.add_volume(np.zeros(size_kji, np.int16))
    rng, made = np.random.default_rng(0), []
    tracemalloc.start()
    try:
        for _ in range(4):
            made.append(bridge.ensureSegmentation(volume))
            for _ in range(8):
                historyOf(made[-1]).save()
                bridge.writeLabelmap(made[-1], rng.integers(0, 3, size_kji, np.uint8), volume)
                assert bytesOfHistories() <= 2**24
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bytesOfHistories() > 2**24 - 2**21
    assert held < 1.1 * 2**24
    steps = [sum(historyOf(node).undo() for _ in range(9)) for node in reversed(made)]
    assert steps[0] == 8
    assert sum(steps) < 32

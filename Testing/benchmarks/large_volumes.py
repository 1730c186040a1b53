"""How long the window is blocked while lungs of 512 x 512 x 400 voxels are written, undone and read; memory of undo.

    python Testing/benchmarks/large_volumes.py

On the test bench, with Slicer's own segmentations and without a model: what is 'found' are two ellipsoids. Only what
runs on the main thread counts. The best of some rounds, as clock time and as the thread's own time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

ROUNDS = 3
SIZE_KJI = (400, 512, 512)
IJK_TO_RAS = np.array([[-0.7, 0, 0, 179], [0, -0.7, 0, 179], [0, 0, 1, -200], [0, 0, 0, 1]])
MRMLNode = Any
REPOSITORY = Path(__file__).resolve().parents[2]


def ellipsoids(scale: float = 1.0, size_kji: tuple[int, int, int] = SIZE_KJI) -> np.ndarray:
    """Uint8 (K, J, I): two lungs that take a sixth of the volume, larger by `scale`."""
    k, j, i = (np.linspace(-1, 1, size, dtype=np.float32) for size in size_kji)
    labels = np.zeros(size_kji, np.uint8)
    for label, middle in ((1, -0.42), (2, 0.42)):
        around = (k[:, None, None] / 0.85) ** 2 + (j[:, None] / 0.6) ** 2 + ((i - middle) / 0.36) ** 2
        labels[around < scale**2] = label
    return labels


class Watch:
    """The best time of each step."""

    def __init__(self) -> None:
        self.best: dict[str, tuple[float, float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block."""
        clock, own = time.perf_counter(), time.thread_time()
        yield
        taken = (time.perf_counter() - clock) * 1000, (time.thread_time() - own) * 1000
        self.best[name] = tuple(map(min, taken, self.best.get(name, taken)))

    def table(self) -> str:
        """In Markdown."""
        rows = [f"| {name} | {wall:.0f} | {own:.0f} |" for name, (wall, own) in self.best.items()]
        return "\n".join(["| step | ms | own ms |", "|---|---:|---:|", *rows])


def measure(watch: Watch) -> int:
    """One round; the bytes that undo takes at its end. The bench must have been started."""
    import slicer

    from SAMLungSegSlicer.bridge.history import bytesOfHistories, forgetHistories, historyOf
    from SAMLungSegSlicer.sessions import forgetSessions, sessionOf

    slicer.mrmlScene.Clear(0)
    forgetHistories()
    forgetSessions()
    volume_node = slicer.util.addVolumeFromArray(np.zeros(SIZE_KJI, np.int16), ijkToRAS=IJK_TO_RAS, name="CT")
    node = segmented(watch, "first write", volume_node, None, ellipsoids())
    second = ellipsoids()
    second[150:160] = ellipsoids(1.05)[150:160]
    segmented(watch, "second write, 10 slices differ", volume_node, node, second)
    segmented(watch, "third write, all slices differ", volume_node, node, ellipsoids(0.9))
    accept_slice(watch, volume_node, node)
    history = historyOf(node)
    for name in ("slice", "third write", "second write", "first write"):
        with watch.step(f"undo of {name}"):
            assert history.undo()
            sessionOf(volume_node, node)
    for name in ("first write", "second write", "third write", "slice"):
        with watch.step(f"redo of {name}"):
            assert history.redo()
            sessionOf(volume_node, node)
    forgetSessions()
    with watch.step("session of a segmentation that was opened"):
        sessionOf(volume_node, node)
    return bytesOfHistories()


def segmented(
    watch: Watch, name: str, volume_node: MRMLNode, node: MRMLNode | None, labelmap_kji: np.ndarray
) -> MRMLNode:
    """The segmentation after *Segment volume* has found a labelmap."""
    from SAMLungSegLib.pipeline import Segmentation
    from SAMLungSegLib.volume import axial_plane
    from SAMLungSegSlicer import jobs
    from SAMLungSegSlicer.jobs.caches import imageOf

    with watch.step(f"{name}: job made"):
        job = jobs.SegmentVolumeJob(volume_node, node, jobs.Settings(modality="CT"))
    volume = imageOf(volume_node).volume
    scores = np.zeros(len(labelmap_kji), np.float32)
    found = Segmentation(volume, "CT", axial_plane(volume), labelmap_kji, labelmap_kji, scores)
    with (
        patch("SAMLungSegLib.segment_volume", lambda *_, **__: found),
        patch.object(jobs.Settings, "loadedModel", lambda _: None),
    ):
        result = job.run()
    with watch.step(f"{name}: written"):
        return job.finish(result)


def accept_slice(watch: Watch, volume_node: MRMLNode, node: MRMLNode) -> None:
    """Write a prediction into the axial slice in the middle, as *Accept* does."""
    import slicer

    from SAMLungSegLib.interaction import Predicted, SlicePrompts
    from SAMLungSegLib.prompts.volume import VolumePrompts
    from SAMLungSegSlicer import bridge
    from SAMLungSegSlicer.jobs.caches import imageOf
    from SAMLungSegSlicer.sessions import oneStep, proposed, writeSlice

    slice_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    slice_node.SetLayoutName("Red")
    slice_node.SetOrientation("Axial")
    cut = bridge.cutFromSliceNode(slice_node, volume_node)
    prompts = SlicePrompts.of(cut, VolumePrompts((), ()), imageOf(volume_node).volume)
    labels = np.zeros(cut.size_hw, np.uint8)
    labels[100:300, 100:200], labels[100:300, 300:400] = 1, 2
    predicted = Predicted.of(prompts, labels, (1, 2), needs_prompt=False)
    with watch.step("slice accepted"), oneStep(volume_node, node) as (_, session):
        proposal = proposed(session, predicted, volume_node, node, keep=False)
        writeSlice(session, proposal, volume_node, node, None, None)


def main() -> None:
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "Testing"), str(REPOSITORY / "SAMLungSeg")]
    import bench

    bench.start()
    watch = Watch()
    used = [measure(watch) for _ in range(ROUNDS)]
    print(watch.table())
    print(f"\nStates to undo and redo to: {max(used) / 2**20:.1f} MB.")


if __name__ == "__main__":
    main()

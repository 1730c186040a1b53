"""What the tests of the panel share."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import chests
import numpy as np
import slicer
from bench.latency import Latency, latency
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs import Settings


def show(volume_node, width=1500, level=-500):
    """In the background of the slice views, as Slicer shows what it has loaded."""
    volume_node.CreateDefaultDisplayNodes()
    display = volume_node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(width, level)
    slicer.util.setSliceViewerLayers(background=volume_node, fit=True)
    return volume_node


def add_labelmap(labelmap_kji, volume_node, name="Reference"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, labelmap_kji)
    node.CopyOrientation(volume_node)
    return node


def world(volume_node, ijk):
    """Position in mm of a voxel."""
    return (bridge.ijkToWorldMatrix(volume_node) @ [*ijk, 1])[:3]


def middle(mask_kji):
    """A voxel (i, j, k) well inside a mask, in its largest slice."""
    k = int(mask_kji.sum(axis=(1, 2)).argmax())
    y, x = np.nonzero(mask_kji[k])
    nearest = ((y - y.mean()) ** 2 + (x - x.mean()) ** 2).argmin()
    return int(x[nearest]), int(y[nearest]), k


def place(window, button, view, ras):
    """Place one point as a person does: jump there, press the button, click, press the button again."""
    window.jump(ras)
    window.click(button)
    QTest.mouseMove(window.view(view), QPoint(2, 2))  # or there is no move where the mouse was last
    window.click_in_view(view, ras)
    window.click(button)


def idle(window, *channels):
    """Wait until the worker has nothing to do."""
    window.wait_until(lambda: not any(window.widget.worker.isBusy(one) for one in channels or (None,)), 120)


def settled(window):
    """Wait until the preview has answered the newest prompts."""
    for _ in range(2):  # an answer may show that there is something newer to ask
        window.process_events()
        idle(window)


class FairLatency(Latency):
    """Latency without the time in which the system had the main thread wait for other programs (Linux tells)."""

    def __init__(self) -> None:
        super().__init__()
        self._starved_ms = _starved_ms()

    def tick(self) -> None:
        super().tick()
        before, self._starved_ms = self._starved_ms, _starved_ms()
        self.delays_ms[-1] = max(self.delays_ms[-1] - (self._starved_ms - before), 0.0)


@contextmanager
def fair_latency() -> Iterator[Latency]:
    """As `bench.latency.latency`, for machines that are busy with something else."""
    gc.collect()  # what earlier tests left takes a quarter of a second, which would fall into the block now and then
    gc.freeze()  # nor is it gone through again within the block
    try:
        with latency(FairLatency) as watch:
            yield watch
    finally:
        gc.unfreeze()


def _starved_ms() -> float:
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e6
    except OSError:
        return 0.0


def preview_lungs(window, volume_node):
    """The voxels that the preview shows: 1 right, 2 left; all zero where it shows nothing."""
    node = window.widget.preview.node
    if node is None or not node.GetDisplayNode().GetVisibility():
        return np.zeros(volume_node.GetImageData().GetDimensions()[::-1], np.uint8)
    return chests.lungsOf(node, volume_node)


def answer_at_once(monkeypatch, model=None):
    """Have a model answer that needs no weights and no time."""
    model = model or chests.DarknessModel()
    monkeypatch.setattr(Settings, "loadedModel", lambda settings: model)
    return model


class HeldModel(chests.DarknessModel):
    """Answers only after `release`."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self._go = threading.Event(), threading.Event()

    def encode(self, views):
        self.reached.set()
        if not self._go.wait(30):
            raise TimeoutError("nobody released the model")
        return super().encode(views)

    def release(self) -> None:
        self._go.set()

"""Encoding ahead in the module: which slice is next, who comes first, when it begins anew and when it ends."""

from __future__ import annotations

import gc
import logging
import threading

import chests
import pytest
import slicer
import torch
import widgettools as tools
from bench import leaks

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.intensity import to_grey
from SAMLungSegLib.models import checkpoints
from SAMLungSegLib.models.base import Embedding, ModelView
from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.volume import axial_plane
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.live import prefetch

ALL = list(range(8))
PATIENCE_S = 30


class SteppedModel(chests.DarknessModel):
    """Encodes a slice for each step it is allowed, and remembers what it has encoded."""

    fingerprint = "stepped"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []
        self.reached = threading.Event()
        self._steps, self._isFree = threading.Semaphore(0), False

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        self.reached.set()
        if not self._isFree and not self._steps.acquire(timeout=PATIENCE_S):
            raise TimeoutError("nobody allowed the model a step")
        self.seen += [one.tobytes() for one in slices]
        self.encoded += len(slices)
        return [Embedding((torch.from_numpy(image.copy()),), image.shape) for image in slices]

    def decode(self, embedding, prompts):
        (grey,) = embedding.features
        return super().decode(Embedding((grey.numpy(),), embedding.size_hw), prompts)

    def step(self) -> None:
        self._steps.release()

    def free(self) -> None:
        self._isFree = True
        self._steps.release()


@pytest.fixture(autouse=True)
def ready(monkeypatch):
    """Weights of every model are there, and a moment is short."""
    monkeypatch.setattr(checkpoints, "verify", lambda spec: "ok")
    monkeypatch.setattr(prefetch, "QUIET_MS", 20)


@pytest.fixture
def stepped(monkeypatch, tmp_path):
    model = SteppedModel()
    tools.answer_at_once(monkeypatch, CachedModel(model, EmbeddingCache(tmp_path)))
    yield model
    model.free()


@pytest.fixture
def window(chest, stepped, module_window):
    return opened(module_window, chest)


def opened(module_window, volume, ijk=(48, 48, 5), model="sam-vit-b"):
    """A window that shows one slice, and then asks for a model."""
    window = module_window(size=(900, 600))
    window.jump(tools.world(volume, ijk))
    window.widget.logic.getParameterNode().model = model
    return window


def numbers(model, volume, window="lung"):
    """The axial slices that were encoded, in their order."""
    from SAMLungSegLib.intensity import parse_window

    image = bridge.volumeFromNode(volume)
    grey = axial_plane(image).to_display(to_grey(image, "CT", parse_window(window)))
    order = [one.tobytes() for one in grey]
    return [order.index(one) for one in model.seen]


def wait_for(window, model, count):
    window.wait_until(lambda: model.encoded == count, PATIENCE_S)
    tools.idle(window)


# ---- which slice is next


def test_the_visible_slice_is_encoded_first_and_then_its_neighbours(window, chest, stepped):
    stepped.free()
    wait_for(window, stepped, 8)
    assert numbers(stepped, chest) == [5, 4, 6, 3, 7, 2, 1, 0]
    assert "Prepared slices: 8 of 8." in window.ui.livePreviewCheckBox.toolTip


def test_a_slice_that_is_scrolled_to_is_next(window, chest, stepped):
    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    window.jump(tools.world(chest, (48, 48, 1)))
    stepped.free()
    wait_for(window, stepped, 8)
    assert numbers(stepped, chest)[:3] == [5, 1, 0]


def test_a_view_of_another_orientation_does_not_decide_what_is_next(window, chest, stepped):
    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    window.view("Red").mrmlSliceNode().SetOrientation("Coronal")
    window.jump(tools.world(chest, (48, 20, 0)))
    stepped.free()
    wait_for(window, stepped, 8)
    assert numbers(stepped, chest)[:3] == [5, 4, 6]


def test_an_oblique_volume_under_a_transform_is_encoded_as_it_will_be_segmented(stepped, module_window):
    volume = tools.show(chests.obliqueChest())
    window = opened(module_window, volume, model="lung-compact")
    window.view("Red").mrmlSliceNode().RotateToVolumePlane(volume)
    window.jump(tools.world(volume, (48, 5, 48)))  # of eight slices along J, from the head down
    window.widget.logic.getParameterNode().model = "sam-vit-b"
    stepped.free()
    wait_for(window, stepped, 8)
    assert numbers(stepped, volume) == [2, 1, 3, 0, 4, 5, 6, 7]
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    assert chests.lungsOf(window.ui.outputSelector.currentNode(), volume).any()
    assert stepped.encoded == 8


# ---- who comes first


def test_other_work_begins_after_one_slice_and_then_encoding_goes_on_to_the_end(window, chest, stepped):
    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    entered, go = threading.Event(), threading.Event()

    def work(progress, cancelled):
        entered.set()
        go.wait(PATIENCE_S)

    window.widget.worker.submit(work, channel="other")
    stepped.step()
    window.wait_until(entered.is_set, PATIENCE_S)
    assert numbers(stepped, chest) == [5]
    window.wait(0.2)  # several times as long as all must be quiet
    go.set()
    stepped.free()
    wait_for(window, stepped, 8)
    assert sorted(numbers(stepped, chest)) == ALL


def test_a_preview_is_answered_after_one_slice_and_its_own(window, chest, stepped):
    from SAMLungSegSlicer.promptnodes import ensurePoints

    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    window.jump(tools.world(chest, (48, 48, 2)))
    points = ensurePoints(window.widget.logic.getParameterNode(), False)
    points.AddControlPointWorld(*tools.world(chest, (30, 50, 2)))
    window.wait_until(lambda: window.widget.worker.isBusy("preview"), PATIENCE_S)
    stepped.step()
    stepped.step()
    window.wait_until(lambda: tools.preview_lungs(window, chest)[2].any(), PATIENCE_S)
    assert numbers(stepped, chest) == [5, 2]
    stepped.free()
    wait_for(window, stepped, 8)
    assert sorted(numbers(stepped, chest)) == ALL


def test_a_segmentation_can_be_started_at_any_time_and_uses_what_is_there(window, chest, stepped):
    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    window.widget.refresh()
    ui = window.ui
    assert ui.segmentVolumeButton.enabled
    assert not ui.cancelButton.enabled
    assert not ui.progressBar.visible
    assert not ui.statusLabel.visible
    window.click(ui.segmentVolumeButton)
    stepped.free()
    tools.idle(window)
    assert chests.lungsOf(ui.outputSelector.currentNode(), chest).any()
    wait_for(window, stepped, 8)
    assert numbers(stepped, chest) == [5, 0, 1, 2, 3, 4, 6, 7]


# ---- when it begins anew, and when not at all


def test_another_window_is_encoded_anew(window, chest, stepped):
    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    window.widget.logic.getParameterNode().window = "mediastinum"
    window.wait(0.1)
    stepped.free()
    wait_for(window, stepped, 9)
    first, *rest = stepped.seen
    stepped.seen = rest
    assert numbers(stepped, chest, "mediastinum") == [5, 4, 6, 3, 7, 2, 1, 0]
    stepped.seen = [first]
    assert numbers(stepped, chest) == [5]


def test_a_volume_whose_voxels_change_is_encoded_anew(window, chest, stepped):
    stepped.free()
    wait_for(window, stepped, 8)
    slicer.util.updateVolumeFromArray(chest, slicer.util.arrayFromVolume(chest) // 2)
    wait_for(window, stepped, 16)
    stepped.seen = stepped.seen[8:]
    assert numbers(stepped, chest) == [5, 4, 6, 3, 7, 2, 1, 0]


def test_a_volume_without_voxels_is_encoded_when_it_has_some(stepped, module_window, dialogs):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    stepped.free()
    window = module_window(size=(900, 600))
    parameters = window.widget.logic.getParameterNode()
    parameters.inputVolume, parameters.model = empty, "sam-vit-b"
    window.wait(0.1)
    tools.idle(window)
    slicer.util.updateVolumeFromArray(empty, chests.phantom().hu_kji)
    wait_for(window, stepped, 8)
    assert sorted(numbers(stepped, empty)) == ALL
    assert dialogs.take() == []


def test_other_lungs_and_another_threshold_change_nothing(window, chest, stepped):
    stepped.free()
    wait_for(window, stepped, 8)
    parameters = window.widget.logic.getParameterNode()
    queue = window.widget.ahead._stack.queue
    parameters.lungs, parameters.threshold = "left", 0.7
    window.wait(0.1)
    assert window.widget.ahead._stack.queue is queue


@pytest.mark.parametrize("why", ["bundled model", "no live preview", "no weights"])
def test_nothing_is_encoded_where_nobody_gains_by_it(why, chest, stepped, module_window, monkeypatch):
    if why == "no weights":
        monkeypatch.setattr(checkpoints, "verify", lambda spec: "absent")
    window = module_window(size=(900, 600))
    parameters = window.widget.logic.getParameterNode()
    parameters.livePreview = why != "no live preview"
    tools.idle(window)
    parameters.model = "lung-compact" if why == "bundled model" else "sam-vit-b"
    window.wait(0.1)
    tools.idle(window)
    assert not stepped.reached.is_set()


def test_what_fails_is_logged_and_tried_again_only_when_the_module_is_opened_again(
    chest, stepped, module_window, monkeypatch, caplog, dialogs
):
    def encode(slices):
        stepped.encoded += 1
        raise ModelError("no memory")

    monkeypatch.setattr(stepped, "encode", encode)
    with caplog.at_level(logging.WARNING):
        window = opened(module_window, chest)
        window.wait_until(lambda: "no memory" in caplog.text, PATIENCE_S)
    window.widget.refresh()
    window.wait(0.1)
    tools.idle(window)
    assert stepped.encoded == 1
    assert dialogs.take() == []
    window.widget.exit()
    window.widget.enter()
    window.wait_until(lambda: stepped.encoded == 2, PATIENCE_S)


# ---- when it ends


@pytest.mark.parametrize(
    "end", ["close the scene", "remove the volume", "leave the module", "choose the bundled model"]
)
def test_it_ends_after_the_slice_under_way(end, window, chest, stepped):
    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    ends = {
        "close the scene": lambda: slicer.mrmlScene.Clear(0),
        "remove the volume": lambda: slicer.mrmlScene.RemoveNode(chest),
        "leave the module": window.widget.exit,
        "choose the bundled model": lambda: setattr(window.widget.logic.getParameterNode(), "model", "lung-compact"),
    }
    ends[end]()
    stepped.free()
    tools.idle(window)
    window.wait(0.1)
    assert not window.widget.worker.isBusy("ahead")
    assert stepped.encoded == 1
    assert window.widget.ahead.Observations == []
    assert not window.widget.ahead._timer.isActive()


def test_it_goes_on_when_the_module_is_opened_again(window, chest, stepped):
    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    window.widget.exit()
    stepped.step()
    tools.idle(window)
    window.jump(tools.world(chest, (48, 48, 1)))
    window.widget.enter()
    stepped.free()
    wait_for(window, stepped, 8)
    assert numbers(stepped, chest)[:2] == [5, 1]
    assert sorted(numbers(stepped, chest)) == ALL


def test_closing_the_window_meanwhile_leaves_no_observer_timer_or_thread(chest, stepped, module_window):
    module_window(size=(900, 600)).close()
    before = leaks.snapshot()
    window = opened(module_window, chest)
    window.wait_until(stepped.reached.is_set, PATIENCE_S)
    controller = window.widget.ahead
    assert controller.Observations
    threading.Timer(0.2, stepped.free).start()
    window.close()
    gc.collect()
    assert not controller._timer.isActive()
    assert [one for one in leaks.left_since(before) if "active timer" not in one] == []  # tests wait with timers
    assert stepped.encoded == 1

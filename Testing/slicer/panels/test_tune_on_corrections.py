"""'Tune on my corrections': what is counted, what is refused, a tuning that is kept, one that is not, and a stop."""

from __future__ import annotations

from pathlib import Path

import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.training import fine_tune
from SAMLungSegLib.training.scores import compared
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs import SegmentSliceJob, SegmentVolumeJob, Settings, TuneJob
from SAMLungSegSlicer.jobs.tuning import acceptedLungs, countAccepted

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("nothing_kept")
SLICES = 16


@pytest.fixture
def segmented(model):
    """A chest of sixteen slices with lungs, as the model found them."""
    phantom = chests.chest_ct(seed=0, size_kji=(SLICES, 96, 96), spacing_mm=(18.0, 4.0, 4.0))
    volume = tools.show(chests.nodes.add_volume(phantom.hu_kji.copy(), phantom.ijk_to_ras, name="chest"))
    job = SegmentVolumeJob(volume, None, Settings())
    return volume, job.finish(job.run())


def paint(volume, segmentation, slices) -> None:
    """By another hand: a corner of the lung is taken away in some slices."""
    labels = chests.lungsOf(segmentation, volume)
    for k in slices:
        j, i = np.argwhere(labels[k] > 0)[0]
        labels[k, j, i] = 0
    bridge.writeLabelmap(segmentation, labels, volume)


def withLung(volume, segmentation) -> list[int]:
    return np.flatnonzero(chests.lungsOf(segmentation, volume).any(axis=(1, 2))).tolist()


def opened(module_window, segmentation):
    window = module_window(size=(1100, 900))
    window.choose(window.ui.outputSelector, segmentation)
    window.ui.tuneCollapsibleButton.collapsed = False
    counted(window)
    return window


def counted(window):
    window.process_events()
    window.widget.refresh()
    ended(window)


def ended(window):
    busy = (window.widget.worker, window.widget._context.longWorker)
    window.wait_until(lambda: not any(one.isBusy() for one in busy), 200)


def judged(monkeypatch, before, after):
    """Whatever was learned, the held-out slices are said to have had these Dice."""
    verdict = compared(before, after)
    real = fine_tune._unprompted_comparison
    monkeypatch.setattr(fine_tune, "_unprompted_comparison", lambda *args: (real(*args)[0], verdict))


def test_slices_as_they_were_found_are_nothing_to_learn_from(segmented):
    volume, segmentation = segmented
    assert countAccepted(acceptedLungs()) == (0, 0)
    paint(volume, segmentation, withLung(volume, segmentation)[:3])
    assert countAccepted(acceptedLungs()) == (3, 1)


def test_an_accepted_slice_counts(segmented):
    volume, segmentation = segmented
    middle = withLung(volume, segmentation)[3]
    view = chests.addSliceView(volume, offset_mm=18.0 * (middle - (SLICES - 1) / 2))
    job = SegmentSliceJob(volume, view, segmentation, Settings())
    job.finish(job.run())
    assert countAccepted(acceptedLungs()) == (1, 1)


def test_a_segmentation_that_nothing_is_known_of_does_not_count(segmented):
    volume, _segmentation = segmented
    other = bridge.ensureSegmentation(volume)
    bridge.writeLabelmap(other, np.ones((SLICES, 96, 96), np.uint8), volume)
    assert countAccepted(acceptedLungs()) == (0, 0)


def test_the_button_says_how_many_slices_are_missing(segmented, module_window):
    volume, segmentation = segmented
    slices = withLung(volume, segmentation)
    paint(volume, segmentation, slices[:5])
    window = opened(module_window, segmentation)
    ui = window.ui
    assert ui.tuneCountLabel.text.startswith("Accepted slices: 5, of volumes: 1.")
    assert not ui.tuneButton.enabled and "tuning needs at least 8" in ui.tuneButton.toolTip
    paint(volume, segmentation, slices[:9])
    counted(window)
    assert ui.tuneCountLabel.text.startswith("Accepted slices: 9,") and "not for new patients" in ui.tuneCountLabel.text
    assert ui.tuneButton.enabled


@pytest.mark.slow
def test_what_is_better_is_kept_where_the_user_says_and_used(segmented, module_window, monkeypatch, dialogs, tmp_path):
    volume, segmentation = segmented
    paint(volume, segmentation, withLung(volume, segmentation)[:9])
    judged(monkeypatch, before=[0.90, 0.91, 0.92], after=[0.95, 0.96, 0.97])
    short_training(monkeypatch)
    window = opened(module_window, segmentation)
    dialogs.answer(str(tmp_path / "mine"))
    window.click(window.ui.tuneButton)
    ended(window)
    weights = Path(window.widget._context.parameters.customWeights)
    assert weights.parent == tmp_path / "mine" and "Kept and in use" in window.ui.tuneLabel.text
    assert "Held-out" in window.ui.tuneLabel.text
    assert ModelChoice("lung-compact", weights).load("cpu").name
    window.grab(tmp_path / "tuned.png")


@pytest.mark.slow
def test_what_is_not_better_is_not_kept(segmented, module_window, monkeypatch):
    volume, segmentation = segmented
    paint(volume, segmentation, withLung(volume, segmentation)[:9])
    judged(monkeypatch, before=[0.95, 0.96, 0.97], after=[0.90, 0.91, 0.92])
    short_training(monkeypatch)
    window = opened(module_window, segmentation)
    window.click(window.ui.tuneButton)
    ended(window)
    assert "Not better, so nothing is kept" in window.ui.tuneLabel.text
    assert window.widget._context.parameters.customWeights == ""


@pytest.mark.slow
def test_it_can_be_stopped_and_leaves_nothing(segmented, module_window, monkeypatch):
    volume, segmentation = segmented
    paint(volume, segmentation, withLung(volume, segmentation)[:9])
    window = opened(module_window, segmentation)
    jobs = []
    real = TuneJob.__init__
    monkeypatch.setattr(TuneJob, "__init__", lambda self, *args: (real(self, *args), jobs.append(self))[0])
    window.click(window.ui.tuneButton)
    window.wait_until(lambda: "Epoch" in window.ui.tuneProgressBar.format, 200)
    window.click(window.ui.tuneCancelButton)
    ended(window)
    assert "Stopped; nothing is kept" in window.ui.tuneLabel.text and window.ui.tuneButton.enabled
    assert not Path(jobs[0]._folder.name).exists()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0


def short_training(monkeypatch):
    """One epoch; how well that learns is the library's matter."""
    real = fine_tune.tune_decoder
    monkeypatch.setattr(
        fine_tune,
        "tune_decoder",
        lambda model, training, validation, policy, config, folder, watch=None: real(
            model, training, validation, policy, fine_tune.TuningConfig(epochs=1, batch=2), folder, watch=watch
        ),
    )

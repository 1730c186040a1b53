"""A whole day's work, as a person does it: a volume found, followed through the strip, corrected, propagated, kept."""

from __future__ import annotations

import os
from pathlib import Path

import chests
import numpy as np
import pytest
import qt
import slicer
import widgettools as tools
from bench.person import lasso_largest_error

from SAMLungSegLib.metrics import dice
from SAMLungSegLib.phantom import chest_ct

PICTURES = "SAMLUNGSEG_SCREENSHOTS"
SEED = 5
SEGMENT = {1: "right lung", 2: "left lung"}


@pytest.fixture
def pictures(tmp_path) -> Path:
    return Path(os.environ.get(PICTURES) or tmp_path)


class Day:
    """The window, the patient, and what is true of the patient."""

    def __init__(self, module_window, pictures):
        phantom = chest_ct(seed=SEED, size_kji=(56, 144, 144), spacing_mm=(5.0, 2.6, 2.6))
        self.volume = slicer.util.addVolumeFromArray(phantom.hu_kji, ijkToRAS=phantom.ijk_to_ras, name="Patient")
        self.truth = phantom.labelmap_kji
        tools.show(self.volume)
        self.window, self.pictures, self.count = module_window(size=(1280, 1150)), pictures, 0
        self.ui = self.window.ui

    def picture(self, name):
        self.count += 1
        self.window.grab(self.pictures / f"day {self.count:02} {name}.png")

    def settle(self):
        for _ in range(3):
            tools.idle(self.window)
            self.window.wait(0.25)

    def press(self, button):
        self.window.click(button)
        self.settle()

    def key(self, key, modifier=qt.Qt.NoModifier):
        self.window.press_key(key, modifier)
        self.settle()

    @property
    def node(self):
        return self.ui.outputSelector.currentNode()

    @property
    def lungs(self):
        return chests.lungsOf(self.node, self.volume)

    @property
    def slices(self):
        return self.window.widget.slices

    @property
    def number(self):
        """Of the slice that the Red view shows, as the strip counts."""
        matrix = np.linalg.inv(chests.ijkToRas(self.volume))
        offset = self.window.view("Red").mrmlSliceNode().GetSliceToRAS().GetElement(2, 3)
        return round(float((matrix @ [0, 0, offset, 1])[2]))

    def score(self):
        return min(dice(self.lungs == label, self.truth == label) for label in (1, 2))

    def lasso_largest_error(self):
        is_wrong = lasso_largest_error(self.window, self.volume, self.truth, self.number)
        self.settle()
        return is_wrong


@pytest.mark.slow
def test_a_day_of_work(module_window, pictures, tmp_path):
    day = Day(module_window, pictures)
    ui = day.ui
    day.press(ui.segmentVolumeButton)
    day.picture("one click")
    found, first = day.lungs, day.score()
    assert day.slices.timeline.doubtful

    visited = []
    for turn in range(3):  # three doubtful slices, each corrected by a stroke or two
        day.key(qt.Qt.Key_N)
        visited.append(day.number)
        assert visited.count(day.number) == 1
        if turn == 0:
            day.picture("first doubtful slice")
        for _ in range(2):
            if not day.lasso_largest_error():
                break
        if turn == 0:
            day.picture("drawn")
        if ui.acceptButton.enabled:
            day.key(qt.Qt.Key_A)
    corrected = day.lungs
    locked = set(np.flatnonzero(day.slices.timeline.locked).tolist())
    assert locked
    assert locked <= set(visited)
    day.picture("three corrected")

    day.key(qt.Qt.Key_X)
    assert day.window.widget.propagation.isShown
    day.picture("propagation shown")
    np.testing.assert_array_equal(day.lungs, corrected)
    day.key(qt.Qt.Key_A)
    propagated = day.lungs
    assert (propagated != corrected).any()
    for k in locked:
        np.testing.assert_array_equal(propagated[k], corrected[k])
    assert day.score() > first
    day.picture("propagated")

    other = next(k for k in range(20, 40) if k not in visited)  # painted by the Segment Editor, or a script
    paint(day, other)
    day.settle()
    assert day.slices.timeline.locked[other]

    day.window.choose(ui.referenceSelector, tools.add_labelmap(day.truth, day.volume))
    day.press(ui.evaluateButton)
    table = slicer.util.dataframeFromTable(ui.summaryTable.mrmlTableNode())
    assert table["dice"].min() == pytest.approx(day.score(), abs=1e-6)
    assert not np.isnan(day.slices.timeline.disagreement).all()
    day.picture("evaluated")

    before = day.lungs
    path = tmp_path / "day.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    day.window.process_events()
    day.settle()
    day.volume = ui.inputSelector.currentNode()
    np.testing.assert_array_equal(day.lungs, before)
    assert set(np.flatnonzero(day.slices.timeline.locked).tolist()) == {*locked, other}
    day.picture("opened again")

    day.key(qt.Qt.Key_N)  # and on
    assert day.number not in {*locked, other}
    day.press(ui.segmentVolumeButton)
    after = day.lungs
    for k in {*locked, other}:
        np.testing.assert_array_equal(after[k], before[k])
    free = [k for k in range(len(after)) if k not in {*locked, other}]
    np.testing.assert_array_equal(after[free], found[free])
    day.key(qt.Qt.Key_Z)
    np.testing.assert_array_equal(day.lungs, before)


def paint(day, k):
    label = 1 if (day.lungs[k] == 1).any() else 2
    segment_id = day.node.GetSegmentation().GetSegmentIdBySegmentName(SEGMENT[label])
    array = slicer.util.arrayFromSegmentBinaryLabelmap(day.node, segment_id, day.volume).copy()
    array[k, 60:63, 70:73] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, day.node, segment_id, day.volume)

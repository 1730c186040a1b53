"""Points change what they say and nothing that was painted elsewhere in their slice, whatever happened before."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegSlicer.promptnodes import ensurePoints

SLICE = 4
PAINTED = np.s_[SLICE, 20:26, 44:50]  # in the mediastinum


pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def window(module_window):
    tools.show(chests.axialChest())
    return module_window(size=(1100, 800))


def press(window, button):
    window.click(button)
    tools.idle(window)


def paint(window):
    """As the Segment Editor's Paint: one more block in the left lung."""
    node, volume = window.ui.outputSelector.currentNode(), window.ui.inputSelector.currentNode()
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName("left lung")
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume).copy()
    array[PAINTED] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, volume)


def lungs(window):
    return chests.lungsOf(window.ui.outputSelector.currentNode(), window.ui.inputSelector.currentNode())


def look(window):
    window.jump(tools.world(window.ui.inputSelector.currentNode(), (48, 48, SLICE)))


def accept_point(window, x, y=60):
    look(window)
    node = ensurePoints(window.widget.logic.getParameterNode(), False)
    node.AddControlPointWorld(*tools.world(window.ui.inputSelector.currentNode(), (x, y, SLICE)))
    tools.settled(window)
    press(window, window.ui.acceptButton)


def reopen(window, path):
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    window.process_events()
    slicer.util.setSliceViewerLayers(background=window.ui.inputSelector.currentNode(), fit=True)


def test_a_point_that_is_accepted_again_after_undo(window):
    press(window, window.ui.segmentVolumeButton)
    paint(window)
    accept_point(window, 25)
    press(window, window.ui.undoButton)
    tools.settled(window)
    press(window, window.ui.acceptButton)
    assert (lungs(window)[PAINTED] == 2).all()
    assert lungs(window)[SLICE, 60, 25] == 0


def test_a_second_point_after_undo_and_redo(window):
    press(window, window.ui.segmentVolumeButton)
    paint(window)
    accept_point(window, 25)
    press(window, window.ui.undoButton)
    press(window, window.ui.redoButton)
    accept_point(window, 70)
    assert (lungs(window)[PAINTED] == 2).all()
    assert not lungs(window)[SLICE, 60, [25, 70]].any()


@pytest.mark.parametrize("first", ["volume", "slice", "point"])
def test_a_point_in_a_scene_that_was_opened_again(window, tmp_path, first):
    look(window)
    if first == "point":
        accept_point(window, 70)
    else:
        press(window, window.ui.segmentVolumeButton if first == "volume" else window.ui.segmentSliceButton)
    paint(window)
    reopen(window, tmp_path / "scene.mrb")
    accept_point(window, 25)
    assert (lungs(window)[PAINTED] == 2).all()
    assert lungs(window)[SLICE, 60, 25] == 0


@pytest.mark.parametrize("first", ["slice", "point"])
def test_a_point_where_the_whole_volume_was_never_segmented(window, first):
    look(window)
    if first == "point":
        accept_point(window, 25)
    else:
        press(window, window.ui.segmentSliceButton)
    paint(window)
    accept_point(window, 70)
    assert (lungs(window)[PAINTED] == 2).all()
    assert lungs(window)[SLICE, 60, 70] == 0


def test_a_point_on_the_painted_part_takes_it_away_after_undo(window):
    press(window, window.ui.segmentVolumeButton)
    paint(window)
    accept_point(window, 25)
    press(window, window.ui.undoButton)
    accept_point(window, 47, 23)
    assert not lungs(window)[PAINTED].any()

"""What was painted or accepted stays when lungs are found again; the editable area of the Segment Editor holds."""

from __future__ import annotations

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.promptnodes import ensurePoints

SLICE = 4
PAINTED = np.s_[SLICE, 20:26, 44:50]  # in the mediastinum


pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture(params=["axial", "oblique"])
def chest(request):
    return tools.show(chests.axialChest() if request.param == "axial" else chests.obliqueChest())


@pytest.fixture
def axial():
    return tools.show(chests.axialChest())


def opened(module_window):
    window = module_window(size=(1100, 800))
    press(window, window.ui.segmentVolumeButton)
    return window


def press(window, button):
    window.click(button)
    tools.idle(window)


def paint(window, part, value=1, name="left lung"):
    """As the Segment Editor's Paint: one more block in one segment."""
    node, volume = window.ui.outputSelector.currentNode(), window.ui.inputSelector.currentNode()
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume).copy()
    array[part] = value
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, volume)


def lungs(window):
    return chests.lungsOf(window.ui.outputSelector.currentNode(), window.ui.inputSelector.currentNode())


def add_point(window, ijk, positive=False):
    node = ensurePoints(window.widget.logic.getParameterNode(), positive)
    node.AddControlPointWorld(*tools.world(window.ui.inputSelector.currentNode(), ijk))
    tools.settled(window)


def corrected(window, axial, x=25):
    window.jump(tools.world(axial, (48, 48, SLICE)))
    add_point(window, (x, 60, SLICE))
    press(window, window.ui.acceptButton)
    press(window, window.ui.clearButton)
    return lungs(window)


def test_painted_slices_are_kept_and_said(chest, module_window):
    window = opened(module_window)
    middle = tuple(size // 2 for size in lungs(window).shape)
    part = tuple(slice(one, one + 3) for one in middle)
    paint(window, part)
    painted = lungs(window)
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window), painted)
    assert "kept" in window.ui.statusLabel.text
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window), painted)


def test_edited_slices_are_replaced_when_the_user_says_so(axial, module_window):
    window = opened(module_window)
    found = lungs(window)
    paint(window, PAINTED)
    window.click(window.ui.keepEditsCheckBox)
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window), found)
    assert "kept" not in window.ui.statusLabel.text


def test_only_the_edited_slice_is_kept_when_other_settings_find_other_lungs(axial, module_window):
    window = opened(module_window)
    found = lungs(window)
    paint(window, PAINTED)
    window.choose(window.ui.lungsSelector, "right")
    paint(window, np.s_[1], 0, "right lung")  # a slice that was emptied by hand
    press(window, window.ui.segmentVolumeButton)
    expected = found.copy()
    expected[PAINTED] = 2
    expected[1][found[1] == 1] = 0
    np.testing.assert_array_equal(lungs(window), expected)
    assert "1 edited slice is kept" in window.ui.statusLabel.text  # the other one has a painted left lung only
    window.choose(window.ui.lungsSelector, "both")
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window), expected)
    assert "2 edited slices are kept" in window.ui.statusLabel.text


def test_an_accepted_slice_is_kept_when_its_prompts_are_gone(axial, module_window):
    window = opened(module_window)
    found = lungs(window)
    accepted = corrected(window, axial)
    assert (accepted[SLICE] != found[SLICE]).any()
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window), accepted)


def test_an_accepted_slice_is_kept_where_nothing_was_found_automatically_before(axial, module_window):
    window = module_window(size=(1100, 800))
    accepted = corrected(window, axial)
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window)[SLICE], accepted[SLICE])
    assert lungs(window)[SLICE + 1].any()


def test_undo_leaves_nothing_that_is_taken_for_an_edit(axial, module_window):
    window = opened(module_window)
    found = lungs(window)
    corrected(window, axial)
    press(window, window.ui.undoButton)
    press(window, window.ui.undoButton)
    assert not lungs(window).any()
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window), found)
    assert "kept" not in window.ui.statusLabel.text


def test_edits_are_known_in_a_scene_that_is_opened_again(axial, module_window, tmp_path):
    window = opened(module_window)
    paint(window, PAINTED)
    painted = lungs(window)
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    window.process_events()
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window), painted)
    assert "1 edited slice is kept" in window.ui.statusLabel.text


def test_what_is_painted_while_lungs_are_found_is_kept(axial, module_window, monkeypatch):
    window = opened(module_window)
    held = tools.answer_at_once(monkeypatch, tools.HeldModel())
    window.click(window.ui.segmentVolumeButton)
    window.wait_until(held.reached.is_set)
    paint(window, PAINTED)
    painted = lungs(window)
    held.release()
    tools.idle(window)
    np.testing.assert_array_equal(lungs(window), painted)


def test_a_point_changes_nothing_that_was_painted_elsewhere_in_its_slice(axial, module_window):
    window = opened(module_window)
    paint(window, PAINTED)
    corrected(window, axial)
    assert (lungs(window)[PAINTED] == 2).all()


def test_a_point_on_what_was_painted_takes_it_away(axial, module_window):
    window = opened(module_window)
    paint(window, PAINTED)
    window.jump(tools.world(axial, (48, 48, SLICE)))
    add_point(window, (47, 23, SLICE))
    press(window, window.ui.acceptButton)
    assert not lungs(window)[PAINTED].any()


def test_the_console_keeps_edits_too_and_replaces_them_on_request(axial, module_window, caplog):
    window = opened(module_window)
    found = lungs(window)
    paint(window, PAINTED)
    painted = lungs(window)
    logic, node = window.widget.logic, window.ui.outputSelector.currentNode()
    logic.segmentVolume(axial, node)
    np.testing.assert_array_equal(lungs(window), painted)
    assert "1 edited slices" in caplog.text
    logic.segmentVolume(axial, node, keepEdits=False)
    np.testing.assert_array_equal(lungs(window), found)


@pytest.mark.parametrize("mode", ["OutsideAllSegments", "OutsideVisibleSegments", "InsideSingleSegment"])
@pytest.mark.parametrize("way", ["volume", "slice"])
def test_the_editable_area_of_the_segment_editor_is_honoured(axial, module_window, mode, way):
    window = module_window(size=(1100, 800))
    node = bridge.ensureSegmentation(axial)
    nodule = np.zeros((8, 96, 96), np.uint8)
    nodule[2:6, 45:60, 20:32] = 1
    segment_id = nodes.add_segment(node, nodule, chests.ijkToRas(axial), "nodule")
    segment_id = segment_id or node.GetSegmentation().GetSegmentIdBySegmentName("nodule")
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetAndObserveSegmentationNode(node)
    editor.SetMaskMode(getattr(slicer.vtkMRMLSegmentationNode, f"EditAllowed{mode}"))
    editor.SetMaskSegmentID(segment_id)
    window.choose(window.ui.outputSelector, node)
    window.jump(tools.world(axial, (48, 48, SLICE)))
    press(window, window.ui.segmentVolumeButton if way == "volume" else window.ui.segmentSliceButton)
    found = lungs(window) > 0
    barred = nodule > 0 if mode.startswith("Outside") else nodule == 0
    assert found.any()
    assert not (found & barred).any()
    kept = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, axial)
    np.testing.assert_array_equal(kept, nodule)

"""'Segment slice' and Accept keep what was painted, the preview shows it, and the status line says so."""

from __future__ import annotations

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.parameters import sliceNodeOf
from SAMLungSegSlicer.promptnodes import ensurePoints, newBox

SLICE = 4
PAINTED = np.s_[SLICE, 20:26, 44:50]  # in the mediastinum


pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def window(chest, module_window):
    window = module_window(size=(1100, 800))
    look(window, chest, SLICE)
    return window


def look(window, chest, k):
    window.jump(tools.world(chest, (48, 48, k)))
    tools.settled(window)


def press(window, button):
    window.click(button)
    tools.idle(window)


def segment(window):
    """The volume, then the slice, in which neighbouring slices play no part."""
    press(window, window.ui.segmentVolumeButton)
    press(window, window.ui.segmentSliceButton)


def lungs(window, chest):
    return chests.lungsOf(window.ui.outputSelector.currentNode(), chest)


def paint(window, chest, part=PAINTED, value=1, name="left lung"):
    """As the Segment Editor's Paint: one more block in one segment."""
    node = window.ui.outputSelector.currentNode()
    segment_id = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, chest).copy()
    array[part] = value
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, segment_id, chest)


def add_point(window, chest, ijk, positive=False):
    node = ensurePoints(window.widget.logic.getParameterNode(), positive)
    node.AddControlPointWorld(*tools.world(chest, ijk))
    tools.settled(window)


def limit(window, chest, part):
    """The Segment Editor's editable area: inside one segment."""
    node, mask = window.ui.outputSelector.currentNode(), np.zeros((8, 96, 96), np.uint8)
    mask[part] = 1
    nodes.add_segment(node, mask, chests.ijkToRas(chest), "area")
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetAndObserveSegmentationNode(node)
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.SetMaskSegmentID(node.GetSegmentation().GetSegmentIdBySegmentName("area"))
    return editor


def test_segment_slice_keeps_what_was_painted_in_it_and_says_so(window, chest):
    segment(window)
    found = lungs(window, chest)
    paint(window, chest)
    painted = lungs(window, chest)
    press(window, window.ui.segmentSliceButton)
    np.testing.assert_array_equal(lungs(window, chest), painted)
    assert "painted in it is kept" in window.ui.statusLabel.text
    window.click(window.ui.keepEditsCheckBox)
    press(window, window.ui.segmentSliceButton)
    np.testing.assert_array_equal(lungs(window, chest), found)
    assert "kept" not in window.ui.statusLabel.text


def test_the_preview_shows_painted_pixels_as_accept_leaves_them(window, chest):
    press(window, window.ui.segmentVolumeButton)
    paint(window, chest)
    paint(window, chest, np.s_[SLICE, 40:46, 20:26], 0, "right lung")
    add_point(window, chest, (70, 60, SLICE))
    shown = tools.preview_lungs(window, chest)
    assert (shown[PAINTED] == 2).all()
    assert not shown[SLICE, 40:46, 20:26].any()
    press(window, window.ui.acceptButton)
    np.testing.assert_array_equal(lungs(window, chest)[SLICE], shown[SLICE])
    assert "painted in it is kept" in window.ui.statusLabel.text


def test_the_preview_follows_what_is_painted_while_it_is_shown(window, chest):
    press(window, window.ui.segmentVolumeButton)
    add_point(window, chest, (70, 60, SLICE))
    assert not tools.preview_lungs(window, chest)[PAINTED].any()
    paint(window, chest)
    tools.settled(window)
    assert (tools.preview_lungs(window, chest)[PAINTED] == 2).all()


def test_the_preview_shows_nothing_new_outside_the_editable_area(window, chest):
    press(window, window.ui.segmentVolumeButton)
    limit(window, chest, np.s_[:, :, :48])
    before = lungs(window, chest)
    add_point(window, chest, (25, 60, SLICE))
    add_point(window, chest, (70, 60, SLICE))
    shown = tools.preview_lungs(window, chest)
    assert shown[SLICE, 60, 25] == 0
    np.testing.assert_array_equal(shown[SLICE, :, 48:], before[SLICE, :, 48:])
    press(window, window.ui.acceptButton)
    np.testing.assert_array_equal(lungs(window, chest)[SLICE], shown[SLICE])


def test_slices_that_a_limited_editable_area_cuts_do_not_count_as_edited_at_the_next_run(window, chest):
    press(window, window.ui.segmentVolumeButton)
    found = lungs(window, chest)
    press(window, window.ui.undoButton)
    editor = limit(window, chest, np.s_[:, :, :48])
    press(window, window.ui.segmentVolumeButton)
    assert not lungs(window, chest)[:, :, 48:].any()
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(lungs(window, chest), found)
    assert "kept" not in window.ui.statusLabel.text


def test_segment_slice_with_a_box_changes_nothing_outside_it(window, chest):
    segment(window)
    before = lungs(window, chest)
    corners = np.array([tools.world(chest, ijk) for ijk in ((20, 30, SLICE - 0.5), (40, 60, SLICE + 0.5))])
    box = newBox(window.widget.logic.getParameterNode())
    box.SetCenterWorld(*corners.mean(axis=0))
    box.SetSizeWorld(*np.abs(corners[1] - corners[0]))
    tools.settled(window)
    paint(window, chest)
    paint(window, chest, np.s_[SLICE, 40:46, 25:30], 0, "right lung")
    window.click(window.ui.keepEditsCheckBox)
    press(window, window.ui.segmentSliceButton)
    before[PAINTED] = 2
    np.testing.assert_array_equal(lungs(window, chest), before)


def test_segment_slice_beside_a_box_of_another_slice_finds_its_lungs(window, chest):
    press(window, window.ui.segmentSliceButton)
    found = lungs(window, chest)
    press(window, window.ui.undoButton)
    corners = np.array([tools.world(chest, ijk) for ijk in ((20, 30, SLICE + 1.5), (40, 60, SLICE + 2.5))])
    box = newBox(window.widget.logic.getParameterNode())
    box.SetCenterWorld(*corners.mean(axis=0))
    box.SetSizeWorld(*np.abs(corners[1] - corners[0]))
    tools.settled(window)
    press(window, window.ui.segmentSliceButton)
    np.testing.assert_array_equal(lungs(window, chest), found)
    assert found.any()


def test_an_undo_from_the_console_is_not_taken_for_painting(window, chest):
    segment(window)
    node = window.ui.outputSelector.currentNode()
    add_point(window, chest, (25, 60, SLICE))
    press(window, window.ui.acceptButton)
    historyOf(node).undo()
    beside = tools.world(chest, (31, 60, SLICE))  # takes away a part of what the first point took away
    window.widget.logic.segmentSlice(chest, "Red", node, negativePoints=[beside])
    assert not lungs(window, chest)[SLICE, 56:65, 27:36].any()


def test_a_slice_that_was_accepted_can_be_segmented_again_also_after_undo_and_redo(window, chest):
    segment(window)
    found = lungs(window, chest)
    add_point(window, chest, (25, 60, SLICE))
    press(window, window.ui.acceptButton)
    press(window, window.ui.undoButton)
    press(window, window.ui.redoButton)
    assert (lungs(window, chest) != found).any()
    window.click(window.ui.clearButton)
    press(window, window.ui.segmentSliceButton)
    np.testing.assert_array_equal(lungs(window, chest), found)


def test_a_preview_that_was_accepted_comes_back_after_undo_and_goes_after_redo(window, chest):
    press(window, window.ui.segmentVolumeButton)
    add_point(window, chest, (25, 60, SLICE))
    for button, is_back in (
        (window.ui.acceptButton, False),
        (window.ui.undoButton, True),
        (window.ui.redoButton, False),
    ):
        press(window, button)
        tools.settled(window)
        assert tools.preview_lungs(window, chest).any() == is_back
        assert window.ui.acceptButton.enabled == is_back


def test_what_is_noted_of_a_slice_is_in_the_status_line_and_in_the_consoles_log(window, chest, monkeypatch, caplog):
    from SAMLungSegLib.pipeline import slice as slices

    monkeypatch.setattr(
        slices, "slice_with_one_side", lambda labels_hw, *_: (labels_hw, "One lung was told by the heart.")
    )
    press(window, window.ui.segmentSliceButton)
    assert window.ui.statusLabel.text.endswith("⚠ One lung was told by the heart.")
    window.widget.logic.segmentSlice(chest, sliceNodeOf(window.widget.logic.getParameterNode()))
    assert "One lung was told by the heart." in caplog.text


def test_the_console_replaces_what_was_painted_on_request(window, chest, caplog):
    segment(window)
    found, node = lungs(window, chest), window.ui.outputSelector.currentNode()
    paint(window, chest)
    painted = lungs(window, chest)
    window.widget.logic.segmentSlice(chest, "Red", node)
    np.testing.assert_array_equal(lungs(window, chest), painted)
    assert "keepEdits=False" in caplog.text
    window.widget.logic.segmentSlice(chest, "Red", node, keepEdits=False)
    np.testing.assert_array_equal(lungs(window, chest), found)

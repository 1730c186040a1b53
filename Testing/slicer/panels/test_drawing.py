"""Brush, lasso and scribble with real mouse events in the slice views."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import qt
import slicer
import widgettools as tools
from bench.window import ModuleWindow
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest

from SAMLungSegSlicer import bridge

SLICE = 4
MIDDLE = (48, 30, SLICE)  # between the lungs, in front

pytestmark = pytest.mark.usefixtures("model")


def stroke(window: ModuleWindow, view: str, positions, *, key=qt.Qt.NoModifier, release=True):
    """Press the left button at the first position (mm), move through the others, release it at the last."""
    window.draw_in_view(view, positions, key, release=release)


def at(volume, *voxels):
    return [tools.world(volume, ijk) for ijk in voxels]


def lungs(window):
    node = window.ui.outputSelector.currentNode()
    volume = window.ui.inputSelector.currentNode()
    return chests.lungsOf(node, volume) if node else np.zeros(volume.GetImageData().GetDimensions()[::-1], np.uint8)


def preview(window):
    return tools.preview_lungs(window, window.ui.inputSelector.currentNode())


def segmented(window):
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    window.jump(tools.world(window.ui.inputSelector.currentNode(), MIDDLE))
    return lungs(window)


def outline(window, view):
    """The lines that are shown over a view."""
    actors = window.view(view).renderWindow().GetRenderers().GetFirstRenderer().GetActors2D()
    drawn = [actors.GetItemAsObject(index) for index in range(actors.GetNumberOfItems())]
    lines = [one for one in drawn if one.GetVisibility() and one.GetMapper().IsA("vtkPolyDataMapper2D")]
    return sum(one.GetMapper().GetInput().GetNumberOfLines() for one in lines if one.GetMapper().GetInput())


def test_a_brush_is_previewed_and_written_by_accept_as_one_step(window, chest):
    before = segmented(window)
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, (30, 30, SLICE), (52, 30, SLICE)))
    np.testing.assert_array_equal(lungs(window), before)
    shown = preview(window)
    window.click(window.ui.acceptButton)
    after = lungs(window)
    np.testing.assert_array_equal(after[SLICE], shown[SLICE])
    np.testing.assert_array_equal(np.delete(after, SLICE, 0), np.delete(before, SLICE, 0))
    assert (after[SLICE, 29:32, 30:53] == 1).all()  # radius 5 mm, pixels of 4 mm
    changed = np.argwhere(after[SLICE] != before[SLICE])
    assert changed[:, 0].min() >= 29
    assert changed[:, 0].max() <= 31
    window.click(window.ui.undoButton)
    np.testing.assert_array_equal(lungs(window), before)
    window.click(window.ui.redoButton)
    np.testing.assert_array_equal(lungs(window), after)


def test_the_first_stroke_of_all_makes_the_segmentation_with_the_lung_of_the_patients_side(window, chest):
    window.jump(tools.world(chest, MIDDLE))
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, (20, 40, SLICE)))
    stroke(window, "Red", at(chest, (75, 40, SLICE)))
    window.click(window.ui.acceptButton)
    after = lungs(window)
    assert after[SLICE, 40, 20] == 1  # i runs from the patient's right to the left
    assert after[SLICE, 40, 75] == 1  # nearest lung there is
    assert not np.delete(after, SLICE, 0).any()


def test_control_and_the_erase_button_take_lung_away(window, chest):
    before = segmented(window)
    i, j, _ = tools.middle(before[SLICE : SLICE + 1] == 1)
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, (i, j, SLICE)), key=qt.Qt.ControlModifier)
    assert preview(window)[SLICE, j, i] == 0
    window.click(window.ui.discardButton)
    np.testing.assert_array_equal(lungs(window), before)
    window.click(window.ui.eraseButton)
    stroke(window, "Red", at(chest, (i, j, SLICE)))
    window.click(window.ui.acceptButton)
    assert lungs(window)[SLICE, j, i] == 0


@pytest.mark.parametrize("make", [chests.axialChest, chests.obliqueChest])
@pytest.mark.parametrize("view", ["Red", "Green", "Yellow"])
def test_a_lasso_fills_what_it_surrounds_in_any_view_of_any_volume(module_window, make, view):
    volume = tools.show(make())
    window = module_window(size=(1100, 800))
    node = window.view(view).mrmlSliceNode()
    if make is chests.obliqueChest:
        node.RotateToVolumePlane(volume)
    before = segmented(window)
    window.jump(tools.world(volume, (np.array(before.shape[::-1]) - 1) / 2))
    toWorld = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    centre = tools.world(volume, (np.array(before.shape[::-1]) - 1) / 2)
    centre -= toWorld[:3, 2] * ((centre - toWorld[:3, 3]) @ toWorld[:3, 2])
    toWorld[:3, 3] = centre
    corners = [
        centre + 25 * x * toWorld[:3, 0] + 25 * y * toWorld[:3, 1] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    window.click(window.ui.lassoButton)
    stroke(window, view, corners)
    assert window.ui.viewSelector.currentText.startswith(view)
    window.click(window.ui.acceptButton)
    after = lungs(window)
    cut = bridge.cutFromSliceNode(node, volume)
    inside = np.zeros(before.shape, bool)
    offsets = np.linalg.inv(toWorld) @ np.vstack([_centres(volume, cut), np.ones((1, cut.inside_hw.sum()))])
    k, j, i = cut.voxels_kji()
    within = (np.abs(offsets[:2]) < 23).all(axis=0)
    beyond = (np.abs(offsets[:2]) > 27).any(axis=0)
    inside[k, j, i] = True
    (label,) = set(after[k[within], j[within], i[within]].tolist())
    assert label in (1, 2)
    np.testing.assert_array_equal(after[~inside], before[~inside])
    np.testing.assert_array_equal(after[k[beyond], j[beyond], i[beyond]], before[k[beyond], j[beyond], i[beyond]])


def _centres(volume, cut):
    """World positions (3, N) on the view's plane of a slice's voxels."""
    y, x = np.nonzero(cut.inside_hw)
    return bridge.worldFromPixels(np.stack([x, y], axis=1), cut, volume).T


def test_strokes_add_up_before_accept_and_undo_takes_the_last_one_back(window, chest):
    before = segmented(window)
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, (46, 30, SLICE)))
    one = preview(window)
    stroke(window, "Red", at(chest, (46, 70, SLICE)))
    both = preview(window)
    assert (both != one).any()
    window.click(window.ui.undoButton)
    np.testing.assert_array_equal(preview(window), one)
    stroke(window, "Red", at(chest, (46, 70, SLICE)))
    window.click(window.ui.acceptButton)
    np.testing.assert_array_equal(lungs(window)[SLICE], both[SLICE])
    window.click(window.ui.undoButton)
    np.testing.assert_array_equal(lungs(window), before)
    assert not window.ui.acceptButton.enabled


def test_drawing_over_the_preview_of_a_point_is_accepted_with_it(window, chest):
    before = segmented(window)
    tools.place(window, window.ui.negativeButton, "Red", tools.world(chest, (25, 60, SLICE)))
    tools.settled(window)
    pointed = preview(window)
    assert (pointed[SLICE] != before[SLICE]).any()
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, MIDDLE))
    both = preview(window)
    differs = np.argwhere(both != pointed)
    assert len(differs)
    assert (np.abs(differs - (SLICE, 30, 48)) <= 2).all()
    window.click(window.ui.acceptButton)
    np.testing.assert_array_equal(lungs(window)[SLICE], both[SLICE])
    tools.settled(window)
    assert not preview(window).any()


def test_a_point_after_a_stroke_is_previewed_under_it_and_its_removal_leaves_the_stroke(window, chest):
    segmented(window)
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, MIDDLE))
    drawn = preview(window)
    tools.place(window, window.ui.negativeButton, "Red", tools.world(chest, (25, 60, SLICE)))
    tools.settled(window)
    assert not window.ui.brushButton.checked
    both = preview(window)
    assert both[SLICE, 30, 48] == drawn[SLICE, 30, 48] > 0
    assert (both != drawn).any()
    window.click(window.ui.negativeLastButton)
    tools.settled(window)
    np.testing.assert_array_equal(preview(window), drawn)


def test_what_was_drawn_is_written_before_another_slice_is_drawn_on(window, chest):
    before = segmented(window)
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, MIDDLE))
    first = preview(window)
    window.jump(tools.world(chest, (48, 30, SLICE + 1)))
    tools.settled(window)
    np.testing.assert_array_equal(preview(window), first)
    stroke(window, "Red", at(chest, (48, 30, SLICE + 1)))
    np.testing.assert_array_equal(lungs(window)[SLICE], first[SLICE])
    np.testing.assert_array_equal(np.delete(lungs(window), SLICE, 0), np.delete(before, SLICE, 0))
    assert "is written" in window.ui.statusLabel.text


@pytest.mark.parametrize("action", ["segment", "leave", "another volume"])
def test_what_was_drawn_is_not_lost_when_the_user_goes_on(window, chest, action):
    segmented(window)
    output = window.ui.outputSelector.currentNode()
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, MIDDLE))
    if action == "segment":
        window.click(window.ui.segmentVolumeButton)
        tools.idle(window)
    elif action == "leave":
        window.leave()
    else:
        window.choose(window.ui.inputSelector, chests.axialChest("other"))
        tools.settled(window)
        window.choose(window.ui.inputSelector, chest)
    made = [output, *(node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if node is not output)]
    assert any(chests.lungsOf(node, chest)[SLICE, 30, 48] for node in made if node is not window.widget.preview.node)


def test_what_was_drawn_and_accepted_is_kept_by_later_predictions(window, chest):
    segmented(window)
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, MIDDLE))
    window.click(window.ui.acceptButton)
    drawn = lungs(window)
    window.click(window.ui.brushButton)
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    np.testing.assert_array_equal(lungs(window), drawn)
    assert "1 edited slice is kept" in window.ui.statusLabel.text
    window.click(window.ui.segmentSliceButton)
    tools.idle(window)
    assert lungs(window)[SLICE, 30, 48] == drawn[SLICE, 30, 48]


def test_a_scribble_becomes_points_that_are_predicted_from_and_removed_together(window, chest):
    segmented(window)
    tools.place(window, window.ui.positiveButton, "Red", tools.world(chest, (30, 50, SLICE)))
    window.click(window.ui.scribbleButton)
    stroke(window, "Red", at(chest, (20, 50, SLICE), (20, 70, SLICE)), key=qt.Qt.ControlModifier)
    tools.settled(window)
    node = window.widget.logic.getParameterNode().negativePoints
    positions = [node.GetNthControlPointPositionWorld(index) for index in range(node.GetNumberOfControlPoints())]
    expected = [tools.world(chest, (20, 50 + 20 * (n + 0.5) / 4, SLICE)) for n in range(4)]  # 80 mm
    np.testing.assert_allclose(positions, expected, atol=2.5)
    assert window.ui.negativeCountLabel.text == "4 points"
    assert window.ui.acceptButton.enabled
    window.click(window.ui.negativeLastButton)
    assert window.ui.negativeCountLabel.text == "0 points"
    window.click(window.ui.positiveLastButton)
    assert window.ui.positiveCountLabel.text == "0 points"


def test_the_line_and_the_brush_are_shown_while_drawing_and_gone_afterwards(window, chest):
    segmented(window)
    nothing = outline(window, "Red")
    window.click(window.ui.brushButton)
    stroke(window, "Red", at(chest, (30, 30, SLICE), (52, 30, SLICE)), release=False)
    assert outline(window, "Red") == nothing + 2
    assert outline(window, "Green") == nothing
    QTest.mouseRelease(window.view("Red"), qt.Qt.LeftButton, qt.Qt.NoModifier, QPoint(60, 60))
    window.click(window.ui.brushButton)
    assert outline(window, "Red") == nothing


@pytest.mark.parametrize("end", ["escape", "button", "place", "leave"])
def test_drawing_ends_and_the_mouse_is_slicers_again(window, chest, end):
    before = segmented(window)
    window.click(window.ui.lassoButton)
    if end == "escape":
        window.press_key(qt.Qt.Key_Escape)
    elif end == "button":
        window.click(window.ui.lassoButton)
    elif end == "place":
        window.click(window.ui.positiveButton)
        window.click(window.ui.positiveButton)
    else:
        window.leave()
        window.enter()
    assert not window.ui.lassoButton.checked
    stroke(window, "Red", at(chest, (30, 30, SLICE), (52, 30, SLICE), (52, 60, SLICE)))
    assert not preview(window).any()
    np.testing.assert_array_equal(lungs(window), before)


def test_drawing_ends_the_placing_of_points_and_only_one_kind_is_on(window, chest):
    window.click(window.ui.positiveButton)
    window.click(window.ui.brushButton)
    assert not window.ui.positiveButton.checked
    window.click(window.ui.lassoButton)
    assert not window.ui.brushButton.checked
    stroke(window, "Red", at(chest, MIDDLE))
    assert window.ui.positiveCountLabel.text == "0 points"


def test_drawing_outside_the_volume_changes_nothing(window, chest):
    before = segmented(window)
    window.click(window.ui.lassoButton)
    stroke(window, "Red", at(chest, MIDDLE))
    assert not window.ui.acceptButton.enabled
    assert "no pixel" in window.ui.statusLabel.text
    np.testing.assert_array_equal(lungs(window), before)


def test_the_radius_is_a_parameter_and_a_line_is_not_drawn_by_other_buttons(window, chest):
    before = segmented(window)
    window.widget.logic.getParameterNode().brushRadiusMm = 20
    window.click(window.ui.brushButton)
    QTest.mouseClick(window.view("Red"), qt.Qt.RightButton, qt.Qt.NoModifier, QPoint(50, 50))
    assert not window.ui.acceptButton.enabled
    stroke(window, "Red", at(chest, MIDDLE))
    window.click(window.ui.acceptButton)
    j, i = np.nonzero(lungs(window)[SLICE] != before[SLICE])
    assert np.hypot(i - 48, j - 30).max() * 4 == pytest.approx(20, abs=4)

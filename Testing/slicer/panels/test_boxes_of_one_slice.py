"""A box that is drawn in a slice view is as thick as the slice, and says something of this slice only."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.parameters import boxNodes

CORNERS = {"Red": ((12, 25, 5), (40, 75, 5)), "Green": ((12, 50, 1), (40, 50, 6)), "Yellow": ((30, 25, 1), (30, 75, 6))}
THIN = {"Red": 2, "Green": 1, "Yellow": 0}


pytestmark = pytest.mark.usefixtures("model")


def press(window, button):
    window.click(button)
    tools.idle(window)


def draw_box(window, view, first, last):
    volume = window.ui.inputSelector.currentNode()
    a, b = tools.world(volume, first), tools.world(volume, last)
    window.jump(a)
    window.click(window.ui.boxButton)
    window.click_in_view(view, a)
    window.click_in_view(view, b)
    tools.settled(window)
    (box,) = boxNodes(window.widget.logic.getParameterNode())
    return box


@pytest.mark.parametrize("view", CORNERS)
def test_a_box_has_the_thickness_of_the_slice_that_it_is_drawn_in(window, chest, view):
    box = draw_box(window, view, *CORNERS[view])
    axis = THIN[view]
    size = np.abs(bridge.ijkToWorldMatrix(chest)[:3, :3]).sum(axis=0)[axis]
    assert min(box.GetSize()) == pytest.approx(size)
    (voxels,) = bridge.boxesFromRois([box], chest)
    assert voxels.first_ijk[axis] == pytest.approx(CORNERS[view][0][axis] - 0.5, abs=1e-3)
    assert voxels.last_ijk[axis] == pytest.approx(CORNERS[view][0][axis] + 0.5, abs=1e-3)
    others = [one for one in range(3) if one != axis]
    np.testing.assert_allclose(np.array(voxels.first_ijk)[others], np.array(CORNERS[view][0])[others], atol=0.6)
    np.testing.assert_allclose(np.array(voxels.last_ijk)[others], np.array(CORNERS[view][1])[others], atol=0.6)


def test_a_view_between_two_slices_gives_the_box_the_nearer_one(window, chest):
    box = draw_box(window, "Red", (12, 25, 4.8), (40, 75, 4.8))
    (voxels,) = bridge.boxesFromRois([box], chest)
    assert (voxels.first_ijk[2], voxels.last_ijk[2]) == pytest.approx((4.5, 5.5), abs=1e-3)


def test_segment_volume_with_a_box_of_one_slice_leaves_the_other_slices_as_they_are_found(window, chest):
    press(window, window.ui.segmentVolumeButton)
    found = chests.lungsOf(window.ui.outputSelector.currentNode(), chest)
    draw_box(window, "Red", *CORNERS["Red"])
    press(window, window.ui.discardButton)
    press(window, window.ui.segmentVolumeButton)
    after = chests.lungsOf(window.ui.outputSelector.currentNode(), chest)
    rest = [k for k in range(8) if k != 5]
    np.testing.assert_array_equal(after[rest], found[rest])
    inside = np.s_[25:76, 12:41]
    outside = np.ones(after[5].shape, bool)
    outside[inside] = False
    np.testing.assert_array_equal(after[5][outside], found[5][outside])
    assert after[5][inside].any()


@pytest.mark.parametrize("view", ["Green", "Yellow"])
def test_a_box_of_another_direction_plays_no_part_in_the_volume_and_that_is_said(window, chest, view):
    press(window, window.ui.segmentVolumeButton)
    found = chests.lungsOf(window.ui.outputSelector.currentNode(), chest)
    draw_box(window, view, *CORNERS[view])
    press(window, window.ui.discardButton)
    press(window, window.ui.segmentVolumeButton)
    np.testing.assert_array_equal(chests.lungsOf(window.ui.outputSelector.currentNode(), chest), found)
    assert "play no part" in window.ui.statusLabel.text


def test_a_box_that_the_user_makes_thick_limits_the_volume_to_its_slices(window, chest):
    box = draw_box(window, "Red", *CORNERS["Red"])
    size = list(box.GetSize())
    size[2] = 3 * min(size)
    box.SetSize(size)
    tools.settled(window)
    press(window, window.ui.segmentVolumeButton)
    lungs = chests.lungsOf(window.ui.outputSelector.currentNode(), chest)
    assert not lungs[[0, 1, 2]].any()
    assert lungs[5].any()


def test_a_box_in_an_oblique_volume_is_no_thicker_than_the_slice_of_the_view(module_window):
    chest = tools.show(chests.obliqueChest())
    window = module_window(size=(1100, 800))
    middle = [size // 2 for size in slicer.util.arrayFromVolume(chest).shape[::-1]]
    a = tools.world(chest, middle)
    window.jump(a)
    window.click(window.ui.boxButton)
    window.click_in_view("Red", a + np.array([-20, -20, 0]))
    window.click_in_view("Red", a + np.array([20, 20, 0]))
    tools.settled(window)
    (box,) = boxNodes(window.widget.logic.getParameterNode())
    assert min(box.GetSize()) <= max(chest.GetSpacing()) + 1e-6
    assert sorted(box.GetSize())[1:] == pytest.approx([40, 40], abs=4)

"""Prompts that do not act as they are drawn: outside of the volume they have no effect, rotated boxes are enclosed."""

from __future__ import annotations

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import widgettools as tools
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.parameters import addBoxNode
from SAMLungSegSlicer.promptnodes import ensurePoints

SLICE = 4
INSIDE, OUTSIDE = (30, 50, SLICE), (30, 97, SLICE)  # the chest has 96 x 96 x 8 voxels
FIRST, LAST = (20, 30, SLICE), (40, 60, SLICE)


pytestmark = pytest.mark.usefixtures("model")


def add_point(window, ijk, positive=True):
    node = ensurePoints(window.widget.logic.getParameterNode(), positive)
    node.AddControlPointWorld(*tools.world(window.ui.inputSelector.currentNode(), ijk))
    tools.settled(window)
    return node


def add_box(window, degrees=0.0, middle=(30, 45, SLICE), size=(20, 30, 1)):
    """A box along the axes of the volume's voxels, `size` of them, turned in their I-J plane."""
    volume = window.ui.inputSelector.currentNode()
    to_world = bridge.ijkToWorldMatrix(volume)
    lengths = np.linalg.norm(to_world[:3, :3], axis=0)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    axes = (to_world[:3, :3] / lengths) @ [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    box = nodes.add_roi(tools.world(volume, middle), size * lengths, axes=axes)
    addBoxNode(window.widget.logic.getParameterNode(), box)
    tools.settled(window)
    return box


def pressed(window, button):
    """Every voxel of the output after a button has done its work."""
    window.click(getattr(window.ui, button))
    tools.idle(window)
    return chests.stateOf(window.ui.outputSelector.currentNode())


def said(window):
    label = window.ui.promptsRemarkLabel
    assert label.visible == bool(label.text)
    return label.text


# ---- points


def test_a_point_outside_the_volume_is_said_until_it_is_moved_into_it(window, chest):
    node = add_point(window, OUTSIDE)
    assert window.ui.positiveCountLabel.text == "1 point"
    assert said(window) == "⚠ 1 point lies outside the volume and has no effect."
    node.SetNthControlPointPositionWorld(0, *tools.world(chest, INSIDE))
    assert said(window) == ""
    node.SetNthControlPointPositionWorld(0, *tools.world(chest, OUTSIDE))
    assert said(window) == "⚠ 1 point lies outside the volume and has no effect."
    node.RemoveAllControlPoints()
    assert said(window) == ""


def test_points_of_both_kinds_outside_are_counted_together(window):
    for ijk, positive in ((OUTSIDE, True), (INSIDE, True), (OUTSIDE, False)):
        add_point(window, ijk, positive)
    assert said(window) == "⚠ 2 points lie outside the volume and have no effect."


def test_a_point_that_is_clicked_beside_the_volume_is_said(window, chest):
    ras = tools.world(chest, INSIDE)
    window.jump(ras)
    slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().SetFieldOfView(900, 900, 1)
    window.click(window.ui.positiveButton)
    QTest.mouseMove(window.view("Red"), QPoint(2, 2))  # or there is no move where the mouse was last
    window.click_in_view("Red", ras)
    assert said(window) == ""
    window.click_in_view("Red", tools.world(chest, (30, 105, SLICE)))
    assert said(window) == "⚠ 1 point lies outside the volume and has no effect."


@pytest.mark.parametrize("moved", ["volume", "points", "parent"])
def test_what_a_transform_moves_out_of_the_volume_is_said(window, chest, moved):
    node = add_point(window, INSIDE)
    away = nodes.add_transform(nodes.affine(np.eye(3), (0, 0, 0)))
    (chest if moved == "volume" else node).SetAndObserveTransformNodeID(away.GetID())
    if moved == "parent":
        parent = nodes.add_transform(np.eye(4))
        away.SetAndObserveTransformNodeID(parent.GetID())
        away = parent
    assert said(window) == ""
    slicer.util.updateTransformMatrixFromArray(away, nodes.affine(np.eye(3), (1000, 0, 0)))
    assert said(window) == "⚠ 1 point lies outside the volume and has no effect."
    slicer.util.updateTransformMatrixFromArray(away, np.eye(4))
    assert said(window) == ""


def test_a_grid_that_moves_away_from_its_points_is_said(window, chest):
    add_point(window, INSIDE)
    chest.SetOrigin(2000, 0, 0)
    assert said(window) == "⚠ 1 point lies outside the volume and has no effect."


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("button", ["segmentVolumeButton", "segmentSliceButton"])
def test_a_point_outside_the_volume_has_no_effect_and_does_not_fail(window, chest, button, positive):
    window.jump(tools.world(chest, INSIDE))
    before = pressed(window, button)
    add_point(window, OUTSIDE, positive)
    assert not window.ui.acceptButton.enabled
    assert pressed(window, button) == before
    assert "⚠" not in window.ui.statusLabel.text


def test_the_points_of_another_volume_are_not_spoken_of(window, chest):
    other = chests.axialChest("other")
    add_point(window, OUTSIDE)
    window.choose(window.ui.inputSelector, other)
    assert said(window) == ""
    window.choose(window.ui.inputSelector, chest)
    assert said(window) == "⚠ 1 point lies outside the volume and has no effect."


def test_a_volume_under_a_transform_that_bends_says_nothing_of_its_points(window, chest):
    add_point(window, OUTSIDE)
    chest.SetAndObserveTransformNodeID(nodes.add_bending_transform().GetID())
    assert said(window) == ""


# ---- boxes


def test_a_box_outside_the_volume_is_said_until_it_is_moved_into_it(window, chest):
    box = add_box(window, middle=(30, 140, SLICE))
    assert said(window) == "⚠ 1 box lies outside the volume and has no effect."
    box.SetCenterWorld(tools.world(chest, (30, 110, SLICE)))  # 30 voxels: from 95 on, the last one
    assert said(window) == ""


def test_boxes_outside_have_no_effect_and_do_not_fail(window):
    before = pressed(window, "segmentVolumeButton")
    for i in (200, 300):
        add_box(window, middle=(i, 45, SLICE), degrees=45)
    assert said(window) == "⚠ 2 boxes lie outside the volume and have no effect."
    assert not window.ui.acceptButton.enabled
    assert pressed(window, "segmentVolumeButton") == before


@pytest.mark.parametrize("make", [chests.axialChest, chests.obliqueChest])
@pytest.mark.parametrize(("degrees", "is_said"), [(0, False), (90, False), (180, False), (30, True), (45, True)])
def test_a_box_is_rotated_against_the_voxels_whatever_their_directions(make, degrees, is_said, module_window):
    chest = tools.show(make())
    window = module_window(size=(1100, 800))
    add_box(window, degrees, middle=[size // 2 for size in chest.GetImageData().GetDimensions()], size=(6, 6, 2))
    expected = "⚠ 1 box is rotated against the image: the box along the image's axes that encloses it is used."
    assert said(window) == (expected if is_said else "")


def test_a_box_that_is_rotated_acts_as_the_box_that_encloses_it(window, chest):
    box = add_box(window, 45, middle=(30, 45, SLICE), size=(20, 20, 1))
    (used,) = bridge.boxesFromRois([box], chest)
    half = 20 / np.sqrt(2)
    assert used.first_ijk == pytest.approx((30 - half, 45 - half, SLICE - 0.5))
    assert used.last_ijk == pytest.approx((30 + half, 45 + half, SLICE + 0.5))


def test_a_box_is_spoken_of_as_it_is_turned_and_turned_back(window):
    box = add_box(window)
    assert said(window) == ""
    turn = nodes.add_transform(nodes.affine([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], (0, 0, 0)))
    box.SetAndObserveTransformNodeID(turn.GetID())
    assert "rotated" in said(window)
    slicer.util.updateTransformMatrixFromArray(turn, np.eye(4))
    assert said(window) == ""


def test_points_and_boxes_are_said_each_once(window):
    add_point(window, OUTSIDE)
    add_box(window, middle=(30, 200, SLICE))
    add_box(window, 45)
    assert said(window) == (
        "⚠ 1 point lies outside the volume and has no effect.\n"
        "⚠ 1 box lies outside the volume and has no effect.\n"
        "⚠ 1 box is rotated against the image: the box along the image's axes that encloses it is used."
    )
    window.click(window.ui.clearButton)
    assert said(window) == ""


def test_a_box_that_waits_for_its_second_click_is_not_spoken_of(window, chest):
    ras = tools.world(chest, INSIDE)
    window.jump(ras)
    window.click(window.ui.boxButton)
    QTest.mouseMove(window.view("Red"), QPoint(2, 2))
    window.click_in_view("Red", ras)
    assert said(window) == ""

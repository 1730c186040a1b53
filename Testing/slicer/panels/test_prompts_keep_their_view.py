"""What is previewed and written is the slice in which a prompt was placed, wherever the mouse goes."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import qt
import widgettools as tools
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest

from SAMLungSegSlicer.promptnodes import ensurePoints

IJK = (70, 60, 4)


pytestmark = pytest.mark.usefixtures("model")


def click_in_green(window, chest):
    ras = tools.world(chest, IJK)
    window.jump(ras)
    window.click(window.ui.positiveButton)
    window.click_in_view("Green", ras)
    tools.settled(window)


def cross(window, view):
    for x in (200, 150, 100, 50):
        QTest.mouseMove(window.view(view), QPoint(x, 120))
        window.process_events()
    QTest.mouseMove(window.ui.acceptButton, QPoint(5, 5))
    tools.settled(window)


@pytest.mark.parametrize("crossed", ["Red", "Yellow"])
def test_the_mouse_crosses_another_view_and_the_preview_stays(window, chest, crossed):
    click_in_green(window, chest)
    before = tools.preview_lungs(window, chest)
    cross(window, crossed)
    assert window.ui.viewSelector.currentText == "Green"
    assert window.ui.acceptButton.enabled
    np.testing.assert_array_equal(tools.preview_lungs(window, chest), before)


@pytest.mark.parametrize("is_placing_ended", [False, True])
def test_accept_writes_the_slice_in_which_the_point_was_placed(window, chest, is_placing_ended):
    click_in_green(window, chest)
    window.view("Red").mrmlSliceNode().SetSliceOffset(tools.world(chest, (70, 60, 1))[2])
    if is_placing_ended:
        QTest.mouseClick(window.view("Green"), qt.Qt.RightButton, qt.Qt.NoModifier, QPoint(20, 20))
    cross(window, "Red")
    window.click(window.ui.acceptButton)
    tools.idle(window)
    written = chests.lungsOf(window.ui.outputSelector.currentNode(), chest)
    assert np.flatnonzero(written.any(axis=(0, 2))).tolist() == [IJK[1]]


def test_the_view_of_the_next_click_is_previewed_after_another_was_crossed(window, chest):
    click_in_green(window, chest)
    cross(window, "Yellow")
    window.click_in_view("Red", tools.world(chest, (30, 50, IJK[2])))
    tools.settled(window)
    assert window.ui.viewSelector.currentText == "Red"
    assert np.flatnonzero(tools.preview_lungs(window, chest).any(axis=(1, 2))).tolist() == [IJK[2]]


def test_a_point_that_no_mouse_placed_is_previewed_in_the_view_that_shows_it(window, chest):
    window.jump(tools.world(chest, IJK))
    for view, ijk in (("Red", (70, 60, 1)), ("Yellow", (30, 60, 4))):
        node = window.view(view).mrmlSliceNode()
        node.SetSliceOffset(tools.world(chest, ijk)[2 if view == "Red" else 0])
    node = ensurePoints(window.widget.logic.getParameterNode(), True)
    node.AddControlPointWorld(*tools.world(chest, IJK))
    tools.settled(window)
    assert window.ui.viewSelector.currentText == "Green"
    assert window.ui.acceptButton.enabled

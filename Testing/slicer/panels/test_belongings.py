"""Output and prompts belong to the volume that they were made for."""

from __future__ import annotations

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.promptnodes import ensurePoints, newBox

SLICE = 4


pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def other():
    node = chests.axialChest("other")
    node.SetOrigin(37, 11, 5)
    node.SetAndObserveTransformNodeID(nodes.add_transform(chests.MOVED).GetID())
    return node


@pytest.fixture
def window(chest, other, module_window):
    return module_window(size=(1100, 800))


def press(window, button):
    window.click(button)
    tools.idle(window)


def add_point(window, ijk, positive=False):
    node = ensurePoints(window.widget.logic.getParameterNode(), positive)
    node.AddControlPointWorld(*tools.world(window.ui.inputSelector.currentNode(), ijk))
    tools.settled(window)
    return node


def add_box(window, first, last):
    node, volume = newBox(window.widget.logic.getParameterNode()), window.ui.inputSelector.currentNode()
    low, high = (np.array(tools.world(volume, ijk)) for ijk in (first, last))
    node.SetCenterWorld(*((low + high) / 2))
    node.SetSizeWorld(*np.abs(high - low))
    tools.settled(window)
    return node


def test_each_volume_gets_lungs_of_its_own(window, chest, other):
    ui = window.ui
    press(window, ui.segmentVolumeButton)
    first = ui.outputSelector.currentNode()
    before = chests.stateOf(first)
    window.choose(ui.inputSelector, other)
    assert ui.outputSelector.currentNode() is None
    press(window, ui.segmentVolumeButton)
    second = ui.outputSelector.currentNode()
    assert second is not first
    assert second.GetNodeReference("referenceImageGeometryRef") is other
    assert chests.stateOf(first) == before
    window.choose(ui.inputSelector, chest)
    assert ui.outputSelector.currentNode() is first
    window.choose(ui.inputSelector, other)
    assert ui.outputSelector.currentNode() is second


def test_an_output_that_is_chosen_after_the_volume_is_taken(window, other):
    ui = window.ui
    press(window, ui.segmentVolumeButton)
    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    window.choose(ui.inputSelector, other)
    window.choose(ui.outputSelector, mine)
    press(window, ui.segmentVolumeButton)
    assert ui.outputSelector.currentNode() is mine
    assert chests.lungsOf(mine, other).any()


def test_lungs_of_a_volume_that_was_left_while_they_were_found_become_its_own(chest, other, module_window, monkeypatch):
    held = tools.answer_at_once(monkeypatch, tools.HeldModel())
    window = module_window(size=(1100, 800))
    window.click(window.ui.segmentVolumeButton)
    window.wait_until(held.reached.is_set)
    window.choose(window.ui.inputSelector, other)
    held.release()
    tools.idle(window)
    assert window.ui.outputSelector.currentNode() is None
    window.choose(window.ui.inputSelector, chest)
    assert chests.lungsOf(window.ui.outputSelector.currentNode(), chest).any()


def test_points_and_boxes_act_on_their_volume_only(window, chest, other):
    ui = window.ui
    window.jump(tools.world(chest, (48, 48, SLICE)))
    point = add_point(window, (30, 50, SLICE))
    box = add_box(window, (12, 25, 1), (40, 75, 6))
    assert ui.acceptButton.enabled
    shown = tools.preview_lungs(window, chest)
    window.choose(ui.inputSelector, other)
    tools.settled(window)
    assert not ui.acceptButton.enabled
    assert (ui.negativeCountLabel.text, ui.boxCountLabel.text) == ("0 points", "0 boxes")
    assert not point.GetDisplayNode().GetVisibility()
    assert not box.GetDisplayNode().GetVisibility()
    window.choose(ui.inputSelector, chest)
    tools.settled(window)
    assert (ui.negativeCountLabel.text, ui.boxCountLabel.text) == ("1 point", "1 box")
    assert point.GetDisplayNode().GetVisibility()
    assert box.GetDisplayNode().GetVisibility()
    np.testing.assert_array_equal(tools.preview_lungs(window, chest), shown)


def test_points_on_a_second_volume_are_a_list_of_their_own(window, other):
    first = add_point(window, (30, 50, SLICE))
    window.choose(window.ui.inputSelector, other)
    second = add_point(window, (40, 50, SLICE))
    assert second is not first
    assert (first.GetNumberOfControlPoints(), second.GetNumberOfControlPoints()) == (1, 1)


def test_clearing_the_prompts_spares_those_of_another_volume(window, other):
    first = add_point(window, (30, 50, SLICE))
    window.choose(window.ui.inputSelector, other)
    add_point(window, (40, 50, SLICE))
    window.click(window.ui.clearButton)
    assert first.GetNumberOfControlPoints() == 1


def test_a_scene_that_is_opened_again_still_knows_what_belongs_to_which_volume(window, other, tmp_path):
    ui = window.ui
    press(window, ui.segmentVolumeButton)
    add_point(window, (30, 50, SLICE))
    window.choose(ui.inputSelector, other)
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    window.process_events()
    assert ui.inputSelector.currentNode().GetName() == "other"
    assert ui.outputSelector.currentNode() is None
    window.choose(ui.inputSelector, slicer.util.getNode("chest"))
    assert ui.outputSelector.currentNode().GetName() == "chest lungs"
    assert ui.negativeCountLabel.text == "1 point"


def test_a_removed_volume_takes_its_prompts_and_lungs_out_of_play(window, chest):
    same = tools.show(chests.axialChest("same place"))
    window.choose(window.ui.inputSelector, chest)
    press(window, window.ui.segmentVolumeButton)
    add_point(window, (30, 50, SLICE))
    add_box(window, (12, 25, 1), (40, 75, 6))
    slicer.mrmlScene.RemoveNode(chest)
    window.choose(window.ui.inputSelector, same)
    tools.settled(window)
    assert not window.ui.acceptButton.enabled
    assert (window.ui.negativeCountLabel.text, window.ui.boxCountLabel.text) == ("0 points", "0 boxes")
    assert window.ui.outputSelector.currentNode() is None


def test_a_cropped_volume_changes_nothing_outside_of_it(window, chest):
    ui = window.ui
    press(window, ui.segmentVolumeButton)
    whole = ui.outputSelector.currentNode()
    before = chests.lungsOf(whole, chest)
    hu = slicer.util.arrayFromVolume(chest)[2:5, 30:70, 10:90].copy()
    matrix = chests.ijkToRas(chest)
    matrix[:3, 3] = (matrix @ [10, 30, 2, 1])[:3]
    cropped = nodes.add_volume(hu, matrix, name="cropped")
    window.choose(ui.inputSelector, cropped)
    window.choose(ui.outputSelector, whole)
    press(window, ui.segmentVolumeButton)
    after = chests.lungsOf(whole, chest)
    outside = np.ones(before.shape, bool)
    outside[2:5, 30:70, 10:90] = False
    np.testing.assert_array_equal(after[outside], before[outside])
    assert after[~outside].any()
    assert bridge.labelmapFromNode(whole, cropped).array_kji.shape == (3, 40, 80)

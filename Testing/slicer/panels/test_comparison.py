"""The button that puts classical methods beside the model."""

from __future__ import annotations

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def window(module_window):
    """With a chest that is tilted, flipped and under a transform."""
    tools.show(chests.obliqueChest())
    return module_window(size=(1100, 1100))


def compare(window):
    window.click(window.ui.compareButton)
    tools.idle(window, "methods")
    return slicer.util.dataframeFromTable(window.ui.comparisonTable.mrmlTableNode())


def truth(volume):
    return tools.add_labelmap(chests.storedCoronally(chests.phantom().labelmap_kji), volume)


def transformed_truth(volume):
    node = truth(volume)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    return node


def test_methods_are_compared_with_the_reference_and_no_segmentation_changes(window):
    ui = window.ui
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    segmentation = ui.outputSelector.currentNode()
    before = chests.stateOf(segmentation)
    window.choose(ui.referenceSelector, transformed_truth(ui.inputSelector.currentNode()))
    table = compare(window)
    assert len(table) == 3
    assert table["method"].tolist() == ["lung-compact", "Threshold", "Grow from seeds"]
    dice = table[["dice_right", "dice_left"]].to_numpy()
    assert (dice[1] > 0.7).all()
    assert ((dice > 0) & (dice <= 1)).all()
    assert (table["seconds"] >= 0).all()
    assert chests.stateOf(segmentation) == before
    assert "Reference" in ui.comparisonLabel.text
    assert "alike" not in ui.comparisonLabel.text
    node = ui.comparisonTable.mrmlTableNode()
    titles = [node.GetColumnTitle(name) for name in table.columns]
    assert titles == ["Method", "Dice, right", "Dice, left", "Time (s)"]


def test_without_a_reference_the_segmentation_is_the_measure_and_the_panel_says_what_that_means(window):
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    table = compare(window)
    assert table["dice_right"][0] == 1
    assert "alike" in window.ui.comparisonLabel.text
    compare(window)
    kinds = [node.GetAttribute("SAMLungSeg.Table") for node in slicer.util.getNodesByClass("vtkMRMLTableNode")]
    assert kinds.count("methods") == 1


def test_without_any_lungs_the_model_is_the_measure(window):
    table = compare(window)
    assert np.isnan(table["dice_right"][0])
    assert 0 < table["dice_right"][1] < 1
    assert window.ui.outputSelector.currentNode() is None


def test_the_button_says_why_it_cannot_compare_on_an_xray(module_window):
    tools.show(nodes.add_volume(chests.xray()[None], np.diag([-4.0, -4, 1, 1])), 255, 128)
    ui = module_window(size=(1100, 1100)).ui
    assert not ui.compareButton.enabled
    assert "CT only" in ui.compareButton.toolTip


def test_a_comparison_can_be_stopped_by_its_button(module_window, chest, monkeypatch):
    held = tools.answer_at_once(monkeypatch, tools.HeldModel())
    window = module_window(size=(1100, 1100))
    window.click(window.ui.compareButton)
    window.wait_until(held.reached.is_set, 30)
    assert window.ui.compareButton.text == "Stop comparing"
    window.click(window.ui.compareButton)
    held.release()
    tools.idle(window, "methods")
    assert "stopped" in window.ui.statusLabel.text
    assert not window.ui.comparisonTable.visible
    assert window.ui.compareButton.text == "Compare with classical methods"


def test_the_table_is_not_shown_for_another_patient(window):
    first = window.ui.inputSelector.currentNode()
    compare(window)
    other = chests.axialChest("other")
    window.choose(window.ui.inputSelector, other)
    assert not window.ui.comparisonTable.visible
    window.choose(window.ui.inputSelector, first)
    assert window.ui.comparisonTable.visible
    slicer.mrmlScene.Clear(0)
    window.process_events()
    assert not window.ui.comparisonTable.visible


def test_a_volume_that_is_removed_meanwhile_leaves_no_table(module_window, chest, monkeypatch):
    held = tools.answer_at_once(monkeypatch, tools.HeldModel())
    window = module_window(size=(1100, 1100))
    window.click(window.ui.compareButton)
    window.wait_until(held.reached.is_set, 30)
    slicer.mrmlScene.RemoveNode(chest)
    held.release()
    tools.idle(window, "methods")
    assert not slicer.util.getNodesByClass("vtkMRMLTableNode")

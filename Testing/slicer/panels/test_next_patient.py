"""The next patient: load the volume, press one button."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def window(chest, module_window):
    return module_window(size=(1100, 900))


def load(window, tmp_path, name="next"):
    """As a person does: the file is dropped onto the window, and Slicer loads and shows it."""
    made = chests.axialChest(name)
    slicer.util.saveNode(made, str(tmp_path / f"{name}.nrrd"))
    window.leave()  # the file is not of this session
    slicer.mrmlScene.RemoveNode(made)
    window.enter()
    node = slicer.util.loadVolume(str(tmp_path / f"{name}.nrrd"))
    tools.show(node)
    window.process_events()
    return node


def segment(window):
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window, "segment")
    return window.ui.outputSelector.currentNode()


def is_visible(node):
    return bool(node.GetDisplayNode().GetVisibility())


def test_load_and_one_click_segment_the_next_patient_and_leave_the_first_alone(window, chest, tmp_path):
    ui, first = window.ui, segment(window)
    before = chests.stateOf(first)
    loaded = load(window, tmp_path)
    assert ui.inputSelector.currentNode() is loaded
    assert ui.outputSelector.currentNode() is None
    assert "next" in ui.statusLabel.text
    second = segment(window)
    assert (second is not first, second.GetName()) == (True, "next lungs")
    assert chests.lungsOf(second, loaded).any()
    assert chests.stateOf(first) == before


def test_the_first_patients_lungs_leave_the_views_and_come_back_with_the_patient(window, chest, tmp_path):
    first = segment(window)
    load(window, tmp_path)
    assert not is_visible(first)
    second = segment(window)
    assert is_visible(second)
    tools.show(chest)
    window.choose(window.ui.inputSelector, chest)
    assert (is_visible(first), is_visible(second)) == (True, False)


def test_lungs_that_the_user_has_hidden_stay_hidden(window, chest, tmp_path):
    first = segment(window)
    first.GetDisplayNode().SetVisibility(False)
    loaded = load(window, tmp_path)
    tools.show(chest)
    window.choose(window.ui.inputSelector, chest)
    assert not is_visible(first)
    assert window.ui.inputSelector.currentNode() is not loaded


def test_lungs_of_a_volume_that_is_still_shown_stay_when_another_is_chosen(window, chest):
    first = segment(window)
    other = chests.axialChest("other")
    window.choose(window.ui.inputSelector, other)
    assert is_visible(first)


def test_a_volume_that_is_made_but_not_shown_is_not_chosen(window, chest):
    chests.axialChest("resampled")
    window.process_events()
    assert window.ui.inputSelector.currentNode() is chest


def test_a_labelmap_that_is_shown_is_not_chosen(window, chest):
    labelmap = tools.add_labelmap(chests.phantom().labelmap_kji, chest)
    slicer.util.setSliceViewerLayers(background=labelmap)
    window.process_events()
    assert window.ui.inputSelector.currentNode() is chest


def test_a_volume_in_another_view_than_the_one_that_is_worked_in_is_not_chosen(window, chest):
    other = chests.axialChest("other")
    composites = {one.GetLayoutName(): one for one in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    composites["Green"].SetBackgroundVolumeID(other.GetID())
    window.process_events()
    assert window.ui.inputSelector.currentNode() is chest
    composites["Red"].SetBackgroundVolumeID(other.GetID())
    window.process_events()
    assert window.ui.inputSelector.currentNode() is other


def test_a_volume_that_the_user_left_is_not_chosen_again_by_itself(window, chest, tmp_path):
    load(window, tmp_path)
    window.choose(window.ui.inputSelector, chest)
    tools.show(chest)
    window.process_events()
    assert window.ui.inputSelector.currentNode() is chest


def test_a_patient_who_was_loaded_while_another_module_was_open_is_chosen(window, tmp_path):
    segment(window)
    window.leave()
    loaded = tools.show(chests.axialChest("next"))
    window.enter()
    assert window.ui.inputSelector.currentNode() is loaded


def test_the_first_volume_of_a_closed_scene_is_chosen(window):
    slicer.mrmlScene.Clear(0)
    window.process_events()
    loaded = tools.show(chests.axialChest("next"))
    window.process_events()
    assert window.ui.inputSelector.currentNode() is loaded


def test_a_patient_who_is_loaded_while_the_first_is_segmented_does_not_get_his_lungs(
    chest, module_window, monkeypatch, tmp_path
):
    held = tools.answer_at_once(monkeypatch, tools.HeldModel())
    window = module_window(size=(1100, 900))
    window.click(window.ui.segmentVolumeButton)
    window.wait_until(held.reached.is_set)
    loaded = tools.show(chests.axialChest("next"))
    window.process_events()
    held.release()
    tools.idle(window)
    assert window.ui.inputSelector.currentNode() is loaded
    assert window.ui.outputSelector.currentNode() is None
    window.choose(window.ui.inputSelector, chest)
    assert chests.lungsOf(window.ui.outputSelector.currentNode(), chest).any()


def test_reference_and_figures_are_those_of_the_patient(window, chest, tmp_path):
    ui, first = window.ui, segment(window)
    reference = tools.add_labelmap(chests.phantom().labelmap_kji, chest)
    window.choose(ui.referenceSelector, reference)
    window.click(ui.evaluateButton)
    tools.idle(window)
    assert ui.summaryTable.visible
    load(window, tmp_path)
    assert ui.referenceSelector.currentNode() is None
    assert not ui.summaryTable.visible
    assert not ui.saveCsvButton.enabled
    window.choose(ui.inputSelector, chest)
    assert ui.referenceSelector.currentNode() is reference
    assert ui.summaryTable.visible
    assert ui.outputSelector.currentNode() is first


def test_the_sizes_of_the_first_patient_are_not_shown_for_the_next(window, tmp_path):
    segment(window)
    window.wait_until(lambda: window.ui.sizesTable.visible and window.ui.sizesTable.enabled, 30)
    load(window, tmp_path)
    assert not window.ui.sizesTable.visible
    assert not window.ui.show3DButton.enabled
    second = segment(window)
    window.wait_until(lambda: window.ui.sizesTable.visible and window.ui.sizesTable.enabled, 30)
    voxels = np.count_nonzero(chests.lungsOf(second, window.ui.inputSelector.currentNode()))
    voxel_ml = abs(np.linalg.det(chests.ijkToRas(window.ui.inputSelector.currentNode())[:3, :3])) / 1000
    assert float(window.ui.sizesTable.item(2, 1).text()) == pytest.approx(voxels * voxel_ml, rel=1e-3)

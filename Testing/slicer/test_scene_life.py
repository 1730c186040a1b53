"""The panel through the scene's life: closed, saved, reopened, left, entered again, volumes that come and go."""

from __future__ import annotations

import gc
import threading

import chests
import numpy as np
import pytest
import slicer
import widgettools as tools
from bench import leaks

THREAD = "SAMLungSeg inference"


@pytest.fixture
def held(monkeypatch):
    model = tools.answer_at_once(monkeypatch, tools.HeldModel())
    yield model
    model.release()


def running_threads():
    return [thread for thread in threading.enumerate() if thread.name == THREAD and thread.is_alive()]


def started(module_window, held):
    """A window in which a segmentation is under way."""
    window = module_window(size=(900, 600))
    window.click(window.ui.segmentVolumeButton)
    window.wait_until(held.reached.is_set)
    return window


# ---- a job is under way


def test_closing_the_scene_stops_the_job_without_a_word(chest, held, module_window, dialogs, faults):
    window = started(module_window, held)
    slicer.mrmlScene.Clear(0)
    held.release()
    tools.idle(window)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert not window.ui.segmentVolumeButton.enabled
    assert not window.ui.statusLabel.visible
    window.close()
    assert running_threads() == []
    assert dialogs.take() == []
    assert faults.take() == []


def test_closing_the_window_while_a_job_runs_leaves_no_thread(chest, held, module_window, faults):
    window = started(module_window, held)
    threading.Timer(0.3, held.release).start()
    window.close()
    assert running_threads() == []
    assert faults.take() == []


def test_a_volume_deleted_meanwhile_is_told_and_nothing_is_written(chest, held, module_window, dialogs):
    window = started(module_window, held)
    slicer.mrmlScene.RemoveNode(chest)
    held.release()
    tools.idle(window)
    assert "was removed meanwhile" in window.ui.statusLabel.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert window.ui.segmentVolumeButton.toolTip == "Choose a volume first."
    assert dialogs.take() == []


def test_another_module_does_not_stop_the_job(chest, held, module_window):
    window = started(module_window, held)
    window.widget.exit()
    held.release()
    tools.idle(window)
    window.widget.enter()
    window.process_events()
    assert chests.lungsOf(window.ui.outputSelector.currentNode(), chest).any()


def test_choosing_another_volume_meanwhile_writes_the_lungs_of_the_first(chest, held, module_window):
    other = chests.axialChest("other")
    other.SetSpacing(1, 2, 3)
    window = started(module_window, held)
    window.choose(window.ui.inputSelector, other)
    held.release()
    tools.idle(window)
    (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert segmentation.GetName() == "chest lungs"


# ---- two volumes


def test_two_volumes_get_a_segmentation_each(chest, model, module_window):
    other = chests.obliqueChest("other")
    window = module_window(size=(900, 600))
    ui = window.ui
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    first = ui.outputSelector.currentNode()
    before = chests.lungsOf(first, chest)
    window.choose(ui.inputSelector, other)
    window.choose(ui.outputSelector, None)
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    second = ui.outputSelector.currentNode()
    assert second.GetName() == "other lungs"
    np.testing.assert_array_equal(chests.storedCoronally(before), chests.lungsOf(second, other))
    np.testing.assert_array_equal(chests.lungsOf(first, chest), before)


def test_a_deleted_volume_and_segmentation_leave_the_panel_usable(chest, model, module_window):
    window = module_window(size=(900, 600))
    ui = window.ui
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    slicer.mrmlScene.RemoveNode(ui.outputSelector.currentNode())
    slicer.mrmlScene.RemoveNode(chest)
    window.process_events()
    assert ui.outputSelector.currentNode() is None
    assert not ui.undoButton.enabled
    assert not ui.segmentVolumeButton.enabled
    other = chests.axialChest("other")
    window.choose(ui.inputSelector, other)
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    assert ui.outputSelector.currentNode().GetName() == "other lungs"


# ---- prompts


def test_no_prompt_node_exists_before_it_is_needed(chest, model, module_window):
    window = module_window(size=(900, 600))
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsNode") == 0
    window.click(window.ui.negativeButton)
    (node,) = slicer.util.getNodesByClass("vtkMRMLMarkupsNode")
    assert node.GetName() == "Lung -"
    assert not node.GetLocked()
    red, green, blue = node.GetDisplayNode().GetSelectedColor()
    assert red > 0.7 > 0.3 > max(green, blue)


def test_placing_ends_with_the_button_and_one_kind_at_a_time(chest, model, module_window):
    window = module_window(size=(900, 600))
    ui = window.ui
    window.click(ui.negativeButton)
    window.click(ui.positiveButton)
    assert ui.positiveButton.checked
    assert not ui.negativeButton.checked
    window.click(ui.positiveButton)
    assert not ui.positiveButton.checked
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_two_clicks_place_a_box_and_giving_up_leaves_none(chest, model, module_window):
    window = module_window(size=(900, 600))
    ui = window.ui
    window.jump(tools.world(chest, (48, 48, 4)))
    window.click(ui.boxButton)
    for ijk in ((20, 30, 4), (40, 60, 4)):
        window.click_in_view("Red", tools.world(chest, ijk))
    window.process_events()
    assert not ui.boxButton.checked
    assert ui.boxCountLabel.text == "1 box"
    window.click(ui.boxButton)
    window.click(ui.boxButton)
    window.process_events()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 1


def test_the_last_prompt_and_all_prompts_can_be_removed(chest, model, module_window):
    window = module_window(size=(900, 600))
    ui = window.ui
    for ijk in ((30, 40, 4), (30, 60, 4)):
        tools.place(window, ui.positiveButton, "Red", tools.world(chest, ijk))
    tools.place(window, ui.negativeButton, "Red", tools.world(chest, (60, 40, 4)))
    assert (ui.positiveCountLabel.text, ui.negativeCountLabel.text) == ("2 points", "1 point")
    window.click(ui.positiveLastButton)
    assert ui.positiveCountLabel.text == "1 point"
    window.click(ui.clearButton)
    assert (ui.positiveCountLabel.text, ui.negativeCountLabel.text) == ("0 points", "0 points")
    assert not ui.clearButton.enabled


def test_a_prompt_node_that_another_module_deletes_is_made_anew(chest, model, module_window):
    window = module_window(size=(900, 600))
    ui = window.ui
    tools.place(window, ui.negativeButton, "Red", tools.world(chest, (30, 50, 4)))
    slicer.mrmlScene.RemoveNode(window.widget.logic.getParameterNode().negativePoints)
    window.process_events()
    assert ui.negativeCountLabel.text == "0 points"
    tools.place(window, ui.negativeButton, "Red", tools.world(chest, (30, 50, 4)))
    assert ui.negativeCountLabel.text == "1 point"


# ---- save and reopen


def test_prompts_and_settings_come_back_with_the_scene(chest, model, module_window, tmp_path):
    window = module_window(size=(900, 600))
    ui = window.ui
    window.jump(tools.world(chest, (48, 48, 4)))
    tools.place(window, ui.positiveButton, "Red", tools.world(chest, (30, 50, 4)))
    window.click(ui.boxButton)
    for ijk in ((20, 30, 4), (40, 60, 4)):
        window.click_in_view("Red", tools.world(chest, ijk))
    window.expand(ui.advancedCollapsibleButton)
    window.choose(ui.windowSelector, "mediastinum (400 / 40 HU)")
    window.choose(ui.modalitySelector, "CT")
    window.click(ui.livePreviewCheckBox)
    ui.weightsPathLineEdit.currentPath = "/weights/tuned.pth"
    tools.idle(window)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    window.process_events()
    assert ui.inputSelector.currentNode().GetName() == "chest"
    assert (ui.positiveCountLabel.text, ui.boxCountLabel.text) == ("1 point", "1 box")
    assert ui.windowSelector.currentText == "mediastinum (400 / 40 HU)"
    assert ui.modalitySelector.currentText == "CT"
    assert not ui.livePreviewCheckBox.checked
    assert ui.weightsPathLineEdit.currentPath == "/weights/tuned.pth"
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLMarkupsFiducialNode") == 1
    tools.place(window, ui.positiveButton, "Red", tools.world(ui.inputSelector.currentNode(), (60, 50, 4)))
    assert ui.positiveCountLabel.text == "2 points"


def test_a_reopened_scene_previews_and_accepts_as_before(chest, model, module_window, tmp_path):
    window = module_window(size=(900, 600))
    ui = window.ui
    tools.place(window, ui.negativeButton, "Red", tools.world(chest, (30, 50, 4)))
    tools.settled(window)
    before = tools.preview_lungs(window, chest)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    chest = ui.inputSelector.currentNode()
    window.jump(tools.world(chest, (30, 50, 4)))
    window.wait_until(lambda: ui.acceptButton.enabled)
    np.testing.assert_array_equal(tools.preview_lungs(window, chest), before)
    window.click(ui.acceptButton)
    np.testing.assert_array_equal(chests.lungsOf(ui.outputSelector.currentNode(), chest), before)


# ---- enter, exit, cleanup


def test_leaving_the_module_ends_placing_and_hides_the_preview(chest, model, module_window):
    window = module_window(size=(900, 600))
    tools.place(window, window.ui.negativeButton, "Red", tools.world(chest, (30, 50, 4)))
    tools.settled(window)
    assert tools.preview_lungs(window, chest).any()
    window.click(window.ui.positiveButton)
    window.widget.exit()
    window.process_events()
    assert window.widget.preview.node is None
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_entering_again_and_again_answers_once(chest, model, module_window):
    window = module_window(size=(900, 600))
    for _ in range(3):
        window.widget.exit()
        window.widget.enter()
    tools.place(window, window.ui.negativeButton, "Red", tools.world(chest, (30, 50, 4)))
    tools.settled(window)
    assert tools.preview_lungs(window, chest).any()
    assert model.encoded == 1


def test_the_module_leaves_no_observer_and_no_thread(chest, model, module_window):
    module_window(size=(900, 600)).close()
    nodes = (slicer.mrmlScene, chest, slicer.util.getNode("SAMLungSeg"), slicer.util.getNode("Red"))
    before = [leaks.observer_count(node) for node in nodes]
    window = module_window(size=(900, 600))
    widget, ui = window.widget, window.ui
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    tools.place(window, ui.negativeButton, "Red", tools.world(chest, (30, 50, 4)))
    tools.settled(window)
    window.click(ui.acceptButton)
    assert widget.Observations
    assert widget.preview.Observations
    window.close()
    assert widget.Observations == widget.preview.Observations == widget._prompts.Observations == []
    gc.collect()
    assert [leaks.observer_count(node) for node in nodes] == before
    assert running_threads() == []
    assert slicer.mrmlScene.GetFirstNodeByName("Lung preview") is None

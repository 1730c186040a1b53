"""The panel: what it offers, what it refuses and why, how it tells of errors."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import chests
import numpy as np
import pytest
import qt
import slicer
import widgettools as tools

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.intensity import WINDOW_PRESETS
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegSlicer.parameters import WINDOWS, SAMLungSegParameterNode, settingsOf
from SAMLungSegSlicer.runtime import dependencies

PANEL_WIDTH = 420
UI_FILE = Path(dependencies.__file__).parents[2] / "Resources" / "UI" / "SAMLungSeg.ui"


@pytest.fixture
def window(chest, model, module_window):
    return module_window(size=(900, 600))


def raw_parameters():
    return slicer.mrmlScene.GetSingletonNode("SAMLungSeg", "vtkMRMLScriptedModuleNode")


# ---- the .ui file


def test_the_ui_file_names_parameters_that_exist_and_declares_its_widgets():
    root = ElementTree.parse(UI_FILE).getroot()
    names = {one.findtext("string") for one in root.iter("property") if one.get("name") == "SlicerParameterName"}
    assert len(names) == 16
    assert names <= set(SAMLungSegParameterNode.allParameters)
    declared = {one.findtext("class") for one in root.iter("customwidget")}
    used = {one.get("class") for one in root.iter("widget")}
    assert {one for one in used if not one.startswith("Q")} == declared - {"qSlicerWidget"}


# ---- what is offered


def test_opening_the_module_adds_nothing_to_the_scene_but_its_parameters(module_window):
    before = slicer.mrmlScene.GetNumberOfNodes()
    module_window()
    assert slicer.mrmlScene.GetNumberOfNodes() == before + 1
    assert raw_parameters() is not None


def test_one_button_is_enough_for_the_volume_that_is_shown(window, chest):
    other = chests.axialChest("other")
    assert window.ui.inputSelector.currentNode() is chest
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    segmentation = window.ui.outputSelector.currentNode()
    assert segmentation.GetName() == "chest lungs"
    assert chests.lungsOf(segmentation, chest).any()
    assert window.ui.inputSelector.currentNode() is not other


def test_without_a_shown_volume_the_first_one_is_chosen_but_never_a_labelmap(module_window, model):
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    chest = chests.axialChest()
    window = module_window()
    assert window.ui.inputSelector.currentNode() is chest
    with pytest.raises(ValueError, match="no entry"):
        window.choose(window.ui.inputSelector, labelmap)


def test_every_window_of_the_library_is_offered(window):
    assert (*WINDOW_PRESETS, "custom") == WINDOWS


def test_a_custom_window_shows_width_and_level_and_is_used(window):
    ui = window.ui
    window.expand(ui.advancedCollapsibleButton)
    assert not ui.customWindow.visible
    window.choose(ui.windowSelector, "custom")
    assert ui.customWindow.visible
    window.type_text(ui.windowWidthSpinBox, "400")
    window.type_text(ui.windowLevelSpinBox, "40")
    assert settingsOf(SAMLungSegParameterNode(raw_parameters())).window == "400/40"


def test_choices_of_another_version_of_the_module_become_defaults(module_window):
    window = module_window()
    window.widget.exit()
    raw_parameters().SetParameter("model", "sam-9")
    raw_parameters().SetParameter("window", "liver")
    window.widget.enter()
    assert raw_parameters().GetParameter("model") == "lung-compact"
    assert raw_parameters().GetParameter("window") == "lung"


def test_settings_typed_by_a_script_show_in_the_panel(window):
    parameters = window.widget.logic.getParameterNode()
    parameters.threshold = 0.3
    parameters.lungs = "left"
    parameters.customWeights = "/weights/tuned.safetensors"
    ui = window.ui
    assert ui.thresholdSlider.value == pytest.approx(0.3)
    assert ui.lungsSelector.currentText == "left"
    assert ui.weightsPathLineEdit.currentPath == "/weights/tuned.safetensors"


def test_no_text_is_cut_at_the_narrowest_panel(model, module_window, monkeypatch, tmp_path):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path))
    tools.show(chests.axialChest("a chest whose series has a very, very long description of 1.25 mm, kernel B70f"))
    window = module_window(size=(900, 600))
    ui, panel = window.ui, window.widget.parent
    tools.idle(window)
    window.choose(ui.modelSelector, ui.modelSelector.itemText(1))
    window.expand(ui.advancedCollapsibleButton)
    window.choose(ui.windowSelector, "custom")
    panel.parent().parent().setFixedWidth(PANEL_WIDTH)
    window.process_events()
    assert ui.downloadButton.visible
    assert panel.width <= PANEL_WIDTH
    for kind in (qt.QLabel, qt.QPushButton, qt.QCheckBox, qt.QToolButton):
        for one in panel.findChildren(kind):
            wraps = isinstance(one, qt.QLabel) and one.wordWrap
            if one.visible and one.text and not wraps:
                assert one.sizeHint.width() <= one.width, one.name


# ---- what cannot work says why


def test_without_a_volume_the_buttons_say_what_is_missing(module_window):
    ui = module_window().ui
    for button in (ui.segmentVolumeButton, ui.segmentSliceButton, ui.positiveButton, ui.negativeButton, ui.boxButton):
        assert not button.enabled
        assert button.toolTip == "Choose a volume first."


def test_buttons_that_cannot_work_yet_say_why(window):
    ui = window.ui
    reasons = {
        ui.cancelButton: "Nothing is running.",
        ui.acceptButton: "There is no preview; place a point or a box.",
        ui.discardButton: "There is no preview; place a point or a box.",
        ui.undoButton: "There is nothing to undo.",
        ui.redoButton: "There is nothing to redo.",
        ui.clearButton: "There are no prompts.",
        ui.evaluateButton: "Segment first, or choose a segmentation.",
        ui.saveCsvButton: "Evaluate first.",
    }
    for button, reason in reasons.items():
        assert not button.enabled
        assert button.toolTip == reason


def test_a_model_that_answers_boxes_only_offers_no_points(window):
    ui = window.ui
    window.widget.logic.getParameterNode().model = "medsam-vit-b"
    assert not ui.positiveButton.enabled
    assert not ui.negativeButton.enabled
    assert ui.negativeButton.toolTip == "This model accepts boxes only; choose another one to place points."
    assert ui.boxButton.enabled


def test_a_view_that_the_layout_lacks_cannot_be_segmented(window):
    slicer.mrmlScene.RemoveNode(window.view("Yellow").mrmlSliceNode())
    window.choose(window.ui.viewSelector, "Yellow")
    assert not window.ui.segmentSliceButton.enabled
    assert window.ui.segmentSliceButton.toolTip == "The layout has no Yellow view; choose another one."
    assert window.ui.segmentVolumeButton.enabled


def test_while_segmenting_only_cancel_works_and_the_slices_are_counted(chest, module_window, monkeypatch):
    model = tools.answer_at_once(monkeypatch, tools.HeldModel())
    window = module_window()
    ui = window.ui
    window.click(ui.segmentVolumeButton)
    window.wait_until(model.reached.is_set)
    assert not ui.segmentVolumeButton.enabled
    assert ui.segmentVolumeButton.toolTip == "A segmentation is running; wait or cancel it."
    assert ui.cancelButton.enabled
    assert ui.progressBar.visible
    model.release()
    tools.idle(window)
    assert ui.segmentVolumeButton.enabled
    assert not ui.cancelButton.enabled
    assert not ui.progressBar.visible
    assert ui.progressBar.format.startswith("Slice 8 of 8")


def test_declining_the_installation_segments_nothing_and_says_so(window, monkeypatch):
    monkeypatch.setattr(dependencies, "ensure", lambda feature: False)
    window.click(window.ui.segmentVolumeButton)
    assert window.ui.statusLabel.text == "Nothing was installed, so nothing can be segmented."
    assert window.ui.outputSelector.currentNode() is None
    assert window.ui.segmentVolumeButton.enabled


# ---- errors


def test_an_error_that_the_user_can_act_on_is_one_line_in_the_panel(window, monkeypatch, dialogs):
    def refuse(settings):
        raise ModelError("The weights are damaged; download them again.")

    monkeypatch.setattr("SAMLungSegSlicer.jobs.Settings.loadedModel", refuse)
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    assert window.ui.statusLabel.text == "⚠ The weights are damaged; download them again."
    assert dialogs.take() == []
    assert window.ui.segmentVolumeButton.enabled


def test_a_volume_without_voxels_is_an_error_in_the_panel(module_window, model, dialogs):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    window = module_window()
    window.choose(window.ui.inputSelector, empty)
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    assert "has no voxels" in window.ui.statusLabel.text
    assert dialogs.take() == []


def test_a_defect_is_shown_in_a_dialog_with_its_details(window, monkeypatch, dialogs):
    def fail(settings):
        raise RuntimeError("broken in the middle")

    monkeypatch.setattr("SAMLungSegSlicer.jobs.Settings.loadedModel", fail)
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    (shown,) = dialogs.take()
    assert "broken in the middle" in shown.text
    assert window.ui.segmentVolumeButton.enabled


# ---- segmenting


def test_the_chosen_lung_is_written_and_the_other_stays(window, chest):
    ui = window.ui
    window.choose(ui.lungsSelector, "right")
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    assert set(np.unique(chests.lungsOf(ui.outputSelector.currentNode(), chest))) == {0, 1}


def test_segment_slice_changes_the_slice_of_the_chosen_view_only(window, chest):
    ui = window.ui
    window.jump(tools.world(chest, (48, 40, 4)))
    window.choose(ui.viewSelector, "Green")
    window.click(ui.segmentSliceButton)
    tools.idle(window)
    lungs = chests.lungsOf(ui.outputSelector.currentNode(), chest)
    assert np.flatnonzero(lungs.any(axis=(0, 2))).tolist() == [40]


def test_cancelling_leaves_the_earlier_segmentation_untouched(chest, module_window, monkeypatch):
    tools.answer_at_once(monkeypatch)
    window = module_window()
    ui = window.ui
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    segmentation = ui.outputSelector.currentNode()
    before = chests.lungsOf(segmentation, chest)
    model = tools.answer_at_once(monkeypatch, tools.HeldModel())
    window.choose(ui.lungsSelector, "left")
    window.click(ui.segmentVolumeButton)
    window.wait_until(model.reached.is_set)
    window.click(ui.cancelButton)
    assert ui.statusLabel.text == "Stopping..."
    model.release()
    tools.idle(window)
    assert ui.statusLabel.text == "Stopped; the segmentation is as it was."
    assert ui.outputSelector.currentNode() is segmentation
    np.testing.assert_array_equal(chests.lungsOf(segmentation, chest), before)


def test_a_colour_xray_of_equal_channels_goes_through_from_button_to_table(module_window, model):
    grey = chests.xray()
    volume = slicer.util.addVolumeFromArray(
        np.repeat(grey[None, :, :, None], 3, axis=3), name="radiograph", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    tools.show(volume, 255, 127)
    window = module_window()
    ui = window.ui
    assert ui.inputSelector.currentNode() is volume
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    segmentation = ui.outputSelector.currentNode()
    lungs = chests.lungsOf(segmentation, volume)
    assert lungs.shape == (1, *grey.shape)
    assert set(np.unique(lungs)) == {0, 1, 2}
    assert ui.statusLabel.text.startswith("Lungs of radiograph found")
    reference = tools.add_labelmap(lungs, volume)
    window.choose(ui.referenceSelector, reference)
    window.click(ui.evaluateButton)
    tools.idle(window)
    table = slicer.util.dataframeFromTable(ui.summaryTable.mrmlTableNode())
    np.testing.assert_allclose(table["dice"], 1)


# ---- evaluating


@pytest.fixture
def evaluated(window, chest):
    ui = window.ui
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    reference = chests.lungsOf(ui.outputSelector.currentNode(), chest)
    reference[3, 40:60] = 0
    window.choose(ui.referenceSelector, tools.add_labelmap(reference, chest))
    window.click(ui.evaluateButton)
    tools.idle(window)
    return window


def test_the_segmentation_is_not_compared_with_itself(window):
    ui = window.ui
    window.click(ui.segmentVolumeButton)
    tools.idle(window)
    assert ui.evaluateButton.toolTip == "Choose a reference first."
    window.choose(ui.referenceSelector, ui.outputSelector.currentNode())
    assert not ui.evaluateButton.enabled
    assert ui.evaluateButton.toolTip == "This is the segmentation itself; choose another reference."


def test_the_worst_slice_is_the_one_that_differs_and_a_click_shows_it(evaluated, chest):
    ui = evaluated.ui
    assert ui.worstList.item(0).text().startswith("Slice 3:")
    evaluated.jump(tools.world(chest, (48, 48, 6)))
    ui.worstList.setCurrentRow(0)
    z = tools.world(chest, (0, 0, 3))[2]
    assert evaluated.view("Red").mrmlSliceNode().GetSliceOffset() == pytest.approx(z)


def test_the_table_shows_titles_with_units_and_the_measures_first(evaluated):
    table = evaluated.ui.summaryTable
    header = [table.model().headerData(column, qt.Qt.Horizontal) for column in range(table.model().columnCount())]
    shown = [name for column, name in enumerate(header) if not table.isColumnHidden(column)]
    assert shown[:6] == ["Structure", "Dice", "Jaccard", "Precision", "Sensitivity", "HD95 (mm)"]


def test_the_values_of_all_slices_are_saved_where_the_user_says(evaluated, dialogs, tmp_path):
    path = tmp_path / "values.csv"
    dialogs.answer(str(path))
    evaluated.click(evaluated.ui.saveCsvButton)
    lines = path.read_text().splitlines()
    assert "dice" in lines[0]
    assert len(lines) > 8
    assert evaluated.ui.statusLabel.text == f"Saved {path}."


def test_cancelling_the_file_dialog_saves_nothing(evaluated, dialogs):
    dialogs.answer("")
    evaluated.click(evaluated.ui.saveCsvButton)
    assert "Saved" not in evaluated.ui.statusLabel.text


def test_the_bundled_model_comes_first_and_the_others_say_their_size(window):
    tools.idle(window)
    combo = window.ui.modelSelector
    titles = [combo.itemText(index) for index in range(combo.count)]
    assert titles[0] == "lung-compact (bundled)"
    assert titles[1].startswith("sam-vit-b (375 MB, ")
    assert len(titles) == len(MODELS)


def test_closing_and_opening_a_section_shows_nothing_that_was_hidden(window):
    ui = window.ui
    ui.segmentCollapsibleButton.click()
    ui.segmentCollapsibleButton.click()
    assert ui.segmentVolumeButton.visible
    assert not ui.progressBar.visible
    assert not ui.downloadWidget.visible

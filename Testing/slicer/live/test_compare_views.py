"""Slice views beside Red, Green and Yellow, as Slicer's layouts have them, can be worked in."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import slicer
import widgettools as tools
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest
from test_ahead import SteppedModel, numbers, wait_for

from SAMLungSegLib.models import checkpoints
from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.live import prefetch
from SAMLungSegSlicer.panels.view import viewTitle
from SAMLungSegSlicer.parameters import boxNodes, sliceNodeOf

COMPARE = slicer.vtkMRMLLayoutNode.SlicerLayoutCompareView  # Red above, three others below
NINE = slicer.vtkMRMLLayoutNode.SlicerLayoutThreeByThreeSliceView
FOUR = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def window(chest, module_window):
    return module_window(size=(1100, 900))


def choose_layout(window, chest, layout=COMPARE):
    slicer.app.layoutManager().layoutLogic().GetLayoutNode().SetNumberOfCompareViewRows(3)
    window.choose_layout(layout)
    tools.show(chest)
    window.process_events()


def scroll(chest, view, k):
    """Show an axial slice in one view only."""
    node = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")
    node.SetSliceOffset(tools.world(chest, (0, 0, k))[2])


def offered(window):
    selector = window.ui.viewSelector
    return [selector.itemText(index) for index in range(selector.count)]


def slices(labels_kji):
    return np.flatnonzero(labels_kji.any(axis=(1, 2))).tolist()


def click_in_compare2(window, chest):
    """A point in the third slice, which only Compare2 shows."""
    choose_layout(window, chest)
    ras = tools.world(chest, (70, 60, 3))
    window.jump(ras)
    for view in ("Red", "Compare1", "Compare3"):
        scroll(chest, view, 6)
    window.click(window.ui.positiveButton)
    QTest.mouseMove(window.view("Compare2"), QPoint(2, 2))  # or there is no move where the mouse was last
    window.click_in_view("Compare2", ras)
    tools.settled(window)


def reopened(window, module_window, slicer_app, path):
    """The scene in an application that was started anew."""
    assert slicer.util.saveScene(str(path))
    window.close()
    slicer_app.reset()
    slicer.util.loadScene(str(path))
    return module_window(size=(1100, 900))


# ---- which views there are


def test_only_the_views_of_the_scene_are_offered(window, chest):
    assert offered(window) == ["Red", "Green", "Yellow"]
    choose_layout(window, chest)
    assert offered(window) == ["Red", "Green", "Yellow", "Compare 1", "Compare 2", "Compare 3"]
    choose_layout(window, chest, NINE)
    assert offered(window)[6:] == ["Slice 4", "Slice 5", "Slice 6", "Slice 7", "Slice 8", "Slice 9"]
    assert window.ui.viewSelector.currentText == "Red"


def test_a_view_that_goes_is_not_offered_any_more(window, chest):
    choose_layout(window, chest)
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetSingletonNode("Compare3", "vtkMRMLSliceNode"))
    assert offered(window) == ["Red", "Green", "Yellow", "Compare 1", "Compare 2"]


def test_views_that_come_while_another_module_is_open_are_offered_afterwards(window, chest):
    window.leave()
    choose_layout(window, chest)
    window.enter()
    assert offered(window)[3:] == ["Compare 1", "Compare 2", "Compare 3"]


def test_the_chosen_view_stays_chosen_when_others_come(window, chest):
    choose_layout(window, chest)
    window.choose(window.ui.viewSelector, "Compare 2")
    choose_layout(window, chest, NINE)
    assert window.ui.viewSelector.currentText == "Compare 2"
    assert window.widget.logic.getParameterNode().sliceView == "Compare2"


@pytest.mark.parametrize(
    ("name", "title"),
    [("Red", "Red"), ("Red+", "Red+"), ("Compare12", "Compare 12"), ("Slice4", "Slice 4"), ("My view 2", "My view 2")],
)
def test_views_have_readable_titles(name, title):
    assert viewTitle(name) == title


# ---- working in one of them


def test_segment_slice_segments_what_the_chosen_view_shows(window, chest):
    choose_layout(window, chest)
    window.jump(tools.world(chest, (48, 48, 2)))
    scroll(chest, "Compare2", 5)
    window.choose(window.ui.viewSelector, "Compare 2")
    assert "Compare 2 view" in window.ui.segmentSliceButton.toolTip
    window.click(window.ui.segmentSliceButton)
    tools.idle(window)
    assert slices(chests.lungsOf(window.ui.outputSelector.currentNode(), chest)) == [5]


def test_a_point_in_another_view_is_previewed_and_written_there(window, chest):
    click_in_compare2(window, chest)
    assert window.ui.viewSelector.currentText == "Compare 2"
    assert slices(tools.preview_lungs(window, chest)) == [3]
    shown_in = window.widget.preview.node.GetDisplayNode().GetViewNodeIDs()
    assert shown_in == (slicer.mrmlScene.GetSingletonNode("Compare2", "vtkMRMLSliceNode").GetID(),)
    window.click(window.ui.acceptButton)
    tools.idle(window)
    assert slices(chests.lungsOf(window.ui.outputSelector.currentNode(), chest)) == [3]


def test_a_box_in_another_view_is_previewed_there_and_as_thick_as_its_slice(window, chest):
    choose_layout(window, chest)
    first, last = tools.world(chest, (12, 25, 3)), tools.world(chest, (40, 75, 3))
    window.jump(first)
    scroll(chest, "Red", 6)
    window.click(window.ui.boxButton)
    QTest.mouseMove(window.view("Compare3"), QPoint(2, 2))
    window.click_in_view("Compare3", first)
    window.click_in_view("Compare3", last)
    tools.settled(window)
    assert window.ui.viewSelector.currentText == "Compare 3"
    assert slices(tools.preview_lungs(window, chest)) == [3]
    (box,) = bridge.boxesFromRois(boxNodes(window.widget.logic.getParameterNode()), chest)
    assert (box.first_ijk[2], box.last_ijk[2]) == pytest.approx((2.5, 3.5), abs=1e-3)


def test_the_mouse_crosses_other_views_and_the_preview_stays(window, chest):
    click_in_compare2(window, chest)
    for view in ("Compare1", "Red", "Compare3"):
        for x in (150, 100, 50):
            QTest.mouseMove(window.view(view), QPoint(x, 60))
            window.process_events()
    tools.settled(window)
    assert window.ui.viewSelector.currentText == "Compare 2"
    assert slices(tools.preview_lungs(window, chest)) == [3]


def test_the_preview_follows_the_view_as_it_scrolls(window, chest):
    click_in_compare2(window, chest)
    scroll(chest, "Compare2", 6)
    tools.settled(window)
    assert not window.ui.acceptButton.enabled
    scroll(chest, "Compare2", 3)
    tools.settled(window)
    assert slices(tools.preview_lungs(window, chest)) == [3]


def test_slices_are_encoded_ahead_from_the_one_in_the_chosen_view_on(chest, module_window, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "verify", lambda spec: "ok")
    monkeypatch.setattr(prefetch, "QUIET_MS", 20)
    model = SteppedModel()
    tools.answer_at_once(monkeypatch, CachedModel(model, EmbeddingCache(tmp_path)))
    window = module_window(size=(1100, 900))
    choose_layout(window, chest)
    window.jump(tools.world(chest, (48, 48, 5)))
    scroll(chest, "Compare2", 1)
    window.choose(window.ui.viewSelector, "Compare 2")
    window.widget.logic.getParameterNode().model = "sam-vit-b"
    model.free()
    wait_for(window, model, 8)
    assert numbers(model, chest)[:3] == [1, 0, 2]


# ---- scenes


def test_the_chosen_view_comes_back_with_a_scene_that_has_it(window, chest, module_window, slicer_app, tmp_path):
    choose_layout(window, chest)
    window.choose(window.ui.viewSelector, "Compare 2")
    again = reopened(window, module_window, slicer_app, tmp_path / "scene.mrb")
    assert again.ui.viewSelector.currentText == "Compare 2"
    assert sliceNodeOf(again.widget.logic.getParameterNode()).GetLayoutName() == "Compare2"


def test_a_scene_without_the_chosen_view_opens_with_red(window, chest, module_window, slicer_app, tmp_path):
    choose_layout(window, chest)
    window.choose(window.ui.viewSelector, "Compare 2")
    for name in ("Compare1", "Compare2", "Compare3"):
        slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode").SetSaveWithScene(False)
    again = reopened(window, module_window, slicer_app, tmp_path / "scene.mrb")
    assert offered(again) == ["Red", "Green", "Yellow"]
    assert again.ui.viewSelector.currentText == "Red"
    assert again.widget.logic.getParameterNode().sliceView == "Red"


def test_a_scene_that_is_opened_in_the_open_module_brings_its_view(window, chest, tmp_path):
    choose_layout(window, chest)
    window.choose(window.ui.viewSelector, "Compare 2")
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    window.process_events()
    assert window.ui.viewSelector.currentText == "Red"
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    window.process_events()
    assert window.ui.viewSelector.currentText == "Compare 2"


def test_a_layout_without_the_chosen_view_keeps_it(window, chest):
    click_in_compare2(window, chest)
    choose_layout(window, chest, FOUR)
    tools.settled(window)
    assert window.ui.viewSelector.currentText == "Compare 2"
    tools.place(window, window.ui.negativeButton, "Green", tools.world(chest, (30, 50, 5)))
    tools.settled(window)
    assert window.ui.viewSelector.currentText == "Green"


# ---- two patients beside each other


def test_a_patient_who_is_loaded_in_a_compare_layout_is_chosen_and_shown_in_all_views(window, chest):
    choose_layout(window, chest)
    window.choose(window.ui.viewSelector, "Compare 2")
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window, "segment")
    first = window.ui.outputSelector.currentNode()
    loaded = tools.show(chests.axialChest("next"))
    window.process_events()
    assert window.ui.inputSelector.currentNode() is loaded
    assert window.ui.viewSelector.currentText == "Compare 2"
    assert not first.GetDisplayNode().GetVisibility()


def test_lungs_stay_where_another_view_still_shows_their_volume(window, chest):
    choose_layout(window, chest)
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window, "segment")
    first = window.ui.outputSelector.currentNode()
    loaded = chests.axialChest("next")
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if composite.GetLayoutName() != "Compare3":
            composite.SetBackgroundVolumeID(loaded.GetID())
    window.process_events()
    assert window.ui.inputSelector.currentNode() is loaded
    assert first.GetDisplayNode().GetVisibility()

"""The Segment Editor effect on Slicer's real editor node and logic, driven by mouse events in the slice views."""

from __future__ import annotations

from itertools import pairwise

import bridge_nodes as nodes
import chests
import effecttools
import numpy as np
import pytest
import qt
import slicer
import widgettools as tools
from bench import segmenteditor
from PySide6.QtCore import QPoint
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton

from SAMLungSegSlicer import bridge

SLICE = 4
MIDDLE = (48, 30, SLICE)

pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture
def registered(slicer_app, monkeypatch):
    """The effect, as Slicer loads it when it starts."""
    return effecttools.register(monkeypatch)


class Person:
    """Somebody with the Segment Editor open on a chest."""

    def __init__(self, window, volume, segmentation):
        self.window, self.volume, self.segmentation = window, volume, segmentation
        self.editor = effecttools.opened(volume, segmentation)
        self.effect = self.editor.activeEffect()
        self.lungs_effect = self.effect.self().lungs
        self.effect.optionsFrame().show()
        window.jump(tools.world(volume, MIDDLE))

    def press(self, text):
        self.settle()
        (button,) = (one for one in self.effect.optionsFrame().findChildren(QPushButton) if one.text == text)
        assert button.enabled, text
        QTest.mouseClick(button, qt.Qt.LeftButton)
        self.settle()

    def draw(self, *voxels, key=qt.Qt.NoModifier, view="Red"):
        widget = self.window.view(view)
        points = [widget.rasToPosition(tools.world(self.volume, ijk)) for ijk in voxels]
        QTest.mouseMove(widget, QPoint(2, 2))
        QTest.mouseMove(widget, points[0])
        QTest.mousePress(widget, qt.Qt.LeftButton, key, points[0])
        for start, stop in pairwise(points):
            for step in range(1, 9):
                QTest.mouseMove(widget, start + (stop - start) * (step / 8))
        QTest.mouseRelease(widget, qt.Qt.LeftButton, key, points[-1])
        self.settle()

    def settle(self):
        for _ in range(2):
            self.window.process_events()
            self.window.wait_until(self.is_idle, 30)

    def is_idle(self):
        context = self.lungs_effect._context
        return context is None or not context.worker.isBusy()

    def lungs(self):
        return chests.lungsOf(self.segmentation, self.volume)

    def preview(self):
        node = self.lungs_effect.preview.node
        if node is None or not node.GetDisplayNode().GetVisibility():
            return np.zeros(self.lungs().shape, np.uint8)
        return chests.lungsOf(node, self.volume)


@pytest.fixture
def person(window, chest, registered):
    """With lungs that the module has found, and a nodule that somebody else has drawn."""
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    segmentation = window.ui.outputSelector.currentNode()
    window.leave()
    someone = Person(window, chest, segmentation)
    yield someone
    someone.editor.close()


def add_nodule(person, part=np.s_[SLICE, 28:33, 44:52]):
    mask = np.zeros(person.lungs().shape, np.uint8)
    mask[part] = 1
    nodes.add_segment(person.segmentation, mask, chests.ijkToRas(person.volume), "nodule")
    return mask.astype(bool)


def nodule(person):
    segmentation = person.segmentation.GetSegmentation()
    segment_id = segmentation.GetSegmentIdBySegmentName("nodule")
    return slicer.util.arrayFromSegmentBinaryLabelmap(person.segmentation, segment_id, person.volume) > 0


def test_the_effect_is_registered_under_its_name_when_slicer_has_started(registered):
    (effect,) = registered
    assert (effect.name, effect.title) == ("SAM lungs", "SAM lungs")
    assert (effect.perSegment, effect.requireSegments) == (False, False)
    assert not effect.self().icon().isNull()
    assert "previewed" in effect.self().helpText()


def test_a_point_is_previewed_and_applied_and_shared_with_the_panel(person):
    before = person.lungs()
    person.press("Point")
    person.draw((25, 60, SLICE), key=qt.Qt.ControlModifier)
    shown = person.preview()
    assert (shown[SLICE] != before[SLICE]).any()
    np.testing.assert_array_equal(person.lungs(), before)
    person.press("Apply")
    np.testing.assert_array_equal(person.lungs()[SLICE], shown[SLICE])
    np.testing.assert_array_equal(np.delete(person.lungs(), SLICE, 0), np.delete(before, SLICE, 0))
    person.editor.setActiveEffectByName("")
    person.window.enter()
    assert person.window.ui.negativeCountLabel.text == "1 point"
    assert person.window.ui.undoButton.enabled
    person.window.click(person.window.ui.undoButton)
    np.testing.assert_array_equal(person.lungs(), before)


def test_a_scribble_a_box_a_brush_and_a_lasso_are_drawn_in_the_views(person):
    person.press("Scribble")
    person.draw((20, 50, SLICE), (20, 70, SLICE))
    assert person.lungs_effect.parameters.positivePoints.GetNumberOfControlPoints() == 4
    person.press("Clear")
    person.press("Box")
    person.draw((10, 30, SLICE), (40, 70, SLICE))
    (box,) = person.lungs_effect.parameters.parameterNode.GetScene().GetNodesByClass("vtkMRMLMarkupsROINode")
    (volume_box,) = bridge.boxesFromRois([box], person.volume)
    first, last = np.sort([volume_box.first_ijk, volume_box.last_ijk], axis=0)
    np.testing.assert_allclose(first[:2], (10, 30), atol=1)
    np.testing.assert_allclose(last[:2], (40, 70), atol=1)
    assert (first[2] + last[2]) / 2 == pytest.approx(SLICE)
    assert person.preview()[SLICE].any()
    person.press("Discard")
    person.press("Clear")
    person.press("Brush")
    person.draw(MIDDLE)
    person.press("Lasso")
    person.draw((44, 60, SLICE), (50, 60, SLICE), (50, 66, SLICE), (44, 66, SLICE))
    person.press("Apply")
    assert (person.lungs()[SLICE, [30, 63], [48, 47]] > 0).all()


def test_the_editors_undo_and_redo_take_it_back_and_the_session_goes_along(person):
    before = person.lungs()
    person.press("Point")
    person.draw((25, 60, SLICE), key=qt.Qt.ControlModifier)
    shown = person.preview()
    person.press("Apply")
    after = person.lungs()
    person.editor.undo()
    person.settle()
    np.testing.assert_array_equal(person.lungs(), before)
    np.testing.assert_array_equal(person.preview(), shown)  # pending again, and not kept as painted
    person.editor.redo()
    person.settle()
    np.testing.assert_array_equal(person.lungs(), after)
    assert not person.preview().any()


def test_the_editable_area_and_the_intensity_range_of_the_editor_hold(person):
    before = person.lungs()
    grey = slicer.util.arrayFromVolume(person.volume)
    person.editor.node.SetSourceVolumeIntensityMask(True)
    person.editor.node.SetSourceVolumeIntensityMaskRange(-100.0, 400.0)
    person.press("Lasso")
    person.draw((20, 20, SLICE), (75, 20, SLICE), (75, 75, SLICE), (20, 75, SLICE))
    person.press("Apply")
    after = person.lungs()
    changed = after != before
    assert changed.any()
    assert grey[changed].min() >= -100
    assert grey[changed].max() <= 400
    inside = np.zeros(before.shape, bool)
    inside[SLICE, 22:74, 22:74] = True
    assert (after[inside & (grey >= -100) & (grey <= 400)] > 0).all()


@pytest.mark.parametrize(
    ("mode", "hidden", "is_lost"),
    [
        ("OverwriteAllSegments", True, True),
        ("OverwriteVisibleSegments", False, True),
        ("OverwriteVisibleSegments", True, False),
        ("OverwriteNone", False, False),
    ],
)
def test_other_segments_lose_what_the_lungs_gain_as_the_overwrite_mode_says(person, mode, hidden, is_lost):
    part = add_nodule(person)
    segment_id = person.segmentation.GetSegmentation().GetSegmentIdBySegmentName("nodule")
    person.segmentation.GetDisplayNode().SetSegmentVisibility(segment_id, not hidden)
    person.editor.node.SetOverwriteMode(getattr(person.editor.node, mode))
    before = person.lungs()
    person.press("Brush")
    person.draw(MIDDLE)
    person.press("Apply")
    gained = (person.lungs() > 0) & (before == 0)
    assert (gained & part).any()
    np.testing.assert_array_equal(nodule(person), part & ~gained if is_lost else part)
    person.editor.undo()
    np.testing.assert_array_equal(nodule(person), part)
    np.testing.assert_array_equal(person.lungs(), before)


def test_a_hidden_selected_segment_is_changed_only_where_the_person_confirms(person):
    before = person.lungs()
    segment_id = person.segmentation.GetSegmentation().GetSegmentIdBySegmentName("right lung")
    person.editor.node.SetSelectedSegmentID(segment_id)
    person.segmentation.GetDisplayNode().SetSegmentVisibility(segment_id, False)
    person.press("Brush")
    person.draw(MIDDLE)
    person.editor.answer = False
    person.press("Apply")
    np.testing.assert_array_equal(person.lungs(), before)
    person.editor.answer = True
    person.press("Apply")
    assert person.lungs()[SLICE, 30, 48]


def test_another_effect_ends_it_and_what_was_drawn_is_written(person):
    person.press("Brush")
    person.draw(MIDDLE)
    person.editor.setActiveEffectByName("")
    assert person.lungs()[SLICE, 30, 48]
    after = person.lungs()
    person.draw((44, 60, SLICE))
    np.testing.assert_array_equal(person.lungs(), after)
    assert slicer.mrmlScene.GetFirstNodeByName("Lung preview") is None
    person.editor.undo()
    assert not person.lungs()[SLICE, 30, 48]


def test_nothing_is_drawn_while_no_tool_is_chosen_and_in_a_view_beside_the_volume(person):
    before = person.lungs()
    person.draw(MIDDLE)
    person.press("Lasso")
    person.press("Lasso")
    person.draw((44, 60, SLICE), (50, 60, SLICE), (50, 66, SLICE))
    assert not person.lungs_effect.preview.isShown
    person.press("Brush")
    person.window.view("Red").mrmlSliceNode().SetSliceOffset(9999)
    person.draw(MIDDLE)
    np.testing.assert_array_equal(person.lungs(), before)


def test_an_empty_segmentation_gets_its_lungs(window, chest, registered):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(chest)
    window.leave()
    person = Person(window, chest, segmentation)
    person.press("Point")
    person.draw((25, 60, SLICE))
    person.press("Apply")
    assert set(np.unique(person.lungs()[SLICE])) == {0, 1, 2}
    person.editor.close()


@pytest.mark.parametrize("view", ["Red", "Green", "Yellow"])
def test_an_oblique_volume_under_a_transform_is_drawn_on_as_any_other(module_window, registered, view):
    volume = tools.show(chests.obliqueChest())
    window = module_window(size=(1100, 800))
    window.leave()
    node = window.view(view).mrmlSliceNode()
    node.RotateToVolumePlane(volume)
    segmentation = bridge.ensureSegmentation(volume)
    person = Person(window, volume, segmentation)
    middle = (np.array(person.lungs().shape[::-1]) - 1) // 2
    part = add_nodule(person, tuple(slice(index, index + 9) for index in middle[::-1]))
    window.jump(tools.world(volume, middle))
    person.press("Brush")
    person.draw(middle, view=view)
    person.press("Apply")
    i, j, k = middle
    assert person.lungs()[k, j, i] > 0
    assert np.count_nonzero(person.lungs()) < 40
    np.testing.assert_array_equal(nodule(person), part & (person.lungs() == 0))
    person.editor.close()


def test_without_a_source_volume_nothing_is_drawn_until_there_is_one(person):
    before = person.lungs()
    person.editor.node.SetAndObserveSourceVolumeNode(None)
    person.press("Brush")
    person.draw(MIDDLE)
    np.testing.assert_array_equal(person.lungs(), before)
    person.editor.node.SetAndObserveSourceVolumeNode(person.volume)
    person.press("Brush")
    person.press("Brush")
    person.draw(MIDDLE)
    person.press("Apply")
    assert person.lungs()[SLICE, 30, 48]


def test_a_scene_that_closes_while_the_effect_is_chosen_leaves_nothing_of_it(person, chest):
    person.press("Brush")
    person.draw(MIDDLE)
    slicer.mrmlScene.Clear(0)
    person.settle()
    assert slicer.mrmlScene.GetFirstNodeByName("Lung preview") is None
    assert person.lungs_effect.preview is None
    person.editor.close()
    volume = tools.show(chests.axialChest("next"))
    another = Person(person.window, volume, bridge.ensureSegmentation(volume))
    another.draw(MIDDLE)
    assert not another.lungs_effect.preview.isShown
    another.press("Brush")
    another.draw(MIDDLE)
    another.press("Apply")
    assert another.lungs()[SLICE, 30, 48]
    another.editor.close()


def test_the_bench_says_what_slicer_lacks():
    effect = segmenteditor.qSlicerSegmentEditorScriptedEffect()
    with pytest.raises(AttributeError):
        effect.colour = "red"
    with pytest.raises(AttributeError):
        effect.paint()

"""Live preview: the newest prompts answered in their slice; what Accept writes and what it leaves alone."""

from __future__ import annotations

import threading
from dataclasses import replace

import chests
import numpy as np
import pytest
import slicer
import widgettools as tools

from SAMLungSegLib import Options, VolumeBox, VolumePoint
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.pipeline import segment_slice
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.runtime import dependencies

SLICE = 4


@pytest.fixture
def window(chest, model, module_window):
    return module_window(size=(900, 600))


def add_point(window, ijk, positive=False):
    """A point as a script or another module places it: no click is needed."""
    volume = window.ui.inputSelector.currentNode()
    node = points_node(window, positive)
    node.AddControlPointWorld(*tools.world(volume, ijk))
    return node


def points_node(window, positive=False):
    from SAMLungSegSlicer.promptnodes import ensurePoints

    return ensurePoints(window.widget.logic.getParameterNode(), positive)


def add_box(window, first_ijk, last_ijk):
    from SAMLungSegSlicer.promptnodes import newBox

    volume = window.ui.inputSelector.currentNode()
    corners = np.array([tools.world(volume, first_ijk), tools.world(volume, last_ijk)])
    node = newBox(window.widget.logic.getParameterNode())
    node.SetCenterWorld(corners.mean(axis=0))
    node.SetSizeWorld(np.abs(corners[1] - corners[0]))
    return node


def segmented(window):
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    return window.ui.outputSelector.currentNode()


def answer(window, volume, points=(), boxes=()):
    """What the library answers for the axial slice, (J, I)."""
    reformat = bridge.cutFromSliceNode(window.view("Red").mrmlSliceNode(), volume)
    options = Options(points=points, boxes=boxes)
    found = segment_slice(bridge.volumeFromNode(volume), reformat, chests.DarknessModel(), options)
    labelmap = np.zeros((8, 96, 96), np.uint8)
    reformat.put(found.labels_hw, labelmap)
    return labelmap[SLICE]


def negative(i, j):
    return VolumePoint((float(i), float(j), float(SLICE)), positive=False)


# ---- what is shown


def test_a_point_is_answered_in_its_slice_only(window, chest):
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    shown = tools.preview_lungs(window, chest)
    np.testing.assert_array_equal(shown[SLICE], answer(window, chest, (negative(30, 50),)))
    assert not shown[SLICE, 45:56, 25:36].any()
    assert not np.delete(shown, SLICE, axis=0).any()


def test_the_preview_is_neither_saved_nor_listed_and_only_in_its_view(window, chest):
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    node = window.widget.preview.node
    assert not node.GetSaveWithScene()
    assert not node.GetDisplayNode().GetSaveWithScene()
    assert node.GetHideFromEditors()
    assert node.GetDisplayNode().GetViewNodeIDs() == ("vtkMRMLSliceNodeRed",)
    combo = window.ui.outputSelector.comboBox()
    assert "Lung preview" not in [combo.itemText(row) for row in range(combo.count)]


def test_no_preview_where_the_slice_has_no_prompt_and_again_where_it_has(window, chest):
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    window.jump(tools.world(chest, (48, 48, SLICE + 1)))
    tools.settled(window)
    assert not tools.preview_lungs(window, chest).any()
    assert not window.ui.acceptButton.enabled
    window.jump(tools.world(chest, (48, 48, SLICE)))
    tools.settled(window)
    assert tools.preview_lungs(window, chest)[SLICE].any()


def test_moving_a_point_shows_where_it_is_in_the_end(window, chest, model):
    window.jump(tools.world(chest, (48, 48, SLICE)))
    node = add_point(window, (30, 50, SLICE))
    for i in range(31, 61):
        node.SetNthControlPointPositionWorld(0, *tools.world(chest, (i, 50, SLICE)))
        window.process_events()
    tools.settled(window)
    expected = answer(window, chest, (negative(60, 50),))
    np.testing.assert_array_equal(tools.preview_lungs(window, chest)[SLICE], expected)
    assert model.encoded == 1


def test_a_person_drags_a_point_and_the_window_stays_responsive(window, chest):
    start, end = tools.world(chest, (30, 50, SLICE)), tools.world(chest, (60, 40, SLICE))
    tools.place(window, window.ui.negativeButton, "Red", start)
    tools.settled(window)
    window.click_in_view("Red", end)  # the mouse leaves the point, and comes back to take it
    with tools.fair_latency() as watch:
        window.drag_in_view("Red", start, end, steps=20)
        tools.settled(window)
    assert watch.percentile_ms(90) < 100
    (dragged,) = bridge.pointsFromMarkups(points_node(window), chest, False)
    np.testing.assert_allclose(dragged.ijk, (60, 40, SLICE), atol=0.6)
    np.testing.assert_array_equal(tools.preview_lungs(window, chest)[SLICE], answer(window, chest, (dragged,)))


def test_what_changes_while_the_model_is_busy_is_answered_next(chest, module_window, monkeypatch):
    model = tools.answer_at_once(monkeypatch, tools.HeldModel())
    window = module_window(size=(900, 600))
    window.jump(tools.world(chest, (48, 48, SLICE)))
    node = add_point(window, (30, 50, SLICE))
    window.wait_until(model.reached.is_set)
    node.SetNthControlPointPositionWorld(0, *tools.world(chest, (60, 50, SLICE)))
    window.process_events()
    model.release()
    tools.settled(window)
    expected = answer(window, chest, (negative(60, 50),))
    np.testing.assert_array_equal(tools.preview_lungs(window, chest)[SLICE], expected)


def test_prompts_that_change_while_packages_are_imported_are_answered(chest, model, module_window, monkeypatch):
    reached, go = threading.Event(), threading.Event()

    def slow_import(names, is_cancelled):
        reached.set()
        go.wait(30)

    monkeypatch.setattr("SAMLungSegSlicer.context.importQuietly", slow_import)
    window = module_window(size=(900, 600))
    window.jump(tools.world(chest, (48, 48, SLICE)))
    for i in (30, 40, 50, 60):
        add_point(window, (i, 50, SLICE))
        window.wait(0.05)
    assert reached.is_set()
    go.set()
    tools.settled(window)
    expected = answer(window, chest, [negative(i, 50) for i in (30, 40, 50, 60)])
    np.testing.assert_array_equal(tools.preview_lungs(window, chest)[SLICE], expected)


def test_the_view_of_the_last_click_is_the_one_that_is_previewed(window, chest):
    ijk = (30, 50, SLICE)
    tools.place(window, window.ui.positiveButton, "Green", tools.world(chest, ijk))
    tools.settled(window)
    assert window.ui.viewSelector.currentText == "Green"
    shown = tools.preview_lungs(window, chest)
    assert np.flatnonzero(shown.any(axis=(0, 2))).tolist() == [50]


def test_switching_live_preview_off_hides_it(window, chest):
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    window.click(window.ui.livePreviewCheckBox)
    tools.settled(window)
    assert not tools.preview_lungs(window, chest).any()
    assert not window.ui.acceptButton.enabled


def test_another_volume_hides_the_preview(window, chest):
    far = chests.axialChest("far")
    far.SetOrigin(2000, 0, 0)
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    window.choose(window.ui.inputSelector, far)
    tools.settled(window)
    assert not tools.preview_lungs(window, chest).any()


def test_missing_packages_keep_the_preview_quiet_until_the_user_has_agreed(chest, model, module_window, monkeypatch):
    monkeypatch.setattr(dependencies, "missing", lambda feature: ["torch"])
    window = module_window(size=(900, 600))
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    assert not tools.preview_lungs(window, chest).any()
    monkeypatch.setattr(dependencies, "ensure", lambda feature: True)
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    window.ui.positivePlaceWidget.currentNode()
    add_point(window, (60, 50, SLICE))
    tools.settled(window)
    assert tools.preview_lungs(window, chest)[SLICE].any()


def test_an_error_of_the_preview_is_one_line_and_the_next_prompt_is_answered(window, chest, monkeypatch, dialogs):
    from SAMLungSegSlicer.jobs import Settings

    good, bad = Settings.loadedModel, ModelError("The weights are damaged.")

    def refuse(settings):
        raise bad

    monkeypatch.setattr(Settings, "loadedModel", refuse)
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    assert window.ui.statusLabel.text == "⚠ The weights are damaged."
    monkeypatch.setattr(Settings, "loadedModel", good)
    add_point(window, (60, 50, SLICE))
    tools.settled(window)
    assert tools.preview_lungs(window, chest)[SLICE].any()
    assert dialogs.take() == []


def test_a_point_on_an_xray_is_answered(model, module_window):
    grey = chests.xray()
    volume = tools.show(slicer.util.addVolumeFromArray(grey[None].astype(np.int16), name="xray"), 255, 127)
    window = module_window(size=(900, 600))
    i, j = grey.shape[1] // 3, grey.shape[0] // 2
    tools.place(window, window.ui.negativeButton, "Red", tools.world(volume, (i, j, 0)))
    tools.settled(window)
    shown = tools.preview_lungs(window, volume)
    assert set(np.unique(shown)) == {0, 1, 2}
    assert not shown[0, j - 4 : j + 5, i - 4 : i + 5].any()
    window.click(window.ui.acceptButton)
    np.testing.assert_array_equal(chests.lungsOf(window.ui.outputSelector.currentNode(), volume), shown)


# ---- what is written


def test_accept_writes_the_slice_and_nothing_else_and_undo_takes_it_back(window, chest):
    segmentation = segmented(window)
    other = segmentation.GetSegmentation().AddEmptySegment("nodule", "nodule", (1, 1, 0))
    nodule = np.zeros((8, 96, 96), np.uint8)
    nodule[3:6, 40:60, 20:40] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(nodule, segmentation, other, chest)
    before = chests.lungsOf(segmentation, chest)

    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    shown = tools.preview_lungs(window, chest)
    window.click(window.ui.acceptButton)
    after = chests.lungsOf(segmentation, chest)
    np.testing.assert_array_equal(after[SLICE], shown[SLICE])
    assert (after[SLICE] != before[SLICE]).any()
    np.testing.assert_array_equal(np.delete(after, SLICE, axis=0), np.delete(before, SLICE, axis=0))
    read = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, other, chest)
    np.testing.assert_array_equal(read, nodule)

    window.click(window.ui.undoButton)
    np.testing.assert_array_equal(chests.lungsOf(segmentation, chest), before)
    tools.settled(window)
    assert tools.preview_lungs(window, chest)[SLICE].any()


def test_an_accepted_preview_does_not_come_back_but_a_changed_prompt_does(window, chest):
    window.jump(tools.world(chest, (48, 48, SLICE)))
    node = add_point(window, (30, 50, SLICE))
    tools.settled(window)
    window.click(window.ui.acceptButton)
    for k in (SLICE + 1, SLICE):
        window.jump(tools.world(chest, (48, 48, k)))
        tools.settled(window)
    assert not tools.preview_lungs(window, chest).any()
    node.SetNthControlPointPositionWorld(0, *tools.world(chest, (60, 50, SLICE)))
    tools.settled(window)
    assert tools.preview_lungs(window, chest).any()


def test_discard_changes_nothing(window, chest):
    segmentation = segmented(window)
    before = chests.lungsOf(segmentation, chest)
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    window.click(window.ui.discardButton)
    tools.settled(window)
    np.testing.assert_array_equal(chests.lungsOf(segmentation, chest), before)
    assert not tools.preview_lungs(window, chest).any()
    assert not window.ui.acceptButton.enabled


def test_accept_without_a_segmentation_makes_one(window, chest):
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (30, 50, SLICE))
    tools.settled(window)
    window.click(window.ui.acceptButton)
    lungs = chests.lungsOf(window.ui.outputSelector.currentNode(), chest)
    assert np.flatnonzero(lungs.any(axis=(1, 2))).tolist() == [SLICE]


def test_a_box_changes_only_what_is_in_it(window, chest):
    segmentation = segmented(window)
    ids = bridge.ensureLungSegments(segmentation)
    full = np.zeros((8, 96, 96), np.uint8)
    full[:, 10:90, 10:48] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(full, segmentation, ids[1], chest)
    before = chests.lungsOf(segmentation, chest)
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_box(window, (20, 30, SLICE), (40, 60, SLICE))
    tools.settled(window)
    window.click(window.ui.acceptButton)
    after = chests.lungsOf(segmentation, chest)
    box = np.zeros(after.shape, bool)
    box[SLICE, 30:61, 20:41] = True
    np.testing.assert_array_equal(after[~box], before[~box])
    expected = answer(window, chest, boxes=(VolumeBox((20, 30, SLICE), (40, 60, SLICE)),))
    np.testing.assert_array_equal(after[box], expected[box[SLICE]])
    assert (after[box] != before[box]).any()


def test_of_two_boxes_only_the_changed_one_is_written_again(window, chest):
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_box(window, (20, 30, SLICE), (40, 60, SLICE))
    second = add_box(window, (55, 30, SLICE), (75, 60, SLICE))
    tools.settled(window)
    window.click(window.ui.acceptButton)
    segmentation = window.ui.outputSelector.currentNode()
    ids = bridge.ensureLungSegments(segmentation)
    edited = np.zeros((8, 96, 96), np.uint8)
    edited[SLICE, 35:50, 25:30] = 1  # the user's own edit in the first box
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited, segmentation, ids[1], chest)
    second.SetSize(*(np.array(second.GetSize()) + np.array([8, 8, 0])))
    tools.settled(window)
    window.click(window.ui.acceptButton)
    lungs = chests.lungsOf(segmentation, chest)
    np.testing.assert_array_equal(lungs[SLICE, :, :48] == 1, edited[SLICE, :, :48] > 0)
    assert (lungs[SLICE, 30:61, 55:76] == 2).any()


def test_on_an_oblique_slice_of_a_transformed_volume_accept_is_voxel_exact(model, module_window):
    chest = tools.show(chests.obliqueChest())
    window = module_window(size=(900, 600))
    segmentation = segmented(window)
    before = chests.lungsOf(segmentation, chest)
    i, j, k = tools.middle(before == 2)
    red = window.view("Red").mrmlSliceNode()
    window.jump(tools.world(chest, (i, j, k)))
    add_point(window, (i, j, k))
    tools.settled(window)
    reformat = bridge.cutFromSliceNode(red, chest)
    mine = np.zeros(before.shape, bool)
    mine[reformat.voxels_kji()] = True
    shown = tools.preview_lungs(window, chest)
    assert shown[k, j, i] == 0
    assert before[k, j, i] == 2
    window.click(window.ui.acceptButton)
    after = chests.lungsOf(segmentation, chest)
    np.testing.assert_array_equal(after[~mine], before[~mine])
    np.testing.assert_array_equal(after[mine], shown[mine])


def test_a_prediction_that_ignores_the_click_is_not_shown_and_the_brush_is_offered(chest, module_window, monkeypatch):
    class Stubborn(chests.DarknessModel):
        def decode(self, embedding, prompts):
            return super().decode(embedding, replace(prompts, points=()))

    tools.answer_at_once(monkeypatch, Stubborn())
    window = module_window(size=(900, 600))
    window.jump(tools.world(chest, (48, 48, SLICE)))
    add_point(window, (27, 50, SLICE))  # in lung, by what the model sees
    tools.settled(window)
    assert not tools.preview_lungs(window, chest).any()
    assert not window.ui.acceptButton.enabled
    assert "does not follow the points" in window.ui.statusLabel.text
    assert "brush" in window.ui.statusLabel.text

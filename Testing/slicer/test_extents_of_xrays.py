"""Visible fields, whole lungs or both on an X-ray: from jobs, console and panel into segments that say which."""

from __future__ import annotations

from dataclasses import replace

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import vtk
import widgettools as tools
from two_extents import TwoExtents, chest_grey, fields, fields_and_hidden

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegLib.volume.extents import EXTENT_NAME
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.jobs import EvaluateJob, SegmentSliceJob, SegmentVolumeJob, Settings
from SAMLungSegSlicer.logic import SAMLungSegLogic
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, settingsOf

pytestmark = pytest.mark.usefixtures("nothing_kept")


@pytest.fixture(autouse=True)
def model(monkeypatch):
    model = TwoExtents()
    monkeypatch.setattr(Settings, "loadedModel", lambda settings: model)
    spec = MODELS["lung-compact"]
    offered = replace(spec.capabilities, extents=("visible", "whole"))
    monkeypatch.setitem(MODELS, "lung-compact", replace(spec, capabilities=offered))
    return model


@pytest.fixture
def frontal():
    return nodes.add_volume(chest_grey()[None], np.diag([-1.0, -1.0, 1.0, 1.0]), name="frontal")


def segmented(volumeNode, segmentationNode=None, **settings):
    job = SegmentVolumeJob(volumeNode, segmentationNode, Settings(**settings), keepEdits=False)
    return job.finish(job.run())


def segments(node) -> dict[str, tuple[str, int]]:
    """The extent that the tag of each segment says, and its voxels, by name."""
    segmentation, found = node.GetSegmentation(), {}
    for segmentId in segmentation.GetSegmentIDs():
        segment, text = segmentation.GetSegment(segmentId), vtk.reference("")
        said = str(text) if segment.GetTag(EXTENT_NAME, text) else ""
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, slicer.util.getNode("frontal"))
        found[segment.GetName()] = said, int((mask > 0).sum())
    return found


def test_visible_fields_are_the_usual_segments_and_say_so(frontal):
    assert segments(segmented(frontal)) == {"right lung": ("visible", 700), "left lung": ("visible", 700)}


def test_whole_lungs_are_named_so(frontal):
    expected = {"right lung (whole)": ("whole", 820), "left lung (whole)": ("whole", 900)}
    assert segments(segmented(frontal, extent="whole")) == expected


def test_both_have_segments_for_what_is_hidden(frontal):
    node = segmented(frontal, extent="both")
    assert segments(node) == {
        "right lung": ("both", 700),
        "left lung": ("both", 700),
        "right hidden lung": ("both", 120),
        "left hidden lung": ("both", 200),
    }
    assert np.array_equal(bridge.labelmapFromNode(node, frontal).array_kji[0], fields_and_hidden())


def test_one_lung_takes_its_hidden_part_along(frontal):
    node = segmented(frontal, extent="both", lungs="left")
    found = segments(node)
    assert found["left lung"] == ("both", 700) and found["left hidden lung"] == ("both", 200)
    assert found["right lung"] == ("", 0)


def test_another_extent_replaces_names_tags_and_hidden_parts_and_undo_brings_them_back(frontal):
    node = segmented(frontal, extent="both")
    segmented(frontal, node, extent="whole")
    found = segments(node)
    assert found["right lung (whole)"] == ("whole", 820) and found["left hidden lung"] == ("whole", 0)
    segmented(frontal, node)
    assert segments(node)["right lung"] == ("visible", 700)
    historyOf(node).undo()
    historyOf(node).undo()
    assert segments(node)["left hidden lung"] == ("both", 200) and segments(node)["left lung"] == ("both", 700)


def test_names_that_a_person_gave_stay(frontal):
    node = segmented(frontal)
    right = node.GetSegmentation().GetSegment(bridge.findLungSegments(node)[1])
    right.SetName("Lunge rechts")
    segmented(frontal, node, extent="whole")
    assert segments(node)["Lunge rechts"] == ("whole", 820)


def test_a_mask_that_is_kept_as_it_was_painted_keeps_its_extent(frontal):
    node = segmented(frontal)
    painted = fields()[None].copy()
    painted[0, 50:58, 20:30] = 1
    bridge.writeLabelmap(node, painted, frontal)
    job = SegmentVolumeJob(frontal, node, Settings(extent="whole"))
    job.finish(job.run())
    assert job.kept == 1
    assert segments(node) == {"right lung": ("visible", 780), "left lung": ("visible", 700)}


def test_a_ct_has_no_extent():
    chest = chests.axialChest("frontal")
    assert {said for said, _ in segments(segmented(chest, extent="both")).values()} == {""}


@pytest.mark.parametrize("extent", ["visible", "whole", "both"])
def test_a_slice_is_written_like_the_volume(frontal, extent):
    job = SegmentSliceJob(frontal, chests.addSliceView(frontal), None, Settings(extent=extent))
    node = job.finish(job.run())
    assert segments(node) == segments(segmented(frontal, extent=extent))


def test_the_console_takes_it_as_a_setting(frontal):
    assert "left hidden lung" in segments(SAMLungSegLogic().segmentVolume(frontal, extent="both"))


def test_a_model_that_does_not_predict_it_leaves_the_scene_as_it_is(frontal, model):
    model.capabilities = replace(model.capabilities, extents=("visible",))
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(PromptError, match="does not predict whole lungs"):
        SAMLungSegLogic().segmentVolume(frontal, extent="whole")
    assert slicer.mrmlScene.GetNumberOfNodes() == before


@pytest.mark.parametrize(
    ("extents", "note"),
    [
        (("whole", "visible"), "The prediction is of whole lungs, the reference of visible lung fields"),
        (("both", "visible"), "The prediction holds visible lung fields and hidden parts: the fields count"),
        (("visible", "visible"), None),
    ],
)
def test_an_evaluation_notes_another_extent(frontal, extents, note):
    prediction, reference = (segmented(frontal, extent=extent) for extent in extents)
    job = EvaluateJob(prediction, reference, frontal)
    notes = [one for one in job.run().notes if "fields" in one]
    assert [one[: len(note)] for one in notes] == [note] if note else notes == []


def test_names_alone_tell_whole_and_hidden_lungs(frontal):
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0])
    node = bridge.ensureSegmentation(frontal)
    for name in ("LeftHiddenLung", "hidden_lung_R", "lung (whole) left", "right whole lung", "hidden whole left lung"):
        nodes.add_segment(node, (fields() == 1)[None].astype(np.uint8), matrix, name)
    segmentation = node.GetSegmentation()
    named = {label: segmentation.GetSegment(one).GetName() for label, one in bridge.findLungSegments(node).items()}
    assert named == {1: "right whole lung", 2: "lung (whole) left", 3: "hidden_lung_R", 4: "LeftHiddenLung"}


# ---- the panel


def test_the_choice_is_shown_for_xrays_only_and_is_followed(frontal, module_window):
    tools.show(frontal, 256, 128)
    window = module_window(size=(1100, 800))
    assert window.ui.extentSelector.visible and window.ui.extentLabel.visible
    window.choose(window.ui.extentSelector, "fields, and what is hidden")
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    assert segments(window.ui.outputSelector.currentNode())["left hidden lung"] == ("both", 200)
    window.ui.inputSelector.setCurrentNode(tools.show(chests.axialChest()))
    window.process_events()
    assert not window.ui.extentSelector.visible and not window.ui.extentLabel.visible
    assert settingsOf(window.widget.logic.getParameterNode()).extent == "visible"


def test_the_choice_is_not_shown_where_the_model_has_none(frontal):
    parameters = SAMLungSegParameterNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    parameters.inputVolume, parameters.extent = frontal, "whole"
    assert settingsOf(parameters).extent == "whole"
    parameters.modality = "CT"
    assert settingsOf(parameters).extent == "visible"
    parameters.modality = "XRAY"
    assert settingsOf(parameters).extent == "whole"
    parameters.model = "sam-vit-b"
    assert settingsOf(parameters).extent == "visible"


def test_the_preview_shows_and_accepts_what_is_hidden(frontal, module_window):
    tools.show(frontal, 256, 128)
    window = module_window(size=(900, 600))
    window.choose(window.ui.extentSelector, "fields, and what is hidden")
    tools.place(window, window.ui.positiveButton, "Red", tools.world(frontal, (45, 30, 0)))
    tools.settled(window)
    shown = bridge.labelmapFromNode(window.widget.preview.node, frontal).array_kji[0]
    assert shown[30, 45] == 4
    window.click(window.ui.acceptButton)
    written = segments(window.ui.outputSelector.currentNode())
    assert written["left hidden lung"] == ("both", int((shown == 4).sum()))

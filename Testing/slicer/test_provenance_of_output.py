"""Lungs in a segmentation carry how they were found: undone, saved and replayed with them."""

from __future__ import annotations

import json
import shutil

import chests
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import slicer
import vtk

from SAMLungSegLib import VolumeBox, VolumePoint
from SAMLungSegLib.cli import main
from SAMLungSegLib.models.registry import MODELS, bundled_file
from SAMLungSegLib.provenance import METADATA_NAME
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.jobs import SegmentVolumeJob, Settings

pytestmark = pytest.mark.usefixtures("nothing_kept")

BOTH = (1, 2)


@pytest.fixture
def chest():
    return chests.axialChest()


def segmented(volumeNode, segmentationNode=None, boxes=(), points=(), **settings):
    job = SegmentVolumeJob(volumeNode, segmentationNode, Settings(**settings), points=points, boxes=boxes)
    return job.finish(job.run())


def recordOf(segmentationNode, label) -> dict | None:
    """What the segment of a lung carries."""
    segmentId, text = bridge.findLungSegments(segmentationNode)[label], vtk.reference("")
    found = segmentationNode.GetSegmentation().GetSegment(segmentId).GetTag(METADATA_NAME, text)
    return json.loads(str(text)) if found else None


def test_both_lungs_say_which_model_and_options_found_them(chest):
    node = segmented(chest, points=(VolumePoint((30.0, 50.0, 4.0)),), window="1400/-500", device="cpu")
    right, left = (recordOf(node, label) for label in BOTH)
    assert right == left
    assert right["model"]["name"] == "lung-compact" and right["device"] == "cpu"
    assert right["weights_sha256"] == {"lung-compact": MODELS["lung-compact"].sha256}
    assert right["options"]["points"] == [{"ijk": [30.0, 50.0, 4.0], "positive": True}]
    assert right["options"]["window"] == {"level": -500.0, "width": 1400.0}
    assert (right["image"], right["options"]["modality"]) == ("", "CT")


def test_a_lung_that_is_not_written_keeps_its_record(chest):
    node = segmented(chest)
    segmented(chest, node, lungs="right", threshold=0.6)
    assert [recordOf(node, label)["options"]["threshold"] for label in BOTH] == [0.6, 0.5]


def test_undo_takes_the_record_back_with_the_lungs(chest):
    node = segmented(chest)
    segmented(chest, node, threshold=0.6)
    historyOf(node).undo()
    assert [recordOf(node, label)["options"]["threshold"] for label in BOTH] == [0.5, 0.5]
    historyOf(node).undo()
    assert not [label for label in bridge.findLungSegments(node) if recordOf(node, label)]


def test_lungs_that_no_options_describe_lose_an_earlier_record(chest):
    node = segmented(chest)
    assert recordOf(node, 1)
    segmented(chest, node, boxes=(VolumeBox((12, 25, 4.5), (40, 75, 5.5)),))  # one slice by its box, others without
    assert [recordOf(node, label) for label in BOTH] == [None, None]


def test_the_record_comes_back_with_the_scene_whatever_the_weights_are_called(chest, tmp_path):
    weights = tmp_path / "a|b;c:d %20 é'~^.safetensors"
    shutil.copy(bundled_file("lung-compact.safetensors"), weights)
    before = recordOf(segmented(chest, weights=weights), 1)
    assert before["model"]["weights"] == str(weights)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    assert [recordOf(node, label) for label in BOTH] == [before, before]


def test_a_segmentation_that_slicer_saved_is_made_again_by_the_command(chest, tmp_path, capsys):
    slicer.util.saveNode(chest, str(tmp_path / "chest.nrrd"))
    node = segmented(chest, device="cpu")
    found = chests.lungsOf(node, chest)
    slicer.util.saveNode(node, str(tmp_path / "Lungs.seg.nrrd"))
    replay = ["segment", "--replay", str(tmp_path / "Lungs.seg.nrrd"), str(tmp_path / "chest.nrrd"), "-o"]
    assert main([*replay, str(tmp_path / "again")]) == 0
    again = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "again" / "chest_lungs.seg.nrrd")))
    assert found.any() and np.array_equal(again, found)
    segmented(chest, node, lungs="right", threshold=0.6)
    slicer.util.saveNode(node, str(tmp_path / "Lungs.seg.nrrd"))
    assert main([*replay, str(tmp_path / "third")]) == 2  # the lungs were found in two ways
    assert "does not say how it was made" in capsys.readouterr().err

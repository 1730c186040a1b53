"""The console's interface: what it takes, what it gives, and that the documentation tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import slicer
import vtk

from SAMLungSegLib import Options, VolumePoint, segment, segment_volume
from SAMLungSegLib.errors import GeometryError, ModelError, PromptError, SAMLungSegError, VolumeError
from SAMLungSegLib.pipeline import CancelledError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.jobs import Settings
from SAMLungSegSlicer.logic import SAMLungSegLogic

pytestmark = pytest.mark.usefixtures("nothing_kept")

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "slicer-console.md"


@pytest.fixture
def logic() -> SAMLungSegLogic:
    return SAMLungSegLogic()


def worldOf(volumeNode, ijk) -> tuple:
    return tuple((bridge.ijkToWorldMatrix(volumeNode) @ [*ijk, 1.0])[:3].tolist())


def test_points_in_the_world_and_points_of_a_node_are_the_same_prompts(logic, model):
    volumeNode = chests.obliqueChest()
    voxels = [(30.0, 3.0, 40.0), (60.0, 4.0, 50.0)]
    prompts = tuple(VolumePoint(voxel, positive=False) for voxel in voxels)
    volume = chests.libraryVolume(volumeNode, chests.MOVED)
    expected, unprompted = (
        segment_volume(volume, model, Options(points=points)).labelmap_kji for points in (prompts, ())
    )
    assert (expected != unprompted).any()
    inWorld = [worldOf(volumeNode, voxel) for voxel in voxels]
    fromWorld = np.linalg.inv(chests.TILTED)
    markups = nodes.add_points(
        [(fromWorld @ [*point, 1])[:3] for point in inWorld], parent=nodes.add_transform(chests.TILTED)
    )
    for points in (inWorld, np.array(inWorld), markups):
        segmentationNode = logic.segmentVolume(volumeNode, negativePoints=points)
        assert np.array_equal(chests.lungsOf(segmentationNode, volumeNode), expected)


def test_positive_points_add_to_the_lungs(logic, model):
    volumeNode = chests.axialChest()
    before = chests.lungsOf(logic.segmentVolume(volumeNode), volumeNode)
    k, j, i = np.argwhere(before == 0)[np.argmin(np.abs(np.argwhere(before == 0) - [4, 48, 25]).sum(axis=1))]
    after = chests.lungsOf(logic.segmentVolume(volumeNode, points=[worldOf(volumeNode, (i, j, k))]), volumeNode)
    assert after[k, j, i] == 1


def test_boxes_are_one_roi_node_or_several(logic, monkeypatch):
    volumeNode = chests.axialChest()
    centre = worldOf(volumeNode, (48, 48, 4))
    roi = nodes.add_roi(centre, (100, 120, 80))
    asked = []
    monkeypatch.setattr(
        "SAMLungSegSlicer.logic.SegmentVolumeJob",
        lambda *arguments, **prompts: asked.append(prompts) or _Finished(),
    )
    logic.segmentVolume(volumeNode, boxes=roi)
    logic.segmentVolume(volumeNode, boxes=[roi])
    logic.segmentVolume(volumeNode)
    assert asked[0] == asked[1]
    assert asked[0]["boxes"] == bridge.boxesFromRois([roi], volumeNode) != ()
    assert asked[2] == {"points": (), "boxes": (), "keepEdits": True}


class _Finished:
    kept = 0

    def run(self, *arguments):
        return None

    def finish(self, result):
        return "a segmentation"


def test_a_slice_is_found_by_the_name_of_its_view(logic, model):
    volumeNode = chests.axialChest()
    chests.addSliceView(volumeNode, "Axial", "Red")
    green = chests.addSliceView(volumeNode, "Coronal", "Green")
    byName = chests.lungsOf(logic.segmentSlice(volumeNode, "Green"), volumeNode)
    byNode = chests.lungsOf(logic.segmentSlice(volumeNode, green), volumeNode)
    assert np.array_equal(byName, byNode)
    assert not np.array_equal(byName, chests.lungsOf(logic.segmentSlice(volumeNode), volumeNode))
    with pytest.raises(GeometryError, match="no slice view 'Blue'; give one of Green, Red"):
        logic.segmentSlice(volumeNode, "Blue")


def test_each_call_is_one_step_of_undo(logic, model):
    volumeNode = chests.axialChest()
    chests.addSliceView(volumeNode)
    segmentationNode = logic.segmentVolume(volumeNode)
    whole = chests.lungsOf(segmentationNode, volumeNode)
    prompt = worldOf(volumeNode, (30, 48, 4))
    assert logic.segmentSlice(volumeNode, "Red", segmentationNode, negativePoints=[prompt]) is segmentationNode
    assert (chests.lungsOf(segmentationNode, volumeNode) != whole).any()
    historyOf(segmentationNode).undo()
    assert np.array_equal(chests.lungsOf(segmentationNode, volumeNode), whole)


def test_progress_is_told_and_cancelling_raises_with_nothing_changed(logic, model):
    volumeNode, told = chests.axialChest(), []
    with pytest.raises(CancelledError):
        logic.segmentVolume(volumeNode, progress=lambda *of: told.append(of), cancelled=lambda: len(told) == 2)
    assert told == [(1, 8), (2, 8)]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_a_volume_that_a_callback_removes_is_told(logic, model):
    volumeNode = chests.axialChest()
    with pytest.raises(VolumeError, match="volume was removed"):
        logic.segmentVolume(volumeNode, progress=lambda *of: slicer.mrmlScene.RemoveNode(volumeNode))


def test_what_a_caller_did_wrong_is_told(logic):
    volumeNode = chests.axialChest()
    with pytest.raises(VolumeError, match="choose or load one"):
        logic.segmentVolume(None)
    with pytest.raises(PromptError, match="are not positions"):
        logic.segmentVolume(volumeNode, points=[(1, 2)])
    with pytest.raises(PromptError, match="are not positions"):
        logic.segmentVolume(volumeNode, points=["right", "lung"])
    with pytest.raises(PromptError, match="outside chest"):
        logic.segmentVolume(volumeNode, points=[(9999, 0, 0)])
    with pytest.raises(ModelError, match="no model"):
        logic.segmentVolume(volumeNode, model="sam-vit-x")
    with pytest.raises(TypeError, match="treshold"):
        logic.segmentVolume(volumeNode, treshold=0.4)
    with pytest.raises(VolumeError, match="No reference"):
        logic.evaluate(volumeNode, None)


@pytest.mark.parametrize(
    ("method", "feature"),
    [("segmentVolume", "segment"), ("segmentSlice", "segment"), ("evaluate", "evaluate"), ("segmentFolder", "batch")],
)
def test_missing_packages_are_asked_for_before_anything_else(logic, monkeypatch, method, feature):
    asked = []
    monkeypatch.setattr(
        "SAMLungSegSlicer.runtime.dependencies.ensure", lambda *features: asked.extend(features) or False
    )
    monkeypatch.setattr("SAMLungSegSlicer.runtime.dependencies.missing", lambda *_features: ["torch"])
    with pytest.raises(SAMLungSegError, match=r"missing \(torch\)"):
        getattr(logic, method)(None, None)
    assert asked == [feature]


@pytest.mark.parametrize(("method", "feature"), [("segmentVolume", "segment"), ("segmentFolder", "batch")])
def test_a_sam_asks_for_pytorch_as_well(logic, monkeypatch, method, feature):
    asked = []
    monkeypatch.setattr(
        "SAMLungSegSlicer.runtime.dependencies.ensure", lambda *features: asked.extend(features) or False
    )
    with pytest.raises(SAMLungSegError):
        getattr(logic, method)(None, None, model="sam-vit-b")
    assert asked == [feature, "sam"]


def test_the_parameter_node_is_one_and_typed(logic):
    parameters = logic.getParameterNode()
    parameters.threshold = 0.7
    assert logic.getParameterNode().threshold == 0.7
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode") == 1


def test_the_settings_defaults_are_the_librarys():
    assert Settings().options() == Options()


# ---- the documentation


def test_every_example_of_the_documentation_runs(tmp_path, model, capsys):
    volumeNode = chests.axialChest()
    chests.addSliceView(volumeNode)
    nodes.add_points([worldOf(volumeNode, (30, 48, 4))]).SetName("not lung")
    nodes.add_roi(worldOf(volumeNode, (24, 48, 4)), (120, 200, 90)).SetName("right box")
    phantom = chests.phantom()
    labelmapClass = "vtkMRMLLabelMapVolumeNode"
    nodes.add_volume(phantom.labelmap_kji, phantom.ijk_to_ras, name="reference", class_name=labelmapClass)
    nodes.add_volume(chests.xray()[None], np.diag([-1.0, -1.0, 1.0, 1.0]), name="frontal")
    (tmp_path / "images").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(phantom.hu_kji), str(tmp_path / "images" / "one.nrrd"))
    names = {"slicer": slicer, "folder": tmp_path}
    examples = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) > 8
    for example in examples:
        exec(example, names)
    while names["worker"].isBusy():
        slicer.app.processEvents()
    names["worker"].stop()
    assert chests.lungsOf(names["segmentationNode"], volumeNode).any()
    assert (tmp_path / "slices.csv").is_file()
    assert (tmp_path / "lungs" / "segmentations" / "one_lungs.nii.gz").is_file()
    assert "right lung" in capsys.readouterr().out


# ---- a real CT


@pytest.mark.slow
def test_a_dicom_ct_read_by_slicer_gets_the_voxels_of_the_command_line(shared_data, logic):
    """The command line's voxels are those of `segment`; see test_jobs_folder."""
    folder = shared_data / "ct_ricord_dicom"
    paths = vtk.vtkStringArray()
    for path in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)):
        paths.InsertNextValue(path)
    volumeNode = slicer.app.moduleLogic("Volumes").AddArchetypeVolume(paths.GetValue(0), "ricord", 0, paths)
    lungs = chests.lungsOf(logic.segmentVolume(volumeNode, device="cpu"), volumeNode)
    expected = segment(folder, device="cpu")
    stored = bridge.volumeFromNode(volumeNode)
    assert np.array_equal(stored.array_kji, expected.volume.array_kji)
    assert np.allclose(stored.ijk_to_ras, expected.volume.ijk_to_ras, atol=1e-3)
    assert np.array_equal(lungs, expected.labelmap_kji)
    assert all((lungs == label).sum() > 100_000 for label in (1, 2))

"""Segmenting jobs: the library's voxels in the scene, and nothing lost whatever happens meanwhile."""

from __future__ import annotations

import sys
import threading

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer
import vtk

from SAMLungSegLib import Options, SAMLungSegError, Volume, VolumeBox, VolumePoint, segment_volume
from SAMLungSegLib.errors import PromptError, VolumeError
from SAMLungSegLib.pipeline import CancelledError
from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.jobs import SegmentSliceJob, SegmentVolumeJob, Settings
from SAMLungSegSlicer.runtime.worker import InferenceWorker

pytestmark = pytest.mark.usefixtures("nothing_kept", "model")

SEGMENTATION = "vtkMRMLSegmentationNode"


def countOf(className: str) -> int:
    return slicer.mrmlScene.GetNumberOfNodesByClass(className)


def segmentVolume(volumeNode, segmentationNode=None, settings=None, **prompts):
    job = SegmentVolumeJob(volumeNode, segmentationNode, settings or Settings(), **prompts)
    return job.finish(job.run())


# ---- volumes


@pytest.mark.parametrize(("make", "parent"), [(chests.axialChest, None), (chests.obliqueChest, chests.MOVED)])
def test_a_volume_gets_the_voxels_that_the_library_finds(make, parent, model):
    volumeNode = make()
    expected = segment_volume(chests.libraryVolume(volumeNode, parent), model).labelmap_kji
    segmentationNode = segmentVolume(volumeNode)
    assert np.array_equal(chests.lungsOf(segmentationNode, volumeNode), expected)
    assert all((expected == label).sum() > 500 for label in (1, 2))
    assert segmentationNode.GetName() == f"{volumeNode.GetName()} lungs"


def test_storage_and_transform_change_nothing_about_which_voxels_are_lung():
    axial, oblique = chests.axialChest(), chests.obliqueChest()
    expected = chests.storedCoronally(chests.lungsOf(segmentVolume(axial), axial))
    assert np.array_equal(chests.lungsOf(segmentVolume(oblique), oblique), expected)


def test_settings_and_prompts_reach_the_library(model):
    volumeNode = chests.axialChest()
    box = VolumeBox((10, 10, 2), (45, 80, 4))
    point = VolumePoint((30.0, 40.0, 3.0), positive=False)
    options = Options(window="1600/-500", threshold=0.6, lungs="right", points=(point,), boxes=(box,))
    expected = segment_volume(chests.libraryVolume(volumeNode), model, options).labelmap_kji
    settings = Settings(modality="auto", window="1600/-500", threshold=0.6, lungs="right", device="cpu")
    segmentationNode = segmentVolume(volumeNode, settings=settings, points=[point], boxes=[box])
    assert expected.any()
    assert np.array_equal(chests.lungsOf(segmentationNode, volumeNode), expected)


def test_only_the_lung_asked_for_is_replaced_and_other_segments_stay():
    volumeNode = chests.axialChest()
    segmentationNode = chests.withBlock(volumeNode, "left lung")
    before = chests.stateOf(segmentationNode)
    assert segmentVolume(volumeNode, segmentationNode, Settings(lungs="right")) is segmentationNode
    after = chests.stateOf(segmentationNode)
    assert {name: after[name] for name in before} == before
    assert len(after["right lung"]) > 0


def test_a_colour_picture_of_a_chest_is_segmented_as_its_grey(model):
    grey = chests.xray()
    volumeNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "frontal")
    slicer.util.updateVolumeFromArray(volumeNode, np.repeat(grey[None, :, :, None], 3, axis=3))
    volumeNode.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
    job = SegmentVolumeJob(volumeNode, None, Settings())
    result = job.run()
    expected = segment_volume(Volume(grey[None], np.diag([-1.0, -1.0, 1.0, 1.0])), model)
    assert (result.modality, expected.modality) == ("XRAY", "XRAY")
    assert np.array_equal(chests.lungsOf(job.finish(result), volumeNode), expected.labelmap_kji)
    assert all((expected.labelmap_kji == label).sum() > 200 for label in (1, 2))


# ---- the three parts of a job


class VtkCalls:
    """Whether a function calls a method of a VTK object, MRML nodes among them."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __call__(self, frame, event, argument) -> None:
        if event == "c_call" and isinstance(getattr(argument, "__self__", None), vtk.vtkObjectBase):
            self.found.append(f"{argument} in {frame.f_code.co_filename}:{frame.f_lineno}")


@pytest.mark.parametrize("kind", ["volume", "slice"])
def test_running_a_job_on_a_thread_touches_no_node(kind):
    volumeNode = chests.axialChest()
    if kind == "volume":
        job = SegmentVolumeJob(volumeNode, None, Settings())
    else:
        job = SegmentSliceJob(volumeNode, chests.addSliceView(volumeNode), None, Settings())
    ofJob, ofNode, results = VtkCalls(), VtkCalls(), []

    def run() -> None:
        sys.setprofile(ofJob)
        results.append(job.run())
        sys.setprofile(ofNode)
        volumeNode.GetName()
        sys.setprofile(None)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not ofJob.found
    assert len(ofNode.found) == 1
    assert countOf(SEGMENTATION) == 0
    assert job.finish(results[0]) is not None


def test_the_copy_of_the_voxels_is_the_one_of_the_moment_the_job_was_made(model):
    volumeNode = chests.axialChest()
    expected = segment_volume(chests.libraryVolume(volumeNode), model).labelmap_kji
    job = SegmentVolumeJob(volumeNode, None, Settings())
    slicer.util.arrayFromVolume(volumeNode)[:] = 0
    slicer.util.arrayFromVolumeModified(volumeNode)
    assert np.array_equal(job.run().labelmap_kji, expected)


def test_cancelling_leaves_the_segmentation_untouched():
    volumeNode = chests.axialChest()
    segmentationNode = chests.withBlock(volumeNode)
    before = chests.stateOf(segmentationNode)
    done = []
    job = SegmentVolumeJob(volumeNode, segmentationNode, Settings())
    with pytest.raises(CancelledError):
        job.run(progress=lambda *slices: done.append(slices), cancelled=lambda: len(done) == 3)
    assert done == [(1, 8), (2, 8), (3, 8)]
    assert chests.stateOf(segmentationNode) == before
    assert not historyOf(segmentationNode).canUndo()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (Settings(threshold=2), "between 0 and 1"),
        (Settings(lungs="middle"), "not one of"),
        (Settings(window="sharp"), "unknown"),
        (Settings(modality="MR"), "unknown"),
    ],
)
def test_wrong_settings_are_told_and_change_nothing(settings, error):
    volumeNode = chests.axialChest()
    job = SegmentVolumeJob(volumeNode, None, settings)
    with pytest.raises(SAMLungSegError, match=error):
        job.run()
    assert countOf(SEGMENTATION) == 0


def test_a_point_outside_the_volume_is_refused():
    volumeNode = chests.axialChest()
    point = VolumePoint((500.0, 0.0, 0.0))
    with pytest.raises(PromptError, match="outside chest"):
        SegmentVolumeJob(volumeNode, None, Settings(), points=[point]).run()


def test_without_a_volume_or_without_voxels_no_job_is_made():
    with pytest.raises(VolumeError, match="choose"):
        SegmentVolumeJob(None, None, Settings())
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(VolumeError, match="empty has no voxels"):
        SegmentVolumeJob(empty, None, Settings())


# ---- the scene changes while a job runs


def finishedAfter(change, segmentationNode=None):
    volumeNode = chests.axialChest()
    if segmentationNode == "block":
        segmentationNode = chests.withBlock(volumeNode)
    job = SegmentVolumeJob(volumeNode, segmentationNode, Settings())
    result = job.run()
    change(volumeNode, segmentationNode)
    return job, job.finish(result)


def test_a_removed_volume_gets_no_lungs():
    job, written = finishedAfter(lambda volumeNode, _: slicer.mrmlScene.RemoveNode(volumeNode))
    assert written is None
    assert "volume was removed" in job.target.discarded
    assert countOf(SEGMENTATION) == countOf("vtkMRMLScalarVolumeNode") == 0


def test_a_removed_segmentation_does_not_come_back():
    job, written = finishedAfter(lambda _, node: slicer.mrmlScene.RemoveNode(node), "block")
    assert written is None
    assert "segmentation was removed" in job.target.discarded
    assert countOf(SEGMENTATION) == 0


def test_a_closed_scene_stays_empty_even_when_ids_are_used_again():
    def close(volumeNode, _):
        slicer.mrmlScene.Clear(0)
        assert chests.axialChest().GetID() == volumeNode.GetID()

    _, written = finishedAfter(close, "block")
    assert written is None
    assert countOf(SEGMENTATION) == 0


def test_lungs_of_other_voxels_are_not_written_into_a_volume():
    def crop(volumeNode, _):
        slicer.util.updateVolumeFromArray(volumeNode, np.zeros((4, 96, 96), np.int16))

    job, written = finishedAfter(crop)
    assert written is None
    assert "another size" in job.target.discarded
    assert countOf(SEGMENTATION) == 0


def test_a_volume_that_is_moved_meanwhile_keeps_its_lungs(model):
    def move(volumeNode, _):
        volumeNode.SetAndObserveTransformNodeID(nodes.add_transform(chests.MOVED).GetID())

    volumeNode = chests.axialChest()
    expected = segment_volume(chests.libraryVolume(volumeNode), model).labelmap_kji
    job = SegmentVolumeJob(volumeNode, None, Settings())
    result = job.run()
    move(volumeNode, None)
    assert np.array_equal(chests.lungsOf(job.finish(result), volumeNode), expected)


def test_closing_the_scene_while_a_job_runs_leaves_no_thread_and_no_node(model, monkeypatch, caplog):
    entered, go, decode = threading.Event(), threading.Event(), model.decode

    def slow(embedding, prompts):
        entered.set()
        go.wait(20)
        return decode(embedding, prompts)

    monkeypatch.setattr(model, "decode", slow)
    volumeNode, worker, ended = chests.axialChest(), InferenceWorker(), []
    job = SegmentVolumeJob(volumeNode, chests.withBlock(volumeNode), Settings())
    worker.submit(job.run, channel="volume", done=lambda result: ended.append(job.finish(result)))
    entered.wait(20)
    slicer.mrmlScene.Clear(0)
    go.set()
    while worker.isBusy():
        slicer.app.processEvents()
    assert ended == [None]
    assert countOf(SEGMENTATION) == 0
    assert worker.stop()
    assert "SAMLungSeg inference" not in [thread.name for thread in threading.enumerate()]
    assert "Traceback" not in caplog.text


# ---- undo


def test_undo_brings_back_what_was_there_and_redo_the_lungs():
    volumeNode = chests.axialChest()
    segmentationNode = chests.withBlock(volumeNode)
    before = chests.stateOf(segmentationNode)
    segmentVolume(volumeNode, segmentationNode)
    after = chests.stateOf(segmentationNode)
    history = historyOf(segmentationNode)
    assert history.undo()
    assert chests.stateOf(segmentationNode) == before
    assert not history.canUndo()
    assert history.redo()
    assert chests.stateOf(segmentationNode) == after

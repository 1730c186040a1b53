"""Segmenting the slice of a view: its voxels and no others, in any orientation, and quickly when a prompt moves."""

from __future__ import annotations

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer

from SAMLungSegLib import VolumePoint
from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.pipeline import CancelledError, segment_slice
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.jobs import SegmentSliceJob, Settings

pytestmark = pytest.mark.usefixtures("nothing_kept", "model")


VIEWS = ["Axial", "Coronal", "Sagittal", "oblique"]


def view(volumeNode, orientation):
    if orientation != "oblique":
        return chests.addSliceView(volumeNode, orientation)
    node = chests.addSliceView(volumeNode, "Axial")
    turned = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()) @ nodes.affine(chests.MOVED[:3, :3], [0, 0, 0])
    node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(turned))
    node.UpdateMatrices()
    return node


@pytest.mark.parametrize("make", [chests.axialChest, chests.obliqueChest])
@pytest.mark.parametrize("orientation", VIEWS)
def test_a_slice_gets_the_librarys_lungs_and_no_other_voxel_changes(make, orientation, model):
    volumeNode = make()
    segmentationNode = chests.withBlock(volumeNode)
    sliceNode = view(volumeNode, orientation)
    before = chests.lungsOf(segmentationNode, volumeNode)
    nodule = chests.stateOf(segmentationNode)["nodule"]
    job = SegmentSliceJob(volumeNode, sliceNode, segmentationNode, Settings())
    assert job.finish(job.run()) is segmentationNode

    parent = chests.MOVED if make is chests.obliqueChest else None
    reformat = bridge.cutFromSliceNode(sliceNode, volumeNode)
    expected = before.copy()
    reformat.put(segment_slice(chests.libraryVolume(volumeNode, parent), reformat, model).labels_hw, expected)
    assert np.array_equal(chests.lungsOf(segmentationNode, volumeNode), expected)
    assert chests.stateOf(segmentationNode)["nodule"] == nodule
    assert (expected != before).sum() > 20


def test_moving_a_prompt_encodes_nothing_again(model):
    volumeNode = chests.axialChest()
    sliceNode = chests.addSliceView(volumeNode)
    reformat = bridge.cutFromSliceNode(sliceNode, volumeNode)
    answers = set()
    for x in (20, 25, 30):
        point = VolumePoint(tuple(reformat.xy_to_ijk((x, 40)).tolist()), positive=False)
        answers.add(SegmentSliceJob(volumeNode, sliceNode, None, Settings(), points=[point]).run().labels_hw.tobytes())
    assert len(answers) == 3
    assert model.encoded == 1
    SegmentSliceJob(volumeNode, sliceNode, None, Settings(window="mediastinum")).run()
    assert model.encoded == 2
    SegmentSliceJob(volumeNode, chests.addSliceView(volumeNode, "Axial", "Yellow", 40.0), None, Settings()).run()
    assert model.encoded == 3
    SegmentSliceJob(volumeNode, sliceNode, None, Settings()).run()
    assert model.encoded == 3


def test_changed_voxels_are_seen_by_the_next_slice_job():
    volumeNode = chests.axialChest()
    sliceNode = chests.addSliceView(volumeNode)
    before = SegmentSliceJob(volumeNode, sliceNode, None, Settings(modality="CT")).run()
    slicer.util.arrayFromVolume(volumeNode)[:, :, :48] = 40
    slicer.util.arrayFromVolumeModified(volumeNode)
    after = SegmentSliceJob(volumeNode, sliceNode, None, Settings(modality="CT")).run()
    assert (before.labels_hw == 1).sum() > 4 * (after.labels_hw == 1).sum()


def test_a_view_of_an_xray_gets_the_lungs_of_the_whole_image(model):
    volumeNode = nodes.add_volume(chests.xray()[None], np.diag([-1.0, -1.0, 1.0, 1.0]), name="frontal")
    sliceNode = chests.addSliceView(volumeNode)
    job = SegmentSliceJob(volumeNode, sliceNode, None, Settings())
    result = job.run()
    assert result.modality == "XRAY"
    assert result.labels_hw.shape == chests.xray().shape
    lungs = chests.lungsOf(job.finish(result), volumeNode)
    assert np.array_equal(lungs[0], result.labels_hw)
    assert all((lungs == label).sum() > 200 for label in (1, 2))


def test_a_view_that_shows_nothing_of_the_volume_is_told():
    volumeNode = chests.axialChest()
    sliceNode = chests.addSliceView(volumeNode, "Axial", "Red", 5000.0)
    with pytest.raises(GeometryError, match="does not meet the volume"):
        SegmentSliceJob(volumeNode, sliceNode, None, Settings())


def test_a_slice_of_a_removed_volume_is_not_written():
    volumeNode = chests.axialChest()
    job = SegmentSliceJob(volumeNode, chests.addSliceView(volumeNode), None, Settings())
    result = job.run()
    slicer.mrmlScene.RemoveNode(volumeNode)
    assert job.finish(result) is None
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_a_slice_can_be_cancelled():
    volumeNode = chests.axialChest()
    job = SegmentSliceJob(volumeNode, chests.addSliceView(volumeNode), None, Settings())
    with pytest.raises(CancelledError):
        job.run(cancelled=lambda: True)


def test_slices_are_undone_one_by_one():
    volumeNode = chests.obliqueChest()
    segmentationNode = chests.withBlock(volumeNode)
    states = [chests.stateOf(segmentationNode)]
    for offset in (-40, 0, 40):
        sliceNode = chests.addSliceView(volumeNode, "Axial", f"View{offset}", offset)
        job = SegmentSliceJob(volumeNode, sliceNode, segmentationNode, Settings())
        job.finish(job.run())
        states.append(chests.stateOf(segmentationNode))
    assert len({str(state) for state in states}) == 4
    for state in reversed(states[:-1]):
        assert historyOf(segmentationNode).undo()
        assert chests.stateOf(segmentationNode) == state

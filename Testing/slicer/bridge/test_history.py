"""Undo and redo on Slicer's own segmentations."""

from __future__ import annotations

import gc
import weakref

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import MAXIMUM_STATES, SegmentationHistory, forgetHistories, historyOf


@pytest.fixture
def volumeNode():
    return slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="CT")


@pytest.fixture
def segmentationNode(volumeNode):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lungs")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    return node


def paint(node, volumeNode, segmentId: str, count: int) -> None:
    """Fill the first voxels of a segment."""
    if node.GetSegmentation().GetSegment(segmentId) is None:
        node.GetSegmentation().AddEmptySegment(segmentId, segmentId)
    mask = np.zeros((4, 5, 6), np.uint8)
    mask.flat[:count] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segmentId, volumeNode)


def painted(node, volumeNode, segmentId: str) -> int:
    return int(slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volumeNode).sum())


def test_each_change_is_undone_and_redone_exactly(segmentationNode, volumeNode):
    history = historyOf(segmentationNode)
    for count in (1, 2, 3):
        history.save()
        paint(segmentationNode, volumeNode, "right", count)
    assert history.undo()
    assert painted(segmentationNode, volumeNode, "right") == 2
    assert history.undo()
    assert painted(segmentationNode, volumeNode, "right") == 1
    assert history.redo()
    assert history.redo()
    assert painted(segmentationNode, volumeNode, "right") == 3
    assert not history.redo()


def test_undoing_the_first_change_takes_the_segments_away_again(segmentationNode, volumeNode):
    history = historyOf(segmentationNode)
    history.save()
    paint(segmentationNode, volumeNode, "right", 4)
    assert history.undo()
    assert segmentationNode.GetSegmentation().GetNumberOfSegments() == 0


def test_without_a_change_there_is_nothing_to_undo_or_redo(segmentationNode):
    history = historyOf(segmentationNode)
    assert not history.canUndo()
    assert not history.undo()
    assert not history.redo()
    history.save()
    assert not history.canUndo()


def test_an_edit_made_elsewhere_in_between_survives_the_undo(segmentationNode, volumeNode):
    paint(segmentationNode, volumeNode, "nodule", 1)
    history = historyOf(segmentationNode)
    history.save()
    paint(segmentationNode, volumeNode, "right", 5)
    paint(segmentationNode, volumeNode, "nodule", 7)  # by the user, in the Segment Editor
    history.save()
    paint(segmentationNode, volumeNode, "right", 9)
    history.undo()
    assert painted(segmentationNode, volumeNode, "nodule") == 7
    assert painted(segmentationNode, volumeNode, "right") == 5


def test_a_change_after_an_undo_leaves_nothing_to_redo(segmentationNode, volumeNode):
    history = historyOf(segmentationNode)
    for count in (1, 2):
        history.save()
        paint(segmentationNode, volumeNode, "right", count)
    history.undo()
    history.save()
    paint(segmentationNode, volumeNode, "right", 6)
    assert not history.canRedo()
    history.undo()
    assert painted(segmentationNode, volumeNode, "right") == 1


def test_a_redo_over_an_edit_made_elsewhere_can_itself_be_undone(segmentationNode, volumeNode):
    history = historyOf(segmentationNode)
    history.save()
    paint(segmentationNode, volumeNode, "right", 1)
    history.undo()
    paint(segmentationNode, volumeNode, "nodule", 3)
    history.redo()
    assert painted(segmentationNode, volumeNode, "right") == 1
    history.undo()
    assert painted(segmentationNode, volumeNode, "nodule") == 3


def test_segments_keep_their_display_when_a_change_is_undone(segmentationNode, volumeNode):
    segmentationNode.CreateDefaultDisplayNodes()
    paint(segmentationNode, volumeNode, "right", 1)
    history = historyOf(segmentationNode)
    history.save()
    paint(segmentationNode, volumeNode, "right", 2)
    segmentationNode.GetDisplayNode().SetSegmentOpacity2DFill("right", 0.25)
    history.undo()
    assert segmentationNode.GetDisplayNode().GetSegmentOpacity2DFill("right") == 0.25


def test_only_the_latest_states_are_kept(segmentationNode, volumeNode):
    history = historyOf(segmentationNode)
    for count in range(1, MAXIMUM_STATES + 5):
        history.save()
        paint(segmentationNode, volumeNode, "right", count)
    undone = 0
    while history.undo():
        undone += 1
    assert undone == MAXIMUM_STATES
    assert painted(segmentationNode, volumeNode, "right") == 4


def test_a_node_has_one_history_and_a_new_node_of_the_same_id_another(segmentationNode, volumeNode):
    history = historyOf(segmentationNode)
    assert historyOf(segmentationNode) is history
    history.save()
    paint(segmentationNode, volumeNode, "right", 1)
    nodeId = segmentationNode.GetID()
    slicer.mrmlScene.Clear(0)
    again = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lungs")
    assert again.GetID() == nodeId
    assert not historyOf(again).canUndo()


def test_the_history_of_a_removed_node_is_dropped(segmentationNode, volumeNode):
    history = weakref.ref(historyOf(segmentationNode))
    slicer.mrmlScene.RemoveNode(segmentationNode)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    historyOf(other)
    gc.collect()
    assert history() is None


def test_histories_are_forgotten_together(segmentationNode):
    history = historyOf(segmentationNode)
    forgetHistories()
    assert historyOf(segmentationNode) is not history
    assert isinstance(historyOf(segmentationNode), SegmentationHistory)


# ---- other hands in between, as the Segment Editor works: in place


def brush(node, segmentId: str, voxel) -> None:
    """One voxel (k, j, i) inside the segment's labelmap, painted by Slicer's own function for it."""
    image = node.GetBinaryLabelmapInternalRepresentation(segmentId)
    stroke = slicer.vtkOrientedImageData()
    stroke.DeepCopy(image)
    voxels = vtk_to_numpy(stroke.GetPointData().GetScalars())
    voxels[:] = 0
    inImage = tuple(np.subtract(voxel, stroke.GetExtent()[4::-2]))
    voxels.reshape(stroke.GetDimensions()[::-1])[inImage] = node.GetSegmentation().GetSegment(segmentId).GetLabelValue()
    slicer.vtkOrientedImageDataResample.ModifyImage(
        image, stroke, slicer.vtkOrientedImageDataResample.OPERATION_MAXIMUM
    )


@pytest.fixture
def lungs():
    """A volume on an oblique, flipped grid under a transform, and both lungs and a heart in one layer."""
    rng = np.random.default_rng(3)
    grid, transform = nodes.random_grid(rng), nodes.add_transform(nodes.random_transform(rng))
    volume = nodes.add_volume(np.zeros((4, 5, 6), np.int16), grid, parent=transform)
    node = nodes.add_segmentation(volume)
    codes = np.zeros((4, 5, 6), np.uint8)
    codes[1, 1:4, 1], codes[1, 1:4, 4], codes[3, 0] = 1, 2, 3
    nodes.import_labelmap(node, codes, grid, ["right lung", "left lung", "heart"])
    node.SetAndObserveTransformNodeID(transform.GetID())
    return volume, node, codes


def codesOf(node, volume) -> np.ndarray:
    codes = np.zeros((4, 5, 6), np.uint8)
    for code, segmentId in enumerate(node.GetSegmentation().GetSegmentIDs(), start=1):
        codes[nodes.segment_array(node, segmentId, volume) > 0] = code
    return codes


def test_strokes_of_the_segment_editor_between_two_writes_come_back_exactly(lungs):
    volume, node, first = lungs
    history, ids = historyOf(node), node.GetSegmentation().GetSegmentIDs()
    history.save()
    second = np.where(first == 3, 3, 0)
    second[2, 2, 2] = 1
    bridge.writeLabelmap(node, np.where(second == 3, 0, second), volume)
    brush(node, ids[2], (2, 3, 5))
    brush(node, ids[0], (1, 0, 0))
    painted = second.copy()
    painted[2, 3, 5], painted[1, 0, 0] = 3, 1
    np.testing.assert_array_equal(codesOf(node, volume), painted)
    history.save()
    bridge.writeLabelmap(node, np.where(first == 3, 0, 3 - first) % 3, volume)
    third = codesOf(node, volume)
    assert history.undo()
    np.testing.assert_array_equal(codesOf(node, volume), painted)
    assert history.undo()
    np.testing.assert_array_equal(codesOf(node, volume), first)
    assert not history.canUndo()
    assert history.redo()
    np.testing.assert_array_equal(codesOf(node, volume), painted)
    assert history.redo()
    np.testing.assert_array_equal(codesOf(node, volume), third)


def test_a_stroke_after_the_last_write_is_taken_back_with_it_and_comes_again_with_redo(lungs):
    volume, node, first = lungs
    history, ids = historyOf(node), node.GetSegmentation().GetSegmentIDs()
    history.save()
    bridge.writeLabelmap(node, np.where(first == 1, 2, 0), volume)
    brush(node, ids[2], (2, 0, 0))
    painted = codesOf(node, volume)
    assert (painted == 3).sum() == 7
    history.undo()
    np.testing.assert_array_equal(codesOf(node, volume), first)
    history.redo()
    np.testing.assert_array_equal(codesOf(node, volume), painted)


def test_surfaces_of_segments_that_do_not_change_are_not_made_anew(lungs):
    volume, node, first = lungs
    history, ids = historyOf(node), node.GetSegmentation().GetSegmentIDs()
    node.CreateClosedSurfaceRepresentation()
    history.save()
    bridge.writeLabelmap(node, np.where(first == 1, 1, 0), volume)
    surfaces = [node.GetClosedSurfaceInternalRepresentation(one) for one in ids]
    assert surfaces[1].GetNumberOfPoints() == 0
    history.undo()
    again = [node.GetClosedSurfaceInternalRepresentation(one) for one in ids]
    assert [one is another for one, another in zip(surfaces, again, strict=True)] == [True, False, True]
    assert again[1].GetNumberOfPoints() > 0


def test_surfaces_shown_after_a_write_stay_and_fit_when_it_is_undone(lungs):
    volume, node, first = lungs
    history, ids = historyOf(node), node.GetSegmentation().GetSegmentIDs()
    history.save()
    larger = np.where(first == 3, 0, first)
    larger[2, 1:4, 1] = 1
    bridge.writeLabelmap(node, larger, volume)
    node.CreateClosedSurfaceRepresentation()
    before = [node.GetClosedSurfaceInternalRepresentation(one).GetNumberOfPoints() for one in ids]
    history.undo()
    after = [node.GetClosedSurfaceInternalRepresentation(one).GetNumberOfPoints() for one in ids]
    assert 0 < after[0] < before[0]
    assert after[1:] == before[1:]


def test_a_labelmap_volume_that_shares_its_voxels_with_the_segments_is_not_changed_by_undo(volumeNode):
    codes = np.zeros((4, 5, 6), np.uint8)
    codes[1] = 1
    labelmap = nodes.add_volume(codes, np.eye(4), class_name="vtkMRMLLabelMapVolumeNode")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lungs")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labelmap, node)
    (segmentId,) = node.GetSegmentation().GetSegmentIDs()
    history = historyOf(node)
    history.save()
    brush(node, segmentId, (0, 0, 0))
    shown = slicer.util.arrayFromVolume(labelmap).copy()
    history.undo()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(labelmap), shown)
    assert len(nodes.voxels_in_world(node, segmentId)) == 5 * 6

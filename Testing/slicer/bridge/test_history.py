"""Undo and redo on Slicer's own segmentations."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import slicer

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

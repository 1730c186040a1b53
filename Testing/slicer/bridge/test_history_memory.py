"""The memory that undo and redo may take, in all segmentations together."""

from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge import history
from SAMLungSegSlicer.bridge.history import historyOf

SIZE_KJI = (16, 64, 64)
LAYER = 16 * 64 * 64  # bytes of one labelmap of 8 bit


@pytest.fixture
def volumeNode():
    return nodes.add_volume(np.zeros(SIZE_KJI, np.int16))


@pytest.fixture
def limit(monkeypatch):
    """How many layers may be kept; the half makes room for what Slicer keeps beside the voxels."""
    return lambda layers: monkeypatch.setattr(history, "MAXIMUM_BYTES", (layers + 0.5) * LAYER)


def change(node, volumeNode, step: int) -> None:
    """Save, then write both lungs: in row `step`, in one layer."""
    historyOf(node).save()
    labels = np.zeros(SIZE_KJI, np.uint8)
    labels[:, step, :32], labels[:, step, 32:] = 1, 2
    bridge.writeLabelmap(node, labels, volumeNode)


def stepOf(node, volumeNode) -> int:
    """Which `change` the segmentation shows."""
    (row,) = bridge.labelmapFromNode(node, volumeNode).array_kji.any(axis=(0, 2)).nonzero()[0]
    return row


def undoAll(node) -> int:
    steps = 0
    while historyOf(node).undo():
        steps += 1
    return steps


def test_the_oldest_states_are_dropped_and_the_latest_can_be_undone(volumeNode, limit):
    limit(3)
    node = bridge.ensureSegmentation(volumeNode)
    for step in range(6):
        change(node, volumeNode, step)
    assert undoAll(node) == 3
    assert stepOf(node, volumeNode) == 2


def test_undone_states_count_as_well(volumeNode, limit):
    node = bridge.ensureSegmentation(volumeNode)
    for step in range(6):
        change(node, volumeNode, step)
    limit(3)
    historyOf(node).undo()
    assert stepOf(node, volumeNode) == 4
    assert undoAll(node) == 2
    assert stepOf(node, volumeNode) == 2
    assert [historyOf(node).redo() for _ in range(4)] == [True, True, True, False]
    assert stepOf(node, volumeNode) == 5


def test_one_step_back_and_forth_stays_however_large_it_is(volumeNode, limit):
    limit(0)
    node = bridge.ensureSegmentation(volumeNode)
    for step in range(3):
        change(node, volumeNode, step)
    assert historyOf(node).undo()
    assert stepOf(node, volumeNode) == 1
    assert not historyOf(node).canUndo()
    assert historyOf(node).redo()
    assert stepOf(node, volumeNode) == 2
    assert historyOf(node).undo()


def test_all_segmentations_share_the_memory_and_the_older_one_gives_way(volumeNode, limit):
    limit(3)
    first, second = bridge.ensureSegmentation(volumeNode), bridge.ensureSegmentation(volumeNode)
    for step in range(3):
        change(first, volumeNode, step)  # the state before the first change has no voxels
    for step in range(3):
        change(second, volumeNode, step)
    assert undoAll(first) == 1
    assert stepOf(first, volumeNode) == 1
    assert undoAll(second) == 3


def test_segments_of_one_layer_count_once_and_those_of_two_twice(volumeNode):
    node = bridge.ensureSegmentation(volumeNode)
    change(node, volumeNode, 1)
    segmentation = node.GetSegmentation()
    assert history._bytesOf(segmentation) == pytest.approx(LAYER, rel=0.05)
    segmentation.SeparateSegmentLabelmap(segmentation.GetNthSegmentID(0))
    assert history._bytesOf(segmentation) == pytest.approx(2 * LAYER, rel=0.05)


def test_surfaces_count_too(volumeNode):
    node = bridge.ensureSegmentation(volumeNode)
    change(node, volumeNode, 1)
    withoutSurfaces = history._bytesOf(node.GetSegmentation())
    node.CreateClosedSurfaceRepresentation()
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    segments = [node.GetSegmentation().GetNthSegment(n) for n in range(2)]
    sizes = [1024 * segment.GetRepresentation(surface).GetActualMemorySize() for segment in segments]
    assert min(sizes) > 0
    assert history._bytesOf(node.GetSegmentation()) == withoutSurfaces + sum(sizes)

"""The memory that undo and redo may take, in all segmentations together."""

from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer

from SAMLungSegLib.coding import CodedArray, bytes_of
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge import history
from SAMLungSegSlicer.bridge.history import bytesOfHistories, historyOf

SIZE_KJI = (16, 64, 64)
LAYER = 16 * 64 * 64  # bytes of one labelmap of noise, which cannot be kept smaller than it is
SURFACE = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()


@pytest.fixture
def volumeNode():
    return nodes.add_volume(np.zeros(SIZE_KJI, np.int16))


@pytest.fixture
def limit(monkeypatch):
    """How many layers may be kept."""
    return lambda layers: monkeypatch.setattr(history, "MAXIMUM_BYTES", layers * LAYER)


def noise(step: int) -> np.ndarray:
    """Both lungs, another sample for each step."""
    return np.random.default_rng(step).integers(0, 3, SIZE_KJI).astype(np.uint8)


def change(node, volumeNode, step: int) -> None:
    """Save, then write both lungs, in one layer."""
    historyOf(node).save()
    bridge.writeLabelmap(node, noise(step), volumeNode)


def stepOf(node, volumeNode) -> int:
    """Which `change` the segmentation shows."""
    labels = bridge.labelmapFromNode(node, volumeNode).array_kji
    (step,) = [step for step in range(6) if np.array_equal(labels, noise(step))]
    return step


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
        assert bytesOfHistories() <= 3 * LAYER
    assert undoAll(node) == 3
    assert stepOf(node, volumeNode) == 2


def test_undone_states_count_as_well(volumeNode, limit):
    node = bridge.ensureSegmentation(volumeNode)
    for step in range(6):
        change(node, volumeNode, step)
    limit(3)
    historyOf(node).undo()
    assert bytesOfHistories() == 3 * LAYER  # steps 5, 3 and 2
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


def test_a_slice_that_changes_costs_a_slice(volumeNode):
    node = bridge.ensureSegmentation(volumeNode)
    change(node, volumeNode, 0)
    historyOf(node).save()
    assert bytesOfHistories() == LAYER
    labels = noise(0)
    labels[5] = 3 - labels[5]
    bridge.writeLabelmap(node, labels, volumeNode)
    historyOf(node).save()
    assert bytesOfHistories() == LAYER + LAYER / 16


def test_segments_of_one_layer_count_once_and_those_of_two_twice(volumeNode):
    node = bridge.ensureSegmentation(volumeNode)
    labels = noise(0)
    bridge.writeLabelmap(node, labels, volumeNode)
    historyOf(node).save()
    assert bytesOfHistories() == LAYER
    segmentation = node.GetSegmentation()
    segmentation.SeparateSegmentLabelmap(segmentation.GetNthSegmentID(0))
    history.forgetHistories()
    historyOf(node).save()
    inLayers = [np.where(labels == label, labels, 0).astype(np.uint8) for label in (1, 2)]
    stored = [slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, one) for one in segmentation.GetSegmentIDs()]
    assert [one.astype(bool).sum() for one in stored] == [one.astype(bool).sum() for one in inLayers]
    assert bytesOfHistories() == sum(bytes_of(CodedArray.of(one).slices) for one in stored)


def test_surfaces_count_too(volumeNode):
    node = bridge.ensureSegmentation(volumeNode)
    change(node, volumeNode, 1)
    historyOf(node).save()
    withoutSurfaces = bytesOfHistories()
    node.CreateClosedSurfaceRepresentation()
    segments = [node.GetSegmentation().GetNthSegment(n) for n in range(2)]
    sizes = [1024 * segment.GetRepresentation(SURFACE).GetActualMemorySize() for segment in segments]
    assert min(sizes) > 0
    historyOf(node).save()
    assert bytesOfHistories() == pytest.approx(withoutSurfaces + sum(sizes), rel=0.02)

"""Undo and redo of whatever the module and other hands do, in any order: the exact voxels, segments and tags."""

from __future__ import annotations

from collections.abc import Callable

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SAMLungSegLib.volume import reformat_volume
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import MAXIMUM_STATES, historyOf

SIZE_KJI = (4, 6, 7)
NAMES = ["right lung", "left lung", "heart", "rib"]
TAG = "made by"


def contents(node) -> list[tuple]:
    """Everything about the segments, in their order; voxels as places in the segmentation's own coordinates."""
    segmentation = node.GetSegmentation()
    found = []
    for segmentId in segmentation.GetSegmentIDs():
        segment, tag = segmentation.GetSegment(segmentId), vtk.reference("")
        segment.GetTag(TAG, tag)
        voxels = nodes.voxels_in_world(node, segmentId).tobytes()
        found.append((segmentId, segment.GetName(), segment.GetColor(), str(tag), voxels))
    return found


class Hands:
    """One segmentation, a random one, and all that may be done to it."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.grid = nodes.random_grid(rng)
        parent = nodes.add_transform(nodes.random_transform(rng)) if seed % 2 else None
        self.volume = nodes.add_volume(np.zeros(SIZE_KJI, np.int16), self.grid, parent=parent)
        self.node = bridge.ensureSegmentation(self.volume)
        self.segmentation = self.node.GetSegmentation()
        if seed % 3:
            shared = rng.integers(0, 3 + seed % 3, SIZE_KJI).astype(np.uint8)
            nodes.import_labelmap(self.node, shared, self.grid, NAMES[: 2 + seed % 3])
        if seed % 5 == 0:
            nodes.add_segment(self.node, self.labels(1)[:, ::2], nodes.random_grid(rng), "nodule")
        self.count = 0

    def labels(self, highest: int) -> np.ndarray:
        """Random labels in a random box."""
        labels = self.rng.integers(0, highest + 1, SIZE_KJI).astype(np.uint8)
        low, high = np.sort(self.rng.integers(0, np.array(SIZE_KJI) + 1, (2, 3)), axis=0)
        inside = np.zeros(SIZE_KJI, np.uint8)
        inside[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = 1
        return labels * inside

    def anyId(self) -> str | None:
        ids = self.segmentation.GetSegmentIDs()
        return str(self.rng.choice(ids)) if ids else None

    # ---- the module

    def writeVolume(self) -> None:
        bridge.writeLabelmap(self.node, self.labels(2), self.volume, str(self.rng.choice(["both", "right", "left"])))

    def writeSlice(self) -> None:
        toWorld = bridge.ijkToWorldMatrix(self.volume)
        middle = toWorld @ [*self.rng.integers(0, SIZE_KJI[::-1]), 1]
        normal = self.rng.normal(size=3) if self.rng.random() < 0.5 else toWorld[:3, self.rng.integers(3)]
        cut = reformat_volume(SIZE_KJI, toWorld, normal, middle[:3])
        bridge.writeCut(self.node, self.rng.integers(0, 3, cut.size_hw).astype(np.uint8), cut, self.volume)

    # ---- others

    def paint(self) -> None:
        """In place, as the Segment Editor does: it merges into the image and then says what it has modified."""
        image = self.imageWithVoxels()
        if image is None:
            return
        modifier = slicer.vtkOrientedImageData()
        modifier.DeepCopy(image)
        voxels = vtk_to_numpy(modifier.GetPointData().GetScalars())
        voxels[self.rng.integers(0, len(voxels), 3)] = self.rng.integers(0, 3)
        slicer.vtkOrientedImageDataResample.ModifyImage(image, modifier, 0)

    def script(self) -> None:
        """In place, as Slicer's documentation tells scripts to do it."""
        segmentId = self.anyId()
        if segmentId is None or 0 in self.node.GetBinaryLabelmapInternalRepresentation(segmentId).GetDimensions():
            return
        voxels = slicer.util.arrayFromSegmentInternalBinaryLabelmap(self.node, segmentId)
        voxels.flat[self.rng.integers(0, voxels.size)] = self.segmentation.GetSegment(segmentId).GetLabelValue()
        self.segmentation.GetSegment(segmentId).Modified()

    def replace(self) -> None:
        segmentId = self.anyId()
        if segmentId is not None:
            slicer.util.updateSegmentBinaryLabelmapFromArray(self.labels(1), self.node, segmentId, self.volume)

    def add(self) -> None:
        self.count += 1
        nodes.add_segment(self.node, self.labels(1), self.grid, f"added {self.count}")

    def remove(self) -> None:
        if self.anyId() is not None:
            self.segmentation.RemoveSegment(self.anyId())

    def rename(self) -> None:
        segmentId = self.anyId()
        if segmentId is not None:
            self.segmentation.GetSegment(segmentId).SetTag(TAG, str(self.rng.random()))
            self.segmentation.GetSegment(segmentId).SetColor(*self.rng.random(3))

    def reorder(self) -> None:
        if self.anyId() is not None:
            self.segmentation.SetSegmentIndex(self.anyId(), 0)

    def separate(self) -> None:
        if self.anyId() is not None:
            self.segmentation.SeparateSegmentLabelmap(self.anyId())

    def collapse(self) -> None:
        self.segmentation.CollapseBinaryLabelmaps(False)

    def move(self) -> None:
        """As 'Harden transform' does: the voxels' place changes, in place."""
        transform = vtk.vtkTransform()
        transform.Translate(*self.rng.normal(size=3))
        self.segmentation.ApplyLinearTransform(transform)

    def imageWithVoxels(self):
        segmentId = self.anyId()
        image = None if segmentId is None else self.node.GetBinaryLabelmapInternalRepresentation(segmentId)
        return None if image is None or 0 in image.GetDimensions() else image

    def certainly(self, act: Callable[[], None]) -> None:
        """Do it, and something else as well where it changed nothing."""
        before = contents(self.node)
        act()
        while contents(self.node) == before:
            (self.rename if self.anyId() else self.add)()


def play(seed: int, length: int) -> int:
    """Random actions; after each, the segmentation is what a plain list of states says. How many were undone."""
    hands = Hands(seed)
    history, earlier, later, undone = historyOf(hands.node), [], [], 0
    writes = [hands.writeVolume, hands.writeSlice]
    others = [
        *[hands.paint, hands.script, hands.replace, hands.add, hands.remove, hands.rename, hands.reorder],
        *[hands.separate, hands.collapse, hands.move],
    ]
    for _ in range(length):
        choice, now = hands.rng.random(), contents(hands.node)
        if choice < 0.4:
            history.save()
            hands.certainly(writes[hands.rng.integers(2)])
            earlier, later = [*earlier, now][-MAXIMUM_STATES:], []
        elif choice < 0.6:
            others[hands.rng.integers(len(others))]()
        elif choice < 0.85:
            assert history.undo() == bool(earlier)
            if earlier:
                later.append(now)
                assert contents(hands.node) == earlier.pop()
                undone += 1
        else:
            assert history.redo() == bool(later)
            if later:
                earlier.append(now)
                assert contents(hands.node) == later.pop()
    return undone


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_undo_and_redo_of_any_sequence_bring_back_everything_exactly(first):
    undone = 0
    for seed in range(first, first + 20):
        slicer.mrmlScene.Clear(0)
        undone += play(seed, 15)
    assert undone > 20

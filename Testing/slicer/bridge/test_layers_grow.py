"""Labelmaps of segments are no larger than what was written, and grow without a voxel or a neighbour changing."""

from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer

from SAMLungSegLib.boxes import IndexBox
from SAMLungSegLib.volume import reformat_volume
from SAMLungSegSlicer import bridge

SIZE_KJI = (6, 8, 10)
FLIPPED = nodes.affine(np.diag([-0.8, -0.7, 2.5]), [12, -7, 30])


def ct(matrix=FLIPPED, parent=None):
    return nodes.add_volume(np.zeros(SIZE_KJI, np.int16), matrix, parent=parent)


def labelsAt(**voxels) -> np.ndarray:
    """Labels with some voxels (k, j, i): right=..., left=..."""
    labels = np.zeros(SIZE_KJI, np.uint8)
    for label, name in ((1, "right"), (2, "left")):
        for voxel in voxels.get(name, ()):
            labels[voxel] = label
    return labels


def imageOf(node, label):
    return node.GetBinaryLabelmapInternalRepresentation(bridge.findLungSegments(node)[label])


def axial(volume, k):
    toWorld = bridge.ijkToWorldMatrix(volume)
    return reformat_volume(SIZE_KJI, toWorld, toWorld[:3, 2], (toWorld @ [0, 0, k, 1])[:3])


def test_a_first_write_makes_a_labelmap_around_both_lungs_and_no_larger():
    volume = ct()
    node = bridge.ensureSegmentation(volume)
    bridge.writeLabelmap(node, labelsAt(right=[(1, 2, 3)], left=[(4, 5, 8), (2, 3, 4)]), volume)
    assert imageOf(node, 1) is imageOf(node, 2)
    assert imageOf(node, 1).GetExtent() == (3, 8, 2, 5, 1, 4)


def test_a_labelmap_grows_to_what_is_written_later_and_not_for_what_is_removed():
    volume = ct()
    node = bridge.ensureSegmentation(volume)
    bridge.writeLabelmap(node, labelsAt(right=[(1, 2, 3), (2, 2, 3)]), volume)
    bridge.writeLabelmap(node, labelsAt(right=[(2, 2, 3)]), volume)
    assert imageOf(node, 1).GetExtent() == (3, 3, 2, 2, 1, 2)
    bridge.writeLabelmap(node, labelsAt(right=[(2, 2, 3), (5, 7, 0)]), volume)
    assert imageOf(node, 1).GetExtent() == (0, 3, 2, 7, 1, 5)
    np.testing.assert_array_equal(
        bridge.labelmapFromNode(node, volume).array_kji, labelsAt(right=[(2, 2, 3), (5, 7, 0)])
    )


def test_one_slice_makes_a_labelmap_of_one_slice():
    volume = ct()
    node, cut = bridge.ensureSegmentation(volume), axial(volume, 3)
    labels = cut.take(labelsAt(right=[(3, 1, 2)], left=[(3, 6, 9)]))
    bridge.writeCut(node, labels, cut, volume)
    assert imageOf(node, 1).GetExtent() == (2, 9, 1, 6, 3, 3)
    np.testing.assert_array_equal(bridge.readCut(node, cut, volume), labels)
    assert not bridge.readCut(node, axial(volume, 2), volume).any()


@pytest.mark.parametrize("seed", range(6))
def test_growing_moves_no_voxel_on_an_oblique_flipped_grid_under_transforms(seed):
    rng = np.random.default_rng(seed)
    grid, ofVolume, ofSegmentation = (make(rng) for make in (nodes.random_grid, *[nodes.random_transform] * 2))
    volume = ct(grid, nodes.add_transform(ofVolume))
    node = nodes.add_segmentation(parent=nodes.add_transform(ofSegmentation))
    bridge.ensureSegmentation(volume, node)
    first, second = labelsAt(right=[(2, 3, 4)], left=[(3, 3, 5)]), labelsAt(right=[(2, 3, 4), (0, 7, 1)])
    bridge.writeLabelmap(node, first, volume)
    bridge.writeLabelmap(node, second, volume, "right")
    for label, expected in ((1, second == 1), (2, first == 2)):
        segmentId = bridge.findLungSegments(node)[label]
        stored = nodes.stored_mask(node, segmentId, ofSegmentation, ofVolume @ grid, SIZE_KJI)
        np.testing.assert_array_equal(stored, expected)


def test_a_layer_shared_with_others_and_larger_than_the_volume_keeps_its_place_and_theirs():
    volume = ct()
    wide = nodes.affine(FLIPPED[:3, :3], (FLIPPED @ [-2, -1, -3, 1])[:3])  # begins two voxels earlier along I
    codes = np.zeros((9, 9, 12), np.uint8)
    codes[0, 0, 0], codes[5, 4, 6], codes[5, 4, 7] = 3, 1, 3
    node = nodes.add_segmentation(volume)
    ids = nodes.import_labelmap(node, np.where(codes == 3, 2, codes), wide, ["right lung", "heart"])
    heart = nodes.voxels_in_world(node, ids[1])
    bridge.writeLabelmap(node, labelsAt(right=[(5, 7, 9)]), volume, "right")
    np.testing.assert_array_equal(nodes.voxels_in_world(node, ids[1]), heart)
    assert len(heart) == 2
    np.testing.assert_allclose(nodes.voxels_in_world(node, ids[0]), [(FLIPPED @ [9, 7, 5, 1])[:3]], atol=1e-5)


def test_what_a_known_box_leaves_out_is_not_looked_at():
    volume = ct()
    node = bridge.ensureSegmentation(volume)
    before = labelsAt(right=[(1, 2, 3), (4, 4, 4)])
    bridge.writeLabelmap(node, before, volume)
    after = labelsAt(right=[(1, 2, 3)], left=[(2, 2, 3)])
    box = bridge.storedLungs(node, volume).boxOfChange(after, (1, 2))
    assert box == IndexBox((2, 2, 3), (5, 5, 5))
    bridge.writeLabelmap(node, after, volume, box=box)
    np.testing.assert_array_equal(bridge.labelmapFromNode(node, volume).array_kji, after)


def test_voxels_of_both_lungs_are_a_change_although_they_are_read_as_right():
    volume, node = ct(), nodes.add_segmentation()
    right, left = labelsAt(right=[(1, 2, 3), (3, 3, 3)]), labelsAt(right=[(3, 3, 3)])
    for mask, name in ((right, "right lung"), (left, "left lung")):
        nodes.add_segment(node, mask, FLIPPED, name)
    bridge.ensureSegmentation(volume, node)
    stored = bridge.storedLungs(node, volume)
    np.testing.assert_array_equal(stored.labelmap_kji(), right)
    assert stored.boxOfChange(right, (1,)).is_empty
    assert stored.boxOfChange(right, (1, 2)) == IndexBox((3, 3, 3), (4, 4, 4))


def test_stored_lungs_are_those_of_the_moment_whatever_happens_to_the_segments_later():
    volume = ct()
    node = bridge.ensureSegmentation(volume)
    first = labelsAt(right=[(1, 2, 3)], left=[(4, 5, 8)])
    bridge.writeLabelmap(node, first, volume)
    stored = bridge.storedLungs(node, volume)
    stamp = bridge.stampOf(node)
    segmentId = bridge.findLungSegments(node)[1]
    slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segmentId)[...] = 1
    node.GetSegmentation().GetSegment(segmentId).Modified()
    assert bridge.stampOf(node) != stamp == stored.stamp
    np.testing.assert_array_equal(stored.labelmap_kji(), first)
    assert bridge.storedLungs(node, volume).labelmap_kji().sum() == 4 * 4 * 6

from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer
import vtk

from SAMLungSegLib.errors import GeometryError, SettingsError, VolumeError
from SAMLungSegLib.structures import LUNGS
from SAMLungSegSlicer import bridge

SIZE_KJI = (6, 8, 10)
GRID = nodes.affine(np.diag([-0.8, -0.7, 2.5]), [12, -7, 30])
TERMINOLOGY = slicer.vtkSegment.GetTerminologyEntryTagName()


def ct(matrix=GRID, parent=None):
    return nodes.add_volume(np.zeros(SIZE_KJI, np.int16), matrix, parent=parent, name="Chest")


def random_labels(rng, size_kji=SIZE_KJI, highest=2):
    return rng.integers(0, highest + 1, size_kji).astype(np.uint8)


def surface_segmentation():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Surfaces")
    sphere = vtk.vtkSphereSource()
    sphere.SetRadius(9)
    sphere.SetThetaResolution(40)
    sphere.SetPhiResolution(40)
    sphere.Update()
    node.SetSourceRepresentationToClosedSurface()
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "right lung", [1, 0, 0])
    return node


def names_of(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetSegment(one).GetName() for one in segmentation.GetSegmentIDs()]


# ---- the node and its segments


def test_a_new_segmentation_lies_where_the_volume_lies():
    parent = nodes.add_transform(nodes.random_transform(np.random.default_rng(1)))
    volume = ct(parent=parent)
    node = bridge.ensureSegmentation(volume)
    assert node.GetName() == "Chest lungs"
    assert node.GetTransformNodeID() == parent.GetID()
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    assert node.GetDisplayNode() is not None
    assert bridge.ensureSegmentation(volume).GetName() == "Chest lungs_1"


def test_a_segmentation_that_is_given_keeps_its_name_its_place_and_its_geometry():
    other = nodes.add_volume(np.zeros((2, 2, 2), np.int16), name="Other")
    node = nodes.add_segmentation(other, parent=nodes.add_transform(np.eye(4)), name="Mine")
    parent = node.GetTransformNodeID()
    assert bridge.ensureSegmentation(ct(), node) is node
    assert (node.GetName(), node.GetTransformNodeID()) == ("Mine", parent)
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is other


def test_a_segmentation_without_geometry_gets_the_volumes():
    volume, node = ct(), nodes.add_segmentation()
    bridge.ensureSegmentation(volume, node)
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume


def test_a_segmentation_kept_as_surfaces_is_refused_and_keeps_them():
    node = surface_segmentation()
    with pytest.raises(VolumeError, match=r"Surfaces is kept as closed surface.*choose another one"):
        bridge.ensureSegmentation(ct(), node)
    with pytest.raises(VolumeError, match="kept as closed surface"):
        bridge.writeLabelmap(node, np.ones(SIZE_KJI, np.uint8), ct())
    assert node.GetSegmentation().GetSourceRepresentationName() == "Closed surface"
    assert names_of(node) == ["right lung"]


def test_no_node_is_left_behind_where_a_volume_is_refused():
    bending = ct(parent=nodes.add_bending_transform())
    with pytest.raises(GeometryError):
        bridge.ensureSegmentation(bending)
    with pytest.raises(VolumeError):
        bridge.ensureSegmentation(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_new_lungs_have_the_standard_names_colours_and_terminology():
    node = bridge.ensureSegmentation(ct())
    ids = bridge.ensureLungSegments(node)
    assert list(ids) == [1, 2]
    for label, lung in LUNGS:
        segment = node.GetSegmentation().GetSegment(ids[label])
        entry = vtk.reference("")
        segment.GetTag(TERMINOLOGY, entry)
        assert segment.GetName() == lung.name
        assert np.allclose(np.array(segment.GetColor()) * 255, lung.colour)
        assert str(entry) == lung.terminology
    assert bridge.ensureLungSegments(node) == ids
    assert names_of(node) == ["right lung", "left lung"]


def test_lungs_are_found_again_by_terminology_whatever_they_are_called_and_stay_as_they_are():
    node = nodes.add_segmentation()
    segmentation = node.GetSegmentation()
    for lung, name, segment_id in (
        (LUNGS.structure_of(2), "Linke Lunge", "a"),
        (LUNGS.structure_of(1), "left lung", "b"),
    ):
        segmentation.AddEmptySegment(segment_id, name, [0.1, 0.2, 0.3])
        segmentation.GetSegment(segment_id).SetTag(TERMINOLOGY, lung.terminology)
    assert bridge.ensureLungSegments(node) == {1: "b", 2: "a"}
    assert names_of(node) == ["Linke Lunge", "left lung"]
    assert segmentation.GetSegment("a").GetColor() == pytest.approx((0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("entry", "label"),
    [
        ("x~SRT^T-D0050^Tissue~SRT^T-28000^Lung~SRT^G-A100^Right~y~^^~^^", 1),
        ("x~SCT^123037004^Anatomical Structure~SCT^39607008^Lung~SCT^7771000^Left~y~^^~^^", 2),
        ("x~SCT^123037004^Anatomical Structure~SCT^3341006^Right lung~^^~y~^^~^^", 1),
        ("x~SCT^123037004^Anatomical Structure~SCT^39607008^Lung~^^~y~^^~^^", None),
        ("x~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left~y~^^~^^", None),
        ("Lung", None),
        ("", None),
    ],
)
def test_a_lung_is_known_by_its_codes(entry, label):
    node = nodes.add_segmentation()
    node.GetSegmentation().AddEmptySegment("x", "something")
    node.GetSegmentation().GetSegment("x").SetTag(TERMINOLOGY, entry)
    assert bridge.findLungSegments(node) == ({label: "x"} if label else {})


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("right lung", 1),
        ("Left Lung", 2),
        ("LUNG RIGHT", 1),
        ("lung_left", 2),
        ("Lung_R", 1),
        ("LungL", 2),
        ("L lung", 2),
        ("right-lungs", 1),
        ("lung", None),
        ("lungs", None),
        ("right", None),
        ("right lung nodule", None),
        ("lung_upper_lobe_left", None),
        ("right kidney", None),
        ("lunar light", None),
    ],
)
def test_a_lung_is_known_by_its_name(name, label):
    node = nodes.add_segmentation()
    node.GetSegmentation().AddEmptySegment("x", name)
    assert bridge.findLungSegments(node) == ({label: "x"} if label else {})


# ---- a whole labelmap


@pytest.mark.parametrize("seed", range(5))
def test_lungs_are_written_voxel_by_voxel_under_the_volumes_transform(seed):
    rng = np.random.default_rng(seed)
    volume = ct(nodes.random_grid(rng), nodes.add_transform(nodes.random_transform(rng)))
    node = bridge.ensureSegmentation(volume)
    labels = random_labels(rng)
    bridge.writeLabelmap(node, labels, volume)
    for label, segment_id in bridge.ensureLungSegments(node).items():
        assert np.array_equal(nodes.segment_array(node, segment_id, volume), labels == label)


@pytest.mark.parametrize("seed", range(5))
def test_lungs_are_written_voxel_by_voxel_under_a_transform_of_the_segmentations_own(seed):
    rng = np.random.default_rng(seed)
    grid, of_volume, of_segmentation = (make(rng) for make in (nodes.random_grid, *[nodes.random_transform] * 2))
    volume = ct(grid, nodes.add_transform(of_volume))
    node = nodes.add_segmentation(parent=nodes.add_transform(of_segmentation))
    labels = random_labels(rng)
    bridge.writeLabelmap(bridge.ensureSegmentation(volume, node), labels, volume)
    for label, segment_id in bridge.ensureLungSegments(node).items():
        stored = nodes.stored_mask(node, segment_id, of_segmentation, of_volume @ grid, SIZE_KJI)
        assert np.array_equal(stored, labels == label)


def test_the_second_labelmap_replaces_the_first_and_an_empty_lung_stays_as_a_segment():
    rng, volume = np.random.default_rng(3), ct()
    node = bridge.ensureSegmentation(volume)
    bridge.writeLabelmap(node, random_labels(rng), volume)
    only_left = np.where(random_labels(rng) == 2, 2, 0)
    bridge.writeLabelmap(node, only_left, volume)
    right, left = bridge.ensureLungSegments(node).values()
    assert not nodes.segment_array(node, right, volume).any()
    assert np.array_equal(nodes.segment_array(node, left, volume), only_left == 2)
    assert names_of(node) == ["right lung", "left lung"]


def test_only_the_lung_asked_for_is_replaced():
    rng, volume = np.random.default_rng(4), ct()
    node = bridge.ensureSegmentation(volume)
    first, second = random_labels(rng), random_labels(rng)
    bridge.writeLabelmap(node, first, volume)
    bridge.writeLabelmap(node, second, volume, lungs="right")
    right, left = bridge.ensureLungSegments(node).values()
    assert np.array_equal(nodes.segment_array(node, right, volume), second == 1)
    assert np.array_equal(nodes.segment_array(node, left, volume), first == 2)


def test_neighbours_in_the_same_layer_keep_every_voxel_where_lungs_overlap_them():
    rng, volume = np.random.default_rng(5), ct()
    codes = random_labels(rng, highest=4)
    node = nodes.add_segmentation(volume)
    ids = nodes.import_labelmap(node, codes, GRID, ["right lung", "left lung", "heart", "rib"])
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    labels = random_labels(rng)
    bridge.writeLabelmap(node, labels, volume)
    expected = [labels == 1, labels == 2, codes == 3, codes == 4]
    for segment_id, mask in zip(ids, expected, strict=True):
        assert np.array_equal(nodes.segment_array(node, segment_id, volume), mask)


def test_a_lung_that_reaches_beyond_the_volume_is_replaced_inside_it_only():
    volume = ct()
    node = nodes.add_segmentation(volume)
    wide = nodes.affine(GRID[:3, :3], (GRID @ [-3, -3, -3, 1])[:3])
    ids = nodes.import_labelmap(node, np.ones((14, 16, 18), np.uint8), wide, ["right lung"])
    labels = np.zeros(SIZE_KJI, np.uint8)
    labels[2, 3, 4] = 1
    bridge.writeLabelmap(node, labels, volume)
    assert len(nodes.voxels_in_world(node, ids[0])) == 14 * 16 * 18 - np.prod(SIZE_KJI) + 1
    np.testing.assert_array_equal(bridge.labelmapFromNode(node, volume).array_kji, labels)


def test_a_labelmap_of_another_size_is_refused_and_nothing_is_lost():
    rng, volume = np.random.default_rng(6), ct()
    node = bridge.ensureSegmentation(volume)
    labels = random_labels(rng)
    bridge.writeLabelmap(node, labels, volume)
    with pytest.raises(GeometryError, match=r"shape \(6, 8, 9\).*\(6, 8, 10\).*Chest"):
        bridge.writeLabelmap(node, labels[:, :, 1:], volume)
    with pytest.raises(SettingsError, match="'middle'"):
        bridge.writeLabelmap(node, labels, volume, lungs="middle")
    assert np.array_equal(bridge.labelmapFromNode(node, volume).array_kji, labels)


def test_a_segmentation_under_a_transform_that_bends_is_refused():
    volume = ct()
    node = bridge.ensureSegmentation(volume)
    node.SetAndObserveTransformNodeID(nodes.add_bending_transform().GetID())
    with pytest.raises(GeometryError, match="Chest lungs is under the non-linear transform Bend"):
        bridge.writeLabelmap(node, np.ones(SIZE_KJI, np.uint8), volume)


# ---- reading


@pytest.mark.parametrize("seed", range(5))
def test_lungs_are_read_on_the_volumes_grid_under_any_transforms(seed):
    rng = np.random.default_rng(20 + seed)
    volume = ct(nodes.random_grid(rng), nodes.add_transform(nodes.random_transform(rng)))
    node = bridge.ensureSegmentation(volume)
    if seed % 2:
        node = nodes.add_segmentation(parent=nodes.add_transform(nodes.random_transform(rng)), name="Chest lungs")
        bridge.ensureSegmentation(volume, node)
    labels = random_labels(rng)
    bridge.writeLabelmap(node, labels, volume)
    read = bridge.labelmapFromNode(node, volume)
    assert read.array_kji.dtype == np.uint8
    assert np.array_equal(read.array_kji, labels)
    assert np.allclose(read.ijk_to_ras, bridge.ijkToWorldMatrix(volume))
    assert read.name == "Chest lungs"
    itself = bridge.labelmapFromNode(node)
    assert np.array_equal(itself.array_kji, labels)
    assert np.allclose(itself.ijk_to_ras, bridge.ijkToWorldMatrix(volume), atol=1e-4)


def test_lungs_on_another_grid_are_read_by_nearest_neighbour():
    volume = nodes.add_volume(np.zeros((4, 6, 8), np.int16), np.eye(4))
    node = nodes.add_segmentation()
    coarse = np.zeros((2, 3, 4), np.uint8)
    coarse[1, 1, 2], coarse[0, 2, 1] = 1, 2
    doubled = nodes.affine(np.eye(3) * 2, [0.5, 0.5, 0.5])
    nodes.import_labelmap(node, coarse, doubled, ["right lung", "left lung"])
    read = bridge.labelmapFromNode(node, volume).array_kji
    assert np.array_equal(read, coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2))


def test_lungs_stored_back_to_front_are_read_to_the_last_voxel():
    labels = random_labels(np.random.default_rng(7))
    grid = nodes.random_grid(np.random.default_rng(7))
    reversed_grid = grid @ nodes.affine(-np.eye(3), [9, 7, 5])
    node = nodes.add_segmentation()
    nodes.import_labelmap(node, labels[::-1, ::-1, ::-1], reversed_grid, ["right lung", "left lung"])
    assert np.array_equal(bridge.labelmapFromNode(node, ct(grid)).array_kji, labels)


def test_a_voxel_in_both_lungs_is_read_as_right():
    volume, node = ct(), nodes.add_segmentation()
    mask = np.zeros(SIZE_KJI, np.uint8)
    mask[1, 2, 3] = 1
    for name in ("left lung", "right lung"):
        nodes.add_segment(node, mask, GRID, name)
    assert bridge.labelmapFromNode(node, volume).array_kji[1, 2, 3] == 1


def test_segments_that_are_no_lungs_are_refused_with_the_names_expected():
    node = nodes.add_segmentation(name="Organs")
    for name in ("Segment_1", "Segment_2"):
        node.GetSegmentation().AddEmptySegment(name, name)
    with pytest.raises(
        VolumeError, match=r"Organs has only Segment_1, Segment_2; expected .*'right lung' and 'left lung'"
    ):
        bridge.labelmapFromNode(node, ct())
    with pytest.raises(VolumeError, match="has no segment at all"):
        bridge.labelmapFromNode(nodes.add_segmentation(), ct())
    with pytest.raises(VolumeError, match="No labelmap is given"):
        bridge.labelmapFromNode(None, ct())


def test_a_segmentation_that_does_not_say_its_grid_needs_the_volume():
    node = nodes.add_segmentation()
    node.GetSegmentation().AddEmptySegment("x", "right lung")
    with pytest.raises(VolumeError, match="choose the volume as well"):
        bridge.labelmapFromNode(node)
    assert not bridge.labelmapFromNode(node, ct()).array_kji.any()


def test_a_segmentation_without_reference_geometry_is_read_on_its_own_labelmaps_grid():
    node = nodes.add_segmentation()
    labels = random_labels(np.random.default_rng(9))
    nodes.import_labelmap(node, labels, GRID, ["right lung", "left lung"])
    read = bridge.labelmapFromNode(node)
    assert np.array_equal(read.array_kji, labels)
    assert np.allclose(read.ijk_to_ras, GRID)


def test_lungs_kept_as_surfaces_are_filled_and_the_node_stays_as_it_is():
    node = surface_segmentation()
    volume = nodes.add_volume(np.zeros((24, 24, 24), np.int16), nodes.affine(np.eye(3), [-11.5] * 3))
    read = bridge.labelmapFromNode(node, volume)
    assert read.array_kji.sum() == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.03)
    assert read.array_kji[12, 12, 12] == 1
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_a_labelmap_volume_comes_with_its_own_grid_and_values():
    rng = np.random.default_rng(8)
    grid, parent = nodes.random_grid(rng), nodes.random_transform(rng)
    array = np.array([[[0, 300], [2, 1]]], np.int16)
    node = nodes.add_volume(array, grid, parent=nodes.add_transform(parent), class_name="vtkMRMLLabelMapVolumeNode")
    read = bridge.labelmapFromNode(node, ct())
    assert np.array_equal(read.array_kji, array)
    assert np.allclose(read.ijk_to_ras, parent @ grid)

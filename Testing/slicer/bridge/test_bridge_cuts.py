"""Writing one slice into a segmentation: exact, and nothing else changes."""

from __future__ import annotations

import time

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer
import vtk
from dicomfiles import write_dicom

from SAMLungSegLib.errors import GeometryError, SettingsError
from SAMLungSegLib.volume import read_volume
from SAMLungSegLib.volume.reformat import reformat_volume
from SAMLungSegSlicer import bridge

SIZE_KJI = (7, 9, 11)
GRID = nodes.affine(np.diag([-0.8, -0.7, 2.5]), [12, -7, 30])
PLANES = {"axial": (0, 0, 1), "coronal": (0, 1, 0), "sagittal": (1, 0, 0), "oblique": (0.4, -0.3, 0.8)}


def ct(size_kji=SIZE_KJI):
    return nodes.add_volume(np.zeros(size_kji, np.int16), GRID, name="Chest")


def cut_through(ijk, normal, size_kji=SIZE_KJI):
    return reformat_volume(size_kji, GRID, normal, (GRID @ [*ijk, 1])[:3])


def middle_cut(normal=PLANES["axial"], size_kji=SIZE_KJI):
    return cut_through([size // 2 for size in size_kji[::-1]], normal, size_kji)


def random_labels(rng, shape=SIZE_KJI, highest=2):
    return rng.integers(0, highest + 1, shape).astype(np.uint8)


def lungs_of(node, volume):
    return bridge.labelmapFromNode(node, volume).array_kji


def segmented(volume, labels):
    node = bridge.ensureSegmentation(volume)
    bridge.writeLabelmap(node, labels, volume)
    return node


# ---- exact


@pytest.mark.parametrize("normal", PLANES.values(), ids=PLANES)
def test_exactly_the_voxels_of_the_slice_are_replaced(normal):
    rng, volume, reformat = np.random.default_rng(1), ct(), middle_cut(normal)
    before = random_labels(rng)
    node = segmented(volume, before)
    labels = random_labels(rng, reformat.size_hw)
    bridge.writeCut(node, labels, reformat, volume)
    expected = before.copy()
    reformat.put(labels, expected)
    assert np.array_equal(lungs_of(node, volume), expected)


def test_a_slice_is_written_into_a_new_segmentation():
    volume, reformat = ct(), middle_cut()
    node = bridge.ensureSegmentation(volume)
    labels = random_labels(np.random.default_rng(2), reformat.size_hw)
    bridge.writeCut(node, labels, reformat, volume)
    expected = np.zeros(SIZE_KJI, np.uint8)
    expected[3] = labels  # columns to the left and rows to posterior, as the volume is stored
    assert np.array_equal(lungs_of(node, volume), expected)


@pytest.mark.parametrize(("lungs", "replaced", "kept"), [("right", 1, 2), ("left", 2, 1)])
def test_the_other_lung_keeps_its_voxels_even_where_they_are_overlapped(lungs, replaced, kept):
    rng, volume, reformat = np.random.default_rng(3), ct(), middle_cut()
    before = random_labels(rng)
    node = segmented(volume, before)
    labels = random_labels(rng, reformat.size_hw)
    bridge.writeCut(node, labels, reformat, volume, lungs=lungs)
    expected = before.copy()
    reformat.put(labels, expected)
    ids = bridge.ensureLungSegments(node)
    assert np.array_equal(nodes.segment_array(node, ids[replaced], volume), expected == replaced)
    assert np.array_equal(nodes.segment_array(node, ids[kept], volume), before == kept)


def test_only_the_pixels_inside_the_mask_change():
    rng, volume, reformat = np.random.default_rng(4), ct(), middle_cut()
    before = random_labels(rng)
    node = segmented(volume, before)
    labels = random_labels(rng, reformat.size_hw)
    inside = np.zeros(reformat.size_hw, bool)
    inside[2:5, 3:8] = True
    bridge.writeCut(node, labels, reformat, volume, insideMask_hw=inside)
    expected = before.copy()
    reformat.put(np.where(inside, labels, reformat.take(before)), expected)
    assert np.array_equal(lungs_of(node, volume), expected)


@pytest.mark.parametrize("seed", range(20))
def test_from_a_prompt_in_the_world_to_a_segments_voxel_and_back_is_exact(tmp_path, seed):
    rng = np.random.default_rng(seed)
    grid, parent, of_points = nodes.random_grid(rng), nodes.random_transform(rng), nodes.random_transform(rng)
    volume = nodes.add_volume(np.zeros(SIZE_KJI, np.int16), grid, parent=nodes.add_transform(parent))
    ijk = rng.integers(1, np.array(SIZE_KJI[::-1]) - 1)
    world = parent @ grid @ [*ijk, 1]
    markups = nodes.add_points([(np.linalg.inv(of_points) @ world)[:3]], parent=nodes.add_transform(of_points))
    (point,) = bridge.pointsFromMarkups(markups, volume, positive=True)
    view = nodes.add_slice_node(nodes.affine(nodes.rotation(rng), world[:3]))
    reformat = bridge.cutFromSliceNode(view, volume)
    x, y = np.rint(reformat.ijk_to_xy(point.ijk)).astype(int)
    labels = random_labels(rng, reformat.size_hw)
    labels[y, x] = 1
    expected = np.zeros(SIZE_KJI, np.uint8)
    reformat.put(labels, expected)
    assert expected[tuple(ijk[::-1])] == 1

    node = bridge.ensureSegmentation(volume)
    bridge.writeCut(node, labels, reformat, volume)
    for label, segment_id in bridge.ensureLungSegments(node).items():
        assert np.array_equal(nodes.segment_array(node, segment_id, volume), expected == label)

    assert slicer.util.saveNode(node, str(tmp_path / "lungs.seg.nrrd"))
    again = slicer.util.loadSegmentation(str(tmp_path / "lungs.seg.nrrd"))
    again.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    assert np.array_equal(lungs_of(again, volume), expected)
    assert int(np.count_nonzero(read_volume(tmp_path / "lungs.seg.nrrd").array_kji)) == np.count_nonzero(expected)


@pytest.mark.parametrize("seed", range(20))
def test_a_segmentation_under_a_transform_of_its_own_gets_the_voxels_where_they_are_seen(seed):
    rng = np.random.default_rng(50 + seed)
    grid, of_volume, of_segmentation = (make(rng) for make in (nodes.random_grid, *[nodes.random_transform] * 2))
    volume = nodes.add_volume(np.zeros(SIZE_KJI, np.int16), grid, parent=nodes.add_transform(of_volume))
    node = nodes.add_segmentation(parent=nodes.add_transform(of_segmentation))
    world = (of_volume @ grid @ [5, 4, 3, 1])[:3]
    reformat = bridge.cutFromSliceNode(nodes.add_slice_node(nodes.affine(nodes.rotation(rng), world)), volume)
    labels = random_labels(rng, reformat.size_hw)
    bridge.writeCut(bridge.ensureSegmentation(volume, node), labels, reformat, volume)
    expected = np.zeros(SIZE_KJI, np.uint8)
    reformat.put(labels, expected)
    for label, segment_id in bridge.ensureLungSegments(node).items():
        stored = nodes.stored_mask(node, segment_id, of_segmentation, of_volume @ grid, SIZE_KJI)
        assert np.array_equal(stored, expected == label)


# ---- nothing else changes


@pytest.mark.parametrize("normal", PLANES.values(), ids=PLANES)
def test_a_neighbour_in_the_same_layer_keeps_every_voxel(normal):
    rng, volume, reformat = np.random.default_rng(5), ct(), middle_cut(normal)
    codes = random_labels(rng, highest=3)
    node = nodes.add_segmentation(volume)
    right, left, heart = nodes.import_labelmap(node, codes, GRID, ["right lung", "left lung", "heart"])
    labels = random_labels(rng, reformat.size_hw)
    bridge.writeCut(node, labels, reformat, volume)
    expected = [codes == 1, codes == 2]
    for label, mask in enumerate(expected, 1):
        reformat.put(labels == label, mask)
    assert np.array_equal(nodes.segment_array(node, right, volume), expected[0])
    assert np.array_equal(nodes.segment_array(node, left, volume), expected[1])
    assert np.array_equal(nodes.segment_array(node, heart, volume), codes == 3)


def test_segments_stay_in_one_layer_while_they_do_not_overlap():
    volume, reformat = ct(), middle_cut()
    codes = np.zeros(SIZE_KJI, np.uint8)
    codes[:, :, :2] = 3
    codes[0, 0, 5], codes[0, 0, 6] = 1, 2
    node = nodes.add_segmentation(volume)
    heart = nodes.import_labelmap(node, codes, GRID, ["right lung", "left lung", "heart"])[2]
    labels = np.zeros(reformat.size_hw, np.uint8)
    labels[:, 4:6], labels[:, 7:] = 1, 2
    bridge.writeCut(node, labels, reformat, volume)
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    assert np.array_equal(nodes.segment_array(node, heart, volume), codes == 3)
    reformat.put(np.where(labels > 0, labels, reformat.take(codes)), codes)
    assert np.array_equal(lungs_of(node, volume), np.where(codes == 3, 0, codes))


def test_a_segment_on_another_grid_stays_there_untouched():
    rng, volume, reformat = np.random.default_rng(6), ct(), middle_cut(PLANES["oblique"])
    fine = nodes.affine(nodes.rotation(rng) * 0.3, [4, -9, 33])
    node = nodes.add_segmentation()
    tumour = nodes.import_labelmap(node, random_labels(rng, (20, 21, 22), highest=1), fine, ["tumour"])[0]
    before = nodes.voxels_in_world(node, tumour)
    labels = random_labels(rng, reformat.size_hw)
    bridge.writeCut(bridge.ensureSegmentation(volume, node), labels, reformat, volume)
    assert np.array_equal(nodes.voxels_in_world(node, tumour), before)
    expected = np.zeros(SIZE_KJI, np.uint8)
    reformat.put(labels, expected)
    for label, segment_id in bridge.ensureLungSegments(node).items():
        assert np.array_equal(nodes.stored_mask(node, segment_id, np.eye(4), GRID, SIZE_KJI), expected == label)


def test_lungs_on_another_grid_are_brought_onto_the_volumes_and_their_neighbour_stays():
    rng = np.random.default_rng(7)
    volume = nodes.add_volume(np.zeros((4, 6, 8), np.int16), np.eye(4), name="Fine")
    coarse = random_labels(rng, (2, 3, 4), highest=3)
    node = nodes.add_segmentation()
    doubled = nodes.affine(np.eye(3) * 2, [0.5, 0.5, 0.5])
    heart = nodes.import_labelmap(node, coarse, doubled, ["right lung", "left lung", "heart"])[2]
    before = nodes.voxels_in_world(node, heart)
    reformat = reformat_volume((4, 6, 8), np.eye(4), (0, 0, 1), (0, 0, 2))
    labels = random_labels(rng, reformat.size_hw)
    bridge.writeCut(node, labels, reformat, volume)
    expected = coarse.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    expected[expected == 3] = 0
    reformat.put(labels, expected)
    assert np.array_equal(lungs_of(node, volume), expected)
    assert np.array_equal(nodes.voxels_in_world(node, heart), before)


def test_a_lung_that_reaches_beyond_the_volume_keeps_what_lies_outside():
    volume, reformat = ct(), middle_cut()
    wide = GRID @ nodes.affine(np.eye(3), [-2, -3, -1])
    mask = random_labels(np.random.default_rng(8), (12, 16, 15), highest=1)
    node = nodes.add_segmentation(volume)
    right = nodes.import_labelmap(node, mask, wide, ["right lung"])[0]
    bridge.writeCut(node, np.zeros(reformat.size_hw, np.uint8), reformat, volume)
    expected = mask.copy()
    expected[1 + 3, 3 : 3 + 9, 2 : 2 + 11] = 0
    assert np.array_equal(nodes.stored_mask(node, right, np.eye(4), wide, mask.shape), expected == 1)


def test_a_lung_on_another_grid_keeps_what_lies_outside_the_volume():
    volume = nodes.add_volume(np.zeros((2, 2, 2), np.int16), np.eye(4))
    coarse = np.ones((2, 3, 4), np.uint8)
    node = nodes.add_segmentation()
    doubled = nodes.affine(np.eye(3) * 2, [-1.5, -1.5, 0.5])
    right = nodes.import_labelmap(node, coarse, doubled, ["right lung"])[0]
    reformat = reformat_volume((2, 2, 2), np.eye(4), (0, 0, 1), (0, 0, 0))
    bridge.writeCut(node, np.zeros(reformat.size_hw, np.uint8), reformat, volume)
    expected = np.ones((4, 6, 8), bool)
    expected[0, 2:4, 2:4] = False
    stored = nodes.stored_mask(node, right, np.eye(4), nodes.affine(np.eye(3), [-2, -2, 0]), expected.shape)
    assert np.array_equal(stored, expected)


def test_a_lung_cropped_to_its_voxels_grows_where_the_slice_needs_it():
    volume, reformat = ct(), middle_cut()
    node = nodes.add_segmentation(volume)
    corner = GRID @ nodes.affine(np.eye(3), [5, 4, 0])
    right = nodes.import_labelmap(node, np.ones((1, 1, 2), np.uint8), corner, ["right lung"])[0]
    labels = np.zeros(reformat.size_hw, np.uint8)
    labels[0, 0] = labels[-1, -1] = 1
    bridge.writeCut(node, labels, reformat, volume)
    expected = np.zeros(SIZE_KJI, bool)
    expected[0, 4, 5:7] = expected[3, 0, 0] = expected[3, -1, -1] = True
    assert np.array_equal(nodes.stored_mask(node, right, np.eye(4), GRID, SIZE_KJI), expected)


def test_a_labelmap_volume_that_lends_its_voxels_to_a_segment_does_not_change():
    volume, reformat = ct(), middle_cut()
    array = random_labels(np.random.default_rng(9), highest=1)
    labelmap = nodes.add_volume(array.copy(), GRID, class_name="vtkMRMLLabelMapVolumeNode")
    node = bridge.ensureSegmentation(volume)
    right = bridge.ensureLungSegments(node)[1]
    ids = vtk.vtkStringArray()
    ids.InsertNextValue(right)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labelmap, node, ids)
    bridge.writeCut(node, 1 - reformat.take(array), reformat, volume)
    bridge.writeLabelmap(node, np.zeros(SIZE_KJI, np.uint8), volume, lungs="left")
    assert np.array_equal(slicer.util.arrayFromVolume(labelmap), array)
    assert not np.array_equal(nodes.segment_array(node, right, volume), array)


def test_label_values_of_no_segment_are_nobodys_and_are_in_nobodys_way():
    volume, reformat = ct(), middle_cut()
    node = nodes.add_segmentation(volume)
    right = nodes.add_segment(node, random_labels(np.random.default_rng(15), highest=5), GRID, "right lung")
    assert node.GetSegmentation().GetSegment(right).GetLabelValue() == 1
    before = nodes.segment_array(node, right, volume)
    bridge.writeCut(node, np.ones(reformat.size_hw, np.uint8), reformat, volume)
    reformat.put(np.ones(reformat.size_hw), before)
    assert np.array_equal(nodes.stored_mask(node, right, np.eye(4), GRID, SIZE_KJI), before == 1)


def test_a_slice_that_does_not_fit_is_refused_and_nothing_changes():
    volume, reformat = ct(), middle_cut()
    before = random_labels(np.random.default_rng(10))
    node = segmented(volume, before)
    labels = np.ones(reformat.size_hw, np.uint8)
    with pytest.raises(GeometryError, match=r"labels have shape \(8, 11\); expected \(H, W\) \(9, 11\)"):
        bridge.writeCut(node, labels[1:], reformat, volume)
    with pytest.raises(GeometryError, match="mask have shape"):
        bridge.writeCut(node, labels, reformat, volume, insideMask_hw=labels[1:] > 0)
    with pytest.raises(GeometryError, match=r"volume of \(7, 9, 11\) voxels, this one has \(2, 2, 2\)"):
        bridge.writeCut(node, labels, reformat, ct((2, 2, 2)))
    with pytest.raises(SettingsError, match="'none'"):
        bridge.writeCut(node, labels, reformat, volume, lungs="none")
    assert np.array_equal(lungs_of(node, volume), before)


@pytest.mark.slow
def test_a_slice_of_a_large_ct_is_written_within_a_frame():
    size_kji = (300, 512, 512)
    volume = nodes.add_volume(np.zeros(size_kji, np.uint8), GRID)
    node = bridge.ensureSegmentation(volume)
    reformat = middle_cut(PLANES["oblique"], size_kji)
    labels = np.zeros(reformat.size_hw, np.uint8)
    labels[100:300, 50:200], labels[100:300, 300:450] = 1, 2
    bridge.writeCut(node, labels, reformat, volume)
    durations = []
    for shift in range(1, 8):
        start = time.perf_counter()
        bridge.writeCut(node, np.roll(labels, shift, axis=0), reformat, volume)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.03


def test_an_xray_gets_the_patients_lungs_in_the_pixels_that_were_segmented(tmp_path):
    node = nodes.load(write_dicom(tmp_path / "x.dcm", PatientOrientation=["R", "F"]))
    volume = bridge.volumeFromNode(node)
    view = nodes.add_slice_node(np.diag([-1.0, 1.0, 1.0, 1.0]))
    reformat = bridge.cutFromSliceNode(view, node)
    assert reformat.sample(volume.array_kji).tolist() == [[20, 10, 0], [100, 40, 30]]
    segmentation = bridge.ensureSegmentation(node)
    bridge.writeCut(segmentation, np.array([[1, 0, 2], [1, 0, 2]], np.uint8), reformat, node)
    assert lungs_of(segmentation, node).tolist() == [[[2, 0, 1], [2, 0, 1]]]

from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer
from bridge_nodes import load
from dicomfiles import write_dicom

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegSlicer import bridge

AXIAL = np.diag([-1.0, 1.0, 1.0, 1.0])
CORONAL = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
SAGITTAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def at(matrix, point):
    return nodes.affine(np.asarray(matrix)[:3, :3], point)


def coded_volume(parent=None):
    """Each voxel holds 100 k + 10 j + i; columns to the patient's left, rows to posterior, slices 3 mm up."""
    k, j, i = np.indices((4, 5, 6))
    return nodes.add_volume((100 * k + 10 * j + i).astype(np.int16), np.diag([-1.0, -2.0, 3.0, 1.0]), parent=parent)


@pytest.mark.parametrize(
    ("view", "point", "orientation", "corner", "size_hw"),
    [
        (AXIAL, (-2, -4, 6), "axial", [[200, 201], [210, 211]], (5, 6)),
        (CORONAL, (-2, -4, 6), "coronal", [[320, 321], [220, 221]], (4, 6)),
        (SAGITTAL, (-2, -4, 6), "sagittal", [[302, 312], [202, 212]], (4, 5)),
    ],
)
def test_a_view_gives_the_slice_that_it_shows(view, point, orientation, corner, size_hw):
    node = coded_volume()
    reformat = bridge.cutFromSliceNode(nodes.add_slice_node(at(view, point)), node)
    shown = reformat.sample(slicer.util.arrayFromVolume(node))
    assert (reformat.orientation, reformat.size_hw) == (orientation, size_hw)
    assert shown[:2, :2].tolist() == corner


def test_the_slice_follows_the_parent_transform_of_the_volume():
    node = coded_volume(parent=nodes.add_transform(nodes.affine(np.eye(3), [0, 0, 3])))
    reformat = bridge.cutFromSliceNode(nodes.add_slice_node(at(AXIAL, (0, 0, 6))), node)
    assert reformat.sample(slicer.util.arrayFromVolume(node))[0, 0] == 100


@pytest.mark.parametrize("seed", range(20))
def test_an_oblique_view_cuts_the_voxels_whose_centres_are_nearest_to_its_plane(seed):
    rng = np.random.default_rng(seed)
    grid, parent = nodes.random_grid(rng), nodes.random_transform(rng)
    node = nodes.add_volume(np.zeros((12, 14, 16), np.uint8), grid, parent=nodes.add_transform(parent))
    ijk = rng.integers(3, 9, size=3)
    world = (parent @ grid @ [*ijk, 1])[:3]
    axes = nodes.rotation(rng)
    reformat = bridge.cutFromSliceNode(nodes.add_slice_node(nodes.affine(axes, world)), node)
    assert reformat.contains(ijk)
    normal_ijk = (parent @ grid)[:3, :3].T @ axes[:, 2]
    stacked = np.abs(normal_ijk).max()
    kji = np.argwhere(np.ones((12, 14, 16), bool))
    distance = (kji[:, ::-1] - ijk) @ normal_ijk / stacked
    mask = np.zeros((12, 14, 16), np.uint8)
    reformat.put(np.ones(reformat.size_hw, np.uint8), mask)
    near, clearly_far = np.abs(distance) < 0.499, np.abs(distance) > 0.501
    assert mask[tuple(kji[near].T)].all()
    assert not mask[tuple(kji[clearly_far].T)].any()


def test_a_view_beside_the_volume_says_so():
    with pytest.raises(GeometryError, match="does not meet the volume"):
        bridge.cutFromSliceNode(nodes.add_slice_node(at(AXIAL, (0, 0, 300))), coded_volume())


def test_a_volume_under_a_transform_that_bends_cannot_be_cut():
    with pytest.raises(GeometryError, match="non-linear"):
        bridge.cutFromSliceNode(nodes.add_slice_node(AXIAL), coded_volume(parent=nodes.add_bending_transform()))


def test_a_volume_without_voxels_cannot_be_cut():
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hollow")
    with pytest.raises(VolumeError, match="Hollow"):
        bridge.cutFromSliceNode(nodes.add_slice_node(AXIAL), empty)


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (["L", "F"], [[0, 10, 20], [30, 40, 100]]),
        (["R", "F"], [[20, 10, 0], [100, 40, 30]]),
        (["F", "L"], [[0, 30], [10, 40], [20, 100]]),
    ],
)
def test_an_xray_is_cut_as_the_patient_stands_though_slicer_shows_it_as_stored(tmp_path, orientation, shown):
    node = load(write_dicom(tmp_path / "x.dcm", PatientOrientation=orientation, ImagerPixelSpacing=[0.2, 0.1]))
    reformat = bridge.cutFromSliceNode(nodes.add_slice_node(AXIAL), node)
    assert reformat.sample(bridge.volumeFromNode(node).array_kji).tolist() == shown
    assert reformat.orientation == "coronal"


def test_all_slice_views_jump_to_a_point_of_the_world():
    views = [nodes.add_slice_node(AXIAL, "Red"), nodes.add_slice_node(CORONAL, "Green")]
    bridge.jumpTo(np.array([11.0, -12.0, 13.0]))
    assert views[0].GetSliceOffset() == pytest.approx(13)
    assert views[1].GetSliceOffset() == pytest.approx(-12)

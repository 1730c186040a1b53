from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer
import vtk

from SAMLungSegLib import VolumeBox, VolumePoint
from SAMLungSegLib.errors import GeometryError
from SAMLungSegSlicer import bridge

SIZE_KJI = (6, 8, 10)


def volume_of(matrix=None, size_kji=SIZE_KJI, parent=None):
    return nodes.add_volume(np.zeros(size_kji, np.int16), np.eye(4) if matrix is None else matrix, parent=parent)


# ---- points


@pytest.mark.parametrize("seed", range(20))
def test_a_point_on_a_voxels_centre_is_that_voxel_under_any_directions_and_transforms(seed):
    rng = np.random.default_rng(seed)
    grid, of_volume, of_points = nodes.random_grid(rng), nodes.random_transform(rng), nodes.random_transform(rng)
    outer = nodes.random_transform(rng)
    volume = volume_of(grid, parent=nodes.add_transform(of_volume, parent=nodes.add_transform(outer)))
    ijk = rng.integers(0, SIZE_KJI[::-1], size=(5, 3))
    world = np.c_[ijk, np.ones(5)] @ (outer @ of_volume @ grid).T
    local = world @ np.linalg.inv(of_points).T
    points = bridge.pointsFromMarkups(
        nodes.add_points(local[:, :3], parent=nodes.add_transform(of_points)), volume, positive=True
    )
    assert np.allclose([point.ijk for point in points], ijk, atol=1e-9)


def test_a_point_between_voxels_keeps_its_fractions_and_its_sign():
    volume = volume_of(np.diag([-2.0, -2.0, 4.0, 1.0]))
    assert bridge.pointsFromMarkups(nodes.add_points([(-3, -5, 5)]), volume, positive=False) == (
        VolumePoint((1.5, 2.5, 1.25), positive=False),
    )


def test_points_outside_the_volume_are_left_out_and_counted():
    volume = volume_of()
    markups = nodes.add_points([(0, 0, 0), (-0.4, 0, 5.4), (-0.6, 0, 0), (0, 7.6, 0), (4, 4, 90)])
    assert [point.ijk for point in bridge.pointsFromMarkups(markups, volume, True)] == [(0, 0, 0), (-0.4, 0, 5.4)]
    assert bridge.countPoints(markups, volume) == (2, 3)


def test_a_point_that_is_not_placed_yet_is_no_point():
    markups = nodes.add_points([(1, 1, 1), (2, 2, 2)])
    markups.UnsetNthControlPointPosition(0)
    markups.SetNthControlPointPositionMissing(1)
    markups.AddControlPoint(vtk.vtkVector3d(3, 3, 3))
    assert [point.ijk for point in bridge.pointsFromMarkups(markups, volume_of(), True)] == [(3, 3, 3)]
    assert bridge.countPoints(markups, volume_of()) == (1, 0)


def test_a_preview_point_that_follows_the_mouse_is_no_point():
    markups = nodes.add_points([(1, 1, 1)])
    markups.SetNthControlPointPosition(0, (1, 1, 1), markups.PositionPreview)
    assert bridge.pointsFromMarkups(markups, volume_of(), True) == ()


def test_no_markups_are_no_points():
    assert bridge.pointsFromMarkups(None, volume_of(), True) == ()
    assert bridge.countPoints(None, volume_of()) == (0, 0)


def test_points_under_a_transform_that_bends_are_where_they_are_seen():
    markups = nodes.add_points([(10, 0, 0)], parent=nodes.add_bending_transform())
    seen = np.zeros(3)
    markups.GetNthControlPointPositionWorld(0, seen)
    assert abs(seen[0] - 10) > 1
    (point,) = bridge.pointsFromMarkups(markups, volume_of(nodes.affine(np.eye(3) * 2, [-2, -2, -2])), True)
    assert np.allclose(np.array(point.ijk) * 2 - 2, seen)


def test_a_volume_under_a_transform_that_bends_takes_no_prompts():
    volume = volume_of(parent=nodes.add_bending_transform())
    with pytest.raises(GeometryError, match="non-linear transform Bend"):
        bridge.pointsFromMarkups(nodes.add_points([(1, 1, 1)]), volume, True)


def test_a_point_on_an_xray_lies_on_its_only_slice():
    volume = volume_of(np.diag([-0.2, -0.2, 1.0, 1.0]), (1, 50, 60))
    points = bridge.pointsFromMarkups(nodes.add_points([(-2, -4, 0), (-2, -4, 0.3), (-2, -4, 3)]), volume, True)
    assert np.allclose([point.ijk for point in points], [(10, 20, 0), (10, 20, 0.3)])


# ---- boxes


def test_a_box_is_the_voxels_between_its_faces():
    boxes = bridge.boxesFromRois([nodes.add_roi((4, 3, 2), (4, 2, 2))], volume_of())
    assert boxes == (VolumeBox((2, 2, 1), (6, 4, 3)),)


def test_a_box_respects_spacing_and_flips():
    volume = volume_of(nodes.affine(np.diag([-2.0, -2.0, 5.0]), [10, 10, -5]))
    boxes = bridge.boxesFromRois([nodes.add_roi((4, 4, 5), (8, 4, 10))], volume)
    assert boxes == (VolumeBox((1, 2, 1), (5, 4, 3)),)


@pytest.mark.parametrize("seed", range(20))
def test_a_turned_box_gives_the_voxels_around_its_corners_under_any_transforms(seed):
    rng = np.random.default_rng(100 + seed)
    grid, of_volume, of_roi = nodes.random_grid(rng), nodes.random_transform(rng), nodes.random_transform(rng)
    volume = volume_of(grid, (120, 120, 120), parent=nodes.add_transform(of_volume))
    center_world = (of_volume @ grid @ [60, 60, 60, 1])[:3]
    center = (np.linalg.inv(of_roi) @ [*center_world, 1])[:3]
    axes, size = nodes.rotation(rng), rng.uniform(5, 12, size=3)
    roi = nodes.add_roi(center, size, axes=axes, parent=nodes.add_transform(of_roi))
    signs = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, 8).T
    world = np.c_[center + (signs * size) @ axes.T, np.ones(8)] @ of_roi.T
    ijk = (world @ np.linalg.inv(of_volume @ grid).T)[:, :3]
    (box,) = bridge.boxesFromRois([roi], volume)
    assert np.allclose(box.first_ijk, ijk.min(axis=0))
    assert np.allclose(box.last_ijk, ijk.max(axis=0))


def test_a_box_is_clipped_to_the_volume():
    (box,) = bridge.boxesFromRois([nodes.add_roi((0, 0, 0), (10, 400, 400))], volume_of())
    assert box == VolumeBox((0, 0, 0), (5, 7, 5))


def test_boxes_outside_the_volume_or_not_placed_are_left_out():
    unplaced = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    inside, outside = nodes.add_roi((4, 4, 3), (2, 2, 2)), nodes.add_roi((90, 4, 3), (2, 2, 2))
    boxes = bridge.boxesFromRois([None, unplaced, outside, inside], volume_of())
    assert boxes == (VolumeBox((3, 3, 2), (5, 5, 4)),)


@pytest.mark.parametrize("thickness", [0, 0.1, 50])
def test_a_box_on_an_xray_may_be_flat_or_thick(thickness):
    volume = volume_of(np.diag([-0.5, -0.5, 1.0, 1.0]), (1, 50, 60))
    boxes = bridge.boxesFromRois([nodes.add_roi((-10, -10, 0.2), (10, 10, thickness))], volume)
    assert boxes == (VolumeBox((10, 10, 0), (30, 30, 0)),)


def test_a_box_between_two_slice_centres_is_kept():
    (box,) = bridge.boxesFromRois([nodes.add_roi((4, 4, 3.3), (2, 2, 0.2))], volume_of())
    assert np.allclose((box.first_ijk[2], box.last_ijk[2]), (3.2, 3.4))


def test_a_box_under_a_transform_that_bends_is_where_its_corners_are_seen():
    bend = nodes.add_bending_transform()
    roi = nodes.add_roi((5, 0, 0), (10, 2, 2), parent=bend)
    volume = volume_of(nodes.affine(np.eye(3), [-20, -20, -20]), (40, 40, 40))
    corner = [0.0] * 3
    xs = []
    for x in (0, 10):
        for y in (-1, 1):
            for z in (-1, 1):
                roi.TransformPointToWorld((x, y, z), corner)
                xs.append(corner[0])
    (box,) = bridge.boxesFromRois([roi], volume)
    assert np.allclose((box.first_ijk[0] - 20, box.last_ijk[0] - 20), (min(xs), max(xs)))
    assert box.last_ijk[0] - 20 > 11

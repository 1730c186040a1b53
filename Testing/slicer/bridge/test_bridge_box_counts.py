"""Which ROIs lie in a volume, and which of them are rotated against its voxels."""

from __future__ import annotations

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer

from SAMLungSegLib.errors import GeometryError
from SAMLungSegSlicer import bridge

SIZE_KJI = (40, 60, 80)


def volume_of(matrix=None, **options):
    return nodes.add_volume(np.zeros(SIZE_KJI, np.int16), np.eye(4) if matrix is None else matrix, **options)


def turned(degrees, axis=2):
    """Columns of directions that are turned about one axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    axes = np.eye(3)
    others = [one for one in range(3) if one != axis]
    axes[np.ix_(others, others)] = [[c, -s], [s, c]]
    return axes


def test_boxes_in_the_volume_and_outside_are_counted_and_those_not_placed_are_not():
    unplaced = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    rois = [nodes.add_roi((x, 30, 20), (10, 10, 10)) for x in (40, 84.4, 84.6, -200)]  # voxels reach to x = 79.5
    rois.append(nodes.add_roi((40, 30, 20), (10, 10, 10), axes=turned(45)))
    assert bridge.countBoxes([None, unplaced, *rois], volume_of()) == (3, 1, 2)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("degrees", "is_rotated"), [(1.4, False), (1.5, True)])
def test_a_box_is_rotated_where_an_edge_deviates_by_more_than_half_a_voxel(axis, degrees, is_rotated):
    roi = nodes.add_roi((40, 30, 20), (20, 20, 20), axes=turned(degrees, axis))  # 20 sin 1.4° = 0.49, sin 1.5°: 0.52
    assert bridge.countBoxes([roi], volume_of()).rotated == is_rotated


def test_a_flat_box_that_is_tilted_out_of_the_slices_is_rotated():
    roi = nodes.add_roi((40, 30, 20), (20, 20, 0.1), axes=turned(10, axis=0))
    assert bridge.countBoxes([roi], volume_of()).rotated == 1


def test_a_box_along_oblique_voxels_under_transforms_is_not_rotated():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        grid, of_volume, of_roi = nodes.random_grid(rng), nodes.rotation(rng), nodes.random_transform(rng)
        volume = volume_of(grid, parent=nodes.add_transform(nodes.affine(of_volume, (5, -7, 9))))
        to_world = bridge.ijkToWorldMatrix(volume)
        spacing = np.linalg.norm(to_world[:3, :3], axis=0)
        axes = np.roll(to_world[:3, :3] / spacing, seed % 3, axis=1)
        center = (to_world @ [40, 30, 20, 1])[:3]
        assert bridge.countBoxes([nodes.add_roi(center, (30, 20, 10), axes=axes)], volume) == (1, 0, 0)
        other = nodes.add_roi(center, (30, 20, 10), axes=axes @ turned(40, axis=seed % 3))
        assert bridge.countBoxes([other], volume) == (1, 1, 0)
        local = np.linalg.inv(of_roi)
        stretched = nodes.add_roi((local @ [*center, 1])[:3], (9, 9, 9), parent=nodes.add_transform(of_roi))
        assert bridge.countBoxes([stretched], volume) == (1, 1, 0)


def test_a_volume_under_a_transform_that_bends_counts_no_boxes():
    with pytest.raises(GeometryError, match="non-linear transform Bend"):
        bridge.countBoxes([nodes.add_roi((4, 4, 4), (2, 2, 2))], volume_of(parent=nodes.add_bending_transform()))

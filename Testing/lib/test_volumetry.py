"""How large lungs are: volumes, areas and mean HU, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from SAMLungSegLib.errors import CancelledError, GeometryError
from SAMLungSegLib.volume import Volume
from SAMLungSegLib.volumetry import lung_sizes

OBLIQUE = np.array(  # I and J turned by 53.13 degrees, K along S: spacings 2, 3 and 5 mm
    [[2 * 0.6, -3 * 0.8, 0, 7], [2 * 0.8, 3 * 0.6, 0, -11], [0, 0, 5, 3], [0, 0, 0, 1.0]]
)


def labelmap(size_kji=(4, 5, 6)):
    """Six voxels of right lung, four of left."""
    labels = np.zeros(size_kji, np.uint8)
    labels[0, 0, :3] = labels[-1, 1, :3] = 1
    labels[0, 2, :4] = 2
    return labels


def ct(labels, matrix=OBLIQUE, dtype=np.int16, **keywords):
    """Right lung half at -900, half at -800 HU; left lung at -700; all else at 40."""
    values = np.full(labels.shape, 40, dtype)
    values[labels == 1] = np.repeat([-900, -800], 3)
    values[labels == 2] = -700
    return Volume(values, matrix, modality_hint="CT", **keywords)


def test_volumes_and_mean_hu_of_each_lung_and_of_both_are_those_counted_by_hand():
    sizes = lung_sizes(labelmap(), ct(labelmap()))
    assert (sizes.unit, sizes.modality, sizes.notes) == ("ml", "CT", ())
    assert [row.name for row in sizes.rows] == ["right lung", "left lung", "both lungs"]
    assert [row.voxels for row in sizes.rows] == [6, 4, 10]
    assert [row.size for row in sizes.rows] == pytest.approx([0.18, 0.12, 0.30])  # 30 mm3 a voxel
    assert [row.mean_hu for row in sizes.rows] == pytest.approx([-850, -700, -790])


def test_a_sheared_grid_counts_by_its_determinant_not_by_its_spacings():
    sheared = np.eye(4)
    sheared[:3, :3] = [[1, 0, 1], [0, 1, 0], [0, 0, 2]]  # a tilted gantry: K is longer than slices lie apart
    assert lung_sizes(labelmap(), ct(labelmap(), sheared)).rows[0].size == pytest.approx(6 * 2 / 1000)


def test_a_mirrored_and_permuted_grid_has_positive_volumes():
    mirrored = np.diag([-1.0, 2, -3, 1])[[2, 0, 1, 3]]
    assert lung_sizes(labelmap(), ct(labelmap(), mirrored)).rows[2].size == pytest.approx(10 * 6 / 1000)


def test_values_that_are_hu_plus_1024_are_told_in_hu():
    labels = np.zeros((4, 20, 20), np.uint8)
    labels[:, 5:15, 3:8], labels[:, 5:15, 12:17] = 1, 2
    stored = np.full(labels.shape, 1024 + 20, np.uint16)
    stored[labels > 0] = 1024 - 850
    sizes = lung_sizes(labels, Volume(stored, np.eye(4), modality_hint="CT"))
    assert [row.mean_hu for row in sizes.rows] == pytest.approx([-850] * 3)
    assert "HU + 1024" in sizes.notes[0]


def test_voxels_without_a_value_count_in_the_volume_but_not_in_the_mean():
    image = ct(labelmap(), dtype=np.float32)
    image.array_kji[0, 0, :3] = np.nan  # those at -900
    right = lung_sizes(labelmap(), image).rows[0]
    assert (right.voxels, right.mean_hu) == (6, -800)


def test_an_xray_has_an_area_of_its_oblong_and_tilted_pixels_and_no_hu():
    labels = labelmap((1, 5, 6))
    labels[0, 1, :3] = 1
    image = Volume(np.full(labels.shape, 90, np.uint8), OBLIQUE, modality_hint="XRAY")
    sizes = lung_sizes(labels, image)
    right, left, both = sizes.rows
    assert (sizes.unit, sizes.modality) == ("cm2", "XRAY")
    assert (right.size, left.size, both.size) == pytest.approx((0.36, 0.24, 0.60))  # 6 mm2 a pixel
    assert np.isnan([row.mean_hu for row in sizes.rows]).all()


def test_the_area_is_in_the_plane_of_a_coronal_slice():
    labels = np.zeros((4, 1, 6), np.uint8)
    labels[:2, 0, :2] = 1
    sizes = lung_sizes(labels, Volume(np.zeros(labels.shape), OBLIQUE, modality_hint="XRAY"))
    assert sizes.rows[0].size == pytest.approx(4 * 2 * 5 / 100)


def test_a_single_slice_of_a_ct_has_an_area_and_mean_hu():
    labels = np.zeros((1, 4, 4), np.uint8)
    labels[0, 0, :2] = 2
    image = Volume(np.full(labels.shape, -650, np.int16), OBLIQUE, modality_hint="CT")
    left = lung_sizes(labels, image).rows[1]
    assert (left.size, left.mean_hu) == (pytest.approx(0.12), -650)


def test_without_a_spacing_in_mm_pixels_are_counted():
    image = replace(ct(labelmap()), has_physical_spacing=False)
    sizes = lung_sizes(labelmap(), image)
    assert (sizes.unit, [row.size for row in sizes.rows]) == ("px", [6, 4, 10])


def test_what_is_hidden_on_an_xray_has_rows_of_its_own_and_is_not_in_the_lungs():
    labels = np.zeros((1, 4, 5), np.uint8)
    labels[0, 0], labels[0, 1, :3], labels[0, 2, :2], labels[0, 3, :1] = 1, 2, 3, 4
    sizes = lung_sizes(labels, Volume(labels * 0, np.eye(4)), "XRAY")
    assert [(row.name, row.voxels) for row in sizes.rows] == [
        ("right lung", 5),
        ("left lung", 3),
        ("both lungs", 8),
        ("right hidden lung", 2),
        ("left hidden lung", 1),
    ]


def test_an_empty_lung_is_zero_and_has_no_mean():
    labels = np.where(labelmap() == 1, 1, 0)
    left = lung_sizes(labels, ct(labelmap())).rows[1]
    assert (left.voxels, left.size) == (0, 0)
    assert np.isnan(left.mean_hu)


def test_another_shape_is_refused_and_a_stop_is_obeyed():
    with pytest.raises(GeometryError, match=r"\(3, 5, 6\).*\(4, 5, 6\)"):
        lung_sizes(labelmap()[:3], ct(labelmap()))
    with pytest.raises(CancelledError):
        lung_sizes(labelmap(), ct(labelmap()), cancelled=lambda: True)

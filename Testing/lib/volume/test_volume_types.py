from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.volume import Volume


def test_spacing_and_size_follow_the_axes_of_the_array():
    volume = Volume(np.zeros((2, 3, 4)), np.diag([-0.5, -0.6, 2.5, 1]))
    assert volume.size_kji == (2, 3, 4)
    assert volume.spacing_mm == pytest.approx((2.5, 0.6, 0.5))


def test_a_sheared_voxel_is_smaller_than_its_spacings_say():
    straight = Volume(np.zeros((2, 3, 4)), np.diag([-2, -3, 5, 1]))
    assert straight.voxel_ml == pytest.approx(0.03)
    matrix = np.array([[3.0, 0, 4, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    sheared = Volume(np.zeros((2, 3, 4)), matrix)
    assert np.prod(sheared.spacing_mm) == pytest.approx(30)
    assert sheared.voxel_ml == pytest.approx(0.018)


def test_the_matrix_is_an_own_read_only_copy():
    matrix = np.eye(4)
    volume = Volume(np.zeros((1, 2, 2)), matrix)
    matrix[0, 3] = 7
    assert volume.ijk_to_ras[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        volume.ijk_to_ras[0, 0] = 2


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4)), "2 axes"),
        (np.zeros((1, 2, 3, 4)), "4 axes"),
        (np.zeros((0, 4, 4)), "empty"),
        (np.zeros((1, 4, 4), complex), "complex"),
        (np.zeros((1, 4, 4), str), "numbers"),
        (np.full((2, 4, 4), np.nan), "no finite value"),
    ],
)
def test_an_array_that_is_no_image_is_refused(array, message):
    with pytest.raises(VolumeError, match=message):
        Volume(array, np.eye(4))


def test_a_few_nan_are_accepted():
    array = np.full((2, 2, 2), np.nan)
    array[1, 0, 0] = 3
    assert Volume(array, np.eye(4)).size_kji == (2, 2, 2)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), r"\(4, 4\)"),
        (np.diag([1, 1, np.nan, 1]), "finite"),
        (np.diag([1, 1, 0, 1]), "degenerate"),
        (np.array([[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "degenerate"),
        (np.diag([1, 1, 1, 2]), "last row"),
    ],
)
def test_a_matrix_that_cannot_be_inverted_is_refused(matrix, message):
    with pytest.raises(GeometryError, match=message):
        Volume(np.zeros((2, 2, 2)), matrix)


def test_small_voxels_are_not_taken_for_degenerate_ones():
    assert Volume(np.zeros((2, 2, 2)), np.diag([1e-4, 1e-4, 1e-4, 1])).spacing_mm == pytest.approx((1e-4,) * 3)

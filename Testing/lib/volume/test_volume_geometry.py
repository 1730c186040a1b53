from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.volume import Volume, axial_plane

SIZE_NHW = (3, 4, 5)
SPACING_NHW = (2.5, 0.75, 0.5)
DISPLAYED = np.arange(60, dtype=np.int16).reshape(SIZE_NHW)
# RAS steps of the next slice (superior), row (posterior) and column (left).
STEPS_NHW = np.array([(0, 0, 2.5), (0, -0.75, 0), (-0.5, 0, 0)])
ORIGIN_RAS = np.array([10.0, 20.0, 30.0])
STORAGE_ORDERS = [(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]


def stored(axes: tuple[int, ...], flips: tuple[bool, ...], turn: np.ndarray | None = None) -> Volume:
    """DISPLAYED as a file would hold it whose array axes K, J, I are display axes `axes`, some running backwards."""
    array = DISPLAYED.transpose(axes)
    steps, origin = STEPS_NHW[list(axes)], ORIGIN_RAS.copy()
    for axis, flipped in enumerate(flips):
        if flipped:
            array = np.flip(array, axis)
            origin = origin + steps[axis] * (array.shape[axis] - 1)
            steps[axis] = -steps[axis]
    matrix = np.eye(4)
    matrix[:3, :3] = steps[::-1].T
    matrix[:3, 3] = origin
    return Volume(array, matrix if turn is None else turn @ matrix)


def turned_by_degrees(about_x: float, about_y: float, about_z: float) -> np.ndarray:
    turn = np.eye(4)
    for axis, degrees in enumerate((about_x, about_y, about_z)):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one = np.eye(4)
        one[a, a] = one[b, b] = np.cos(np.radians(degrees))
        one[b, a] = np.sin(np.radians(degrees))
        one[a, b] = -one[b, a]
        turn = one @ turn
    return turn


@pytest.mark.parametrize("turn", [None, turned_by_degrees(20, -15, 10), turned_by_degrees(-30, 12, 24)])
@pytest.mark.parametrize(("axes", "flips"), STORAGE_ORDERS)
def test_every_storage_order_gives_the_same_display_and_back(axes, flips, turn):
    volume = stored(axes, flips, turn)
    plane = axial_plane(volume)
    displayed = plane.to_display(volume.array_kji)
    assert np.array_equal(displayed, DISPLAYED)
    assert np.shares_memory(displayed, volume.array_kji)
    assert np.array_equal(plane.from_display(DISPLAYED), volume.array_kji)
    assert plane.size_nhw == SIZE_NHW
    assert (plane.slice_spacing_mm, *plane.spacing_hw_mm) == pytest.approx(SPACING_NHW)


@pytest.mark.parametrize(("axes", "flips"), STORAGE_ORDERS)
def test_display_pixels_lead_to_their_voxels_and_places_exactly(axes, flips):
    volume = stored(axes, flips)
    plane = axial_plane(volume)
    points_nxy = np.array([(n, x, y) for n, y, x in np.ndindex(SIZE_NHW)])
    points_ijk = plane.nxy_to_ijk(points_nxy)
    i, j, k = points_ijk.astype(int).T
    assert np.array_equal(volume.array_kji[k, j, i], DISPLAYED.ravel())
    assert np.array_equal(plane.ijk_to_nxy(points_ijk), points_nxy)
    expected_ras = ORIGIN_RAS + points_nxy[:, [0, 2, 1]] @ STEPS_NHW
    assert np.allclose(plane.nxy_to_ras(points_nxy), expected_ras, atol=1e-12)
    assert np.allclose(plane.ras_to_nxy(expected_ras), points_nxy, atol=1e-12)


def test_one_point_and_fractions_of_pixels_are_converted():
    plane = axial_plane(stored((0, 1, 2), (False, False, True)))
    assert plane.nxy_to_ijk((1, 0.25, 2)).tolist() == [3.75, 2, 1]
    assert plane.ijk_to_nxy((3.75, 2, 1)).tolist() == [1, 0.25, 2]


def test_a_sheared_stack_is_displayed_by_its_closest_axes():
    volume = stored((0, 1, 2), (False, False, False))
    sheared = volume.ijk_to_ras.copy()
    sheared[1, 2] = 1.0  # a tilted gantry: slices move to anterior by 1 mm on their way up
    plane = axial_plane(Volume(volume.array_kji, sheared))
    assert plane.axes == (0, 1, 2)
    assert plane.flips == (False, False, False)


@pytest.mark.parametrize(
    ("columns_to", "rows_to", "stacked_to"),
    [
        ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),  # axial: left, posterior
        ((-1, 0, 0), (0, 0, -1), (0, 1, 0)),  # coronal: left, inferior
        ((0, -1, 0), (0, 0, -1), (1, 0, 0)),  # sagittal: posterior, inferior
    ],
)
@pytest.mark.parametrize(("axes", "flips"), STORAGE_ORDERS)
def test_a_single_slice_is_displayed_in_its_own_plane(columns_to, rows_to, stacked_to, axes, flips):
    shown = np.arange(20).reshape(1, 4, 5)
    steps = np.array([stacked_to, rows_to, columns_to], float)[list(axes)]
    signs = np.where(flips, -1, 1)
    array = np.flip(shown.transpose(axes), np.flatnonzero(flips))
    matrix = np.eye(4)
    matrix[:3, :3] = (steps * signs[:, None])[::-1].T
    plane = axial_plane(Volume(array, matrix))
    assert np.array_equal(plane.to_display(array), shown)
    assert np.array_equal(plane.from_display(shown), array)


def test_a_single_row_of_pixels_is_taken_as_an_axial_slice():
    plane = axial_plane(Volume(np.zeros((1, 1, 6)), np.diag([-1.0, -1, 1, 1])))
    assert plane.size_nhw == (1, 1, 6)


def test_arrays_and_points_of_another_size_are_refused():
    plane = axial_plane(stored((0, 1, 2), (False, False, False)))
    with pytest.raises(GeometryError, match=r"\(3, 4, 5\)"):
        plane.to_display(np.zeros((3, 5, 4)))
    with pytest.raises(GeometryError, match=r"\(N, H, W\)"):
        plane.from_display(np.zeros((4, 5)))
    with pytest.raises(GeometryError, match="three numbers"):
        plane.nxy_to_ijk([1, 2])

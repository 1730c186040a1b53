"""Slices along any plane: pixels are voxels, shown radiologically, whatever the storage and the direction."""

from __future__ import annotations

import time
from itertools import permutations, product

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from SAMLungSegLib.boxes import IndexBox, box_of, box_of_size
from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.volume import ReformattedSlice, Volume, axial_plane, reformat_volume

DISPLAYED = np.arange(60, dtype=np.int16).reshape(3, 4, 5)  # to superior, posterior, left
STEPS = np.array([(0, 0, 2.5), (0, -0.75, 0), (-0.5, 0, 0)])
ORIGIN = np.array([10.0, 20.0, 30.0])
STORAGES = [(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]
TURNS = [np.eye(3), Rotation.from_euler("xyz", (20, -15, 10), degrees=True).as_matrix()]
RIGHT, ANTERIOR, SUPERIOR = np.eye(3)
LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])


def stored(axes: tuple[int, ...], flips: tuple[bool, ...], turn: np.ndarray) -> Volume:
    """DISPLAYED, turned in the patient, as a file holds it whose axes K, J, I are its axes `axes`, some reversed."""
    steps, origin, array = STEPS[list(axes)], ORIGIN.copy(), DISPLAYED.transpose(axes)
    for axis, is_flipped in enumerate(flips):
        if is_flipped:
            array, origin = np.flip(array, axis), origin + steps[axis] * (array.shape[axis] - 1)
            steps[axis] = -steps[axis]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn @ steps[::-1].T, turn @ origin
    return Volume(array, matrix)


def cut_at(volume: Volume, turn: np.ndarray, normal: np.ndarray, shown: tuple[float, float, float]) -> ReformattedSlice:
    """A reformat through the place of DISPLAYED[shown]."""
    return reformat_volume(volume.size_kji, volume.ijk_to_ras, turn @ normal, turn @ (ORIGIN + np.array(shown) @ STEPS))


def voxels_of(reformat: ReformattedSlice) -> np.ndarray:
    """Bool (K, J, I)."""
    mask = np.zeros(reformat.plane.size_kji, bool)
    reformat.put(np.ones(reformat.size_hw, bool), mask)
    return mask


def all_ijk(size_kji: tuple[int, int, int]) -> np.ndarray:
    """(K, J, I, 3)."""
    return np.stack(np.meshgrid(*(np.arange(size) for size in size_kji), indexing="ij")[::-1], axis=-1)


# ---- along the volume's own axes


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("axes", "flips"), STORAGES)
def test_every_storage_order_shows_the_same_axial_coronal_and_sagittal_slice(axes, flips, turn):
    volume = stored(axes, flips, turn)
    for normal, orientation, expected in (
        (SUPERIOR, "axial", DISPLAYED[1]),
        (ANTERIOR, "coronal", DISPLAYED[::-1, 2]),
        (-RIGHT, "sagittal", DISPLAYED[::-1, :, 3]),
    ):
        reformat = cut_at(volume, turn, normal, (1, 2, 3))
        assert reformat.orientation == orientation
        assert np.array_equal(reformat.sample(volume.array_kji), expected)
        assert np.array_equal(reformat.take(volume.array_kji), expected)
        assert reformat.inside_hw.all()
        assert volume.array_kji[reformat.voxels_kji()].tolist() == expected.ravel().tolist()


@pytest.mark.parametrize(("axes", "flips"), STORAGES[::5])
def test_an_axial_cut_is_the_slice_that_the_whole_volume_is_displayed_by(axes, flips):
    volume = stored(axes, flips, TURNS[1])
    plane = axial_plane(volume)
    for n, displayed in enumerate(plane.to_display(volume.array_kji)):
        reformat = reformat_volume(volume.size_kji, volume.ijk_to_ras, TURNS[1] @ SUPERIOR, plane.nxy_to_ras((n, 0, 0)))
        assert np.array_equal(reformat.sample(volume.array_kji), displayed)
        assert reformat.spacing_hw_mm == pytest.approx(plane.spacing_hw_mm)
        points_ijk = plane.nxy_to_ijk([(n, 0, 0), (n, 4, 2)])
        assert reformat.ijk_to_xy(points_ijk).tolist() == [[0, 0], [4, 2]]
        assert np.allclose(reformat.xy_to_ijk([(0, 0), (4, 2)]), points_ijk, atol=1e-12)


def test_an_axial_cut_of_an_image_stored_in_lps_is_the_array_itself():
    array = np.random.default_rng(0).normal(size=(4, 5, 6))
    reformat = reformat_volume(array.shape, LPS_TO_RAS, SUPERIOR, (0, 0, 2))
    assert np.array_equal(reformat.sample(array), array[2])
    coronal = reformat_volume(array.shape, LPS_TO_RAS, ANTERIOR, (0, -3, 0))
    assert np.array_equal(coronal.sample(array), array[::-1, 3])
    sagittal = reformat_volume(array.shape, LPS_TO_RAS, RIGHT, (-1, 0, 0))
    assert np.array_equal(sagittal.sample(array), array[::-1, :, 1])


def test_a_sheared_stack_is_cut_along_its_slices():
    volume = stored((0, 1, 2), (False, False, False), TURNS[0])
    sheared = volume.ijk_to_ras.copy()
    sheared[1, 2] = 1.0  # a tilted gantry: slices move to anterior by 1 mm on their way up
    reformat = reformat_volume(volume.size_kji, sheared, SUPERIOR, (0, 0, 32.5))
    assert np.array_equal(reformat.sample(volume.array_kji), DISPLAYED[1])


@pytest.mark.parametrize(("axes", "flips"), STORAGES)
def test_a_plane_half_way_picks_the_slice_above_in_every_storage_order(axes, flips):
    volume = stored(axes, flips, TURNS[1])
    for error in (-1e-5, 0.0, 1e-5):
        reformat = cut_at(volume, TURNS[1], SUPERIOR, (0.5 + error, 0, 0))
        assert np.array_equal(reformat.take(volume.array_kji), DISPLAYED[1])
        assert np.array_equal(reformat.sample(volume.array_kji), np.rint((DISPLAYED[0] + DISPLAYED[1]) / 2))


def test_the_errors_of_float_matrices_change_nothing():
    array = np.random.default_rng(0).normal(size=(40, 50, 60))
    matrix = LPS_TO_RAS.copy()
    matrix[:3, :3] *= 0.7031250123
    tilted = Rotation.from_euler("xyz", (3e-7, -2e-7, 1e-7)).as_matrix() @ SUPERIOR
    for start, slice_ in ((20, 20), (20.5, 21)):
        exact = reformat_volume(array.shape, matrix, SUPERIOR, (-20, -20, start * 0.7031250123))
        rough = reformat_volume(array.shape, matrix, tilted, (-20, -20, start * 0.7031250123 + 3e-6))
        assert np.array_equal(np.unique(np.nonzero(voxels_of(rough))[0]), [slice_])
        assert np.array_equal(voxels_of(rough), voxels_of(exact))
    assert np.array_equal(
        reformat_volume(array.shape, matrix, tilted, (-20, -20, 20 * 0.703125)).sample(array), array[20]
    )


def test_ties_of_a_tilted_plane_all_go_one_way():
    size_kji, slope = (20, 12, 12), np.array([0.5, 0, 1])
    exact = voxels_of(reformat_volume(size_kji, np.eye(4), slope, (0, 0, 10)))
    for error in (1e-7, -1e-7):
        tilted = slope + np.array([error, error, 0])
        assert np.array_equal(voxels_of(reformat_volume(size_kji, np.eye(4), tilted, (0, 0, 10 + error))), exact)
    k_of_row = [np.flatnonzero(exact[:, 0, i]).tolist() for i in range(5)]
    assert k_of_row == [[10], [10], [9], [9], [8]]  # at 10, 9.5, 9, 8.5, 8


# ---- along any plane


def random_case(seed: int) -> tuple[tuple[int, int, int], np.ndarray, np.ndarray, np.ndarray]:
    """Size, ijk_to_ras (turned, flipped, permuted, anisotropic), and a random plane through a random voxel's middle."""
    rng = np.random.default_rng(seed)
    size_kji = tuple(int(size) for size in rng.integers(5, 24, 3))
    steps = Rotation.random(random_state=seed).as_matrix() * rng.uniform(0.5, 5, 3) * rng.choice([-1, 1], 3)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = steps[:, rng.permutation(3)], rng.uniform(-200, 200, 3)
    voxel = rng.integers(0, size_kji)[::-1]
    return size_kji, matrix, rng.normal(size=3), matrix[:3, :3] @ voxel + matrix[:3, 3]


@pytest.fixture(params=range(20))
def case(request):
    return random_case(request.param)


def test_a_click_in_the_middle_of_a_voxel_of_the_cut_writes_exactly_that_voxel(case):
    size_kji, matrix, normal, point = case
    reformat = reformat_volume(size_kji, matrix, normal, point)
    for k, j, i in np.argwhere(voxels_of(reformat))[::7]:
        clicked_ras = matrix[:3, :3] @ (i, j, k) + matrix[:3, 3]
        ijk = np.linalg.solve(matrix[:3, :3], clicked_ras - matrix[:3, 3])
        assert reformat.contains(ijk)
        x, y = np.rint(reformat.ijk_to_xy(ijk)).astype(int)
        pixels, labelmap = np.zeros(reformat.size_hw, np.uint8), np.zeros(size_kji, np.uint8)
        pixels[y, x] = 2
        reformat.put(pixels, labelmap)
        assert np.argwhere(labelmap).tolist() == [[k, j, i]]


def test_what_is_put_is_taken_and_nothing_else_changes(case):
    reformat = reformat_volume(*case)
    rng = np.random.default_rng(0)
    before = rng.integers(0, 9, reformat.plane.size_kji).astype(np.uint8)
    labelmap, pixels = before.copy(), rng.integers(10, 19, reformat.size_hw).astype(np.uint8)
    reformat.put(pixels, labelmap)
    changed = labelmap != before
    assert np.array_equal(reformat.take(labelmap), np.where(reformat.inside_hw, pixels, 0))
    assert changed.sum() == reformat.inside_hw.sum()
    assert np.array_equal(changed, voxels_of(reformat))
    indices = reformat.voxels_kji()
    assert np.array_equal(labelmap[indices], pixels[reformat.inside_hw])


def test_the_cut_contains_its_voxels_and_no_others(case):
    reformat = reformat_volume(*case)
    assert np.array_equal(reformat.contains(all_ijk(reformat.plane.size_kji)), voxels_of(reformat))


def test_the_voxels_are_those_nearest_to_the_plane(case):
    """Every line of voxels along the axis that the plane is steepest to has one, at most half a voxel away."""
    size_kji, matrix, normal, point = case
    mask = voxels_of(reformat_volume(size_kji, matrix, normal, point))
    along_ijk = normal @ matrix[:3, :3]
    steepest = int(np.argmax(np.abs(along_ijk)))
    distance = ((all_ijk(size_kji) @ matrix[:3, :3].T + matrix[:3, 3] - point) @ normal) / along_ijk[steepest]
    assert np.abs(distance[mask]).max() <= 0.5 + 1e-3
    assert mask[np.abs(distance) < 0.5 - 1e-3].all()
    assert mask.sum(axis=2 - steepest).max() == 1


def test_the_cut_is_no_larger_than_its_voxels(case):
    inside = reformat_volume(*case).inside_hw
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_pixels_lie_on_the_plane_and_linear_values_are_sampled_exactly(case):
    size_kji, matrix, normal, point = case
    reformat = reformat_volume(size_kji, matrix, normal, point)
    slope = np.array([0.7, -1.3, 0.4])
    values = all_ijk(size_kji) @ matrix[:3, :3].T @ slope
    xy = np.stack(np.meshgrid(*(np.arange(size) for size in reformat.size_hw[::-1])), axis=-1)
    ijk = reformat.xy_to_ijk(xy)
    places = ijk @ matrix[:3, :3].T
    assert np.abs((places + matrix[:3, 3] - point) @ normal).max() < 1e-9
    assert np.allclose(reformat.ijk_to_xy(ijk), xy, atol=1e-9)
    within = ((ijk >= -1e-9) & (ijk <= np.array(size_kji[::-1]) - 1 + 1e-9)).all(axis=-1)
    assert within.sum() > 5
    assert np.allclose(reformat.sample(values)[within], (places @ slope)[within], atol=1e-9)


def test_the_display_is_never_mirrored_and_head_and_face_are_on_top(case):
    reformat = reformat_volume(*case)
    ras = reformat.xy_to_ijk([(0, 0), (1, 0), (0, 1)]) @ reformat.plane.ijk_to_ras[:3, :3].T
    to_next_column, to_next_row = ras[1] - ras[0], ras[2] - ras[0]
    towards_viewer, down, axis = {
        "axial": (1, -ANTERIOR, SUPERIOR),
        "coronal": (-1, -SUPERIOR, ANTERIOR),
        "sagittal": (1, -SUPERIOR, RIGHT),
    }[reformat.orientation]
    assert np.cross(to_next_column, to_next_row) @ axis * towards_viewer > 0
    assert to_next_row @ down > 0
    assert reformat.spacing_hw_mm == pytest.approx([np.linalg.norm(to_next_row), np.linalg.norm(to_next_column)])


def test_both_normals_and_every_point_of_a_plane_give_the_same_cut(case):
    size_kji, matrix, normal, point = case
    reformat = reformat_volume(size_kji, matrix, normal, point)
    elsewhere = point + 50 * np.cross(normal, (0.3, 0.5, 0.8))
    same = reformat_volume(size_kji, matrix, -3 * normal, elsewhere)
    assert same.key == reformat.key
    assert np.array_equal(voxels_of(same), voxels_of(reformat))


def test_pixels_of_a_tilted_plane_are_as_far_apart_as_they_are_on_it():
    steep = reformat_volume((9, 9, 9), np.diag([1.0, 1, 3, 1]), (0, 1, 1), (4, 4, 12))  # falls 1 mm in a row of 1 mm
    assert steep.orientation == "axial"
    assert steep.spacing_hw_mm == pytest.approx((np.sqrt(2), 1))
    steeper = reformat_volume((9, 9, 9), np.diag([1.0, 1, 3, 1]), (0, 2, 1), (4, 4, 12))  # falls 2 mm
    assert steeper.orientation == "coronal"
    assert steeper.spacing_hw_mm == pytest.approx((np.sqrt(5), 1))


# ---- values


def test_values_between_slices_are_interpolated_and_whole_numbers_rounded():
    array = np.array([[[0, 10]], [[3, 20]]], np.int16)
    assert reformat_volume(array.shape, LPS_TO_RAS, SUPERIOR, (0, 0, 0.25)).sample(array).tolist() == [
        [1, 12]
    ]  # 0.75, 12.5
    exact = reformat_volume(array.shape, LPS_TO_RAS, SUPERIOR, (0, 0, 0.25)).sample(array.astype(np.float32))
    assert exact.dtype == np.float32
    assert exact.tolist() == [[0.75, 12.5]]


def test_where_the_plane_leaves_the_volume_there_is_the_lowest_value_and_no_label():
    array = np.full((3, 2, 9), 7, np.int16)
    array[2, 0, 0] = -5
    reformat = reformat_volume(array.shape, LPS_TO_RAS, (0.5, -0.75, 1), (0, 0, 0))  # k = 0.5 i - 0.75 j
    assert reformat.inside_hw.tolist() == [[True] * 6 + [False], [False] + [True] * 6]
    assert reformat.sample(array).tolist() == [[7] * 6 + [-5], [-5] + [7] * 6]
    assert reformat.sample(array, outside=1).tolist() == [[7] * 6 + [1], [1] + [7] * 6]
    assert reformat.take(array).tolist() == [[7] * 6 + [0], [0] + [7] * 6]
    assert not reformat.contains((6, 0, 2))
    assert not reformat.contains((0, 1, 0))


def test_values_that_are_no_numbers_stay_in_their_own_voxels():
    array = np.ones((3, 4, 4), np.float32)
    array[2], array[1, 0, 0] = np.nan, np.inf
    on_slice = reformat_volume(array.shape, LPS_TO_RAS, SUPERIOR, (0, 0, 1)).sample(array)
    assert np.isinf(on_slice[0, 0]) and np.isfinite(on_slice).sum() == 15
    tilted = reformat_volume(array.shape, LPS_TO_RAS, (0, 0.25, 1), (0, 0, 1)).sample(array)  # at 1, 1.25, 1.5, 1.75
    assert np.isfinite(tilted[0]).sum() == 3
    assert np.isnan(tilted[1:]).all()


def test_only_the_pixels_asked_for_are_put():
    labelmap = np.zeros((3, 2, 2), np.uint8)
    reformat = reformat_volume(labelmap.shape, LPS_TO_RAS, SUPERIOR, (0, 0, 1))
    reformat.put(np.full((2, 2), 5), labelmap, where_hw=np.array([[True, False], [False, False]]))
    assert np.argwhere(labelmap).tolist() == [[1, 0, 0]]


def test_an_aligned_slice_of_512_pixels_is_sampled_in_less_than_10_ms():
    array = np.zeros((40, 512, 512), np.int16)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        reformat_volume(array.shape, LPS_TO_RAS, SUPERIOR, (0, 0, 20)).sample(array)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.010


# ---- boxes


def test_a_box_is_shown_by_the_slices_that_it_spans():
    size_kji = (10, 20, 30)
    box = ((4.0, 5.5, 3.0), (11.0, 12.25, 6.0))
    shown = {k: reformat_volume(size_kji, LPS_TO_RAS, SUPERIOR, (0, 0, k)).box_xyxy(*box) for k in range(10)}
    assert [k for k, xyxy in shown.items() if xyxy] == [3, 4, 5, 6]
    assert shown[3] == shown[6] == (4.0, 5.5, 11.0, 12.25)
    coronal = reformat_volume(size_kji, LPS_TO_RAS, ANTERIOR, (0, -8, 0))
    assert coronal.box_xyxy(*box) == coronal.box_xyxy(*box[::-1]) == (4.0, 3.0, 11.0, 6.0)  # rows are 9 - k
    assert reformat_volume(size_kji, LPS_TO_RAS, ANTERIOR, (0, -13, 0)).box_xyxy(*box) is None


def test_of_a_box_only_the_part_that_a_tilted_plane_meets_is_shown():
    reformat = reformat_volume(
        (10, 20, 30), LPS_TO_RAS, (0.5, 0, 1), (0, 0, 0)
    )  # k = 0.5 i, so 3, 3, 4, 4 at i = 5, 6, 7, 8
    assert reformat.size_hw == (20, 20)
    assert reformat.box_xyxy((0, 2, 3), (29, 9, 4)) == (4.5, 2.0, 8.5, 9.0)
    assert reformat.box_xyxy((6, 2, 0), (7.25, 9, 9)) == (6.0, 2.0, 7.25, 9.0)
    assert reformat.box_xyxy((0, 2, 3), (4, 9, 4)) is None


# ---- borders


def test_an_image_of_one_slice_is_cut_anywhere_within_its_thickness():
    xray = np.arange(30, dtype=np.uint8).reshape(1, 5, 6)
    for height in (-0.5, -0.3, 0, 0.4, 0.5):
        reformat = reformat_volume(xray.shape, LPS_TO_RAS, SUPERIOR, (-2, -3, height))
        assert np.array_equal(reformat.sample(xray), xray[0])
        assert np.array_equal(reformat.take(xray), xray[0])
        assert reformat.contains((3, 2, 0))
    line = reformat_volume(xray.shape, LPS_TO_RAS, RIGHT, (-2, 0, 0))
    assert line.size_hw == (1, 5)
    assert np.array_equal(line.sample(xray), xray[0, :, 2][None])


@pytest.mark.parametrize("normal", [RIGHT, ANTERIOR, SUPERIOR])
def test_planes_that_touch_the_outer_faces_show_the_outer_slices(normal):
    size_kji = (4, 5, 6)
    for end, slice_ in ((-0.5, 0), (np.abs(size_kji[::-1] @ normal) - 0.5, -1)):
        mask = voxels_of(reformat_volume(size_kji, np.eye(4), normal, normal * end))
        expected = np.zeros(size_kji, bool)
        np.moveaxis(expected, 2 - int(np.argmax(normal)), 0)[slice_] = True
        assert np.array_equal(mask, expected)


@pytest.mark.parametrize(
    ("normal", "point"), [((0, 0, 1), (0, 0, 3.6)), ((0, 0, 1), (0, 0, -0.6)), ((1, 1, 1), (9, 9, 9))]
)
def test_a_plane_beside_the_volume_is_refused(normal, point):
    with pytest.raises(GeometryError, match="does not meet the volume; move the slice view into the volume"):
        reformat_volume((4, 5, 6), np.eye(4), normal, point)


@pytest.mark.parametrize(
    ("normal", "point", "matrix", "message"),
    [
        ((0, 0, 0), (0, 0, 0), np.eye(4), "normal is 0, 0, 0"),
        ((0, np.nan, 1), (0, 0, 0), np.eye(4), "normal .* three finite numbers"),
        ((0, 0, 1), (0, 0), np.eye(4), "point .* three finite numbers"),
        ((0, 0, 1), (0, 0, 0), np.diag([1.0, 0, 1, 1]), "degenerate"),
        ((0, 0, 1), (0, 0, 0), np.eye(3), r"\(4, 4\)"),
    ],
)
def test_what_is_no_plane_or_no_geometry_is_refused(normal, point, matrix, message):
    with pytest.raises(GeometryError, match=message):
        reformat_volume((4, 5, 6), matrix, normal, point)


def test_arrays_of_another_size_are_refused():
    reformat = reformat_volume((4, 5, 6), LPS_TO_RAS, SUPERIOR, (0, 0, 1))
    with pytest.raises(GeometryError, match=r"\(H, W\) \(5, 6\)"):
        reformat.put(np.zeros((6, 5)), np.zeros((4, 5, 6)))
    for wrong in (reformat.sample, reformat.take, lambda array: reformat.put(np.zeros((5, 6)), array)):
        with pytest.raises(GeometryError, match=r"\(4, 5, 6\)"):
            wrong(np.zeros((4, 6, 5)))


# ---- parts of a labelmap


@pytest.mark.parametrize("seed", range(12))
def test_a_part_of_a_labelmap_gives_and_takes_the_same_pixels_as_the_whole(seed):
    rng = np.random.default_rng(seed)
    axes, flips = STORAGES[rng.integers(len(STORAGES))]
    volume = stored(axes, flips, TURNS[seed % 2])
    normal = [SUPERIOR, ANTERIOR, RIGHT, SUPERIOR + 0.4 * RIGHT - 0.3 * ANTERIOR][seed % 4]
    reformat = cut_at(volume, TURNS[seed % 2], normal, (1, 2, 2))
    labels = rng.integers(1, 9, volume.size_kji).astype(np.uint8)
    start = rng.integers(0, np.array(volume.size_kji))
    stop = np.minimum(start + rng.integers(1, 4, 3), volume.size_kji)
    box = IndexBox(tuple(start.tolist()), tuple(stop.tolist()))
    inside = np.zeros_like(labels)
    inside[box.within(box_of_size(volume.size_kji))] = 1
    part = labels[box.within(box_of_size(volume.size_kji))]
    taken = reformat.take_part(part, box)
    np.testing.assert_array_equal(taken, reformat.take(labels * inside))

    where_hw = (taken > 0) & (rng.random(taken.shape) < 0.7)
    written, expected = part.copy(), labels.copy()
    reformat.put_part(20 + taken, written, box, where_hw)
    reformat.put(20 + taken, expected, where_hw)
    np.testing.assert_array_equal(written, expected[box.within(box_of_size(volume.size_kji))])

    touched = np.zeros_like(labels)
    reformat.put(np.ones_like(taken), touched, where_hw)
    assert reformat.box_of(where_hw) == box_of(touched) or not where_hw.any()


def test_a_box_is_the_same_voxels_however_it_is_displayed():
    volume = stored((2, 0, 1), (True, False, True), np.eye(3))
    plane = axial_plane(volume)
    box = IndexBox((1, 0, 2), (3, 2, 3))
    marked = np.zeros(volume.size_kji, bool)
    marked[box.within(box_of_size(volume.size_kji))] = True
    assert box_of(plane.to_display(marked)) == plane.box_to_display(box)
    assert plane.box_from_display(plane.box_to_display(box)) == box

"""Labelmaps coded as runs, and boxes of voxels: small, and exact."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.boxes import IndexBox, box_of, box_of_size
from SAMLungSegLib.coding import CodedArray, CodedSlice, bytes_of


def test_a_slice_is_kept_as_its_runs():
    coded = CodedSlice.of(np.array([[0] * 8, [0, 0, 2, 2, 2, 2, 1, 1]], np.uint8))
    assert coded.starts.tolist() == [0, 10, 14]
    assert coded.values.tolist() == [0, 2, 1]
    assert coded.nbytes == 3 * 4 + 3
    assert coded.decoded().tolist() == [[0] * 8, [0, 0, 2, 2, 2, 2, 1, 1]]


def test_a_slice_of_noise_takes_no_more_than_it_does_as_it_is():
    noise = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
    coded = CodedSlice.of(noise)
    assert coded.nbytes == noise.nbytes
    np.testing.assert_array_equal(coded.decoded(), noise)
    noise[...] = 7
    assert coded.decoded().max() == 2


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5])
@pytest.mark.parametrize("shape", [(3, 20, 30), (1, 1, 40), (4, 1, 1), (2, 0, 3)])
def test_every_array_comes_back_exactly_also_from_a_flipped_view(dtype, share, shape):
    rng = np.random.default_rng(round(share * 1000))
    array = np.where(rng.random(shape) < share, rng.integers(0, 100, shape), 3).astype(dtype)
    for one in (array, array[::-1, :, ::-1]):
        coded = CodedArray.of(one)
        decoded = coded.decoded()
        assert decoded.dtype == dtype
        np.testing.assert_array_equal(decoded, one)
        target = np.full(shape, 9, dtype)[:, ::-1]
        coded.put(target)
        np.testing.assert_array_equal(target, one)


def test_lungs_of_many_voxels_take_a_hundredth():
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    lungs = np.stack([((x / 0.6) ** 2 + (y / 0.8) ** 2 < 1).astype(np.uint8)] * 50)
    assert bytes_of(CodedArray.of(lungs).slices) < 0.06 * lungs.nbytes


def test_slices_that_did_not_change_are_shared_and_count_once():
    array = np.zeros((4, 20, 20), np.uint8)
    array[:, 5:9, 3:7] = 1
    before = CodedArray.of(array)
    array[2, 0, 0] = 2
    after = CodedArray.of(array, like=before)
    assert after.differing(before) == [2]
    assert [one is another for one, another in zip(before.slices, after.slices, strict=True)] == [
        True,
        True,
        False,
        True,
    ]
    assert bytes_of([*before.slices, *after.slices]) == bytes_of(before.slices) + after.slices[2].nbytes


def test_slices_of_another_type_are_not_equal():
    zeros = [CodedSlice.of(np.zeros((4, 20), dtype)) for dtype in (np.uint8, np.int16)]
    assert not zeros[0].is_equal(zeros[1])
    assert not zeros[0].is_equal(CodedSlice.of(np.zeros((20, 4), np.uint8)))
    assert zeros[0].is_equal(CodedSlice.of(np.zeros((4, 20), np.uint8)))


# ---- boxes


def test_the_box_around_what_is_not_zero_is_the_smallest():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 6] = mask[3, 4, 5] = True
    assert box_of(mask) == IndexBox((1, 2, 5), (4, 5, 7))
    assert box_of(np.zeros((2, 3, 4))).is_empty


def test_boxes_are_joined_and_clipped():
    one, other = IndexBox((0, 2, 3), (4, 5, 6)), IndexBox((2, 0, 4), (9, 4, 5))
    empty = IndexBox((7, 7, 7), (7, 9, 9))
    assert one.joined(other) == IndexBox((0, 0, 3), (9, 5, 6))
    assert one.clipped(other) == IndexBox((2, 2, 4), (4, 4, 5))
    assert (one.joined(empty), empty.joined(one)) == (one, one)
    assert one.clipped(IndexBox((5, 0, 0), (6, 9, 9))).is_empty
    assert box_of_size((9, 9, 9)).holds(one)
    assert not one.holds(other)
    assert one.holds(empty)
    array = np.arange(60).reshape(3, 4, 5)
    inner, outer = IndexBox((3, 2, 1), (4, 4, 3)), IndexBox((2, 1, 1), (5, 5, 6))
    np.testing.assert_array_equal(array[inner.within(outer)], array[1:2, 1:3, 0:2])

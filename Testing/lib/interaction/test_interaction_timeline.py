"""The slices of a volume in one row: ranks of predicted quality, locks, prompts, disagreement, and where to go next."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib import Volume
from SAMLungSegLib.interaction import Locks, Place, Timeline
from SAMLungSegLib.volume import axial_plane

LPS = np.diag([-1.0, -1, 1, 1])
DOWNWARDS = np.array([[0, 0, -2.0, 40], [0, 3.0, 0, -10], [-1.0, 0, 0, 5], [0, 0, 0, 1]])  # axial along I, flipped
SIZE = (4, 4, 4)


def plane_of(to_ras=LPS, size=SIZE):
    return axial_plane(Volume(np.zeros(size, np.int16), to_ras, "small"))


def filled(size=SIZE):
    return np.ones(size, np.uint8)


def timeline(labelmap, plane, scores=(), held=(), **how):
    known = Locks().of_grid("grid", plane.size_nhw[0]).with_automatic(dict(enumerate(plane.to_display(labelmap))))
    return Timeline.of(labelmap, plane, known.holding(held), scores, **how)


def test_quality_is_a_rank_within_the_volume_and_nothing_where_nothing_was_found():
    labelmap = filled()
    labelmap[3] = 0
    one = timeline(labelmap, plane_of(), [0.9, 0.5, np.nan, 0.1])
    np.testing.assert_array_equal(one.ranks, [1, 0, np.nan, np.nan])
    assert np.isnan(timeline(labelmap, plane_of(), [0.9]).ranks).all()


def test_a_large_slice_with_a_lower_iou_comes_before_a_small_one_with_a_much_lower_one():
    labelmap = np.zeros(SIZE, np.uint8)
    labelmap[0, 0, :2] = 1  # 2 pixels, 1.0 of them expected wrong
    labelmap[1, :, :] = 1  # 16 pixels, 1.6
    labelmap[2, 0, 0] = 1  # 1 pixel, 0.9
    np.testing.assert_array_equal(timeline(labelmap, plane_of(), [0.5, 0.9, 0.1, 0.9]).ranks, [0.5, 0, 1, np.nan])


@pytest.mark.parametrize("to_ras", [LPS, DOWNWARDS])
def test_locks_and_prompts_are_of_their_slices_however_the_volume_is_stored(to_ras):
    plane = plane_of(to_ras)
    one = timeline(filled(), plane, held=[Place.of(plane, 2)], prompted=[1, 99])
    assert one.locked.tolist() == [False, False, True, False]
    assert one.prompted.tolist() == [False, True, False, False]
    assert one.places == tuple(Place.of(plane, n) for n in range(4))


def test_disagreement_is_one_minus_dice_with_sides():
    labelmap, reference = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    labelmap[1, 0, :4] = 1
    reference[1, 0, 2:4] = 1
    labelmap[2, 0], reference[2, 0] = 1, 2
    reference[3] = 1
    one = timeline(labelmap, plane_of(), reference_kji=reference)
    np.testing.assert_allclose(one.disagreement, [np.nan, 1 - 4 / 6, 1, 1])


def test_the_most_doubtful_slices_come_first_without_neighbours_and_locked_ones():
    size, spaced = (20, 2, 2), np.diag([-1.0, -1, 5, 1])
    plane = plane_of(spaced, size)
    scores = np.linspace(0.8, 0.99, 20)
    scores[[7, 9, 15, 2]] = [0.1, 0.2, 0.3, 0.4]
    assert timeline(filled(size), plane, scores).doubtful == (7, 15, 2)
    locked = timeline(filled(size), plane, scores, held=[Place(0, 7)])
    assert locked.doubtful == (9, 15, 2)
    assert locked.next_doubtful(None) == locked.next_doubtful(3) == 9
    assert locked.next_doubtful(9) == 15
    assert locked.next_doubtful(2) == 9
    assert locked.next_doubtful(9, -1) == 2


def test_from_a_slice_that_was_locked_since_the_way_goes_on_and_not_back():
    size = (20, 2, 2)
    plane = plane_of(np.diag([-1.0, -1, 5, 1]), size)
    scores = np.linspace(0.8, 0.99, 20)
    scores[[7, 15, 2]] = [0.1, 0.3, 0.4]
    one = timeline(filled(size), plane, scores, held=[Place(0, 15)])
    assert one.doubtful == (7, 2)
    assert one.next_doubtful(15) == 2
    assert one.next_doubtful(15, -1) == 7
    assert one.next_doubtful(2) == 7


def test_without_scores_nothing_is_doubtful():
    one = timeline(filled(), plane_of())
    assert one.doubtful == ()
    assert one.next_doubtful(1) is None

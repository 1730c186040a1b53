"""What stays when a volume is segmented again: slices that were painted or accepted; and what boxes say of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from slices_in_work import LPS, SIZE_KJI, volume

from SAMLungSegLib.interaction import Locks, SortedBoxes, merge_volume
from SAMLungSegLib.interaction.locks import MOST_DIGESTS
from SAMLungSegLib.prompts.volume import VolumeBox
from SAMLungSegLib.volume import axial_plane

FLIPPED = np.array([[0, 0, -2.0, 40], [0, 3.0, 0, -10], [-1.0, 0, 0, 5], [0, 0, 0, 1]])  # slices along I, downwards

PLANE = axial_plane(volume())


def block(value, part, size=SIZE_KJI):
    labelmap = np.zeros(size, np.uint8)
    labelmap[part] = value
    return labelmap


def merged(before, found, locks=None, to_ras=LPS, labels=(1, 2), **how):
    plane = axial_plane(volume(to_ras, found.shape))
    locks = (locks or Locks()).of_grid("grid", plane.size_nhw[0])
    return merge_volume(before, found, labels, plane, locks, **how)


def test_where_nothing_was_there_everything_is_written_and_nothing_is_locked():
    found = block(1, np.s_[:, 1:3, 1:3])
    one = merged(None, found)
    np.testing.assert_array_equal(one.labelmap_kji, found)
    assert one.kept == 0
    assert one.locks.locked(found, axial_plane(volume())) == ()


@pytest.mark.parametrize(("to_ras", "part", "number"), [(LPS, np.s_[2, 0, 0], 2), (FLIPPED, np.s_[0, 0, 2], 3)])
def test_a_painted_slice_stays_and_its_neighbours_do_not(to_ras, part, number):
    found = block(1, np.s_[:, 1:3, 1:5])
    first = merged(None, found, to_ras=to_ras)
    painted = first.labelmap_kji.copy()
    painted[part] = 2
    again = block(2, np.s_[:, 1:3, 1:5])
    second = merged(painted, again, first.locks, to_ras)
    expected, stacked = again.copy(), axial_plane(volume(to_ras)).axes[0]
    place = [slice(None)] * 3
    place[stacked] = part[stacked]
    expected[tuple(place)] = painted[tuple(place)]
    np.testing.assert_array_equal(second.labelmap_kji, expected)
    assert (second.kept, second.kept_slices) == (1, (number,))
    assert second.locks.locked(expected, axial_plane(volume(to_ras))) == (number,)
    np.testing.assert_array_equal(merged(painted, again, first.locks, to_ras, keep=False).labelmap_kji, again)


def test_lungs_of_another_hand_are_locked_where_there_are_any():
    before, found = block(1, np.s_[0]), block(2, np.s_[:2])
    one = merged(before, found)
    np.testing.assert_array_equal(one.labelmap_kji, block(1, np.s_[0]) + block(2, np.s_[1]))
    assert one.kept_slices == (0,)


def test_a_slice_that_is_kept_and_would_look_the_same_is_not_counted():
    before = block(1, np.s_[0])
    one = merged(before, before.copy())
    assert (one.kept, one.kept_slices) == (0, (0,))


def test_a_slice_that_the_editable_area_cuts_does_not_count_as_edited_at_the_next_run():
    area = block(1, np.s_[:, :, :3]) > 0
    first = merged(None, block(1, np.s_[:, 1:3]), editable_kji=area)
    np.testing.assert_array_equal(first.labelmap_kji, block(1, np.s_[:, 1:3, :3]))
    second = merged(first.labelmap_kji, block(2, np.s_[:, 1:3]), first.locks)
    np.testing.assert_array_equal(second.labelmap_kji, block(2, np.s_[:, 1:3]))
    assert second.kept == 0


def test_a_painted_slice_that_the_editable_area_spares_is_still_edited_although_edits_were_to_be_replaced():
    first = merged(None, block(1, np.s_[:, 1:3]))
    painted = first.labelmap_kji.copy()
    painted[1, 4, 5] = 2
    area = block(1, np.s_[:, :, :3]) > 0
    second = merged(painted, block(2, np.s_[:, 1:3]), first.locks, keep=False, editable_kji=area)
    assert second.labelmap_kji[1, 4, 5] == 2
    third = merged(second.labelmap_kji, block(1, np.s_[:, 1:3]), second.locks)
    assert third.kept_slices == (1,)
    assert third.labelmap_kji[1, 4, 5] == 2


def test_locks_come_back_from_their_text_and_damage_locks_nothing_else():
    locks = merged(None, block(1, np.s_[1])).locks
    assert Locks.from_text(locks.to_text(PLANE), PLANE) == locks
    assert json.loads(locks.to_text(PLANE))["grid"] == "grid"
    assert Locks.from_text(Locks().to_text(PLANE), PLANE) == Locks()
    for text in (None, "", "{", "[]", "3", '{"grid": "a"}', '{"grid": "a", "slices": 7}'):
        assert Locks.from_text(text, PLANE) == Locks()


def test_locks_of_another_grid_say_nothing():
    locks = merged(None, block(1, np.s_[1])).locks
    assert locks.of_grid("grid", 3) == locks
    assert locks.of_grid("other", 3) == locks.of_grid("grid", 4).of_grid("other", 3) == Locks("other", ("", "", ""))


def test_where_everything_was_taken_back_nothing_is_locked():
    first = merged(None, block(1, np.s_[:, 1:3]))
    again = merged(np.zeros(SIZE_KJI, np.uint8), block(2, np.s_[:, 1:3]), first.locks)
    np.testing.assert_array_equal(again.labelmap_kji, block(2, np.s_[:, 1:3]))
    assert again.kept_slices == ()


def test_the_same_labels_again_push_no_earlier_ones_out():
    first, second = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
    locks = Locks("grid", ("",)).with_automatic({0: first})
    for _ in range(MOST_DIGESTS):
        locks = locks.with_automatic({0: second})
    assert locks.is_automatic(0, first)


def test_earlier_automatic_labels_are_known_up_to_a_number():
    locks = Locks("grid", ("",))
    slices = [np.full((2, 2), value, np.uint8) for value in range(MOST_DIGESTS + 1)]
    for one in slices:
        locks = locks.with_automatic({0: one})
    assert [locks.is_automatic(0, one) for one in slices] == [False] + [True] * MOST_DIGESTS


def test_boxes_are_told_apart_by_the_slices_that_they_reach_through():
    thick, flat = VolumeBox((0, 0, 0), (3, 3, 2)), VolumeBox((0, 0, 0.6), (3, 3, 1.6))
    coronal = VolumeBox((0, 1, 0), (3, 1, 2))
    boxes = SortedBoxes.of((thick, flat, coronal), volume())
    assert boxes.thick == (thick,)
    assert boxes.flat == (VolumeBox((0, 0, 1), (3, 3, 1)),)
    assert boxes.otherwise == (coronal,)
    along_i = SortedBoxes.of((VolumeBox((0.6, 0, 0), (1.6, 3, 2)),), volume(FLIPPED))
    assert along_i.flat == (VolumeBox((1, 0, 0), (1, 3, 2)),)
    assert SortedBoxes.of((flat,), volume(size_kji=(1, 5, 6))).thick == (flat,)

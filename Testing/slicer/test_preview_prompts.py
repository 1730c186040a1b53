"""Which of a user's prompts concern a slice, and which part of it they may change."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib import VolumeBox, VolumePoint
from SAMLungSegLib.volume.cut import cut_volume
from SAMLungSegSlicer.live.prompts import SlicePrompts


@pytest.fixture
def cut():
    """Slice k = 2 of 4 x 8 x 10 voxels of 1 mm, whose i runs to the left and j to posterior: pixel (x, y) is (i, j)."""
    ijk_to_ras = np.diag([-1.0, -1, 1, 1])
    return cut_volume((4, 8, 10), ijk_to_ras, (0, 0, 1), (0, 0, 2))


def test_only_prompts_on_the_slice_count(cut):
    points = (VolumePoint((3, 4, 2)), VolumePoint((3, 4, 1)), VolumePoint((5, 6, 2.4), positive=False))
    boxes = (VolumeBox((1, 1, 1), (4, 5, 3)), VolumeBox((1, 1, 3), (4, 5, 3)))
    prompts = SlicePrompts.of(cut, points, boxes)
    assert prompts.points_xy == ((3, 4, True), (5, 6, False))
    assert prompts.rectangles == ((1, 1, 4, 5),)


def test_points_alone_concern_the_whole_slice(cut):
    prompts = SlicePrompts.of(cut, (VolumePoint((3, 4, 2)),), ())
    assert list(prompts.parts().values()) == [None]
    assert prompts.insideMask(set()) is None


def test_a_box_concerns_the_pixels_in_it_and_the_points_in_it(cut):
    box = VolumeBox((1, 2, 2), (3, 5, 2))
    alone, with_point = (SlicePrompts.of(cut, points, (box,)) for points in ((), (VolumePoint((2, 3, 2)),)))
    assert list(alone.parts().values()) == [(1, 2, 3, 5)]
    assert alone.parts().keys() != with_point.parts().keys()
    expected = np.zeros((8, 10), bool)
    expected[2:6, 1:4] = True
    np.testing.assert_array_equal(alone.insideMask(set()), expected)


def test_a_negative_point_outside_a_box_changes_nothing_and_a_positive_one_concerns_the_slice(cut):
    box = VolumeBox((1, 2, 2), (3, 5, 2))
    negative, positive = (
        SlicePrompts.of(cut, (VolumePoint((8, 1, 2), positive=sign),), (box,)) for sign in (False, True)
    )
    assert list(negative.parts().values()) == [(1, 2, 3, 5)]
    assert list(positive.parts().values()) == [None]


def test_a_part_that_is_done_is_left_out_of_the_mask(cut):
    first, second = VolumeBox((0, 0, 2), (2, 2, 2)), VolumeBox((5, 5, 2), (7, 7, 2))
    done = set(SlicePrompts.of(cut, (), (first,)).parts())
    mask = SlicePrompts.of(cut, (), (first, second)).insideMask(done)
    assert mask[5:8, 5:8].all()
    assert mask.sum() == 9


def test_a_slice_without_prompts_has_no_part(cut):
    assert SlicePrompts.of(cut, (VolumePoint((3, 4, 0)),), ()).parts() == {}

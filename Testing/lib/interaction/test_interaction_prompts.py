"""Which of a user's prompts concern a slice, and which part of it they may change."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib import Volume, VolumeBox, VolumePoint
from SAMLungSegLib.interaction import SlicePrompts
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt
from SAMLungSegLib.prompts.volume import VolumePrompts
from SAMLungSegLib.volume.reformat import reformat_volume

TO_RAS = np.diag([-1.0, -1, 1, 1])


@pytest.fixture
def reformat():
    """Slice k = 2 of 4 x 8 x 10 voxels of 1 mm, whose i runs to the left and j to posterior: pixel (x, y) is (i, j)."""
    return reformat_volume((4, 8, 10), TO_RAS, (0, 0, 1), (0, 0, 2))


def on(reformat, points=(), boxes=()):
    volume = Volume(np.zeros((4, 8, 10), np.int16), TO_RAS, "small")
    return SlicePrompts.of(reformat, VolumePrompts(tuple(points), tuple(boxes)), volume)


def test_only_prompts_on_the_slice_count(reformat):
    points = (VolumePoint((3, 4, 2)), VolumePoint((3, 4, 1)), VolumePoint((5, 6, 2.4), positive=False))
    boxes = (VolumeBox((1, 1, 1), (4, 5, 3)), VolumeBox((1, 1, 3), (4, 5, 3)))
    prompts = on(reformat, points, boxes)
    assert prompts.points == (PointPrompt((3, 4)), PointPrompt((5, 6), positive=False))
    assert prompts.boxes == (BoxPrompt((1, 1, 4, 5)),)


def test_points_alone_concern_the_whole_slice(reformat):
    prompts = on(reformat, (VolumePoint((3, 4, 2)),), ())
    assert list(prompts.parts().values()) == [None]
    assert prompts.changeable_hw().all()


def test_a_box_concerns_the_pixels_in_it_and_the_points_in_it(reformat):
    box = VolumeBox((1, 2, 2), (3, 5, 2))
    alone, with_point = (on(reformat, points, (box,)) for points in ((), (VolumePoint((2, 3, 2)),)))
    assert list(alone.parts().values()) == [BoxPrompt((1, 2, 3, 5))]
    assert alone.parts().keys() != with_point.parts().keys()
    expected = np.zeros((8, 10), bool)
    expected[2:6, 1:4] = True
    np.testing.assert_array_equal(alone.changeable_hw(), expected)


def test_a_negative_point_outside_a_box_changes_nothing_and_a_positive_one_concerns_the_slice(reformat):
    box = VolumeBox((1, 2, 2), (3, 5, 2))
    negative, positive = (on(reformat, (VolumePoint((8, 1, 2), positive=sign),), (box,)) for sign in (False, True))
    assert list(negative.parts().values()) == [BoxPrompt((1, 2, 3, 5))]
    assert list(positive.parts().values()) == [None]


def test_a_part_that_is_done_is_left_out_of_the_mask(reformat):
    first, second = VolumeBox((0, 0, 2), (2, 2, 2)), VolumeBox((5, 5, 2), (7, 7, 2))
    done = set(on(reformat, (), (first,)).parts())
    mask = on(reformat, (), (first, second)).changeable_hw(done)
    assert mask[5:8, 5:8].all()
    assert mask.sum() == 9


def test_a_slice_without_prompts_has_no_part(reformat):
    assert on(reformat, (VolumePoint((3, 4, 0)),), ()).parts() == {}


def test_a_box_of_several_slices_says_that_there_is_nothing_outside_and_one_of_another_slice_says_nothing(reformat):
    point = VolumePoint((3, 4, 2))
    here, other = VolumeBox((1, 1, 1.5), (4, 5, 2.5)), VolumeBox((1, 1, 2.5), (4, 5, 3.5))
    below, across = VolumeBox((1, 1, 0), (4, 5, 1.4)), VolumeBox((1, 1, 0), (4, 1.4, 1))
    flat_here, flat_other = VolumeBox((1, 1, 2), (4, 5, 2)), VolumeBox((1, 1, 3), (4, 5, 3))
    for boxes, expected in (
        ((other,), ()),
        ((across,), ()),
        ((here, other), (flat_here, flat_other)),
        ((below,), (below,)),
        ((below, other), (below, flat_other)),
    ):
        assert on(reformat, (point,), boxes).of_volume == VolumePrompts((point,), expected)


@pytest.mark.parametrize("k", [1, 2])
def test_a_box_that_is_one_slice_thick_is_in_that_slice_only(k):
    box = VolumeBox((1, 1, k - 0.5), (4, 5, k + 0.5))
    cuts = [reformat_volume((4, 8, 10), TO_RAS, (0, 0, 1), (0, 0, one)) for one in range(4)]
    assert [bool(on(one, boxes=(box,)).boxes) for one in cuts] == [one == k for one in range(4)]


def test_a_box_drawn_in_a_coronal_slice_is_in_that_slice_only():
    box = VolumeBox((1, 2.5, 0), (4, 3.5, 3))
    cuts = [reformat_volume((4, 8, 10), TO_RAS, (0, 1, 0), (0, -one, 0)) for one in range(8)]
    assert [bool(on(one, boxes=(box,)).boxes) for one in cuts] == [one == 3 for one in range(8)]


def test_a_box_in_an_image_of_one_slice_needs_no_k():
    image = Volume(np.zeros((1, 8, 10), np.int16), TO_RAS, "image")
    reformat = reformat_volume((1, 8, 10), TO_RAS, (0, 0, 1), (0, 0, 0))
    shown = SlicePrompts.of(reformat, VolumePrompts(boxes=(VolumeBox((1, 1), (4, 5)),)), image)
    assert shown.boxes == (BoxPrompt((1, 1, 4, 5)),)

"""ClickSAM's clicks by hand: how many, where, in which kind of component; and simulated users who give them."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.errors import PromptError, SettingsError
from SAMLungSegLib.prompts.simulated import spread_points
from SAMLungSegLib.prompts.simulated_users import (
    SIMULATED_USERS,
    clicks_of_area,
    clicksam_clicks,
    clicksam_user,
    largest_error_user,
    simulated_user,
)

SIDE = 256  # of slices whose pixels are those of the rule


def mask_of(*boxes, size_hw=(SIDE, SIDE)):
    """Bool (H, W) with (top, left, height, width) filled."""
    mask = np.zeros(size_hw, bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


NOTHING = mask_of()


def counts(clicks):
    return tuple(len(kind) for kind in clicks)


@pytest.mark.parametrize(
    ("area", "clicks"),
    [
        (1, 0),
        (100, 0),  # int(1 + 2 (2 - 3)) = -1
        (999, 0),
        (1000, 1),
        (3162, 1),
        (3163, 2),  # 10 ** 3.5 = 3162.3
        (10_000, 3),
        (31_623, 4),
        (99_999, 4),
        (100_000, 5),
        (10_000_000, 5),  # 9, at most 5
    ],
)
def test_a_component_gets_clicks_by_the_logarithm_of_its_area(area, clicks):
    assert clicks_of_area(area) == clicks


def test_what_is_right_and_what_is_missed_and_what_is_wrongly_taken_get_their_own_clicks():
    reference = mask_of((10, 10, 100, 100), (150, 150, 50, 50))  # 10000 and 2500 pixels
    prediction = mask_of((10, 10, 100, 100), (150, 20, 40, 40))  # 10000 right, 1600 wrongly taken
    clicks = clicksam_clicks(prediction, reference)
    assert counts(clicks) == (3, 1, 1)
    kinds = (prediction & reference, prediction & ~reference, ~prediction & reference)
    for places, where in zip(clicks, kinds, strict=True):
        assert all(where[int(y), int(x)] for x, y in places)


def test_users_click_positive_on_what_belongs_to_the_object_and_negative_on_what_does_not():
    reference, prediction = mask_of((10, 10, 40, 40)), mask_of((100, 10, 40, 40))
    # squares of 40 pixels have their middle between pixels: one of the four around it is the nearest
    assert clicksam_clicks(prediction, reference) == ((), ((29, 119),), ((29, 29),))
    assert clicksam_user(prediction, reference, ()) == (((29, 119), False), ((29, 29), True))


def test_places_are_x_then_y_on_images_that_are_not_square():
    reference = mask_of((10, 200, 21, 41), size_hw=(64, 256))  # 861 pixels: one by the rule of 5 % of nothing
    assert clicksam_clicks(mask_of(size_hw=(64, 256)), reference).missed == ((220, 20),)


@pytest.mark.parametrize("size_hw", [(256, 128), (512, 256), (1024, 512)])
def test_the_same_picture_gets_as_many_clicks_at_any_resolution(size_hw):
    step = size_hw[0] // 256
    reference = mask_of((0, 0, 100 * step, 100 * step), size_hw=size_hw)
    assert counts(clicksam_clicks(reference, reference)) == (3, 0, 0)


def test_the_longer_side_counts():
    reference = mask_of((0, 0, 50, 20), size_hw=(64, 128))  # 1000 pixels, four times as many at a side of 256
    assert counts(clicksam_clicks(reference, reference)) == (2, 0, 0)


def test_components_that_touch_by_a_corner_are_one():
    reference = mask_of((0, 0, 25, 20), (25, 20, 25, 20))  # 500 and 500 pixels
    assert counts(clicksam_clicks(reference, reference)) == (1, 0, 0)


def test_a_small_false_component_gets_a_click_from_5_percent_of_what_is_right():
    right = (0, 0, 50, 80)  # 4000 pixels: 2 clicks; 5 % are 200
    for width, clicks in ((20, 1), (19, 0)):
        extra = (100, 0, 10, width)
        assert counts(clicksam_clicks(mask_of(right, extra), mask_of(right))) == (2, clicks, 0)
        assert counts(clicksam_clicks(mask_of(right), mask_of(right, extra))) == (2, 0, clicks)


def test_the_5_percent_are_of_the_right_components_that_have_clicks():
    right = ((0, 0, 50, 80), (60, 0, 30, 30))  # 4000 pixels, and 900, which get none and end the kind
    assert counts(clicksam_clicks(mask_of(*right, (100, 0, 10, 20)), mask_of(*right))) == (2, 1, 0)


def test_every_false_component_gets_a_click_where_nothing_is_right_enough_for_one():
    right = (0, 0, 20, 20)  # 400 pixels: none
    assert counts(clicksam_clicks(mask_of(right, (100, 0, 1, 1)), mask_of(right, (200, 0, 1, 2)))) == (0, 1, 1)


def test_a_kind_ends_with_the_component_that_would_pass_ten_clicks():
    # 3 + 3 + 3 of squares of 100 pixels' side; 1600 pixels would be the tenth, 3600 the tenth and eleventh
    three = ((0, 0, 100, 100), (0, 120, 100, 100), (120, 0, 100, 100))
    exactly = mask_of(*three, (120, 120, 40, 40))
    assert counts(clicksam_clicks(exactly, exactly)) == (10, 0, 0)
    beyond = mask_of(*three, (120, 120, 60, 60), (190, 120, 40, 40))
    assert counts(clicksam_clicks(beyond, beyond)) == (9, 0, 0), "the last one, which would fit, comes after the end"


def test_small_false_components_get_ten_clicks_at_most():
    specks = mask_of(*((20 * row, 20 * column, 2, 2) for row in range(4) for column in range(4)))
    assert counts(clicksam_clicks(specks, NOTHING)) == (0, 10, 0)


def test_clicks_of_a_component_of_two_blobs_go_to_both():
    blobs = mask_of((0, 0, 41, 41), (0, 100, 41, 41), (20, 41, 1, 59))  # a bridge of one pixel: 3421 pixels
    reference = clicksam_clicks(NOTHING, blobs).missed
    assert len(reference) == 2
    (left_x, left_y), (right_x, right_y) = sorted(reference)
    # each half is a square and half of the bridge: the mean x of the left one is (1681 * 20 + 29.5 * 55.5) / 1710.5
    assert (left_x, left_y, right_x, right_y) == (21, 20, 119, 20)


def test_centres_outside_of_a_bent_component_are_moved_onto_it():
    ring = mask_of((0, 0, 101, 101)) & ~mask_of((5, 5, 91, 91))  # 1920 pixels: one click, its mean is in the hole
    [(x, y)] = clicksam_clicks(NOTHING, ring).missed
    assert ring[int(y), int(x)]


def test_points_are_spread_over_no_more_pixels_than_there_are():
    assert spread_points(mask_of((3, 4, 1, 2)), 5) == [(4, 3), (5, 3)]
    with pytest.raises(PromptError):
        spread_points(NOTHING, 1)


def test_random_predictions_are_clicked_inside_components_ten_times_at_most_and_always_alike():
    rng = np.random.default_rng(0)
    for size_hw in ((60, 80), (90, 50)):
        prediction, reference = (rng.uniform(size=(2, *size_hw)) > 0.4).repeat(3, 1).repeat(3, 2)
        clicks = clicksam_clicks(prediction, reference)
        kinds = (prediction & reference, prediction & ~reference, ~prediction & reference)
        for places, where in zip(clicks, kinds, strict=True):
            assert len(set(places)) == len(places) <= 10
            assert all(where[int(y), int(x)] for x, y in places)
        assert clicksam_clicks(prediction, reference) == clicks


def test_users_keep_their_clicks_where_nothing_is_to_correct():
    mask = mask_of((0, 0, 100, 100))
    first = (((3.0, 4.0), True),)
    assert clicksam_user(mask, mask, first) == largest_error_user(mask, mask, first) == first


def test_one_user_adds_a_click_and_the_other_begins_anew():
    reference = mask_of((10, 10, 41, 41))
    first = (((3.0, 4.0), False),)
    assert largest_error_user(NOTHING, reference, first) == (*first, ((30, 30), True))
    assert clicksam_user(NOTHING, reference, first) == (((30, 30), True),)


def test_users_are_known_by_name():
    assert simulated_user("clicksam") is SIMULATED_USERS["clicksam"]
    with pytest.raises(SettingsError, match="largest-error, clicksam"):
        simulated_user("nobody")

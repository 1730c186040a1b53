"""What clicks mean, whichever network made the mask."""

import numpy as np
import pytest

from SAMLungSegLib.models.compact.clicks import obeying, with_clicked_changes


def disc(shape, x, y, radius, inside=5.0, outside=-5.0):
    rows, columns = np.indices(shape)
    return np.where(np.hypot(columns - x, rows - y) <= radius, inside, outside).astype(np.float32)


def test_only_the_connected_change_that_holds_a_click_is_taken():
    before = disc((60, 100), 30, 30, 10)
    after = np.maximum(before, np.maximum(disc((60, 100), 44, 30, 5), disc((60, 100), 80, 30, 8)))
    taken = with_clicked_changes(before, after, [((44.0, 30.0), True)]) > 0
    assert taken[30, 46] and not taken[30, 80]
    assert not (taken & ~(after > 0)).any()


def test_a_click_on_what_is_right_changes_no_logit():
    before = disc((60, 100), 30, 30, 10)
    after = disc((60, 100), 60, 30, 20)
    clicks = [((30.0, 30.0), True), ((5.0, 5.0), False), ((90.0, 50.0), False)]
    assert with_clicked_changes(before, after, clicks[:1]) is before
    assert np.array_equal(with_clicked_changes(before, after, clicks), before)


def test_a_positive_click_takes_no_removal_and_a_negative_one_no_addition():
    before = disc((60, 60), 30, 30, 10)
    larger, smaller = disc((60, 60), 30, 30, 14), disc((60, 60), 30, 30, 6)
    assert np.array_equal(with_clicked_changes(before, smaller, [((38.0, 30.0), True)]), before)
    assert np.array_equal(with_clicked_changes(before, larger, [((42.0, 30.0), False)]), before)
    assert (with_clicked_changes(before, larger, [((42.0, 30.0), True)])[30, 43]) > 0


@pytest.mark.parametrize("positive", [True, False])
def test_a_click_that_is_not_obeyed_changes_a_small_disc_that_joins_what_is_there(positive):
    sign = 1 if positive else -1
    logits = sign * disc((200, 200), 60, 100, 30)  # the wanted label is within 30 px of (60, 100)
    changed = obeying(logits, [((95.0, 100.0), positive)])
    wanted = (changed > 0) == positive
    assert wanted[100, 95] and wanted[100, 91]  # 4 px on the way to it, of which there are 5, half as many more
    assert wanted[100, 60:103].all() and not wanted[100, 103]
    assert not ((changed > 0) != (logits > 0))[:, 104:].any()


def test_a_click_far_from_everything_changes_no_more_than_a_small_disc():
    changed = obeying(np.full((200, 100), -9, np.float32), [((50.0, 20.0), True)]) > 0
    rows, columns = np.nonzero(changed)
    assert changed[20, 50]
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (19, 21, 49, 51)


def test_clicks_of_both_kinds_side_by_side_are_all_obeyed():
    logits = np.full((100, 100), -9, np.float32)
    logits[40:60, 80:] = 9
    clicks = [((70.0, 50.0), True), ((68.0, 50.0), False), ((66.0, 50.0), True), ((90.0, 50.0), False)]
    changed = obeying(logits, clicks) > 0
    assert [bool(changed[50, int(x)]) for (x, _), _ in clicks] == [True, False, True, False]


def test_clicks_that_are_obeyed_change_nothing():
    logits = disc((50, 50), 25, 25, 10)
    assert obeying(logits, [((25.0, 25.0), True), ((2.0, 2.0), False)]) is logits


def test_a_click_on_the_edge_of_the_image_lies_in_its_nearest_pixel():
    changed = obeying(np.full((20, 30), -1, np.float32), [((29.5, 19.5), True), ((-0.5, -0.5), True)]) > 0
    assert changed[19, 29] and changed[0, 0]

"""Corrections that the corrector learns from: what clicks ask for, and what a mask alone does."""

import numpy as np
import pytest

from SAMLungSegLib.training.corrections import (
    Correction,
    bent,
    clicked_pieces_changed,
    error_click,
    neutral_click,
    other_outline,
)


def square(*edges, side=64):
    mask = np.zeros((side, side), bool)
    for top, bottom, left, right in edges:
        mask[top:bottom, left:right] = True
    return mask


def test_only_the_wrong_pieces_that_hold_a_click_are_put_right():
    before = square((10, 30, 10, 30))
    target = square((10, 30, 10, 36), (45, 55, 45, 55))  # one piece is missing at the side, another elsewhere
    assert np.array_equal(clicked_pieces_changed(before, target, [((33.0, 20.0), True)]), square((10, 30, 10, 36)))
    assert np.array_equal(clicked_pieces_changed(before, target, [((20.0, 20.0), True)]), before)
    assert np.array_equal(clicked_pieces_changed(target, before, [((50.0, 50.0), False)]), square((10, 30, 10, 36)))


def test_what_no_click_is_about_stays_as_likely_as_it_was():
    logits = np.where(square((10, 30, 10, 30)), 3.0, -2.0).astype(np.float32)
    target = square((10, 30, 10, 36), (45, 55, 45, 55))
    one = Correction(logits, target, np.ones_like(target), False, [((33.0, 20.0), True)])
    wanted, weight = one.wanted()
    assert wanted[20, 33] == 1 and wanted[20, 40] == 0
    assert wanted[50, 50] == pytest.approx(1 / (1 + np.exp(2.0))), "that error was not clicked"
    assert weight[50, 50] == 1 and weight[20, 33] == 1 + 4 + 6 + 10 and weight[20, 40] == 1 + 4


def test_a_mask_alone_is_to_become_its_target_where_that_is_known():
    target, known = square((10, 30, 10, 30)), square((0, 32, 0, 64))
    wanted, weight = Correction(np.zeros((64, 64), np.float32), target, known, True, []).wanted()
    assert np.array_equal(wanted > 0, target) and np.array_equal(weight > 0, known)


def test_clicks_are_on_errors_or_where_all_is_right_and_never_where_nothing_is_known():
    rng = np.random.default_rng(0)
    present, target, known = square((10, 30, 10, 30)), square((10, 30, 20, 40)), square((0, 64, 0, 35))
    for _ in range(40):
        (x, y), positive = error_click(present & known, target & known, rng)
        assert present[int(y), int(x)] != target[int(y), int(x)] and target[int(y), int(x)] == positive
        (x, y), positive = neutral_click(present, target, known, rng)
        assert present[int(y), int(x)] == target[int(y), int(x)] == positive and known[int(y), int(x)]


def test_other_outlines_differ_in_pieces_and_bent_ones_only_at_the_border():
    rng = np.random.default_rng(1)
    mask = square((10, 50, 10, 28), (10, 50, 36, 54))
    shares = [np.mean(other_outline(mask, rng) != mask) for _ in range(40)]
    assert np.mean(np.array(shares) > 0) > 0.9 and max(shares) < 0.4
    inner, outer = square((18, 42, 18, 20), (18, 42, 44, 46)), ~square((2, 58, 2, 62))
    for _ in range(20):
        changed = bent(mask, rng)
        assert changed[inner].all() and not changed[outer].any()


@pytest.mark.parametrize("seed", range(8))
def test_every_kind_of_correction_can_be_clicked_four_times(seed):
    rng = np.random.default_rng(seed)
    reference = square((10, 50, 10, 28), (10, 50, 36, 54))
    own = np.where(square((14, 50, 10, 28)), 4.0, -4.0).astype(np.float32)
    one = Correction.draw(own, reference, np.ones_like(reference), rng)
    for _ in range(4):
        one.click(one.mask > 0, rng)
    assert len(one.clicks) == (0 if one.is_mask_alone else 4)
    wanted, weight = one.wanted()
    assert wanted.min() >= 0 and wanted.max() <= 1 and weight.min() >= 0

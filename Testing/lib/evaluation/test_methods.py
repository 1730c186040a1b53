"""Several methods on one CT: Dice of each lung by hand, seconds, a stop in the middle."""

from __future__ import annotations

import numpy as np
import pytest
from small_lungs import lungs, ras_matrix

from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.evaluation.methods import Method, compare_methods
from SAMLungSegLib.volume import Volume

IMAGE = Volume(np.zeros(lungs().shape, np.int16), ras_matrix())
REFERENCE = Volume(lungs(), ras_matrix())


def without_a_slice(cancelled):
    """Of the right lung's three slices two, of the left one's two one."""
    found = lungs()
    found[3] = 0
    return found


PERFECT, SHORT = Method("perfect", lambda cancelled: lungs()), Method("short", without_a_slice)


def test_each_method_has_the_dice_of_each_lung_against_the_reference():
    table = compare_methods(IMAGE, [PERFECT, SHORT], REFERENCE)
    assert list(table.columns) == ["method", "dice_right", "dice_left", "seconds"]
    assert table["method"].tolist() == ["perfect", "short"]
    assert table["dice_right"].tolist() == pytest.approx([1, 2 * 2 / (2 + 3)])
    assert table["dice_left"].tolist() == pytest.approx([1, 2 * 1 / (1 + 2)])
    assert (table["seconds"] >= 0).all()


def test_without_a_reference_the_others_are_compared_with_the_first():
    table = compare_methods(IMAGE, [SHORT, PERFECT])
    assert np.isnan(table["dice_right"][0])
    assert table["dice_right"][1] == pytest.approx(0.8)


def test_a_reference_on_another_grid_is_met_in_the_patient():
    cropped = Volume(lungs()[1:, 1:], ras_matrix(origin=(0, -1, 4)))
    assert compare_methods(IMAGE, [PERFECT], cropped)["dice_left"].tolist() == [1]


def test_a_lung_that_neither_has_has_no_dice():
    right = np.where(lungs() == 1, 1, 0).astype(np.uint8)
    table = compare_methods(IMAGE, [Method("right", lambda cancelled: right)], Volume(right, ras_matrix()))
    assert np.isnan(table["dice_left"][0])


def test_a_stop_between_methods_ends_it_and_progress_counts_methods():
    told = []
    with pytest.raises(CancelledError):
        compare_methods(
            IMAGE,
            [PERFECT, SHORT, PERFECT],
            REFERENCE,
            progress=lambda done, total: told.append((done, total)),
            cancelled=lambda: len(told) == 2,
        )
    assert told == [(0, 3), (1, 3)]

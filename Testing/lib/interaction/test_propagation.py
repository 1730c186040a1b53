"""Corrections of some slices carried to the others, on small stacks whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.errors import CancelledError, GeometryError
from SAMLungSegLib.interaction import propagate

LUNG, TISSUE, DISEASE = -850, 50, -300
SQUARE = (slice(8, 24), slice(8, 20))  # what is found automatically
GROWTH = (slice(8, 24), slice(20, 28))  # what belongs to it, too
SPACING = (2.0, 1.0, 1.0)


def stack(slices: int = 21, diseased: range = range(21), label: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A lung of which the right part is diseased in some slices, aerated tissue in none, and was never found."""
    automatic = np.zeros((slices, 32, 40), np.uint8)
    automatic[:, SQUARE[0], SQUARE[1]] = label
    values = np.full(automatic.shape, TISSUE, np.int16)
    values[automatic > 0] = LUNG
    for index in diseased:
        values[index][GROWTH] = DISEASE
    return automatic, values


def grown(labels_hw: np.ndarray, label: int = 1) -> np.ndarray:
    """The slice with the diseased part."""
    after = labels_hw.copy()
    after[GROWTH] = label
    return after


def agree(one: np.ndarray, other: np.ndarray, pixels: int = 12) -> bool:
    """Equal but for rounded corners."""
    return int((one != other).sum()) <= pixels


def test_a_square_that_grew_in_one_slice_grows_in_its_neighbours_both_ways():
    automatic, values = stack()
    found = propagate(automatic, values, SPACING, {10: grown(automatic[10])})
    for index in (8, 9, 11, 12):
        assert agree(found.labels[index], grown(automatic[index]))
    for index in (4, 16):  # 12 mm away less of it is sure, and nothing beyond
        assert (found.labels[index][GROWTH] == 1).mean() > 0.5
        assert (grown(automatic[index])[found.labels[index] == 1] == 1).all()
    assert 10 not in found.labels


def test_a_square_that_shrank_shrinks_in_its_neighbours():
    automatic, values = stack()
    automatic, wanted = np.stack([grown(one) for one in automatic]), automatic[10]
    found = propagate(automatic, values, SPACING, {10: wanted})
    assert agree(found.labels[9], wanted)
    assert agree(found.labels[11], wanted)


def test_it_ends_where_the_image_does_not_look_like_the_corrected_slice():
    automatic, values = stack(diseased=range(6, 13))
    found = propagate(automatic, values, SPACING, {10: grown(automatic[10])})
    assert set(found.labels) == {6, 7, 8, 9, 11, 12}
    assert [(one.step, one.last, one.end) for one in found.reaches] == [(-1, 6, "image"), (1, 12, "image")]


def test_lung_that_was_missed_is_followed_where_its_values_show_it():
    automatic, values = stack(diseased=range(0))
    automatic[:14] = 0  # slices 8 to 13 have lung that grows by two columns a slice, from the first on
    wanted = {}
    for index in range(8, 14):
        wanted[index] = automatic[index].copy()
        wanted[index][8:24, 8 : 20 - 2 * (13 - index)] = 1
        values[index] = np.where(wanted[index] > 0, LUNG, TISSUE)
    values[:8] = TISSUE
    found = propagate(automatic, values, SPACING, {10: wanted[10]})
    assert found.slices == (8, 9, 11, 12, 13)
    for index in found.slices:
        np.testing.assert_array_equal(found.labels[index], wanted[index])
    assert [(one.last, one.end) for one in found.reaches] == [(8, "image"), (13, "image")]


def test_values_do_not_lead_out_of_the_lung():
    automatic, values = stack(diseased=range(0))
    automatic[:, 8:24, 14:20] = 0  # lung that was missed
    wanted = automatic[10].copy()
    wanted[SQUARE] = 1
    values[11:, 12:20, 20:] = LUNG  # from here on open to the air around the patient
    values[11:, :, 32:] = LUNG
    found = propagate(automatic, values, SPACING, {10: wanted})
    assert found.slices == tuple(range(10))
    assert found.reaches[1].end == "image"


def test_a_lock_stops_it():
    automatic, values = stack()
    found = propagate(automatic, values, SPACING, {10: grown(automatic[10])}, locked=(8,))
    assert 9 in found.labels
    assert not {0, 1, 2, 3, 4, 5, 6, 7, 8} & set(found.labels)
    assert found.reaches[0].end == "lock"


def test_it_ends_at_the_ends_of_the_volume_and_far_away():
    automatic, values = stack(slices=50, diseased=range(50))
    found = propagate(automatic, values, SPACING, {3: grown(automatic[3])})
    towards_first, towards_last = found.reaches
    assert (towards_first.last, towards_first.end) == (0, "volume end")
    assert towards_last.last < 30
    assert towards_last.end in ("distance", "image")


def test_between_two_corrections_it_agrees_with_both():
    automatic, values = stack(diseased=range(0))
    narrow, wide = automatic[5].copy(), automatic[11].copy()
    narrow[8:24, 20:22], wide[8:24, 20:28] = 1, 1
    found = propagate(automatic, values, SPACING, {5: narrow, 11: wide})
    widths = [int((found.labels[index][16] == 1).sum()) for index in range(6, 11)]
    assert widths == [15, 16, 17, 18, 19]  # from 14 to 20


def test_spacing_is_that_of_rows_and_of_columns():
    automatic, values = stack()
    wide = propagate(automatic, values, (2.0, 1.0, 0.5), {10: grown(automatic[10])})
    turned = propagate(
        automatic.transpose(0, 2, 1), values.transpose(0, 2, 1), (2.0, 0.5, 1.0), {10: grown(automatic[10]).T}
    )
    assert wide.slices == turned.slices
    for index in wide.slices:
        np.testing.assert_array_equal(wide.labels[index], turned.labels[index].T)
    assert agree(wide.labels[9], grown(automatic[9]))


def test_a_stack_of_another_direction_gives_the_same():
    automatic, values = stack(diseased=range(6, 13))
    there = propagate(automatic, values, SPACING, {10: grown(automatic[10])})
    back = propagate(automatic[::-1, ::-1], values[::-1, ::-1], SPACING, {10: grown(automatic[10])[::-1]})
    assert {20 - index for index in back.labels} == set(there.labels)
    for index, labels_hw in there.labels.items():
        np.testing.assert_array_equal(back.labels[20 - index][::-1], labels_hw)


def test_where_nothing_was_corrected_nothing_changes():
    automatic, values = stack()
    for corrected in ({}, {10: automatic[10]}):
        found = propagate(automatic, values, SPACING, corrected, locked=(3,))
        assert found.slices == ()
        assert found.reaches == ()


def test_propagating_again_gives_the_same():
    automatic, values = stack()
    before = automatic.copy()
    first, again = (propagate(automatic, values, SPACING, {10: grown(automatic[10])}) for _ in range(2))
    np.testing.assert_array_equal(automatic, before)
    assert first.slices == again.slices
    for index in first.slices:
        np.testing.assert_array_equal(first.labels[index], again.labels[index])


def test_only_the_editable_part_changes():
    automatic, values = stack()
    editable = np.ones(automatic.shape, bool)
    editable[:, :16], editable[11] = False, False
    found = propagate(automatic, values, SPACING, {10: grown(automatic[10])}, editable_nhw=editable)
    assert 11 not in found.labels
    np.testing.assert_array_equal(found.labels[9][:16], automatic[9][:16])
    assert agree(found.labels[9][16:], grown(automatic[9])[16:])


@pytest.mark.parametrize("label", [1, 2])
def test_a_label_never_takes_pixels_of_the_other(label):
    automatic, values = stack(label=label)
    automatic[:, 8:24, 24:30] = 3 - label
    corrected = automatic[10].copy()
    corrected[8:24, 20:30] = label  # all up to the end of the other
    corrected[8:24, 28:30] = 3 - label
    found = propagate(automatic, values, SPACING, {10: corrected})
    assert set(np.unique(found.labels[9])) == {0, 1, 2}
    assert agree(found.labels[9], corrected, 16)
    assert (found.labels[9][8:24, 29] == 3 - label).all()


def test_locked_and_corrected_slices_never_change():
    rng = np.random.default_rng(5)
    for _ in range(30):
        automatic = np.zeros((12, 24, 24), np.uint8)
        automatic[:, 6:18, 4:10], automatic[:, 6:18, 14:20] = 1, 2
        values = rng.integers(-900, 100, automatic.shape).astype(np.int16)
        corrected = {}
        for index in rng.choice(12, int(rng.integers(1, 4)), replace=False):
            corrected[int(index)] = automatic[index].copy()
            y, x = rng.integers(0, 18, 2)
            corrected[int(index)][y : y + 6, x : x + 6] = rng.integers(0, 3)
        locked = {int(index) for index in rng.choice(12, 3, replace=False)}
        found = propagate(automatic, values, (3.0, 1.0, 2.0), corrected, locked)
        assert not set(found.labels) & (locked | set(corrected))
        assert all(set(np.unique(one)) <= {0, 1, 2} for one in found.labels.values())


def test_a_preview_has_the_changed_pixels():
    automatic, values = stack()
    found = propagate(automatic, values, SPACING, {10: grown(automatic[10])})
    assert found.changed_pixels()[9] == int((found.labels[9] != automatic[9]).sum())
    assert not found.changed_hw(10).any()


def test_it_says_how_far_it_is_and_can_be_cancelled():
    automatic, values = stack()
    steps = []
    propagate(automatic, values, SPACING, {10: grown(automatic[10])}, progress=lambda *step: steps.append(step))
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert steps[-1] == (len(steps), len(steps))
    with pytest.raises(CancelledError, match="nothing was written"):
        propagate(automatic, values, SPACING, {10: grown(automatic[10])}, cancelled=lambda: True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values_nhw": np.zeros((3, 4, 4))}, "for all"),
        ({"spacing_nhw_mm": (0.0, 1.0, 1.0)}, "positive mm"),
        ({"corrected": {21: np.zeros((32, 40), np.uint8)}}, "expected 0 to 20"),
        ({"corrected": {1: np.zeros((32, 41), np.uint8)}}, r"expected \(32, 40\)"),
        ({"locked": (-1,)}, "expected 0 to 20"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    automatic, values = stack()
    given = {"automatic_nhw": automatic, "values_nhw": values, "spacing_nhw_mm": SPACING, "corrected": {}} | change
    with pytest.raises(GeometryError, match=message):
        propagate(**given)

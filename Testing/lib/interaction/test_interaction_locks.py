"""Slices that a person accepted or locked stay, in whichever plane, until the person lifts them."""

from __future__ import annotations

import numpy as np
import pytest
from slices_in_work import LPS, SIZE_KJI, labels, planes_of, predicted, prompts, volume

from SAMLungSegLib import VolumePoint
from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.interaction import AutomaticLungs, Locks, Place, Predicted, Session, SlicePrompts, merge_volume
from SAMLungSegLib.prompts.volume import VolumePrompts
from SAMLungSegLib.volume import axial_plane
from SAMLungSegLib.volume.reformat import reformat_volume

FOUND = "11..22 " * 5
FLIPPED = np.array([[0, 0, -2.0, 40], [0, 3.0, 0, -10], [-1.0, 0, 0, 5], [0, 0, 0, 1]])  # axial along I, downwards

PLANE = axial_plane(volume())


def found():
    return np.stack([labels(FOUND)] * 3)


def begun(to_ras=LPS):
    plane = axial_plane(volume(to_ras))
    work = Session(np.zeros(SIZE_KJI, np.uint8), Locks().of_grid("grid", plane.size_nhw[0]), plane)
    work.accept_volume(merged(work, found(), plane))
    return work, plane


def merged(work, result, plane, present=None, **how):
    before = np.array(work.labels_kji) if present is None else present
    automatic = AutomaticLungs.of(plane.to_display(result))
    return merge_volume(before, result, (1, 2), plane, work.locks, automatic=automatic, **how)


def accept_coronal(work, j=2):
    reformat = reformat_volume(SIZE_KJI, LPS, (0, 1, 0), (0, -j, 0))
    asked = SlicePrompts.of(reformat, VolumePrompts((VolumePoint((3.0, float(j), 1.0)),)), volume())
    work.hold(Predicted.of(asked, np.full(reformat.size_hw, 1, np.uint8), (1, 2), needs_prompt=False))
    return work.accept(work.preview())


def test_an_accepted_slice_is_locked_also_where_it_is_as_it_was_found():
    work, plane = begun()
    assert work.locks.locked(work.labels_kji, plane) == ()
    work.hold(predicted(FOUND, prompts([(0, 0, True)])))
    work.accept(work.preview())
    assert work.locks.held == {Place(0, 1)}
    assert work.locks.locked(work.labels_kji, plane) == (1,)
    assert merged(work, 3 - found(), plane).kept_slices == (1,)


def test_a_slice_that_is_segmented_without_prompts_is_not_locked():
    work, _ = begun()
    work.hold(predicted(FOUND, prompts()))
    work.accept(work.preview())
    assert not work.locks.held


def test_undo_unlocks_and_redo_locks_again_but_a_lock_of_the_user_s_own_stays():
    work, _ = begun()
    work.hold(predicted(FOUND, prompts([(0, 0, True)])))
    work.accept(work.preview())
    work.lock(Place(0, 2))
    work.undo()
    assert work.locks.held == {Place(0, 2)}
    work.redo()
    assert work.locks.held == {Place(0, 1), Place(0, 2)}


def test_a_coronal_slice_that_was_accepted_stays_and_the_axial_slices_that_it_crosses_are_not_locked():
    work, plane = begun()
    accept_coronal(work)
    assert work.locks.held == {Place(1, 2)}
    assert work.locks.locked(work.labels_kji, plane) == ()
    swapped = np.where(found() > 0, 3 - found(), 0).astype(np.uint8)
    again = merged(work, swapped, plane)
    expected = swapped.copy()
    expected[:, 2] = 1
    np.testing.assert_array_equal(again.labelmap_kji, expected)
    assert again.kept == 1
    work.accept_volume(again)
    assert work.locks.locked(work.labels_kji, plane) == ()
    np.testing.assert_array_equal(work.labels_kji, expected)


def test_an_axial_slice_that_another_hand_painted_stays_locked_when_a_coronal_one_crosses_it():
    work, plane = begun()
    present = np.array(work.labels_kji)
    present[0, 4, 2] = 1
    reformat = reformat_volume(SIZE_KJI, LPS, (0, 1, 0), (0, -2, 0))
    asked = SlicePrompts.of(reformat, VolumePrompts((VolumePoint((3.0, 2.0, 1.0)),)), volume())
    work.hold(Predicted.of(asked, np.full(reformat.size_hw, 1, np.uint8), (1, 2), needs_prompt=False))
    proposal = work.preview(reformat.take(present))
    reformat.put(proposal.labels_hw, present, proposal.inside_hw)
    work.accept(proposal, present)
    assert work.locks.locked(present, plane) == (0,)


def test_all_locks_are_lifted_when_edits_are_to_be_replaced_and_undo_brings_them_back():
    work, plane = begun()
    accept_coronal(work)
    work.hold(predicted("222222 " * 5, prompts([(0, 0, True)])))
    work.accept(work.preview())
    replaced = merged(work, found(), plane, keep=False)
    np.testing.assert_array_equal(replaced.labelmap_kji, found())
    work.accept_volume(replaced)
    assert not work.locks.held
    work.undo()
    assert work.locks.held == {Place(1, 2), Place(0, 1)}


def test_undo_brings_back_what_was_found_before():
    work, plane = begun()
    first = work.automatic
    work.accept_volume(merged(work, 3 - found(), plane))
    assert work.automatic is not first
    work.undo()
    assert work.automatic is first
    work.undo()
    assert work.automatic is None
    work.redo()
    np.testing.assert_array_equal(work.automatic.labelmap_nhw(), found())


def test_held_slices_come_back_from_their_text():
    locks = Locks("grid", ("", "")).holding([Place(1, 7), Place(0, 2)])
    assert Locks.from_text(locks.to_text(PLANE), PLANE) == locks
    assert Locks.from_text('{"grid": "g", "slices": [], "held": [[1]]}', PLANE) == Locks()
    assert Locks.from_text('{"grid": "g", "slices": [], "held": [[3, 1]]}', PLANE) == Locks()


def test_a_volume_that_is_stored_in_another_order_has_the_same_slices_locked():
    locks = Locks("grid", ("",) * 3).holding([Place(1, 4), Place(0, 2)])
    reversed_k = LPS.copy()
    reversed_k[:3, 2], reversed_k[2, 3] = -LPS[:3, 2], 2
    again = Locks.from_text(locks.to_text(PLANE), axial_plane(volume(reversed_k)))
    assert again.held == {Place(1, 4), Place(0, 0)}


def test_what_was_found_comes_back_from_its_text_and_damage_or_another_size_is_noticed():
    automatic = AutomaticLungs.of(found(), [0.98765, float("nan"), 1])
    again = AutomaticLungs.from_text(automatic.text, SIZE_KJI)
    np.testing.assert_array_equal(again.labelmap_nhw(), found())
    assert again.scores[0] == 0.9877
    assert np.isnan(again.scores[1])
    damaged = automatic.text.replace('"labels": "', '"labels": "AAAA')
    with pytest.raises(PromptError, match="damaged"):
        AutomaticLungs.from_text(damaged, SIZE_KJI).labelmap_nhw()
    for text in (None, "", "{", "[]", "7"):
        assert AutomaticLungs.from_text(text, SIZE_KJI) is None
    assert AutomaticLungs.from_text(automatic.text, (5, 3, 6)) is None


@pytest.mark.parametrize("to_ras", [LPS, FLIPPED])
def test_a_place_is_the_same_slice_however_it_is_displayed(to_ras):
    numbers = np.arange(np.prod(SIZE_KJI)).reshape(SIZE_KJI)
    for plane in planes_of(SIZE_KJI, to_ras):
        for number, slice_hw in enumerate(plane.to_display(numbers)):
            place = Place.of(plane, number)
            assert set(numbers[place.where].ravel()) == set(slice_hw.ravel())
            assert place.number_in(plane) == number


def test_a_tilted_slice_has_no_place():
    tilted = reformat_volume(SIZE_KJI, LPS, (0, 0.3, 1), (0, -2, 1))
    assert Place.of_reformat(tilted) is None
    assert Place.of_reformat(reformat_volume(SIZE_KJI, LPS, (0, 0, 1), (0, 0, 2.4))) == Place(0, 2)

"""Corrections of some slices carried to a whole volume: what counts as corrected, what stays, what is written."""

from __future__ import annotations

import numpy as np
import pytest
from slices_in_work import planes_of

from SAMLungSegLib import Volume, VolumePoint
from SAMLungSegLib.errors import CancelledError, PromptError
from SAMLungSegLib.interaction import (
    AutomaticLungs,
    Corrections,
    Locks,
    Place,
    Predicted,
    Propagation,
    Session,
    SlicePrompts,
    merge_volume,
)
from SAMLungSegLib.prompts.volume import VolumePrompts
from SAMLungSegLib.volume import axial_plane
from SAMLungSegLib.volume.reformat import reformat_volume

SIZE = (5, 6, 8)
LPS = np.diag([-1.0, -1, 1, 1])
TILTED = np.array([[0, 0.2, -2.0, 40], [0.4, 3.0, 0, -10], [-1.0, 0.2, 0, 5], [0, 0, 0, 1]])  # axial along I, downwards


def nearest(automatic_nhw, values_nhw, spacing_nhw_mm, corrected, locked=(), **how):
    """A way to propagate that tests can follow by hand: every free slice is as the corrected one nearest to it."""
    near = {n: min(corrected, key=lambda one: abs(one - n)) for n in range(len(automatic_nhw)) if n not in locked}
    return Propagation({n: corrected[one] for n, one in near.items()}, (), automatic_nhw)


class Work:
    """A session, and the labels that it and other hands write."""

    def __init__(self, to_ras=LPS, found=None):
        self.volume = Volume(np.zeros(SIZE, np.int16), to_ras, "small")
        self.plane = axial_plane(self.volume)
        self.session = Session(np.zeros(SIZE, np.uint8), Locks().of_grid("grid", self.plane.size_nhw[0]), self.plane)
        self.present = np.zeros(SIZE, np.uint8)
        self.found = np.zeros(SIZE, np.uint8)
        self.plane.to_display(self.found)[:, 1:4, 1:3] = 1
        self.plane.to_display(self.found)[:, 1:4, 4:6] = 2
        self.segment()

    def segment(self, keep=True):
        automatic = AutomaticLungs.of(self.plane.to_display(self.found))
        locks = self.session.locks
        merged = merge_volume(self.present, self.found, (1, 2), self.plane, locks, keep=keep, automatic=automatic)
        self.write(merged)

    def write(self, merged):
        self.session.accept_volume(merged)
        self.present = merged.labelmap_kji.copy()

    def accept(self, plane, number, labels_hw):
        """A person's labels for a slice of a plane, as by points that the model obeyed."""
        ras = plane.nxy_to_ras((number, 1, 1))
        normal = np.cross(plane.ijk_to_ras[:3, 2 - plane.axes[1]], plane.ijk_to_ras[:3, 2 - plane.axes[2]])
        reformat = reformat_volume(SIZE, self.volume.ijk_to_ras, normal, ras)
        assert reformat.plane.axes[0] == plane.axes[0]
        point = VolumePoint(tuple(plane.nxy_to_ijk((number, 1, 1)).tolist()))
        asked = SlicePrompts.of(reformat, VolumePrompts((point,)), self.volume)
        shown = np.zeros(SIZE, np.uint8)
        plane.to_display(shown)[number] = labels_hw
        self.session.hold(Predicted.of(asked, reformat.take(shown), (1, 2), needs_prompt=False))
        proposal = self.session.preview(reformat.take(self.present))
        reformat.put(proposal.labels_hw, self.present, proposal.inside_hw)
        self.session.accept(proposal, self.present)

    def corrections(self, plane=None):
        work = self.session
        arguments = (self.present, work.labels_kji, work.automatic, work.locks, self.plane, plane or self.plane)
        return Corrections.of(*arguments)

    def propagate(self, plane=None, **how):
        propagated = self.corrections(plane).propagated(np.zeros(SIZE), propagator=nearest, **how)
        self.write(propagated.merged)
        return propagated


def grown(work, plane, number):
    labels_hw = plane.to_display(work.present)[number].copy()
    labels_hw[0, 0] = 1
    return labels_hw


@pytest.mark.parametrize("to_ras", [LPS, TILTED])
def test_an_accepted_slice_is_carried_to_all_others_in_one_step(to_ras):
    work = Work(to_ras)
    work.accept(work.plane, 2, grown(work, work.plane, 2))
    count = work.plane.size_nhw[0]
    propagated = work.propagate()
    assert propagated.changed_slices == tuple(n for n in range(count) if n != 2)
    assert propagated.propagation.changed_hw(1).sum() == 1
    np.testing.assert_array_equal(work.plane.to_display(work.present)[:, 0, 0], [1] * count)
    expected = work.found.copy()
    work.plane.to_display(expected)[:, 0, 0] = 1
    np.testing.assert_array_equal(work.present, expected)
    assert work.session.locks.locked(work.present, work.plane) == (2,)
    work.session.undo()
    expected = work.found.copy()
    work.plane.to_display(expected)[2, 0, 0] = 1
    np.testing.assert_array_equal(work.session.labels_kji, expected)


@pytest.mark.parametrize("plane_number", [1, 2])
def test_corrections_of_coronal_and_sagittal_slices_are_carried_along_their_own_plane(plane_number):
    work = Work(TILTED)
    plane = planes_of(SIZE, TILTED)[plane_number]
    labels_hw = plane.to_display(work.present)[2].copy()
    labels_hw[-1] = 2
    work.accept(plane, 2, labels_hw)
    work.propagate(plane)
    np.testing.assert_array_equal(plane.to_display(work.present), np.stack([labels_hw] * plane.size_nhw[0]))
    assert work.session.locks.held == {Place.of(plane, 2)}


def test_it_starts_from_what_was_found_so_that_doing_it_again_changes_nothing_and_a_correction_taken_back_goes():
    work = Work()
    work.accept(work.plane, 2, grown(work, work.plane, 2))
    work.propagate()
    once = work.present.copy()
    assert work.propagate().changed_slices == ()
    np.testing.assert_array_equal(work.present, once)
    work.accept(work.plane, 4, np.zeros(SIZE[1:], np.uint8))
    work.propagate()
    assert not work.present[4].any()
    np.testing.assert_array_equal(work.present[3], once[3])
    work.session.lift(Place(0, 2), work.present)
    work.propagate()
    assert not work.present.any()


def test_what_another_hand_painted_is_a_correction_and_stays():
    work = Work()
    work.present[1, 5, 7] = 2
    corrections = work.corrections()
    assert set(corrections.corrected) == {1}
    work.propagate()
    assert (work.present[:, 5, 7] == 2).all()
    assert work.session.locks.locked(work.present, work.plane) == (1,)


def test_what_was_painted_in_a_coronal_slice_is_a_correction_of_that_slice():
    work = Work()
    coronal = planes_of(SIZE, LPS)[1]
    work.present[:, 5, 7] = 2
    assert set(work.corrections(coronal).corrected) == {coronal.size_nhw[0] - 1 - 5 if coronal.flips[0] else 5}
    work.propagate(coronal)
    assert (work.present[:, :, 7] == 2).all()
    assert Place(1, 5) in work.session.locks.held
    assert work.session.locks.locked(work.present, work.plane) == ()


def test_a_locked_slice_of_another_plane_stays_voxel_by_voxel():
    work = Work()
    work.session.lock(Place(1, 0))
    work.session.lock(Place(0, 4))
    work.accept(work.plane, 2, grown(work, work.plane, 2))
    before = work.present.copy()
    work.propagate()
    np.testing.assert_array_equal(work.present[:, 0], before[:, 0])
    np.testing.assert_array_equal(work.present[4], before[4])


def test_outside_the_editable_area_nothing_changes():
    work = Work()
    work.accept(work.plane, 2, grown(work, work.plane, 2))
    before = work.present.copy()
    area = np.zeros(SIZE, bool)
    area[:2] = True
    work.propagate(editable_kji=area)
    np.testing.assert_array_equal(work.present[2:], before[2:])
    assert (work.present[:2, 0, 0] == 1).all()


def test_without_a_result_or_a_correction_there_is_nothing_to_propagate():
    work = Work()
    with pytest.raises(PromptError, match="No slice of this plane was corrected"):
        work.corrections()
    work.accept(work.plane, 2, grown(work, work.plane, 2))
    with pytest.raises(PromptError, match="No slice of this plane"):
        work.corrections(planes_of(SIZE, LPS)[1])
    work.session.automatic = None
    with pytest.raises(PromptError, match="segment the volume first"):
        work.corrections()


def test_a_segmented_volume_takes_propagated_slices_back_and_leaves_corrected_ones():
    work = Work()
    work.accept(work.plane, 2, grown(work, work.plane, 2))
    work.propagate()
    work.segment()
    expected = work.found.copy()
    expected[2, 0, 0] = 1
    np.testing.assert_array_equal(work.present, expected)


def test_a_propagation_can_be_cancelled():
    def patient(*arguments, cancelled, **how):
        if cancelled():
            raise CancelledError("stopped")
        return nearest(*arguments, **how)

    work = Work()
    work.accept(work.plane, 2, grown(work, work.plane, 2))
    before = work.present.copy()
    with pytest.raises(CancelledError):
        work.corrections().propagated(np.zeros(SIZE), propagator=patient, cancelled=lambda: True)
    np.testing.assert_array_equal(work.present, before)


ACTIONS = ("accept", "accept", "paint", "propagate", "propagate", "segment", "lock", "lift", "undo", "redo")


@pytest.mark.parametrize("block", range(20))
def test_no_locked_voxel_ever_changes_but_by_the_user_s_own_hand(block):
    for seed in range(50 * block, 50 * block + 50):  # 1,000 sequences in all
        rng = np.random.default_rng(seed)
        work = Work(LPS if seed % 2 else TILTED)
        for _ in range(8):
            _act(rng, work)


@pytest.mark.parametrize("seed", range(40))
def test_undo_and_redo_of_any_sequence_bring_back_voxels_locks_and_what_was_found(seed):
    rng = np.random.default_rng(seed)
    work = Work(TILTED if seed % 2 else LPS)
    planes, states = planes_of(SIZE, work.volume.ijk_to_ras), [_state(work)]
    for step in range(6):
        plane = planes[rng.integers(3)]
        if step % 3 < 2:
            labels_hw = rng.integers(0, 3, plane.size_nhw[1:]).astype(np.uint8)
            work.accept(plane, int(rng.integers(plane.size_nhw[0])), labels_hw)
        else:
            work.segment(keep=bool(rng.integers(2)))
        states.append(_state(work))
    for state in reversed(states[:-1]):
        work.session.undo()
        assert _state(work) == state
    for state in states[1:]:
        work.session.redo()
        assert _state(work) == state


def _state(work):
    session = work.session
    return session.labels_kji.tobytes(), session.locks.held, session.automatic.text


def _act(rng, work):
    planes = planes_of(SIZE, work.volume.ijk_to_ras)
    plane = planes[rng.integers(3)]
    number = int(rng.integers(plane.size_nhw[0]))
    action, before = ACTIONS[rng.integers(len(ACTIONS))], work.present.copy()
    locked = _locked(work)
    if action == "accept":
        work.accept(plane, number, rng.integers(0, 3, plane.size_nhw[1:]).astype(np.uint8))
    elif action == "paint":
        work.present[tuple(rng.integers(0, SIZE))] = rng.integers(0, 3)
    elif action == "lock":
        work.session.lock(Place.of(plane, number))
    elif action == "lift":
        work.session.lift(Place.of(plane, number), work.present)
    elif action in ("undo", "redo"):
        change = getattr(work.session, action)()
        if change is not None:
            _follow(work, change, action)
    else:
        try:
            work.propagate(plane) if action == "propagate" else work.segment()
        except PromptError:
            return
        np.testing.assert_array_equal(work.present[locked], before[locked])


def _locked(work):
    """Bool (K, J, I): what lies in a locked slice."""
    mask, locks = np.zeros(SIZE, bool), work.session.locks
    places = [Place.of(work.plane, n) for n in locks.locked(work.present, work.plane)]
    for place in (*places, *locks.held):
        mask[place.where] = True
    return mask


def _follow(work, change, action):
    """What keeps the labels undoes the same change."""
    if hasattr(change, "prompts"):
        labels_hw = change.before_hw if action == "undo" else change.after_hw
        change.prompts.reformat.put(labels_hw, work.present)
    else:
        known = work.session.labels_kji != 255
        work.present[known] = work.session.labels_kji[known]

"""A session of work on one volume: preview, accept, discard, undo, redo, and what is known after that."""

from __future__ import annotations

import numpy as np
import pytest
from slices_in_work import LPS, SIZE_KJI, labels, predicted, prompts, volume

from SAMLungSegLib import VolumePoint
from SAMLungSegLib.interaction import Place, Predicted, Session, SlicePrompts, merge_volume, session
from SAMLungSegLib.prompts.volume import VolumePrompts
from SAMLungSegLib.volume import axial_plane
from SAMLungSegLib.volume.reformat import reformat_volume

FOUND = "11..22 " * 5
POINTED = "11..22 " * 4 + "111.22"


@pytest.fixture
def work():
    return Session(np.zeros(SIZE_KJI, np.uint8))


def accept(work, text, asked, present=None, automatic=FOUND):
    work.hold(predicted(text, asked, automatic))
    return work.accept(work.preview(present))


def slice_of(work, k=1):
    return work.labels_kji[k].tolist()


def merge(found, work, **how):
    plane = axial_plane(volume())
    return merge_volume(np.array(work.labels_kji), found, (1, 2), plane, work.locks.of_grid("grid", 3), **how)


def test_what_is_previewed_is_written_when_it_is_accepted_and_no_other_slice_changes(work):
    asked = prompts([(2, 4, True)])
    work.hold(predicted(POINTED, asked, FOUND))
    shown = work.preview().shown_hw
    assert not work.labels_kji.any()
    change = work.accept(work.preview())
    np.testing.assert_array_equal(shown, labels(POINTED))
    np.testing.assert_array_equal(change.after_hw, labels(POINTED))
    assert not change.before_hw.any()
    assert slice_of(work) == labels(POINTED).tolist()
    assert not work.labels_kji[[0, 2]].any()
    assert work.predicted is None
    assert work.preview() is None


def test_accepted_and_discarded_prompts_are_not_pending_until_they_change_or_are_undone(work):
    first, second = prompts([(2, 4, True)]), prompts([(3, 4, True)])
    assert work.is_pending(first)
    accept(work, POINTED, first)
    assert not work.is_pending(first)
    work.hold(predicted(POINTED, second, FOUND))
    work.discard()
    assert not work.is_pending(second)
    work.undo()
    assert work.is_pending(first)
    assert not work.is_pending(second)
    work.redo()
    assert not work.is_pending(first)
    assert not work.is_pending(prompts())


def test_only_the_changed_one_of_two_boxes_is_written_again(work):
    boxes = [(0, 0, 1, 1), (4, 3, 5, 4)]
    accept(work, "111111 " * 5, prompts(boxes=boxes))
    edited = np.array(work.labels_kji[1])
    edited[0, 0] = 0
    asked = prompts(boxes=[boxes[0], (3, 3, 5, 4)])
    work.hold(predicted("111111 " * 5, asked))
    assert work.preview(edited).labels_hw.tolist() == labels(".1.... 11.... ...... ...111 ...111").tolist()


def test_slices_that_another_undo_brings_back_are_undone_and_redone_in_the_session_too(work):
    first, second = prompts([(2, 4, True)]), prompts([(1, 1, True)], k=2)
    accept(work, FOUND, first)
    accept(work, POINTED, second)
    written, locks, mark = np.array(work.labels_kji), work.locks, work.mark
    present = np.array(written)
    work.follow(lambda reformat: reformat.take(present))
    assert work.mark == mark
    present[:] = 0
    work.follow(lambda reformat: reformat.take(present))
    assert not work.labels_kji.any()
    assert work.is_pending(first)
    assert work.is_pending(second)
    present[1] = written[1]
    work.follow(lambda reformat: reformat.take(present))
    assert not work.is_pending(first)
    assert work.is_pending(second)
    present[2] = written[2]
    work.follow(lambda reformat: reformat.take(present))
    assert work.mark == mark
    assert work.locks == locks
    np.testing.assert_array_equal(work.labels_kji, written)


def test_changes_are_undone_and_redone_in_order(work):
    states = [slice_of(work)]
    for text, place in ((FOUND, 0), (POINTED, 1), ("222222 " * 5, 2)):
        accept(work, text, prompts([(place, 4, True)]))
        states.append(slice_of(work))
    assert len({str(one) for one in states}) == 4
    for state in reversed(states[:-1]):
        work.undo()
        assert slice_of(work) == state
    assert work.undo() is None
    for state in states[1:]:
        work.redo()
        assert slice_of(work) == state
    assert work.redo() is None


def test_a_change_after_an_undo_leaves_nothing_to_redo(work):
    accept(work, FOUND, prompts([(0, 4, True)]))
    work.undo()
    accept(work, POINTED, prompts([(0, 4, True)]))
    assert work.redo() is None


def test_what_is_painted_between_is_kept_also_after_undo(work):
    accept(work, FOUND, prompts())
    accept(work, POINTED, prompts([(2, 4, True)]))
    work.undo()
    present = np.array(work.labels_kji[1])
    present[0, 2:4] = 2
    again = accept(work, POINTED, prompts([(2, 4, True)]), present)
    assert again.after_hw.tolist() == labels("112222 11..22 11..22 11..22 111.22").tolist()
    assert slice_of(work)[0] == [1, 1, 0, 0, 2, 2]
    assert slice_of(work)[4] == [1, 1, 1, 0, 2, 2]


def test_a_volume_is_one_change_and_kept_slices_stay_of_the_hand_that_they_were_of(work):
    found = np.zeros(SIZE_KJI, np.uint8)
    found[:, 1:3] = 1
    work.accept_volume(merge(found, work))
    before = np.array(work.labels_kji)
    painted = before.copy()
    painted[1, 4, 4:] = 2
    plane = axial_plane(volume())
    second = merge_volume(painted, 2 * found, (1, 2), plane, work.locks.of_grid("grid", 3))
    work.accept_volume(second)
    assert second.kept_slices == (1,)
    assert work.labels_kji[0].tolist() == (2 * found[0]).tolist()
    assert work.labels_kji[1].tolist() == found[1].tolist()
    point = accept(work, "111111 " * 5, prompts([(0, 0, True)]), painted[1], automatic="...... " * 5)
    assert point.after_hw[4].tolist() == [1, 1, 1, 1, 2, 2]
    work.undo()
    work.undo()
    np.testing.assert_array_equal(work.labels_kji, before)


def test_outside_the_editable_area_a_volume_is_not_of_our_hand(work):
    area = np.zeros(SIZE_KJI, bool)
    area[:, :, :3] = True
    painted = np.zeros(SIZE_KJI, np.uint8)
    painted[:, :, 4:] = 2
    plane, locks = axial_plane(volume()), work.locks.of_grid("grid", 3)
    found = np.ones(SIZE_KJI, np.uint8)
    merged = merge_volume(painted, found, (1, 2), plane, locks, keep=False, editable_kji=area)
    np.testing.assert_array_equal(merged.labelmap_kji, painted + area)
    work.accept_volume(merged)
    np.testing.assert_array_equal(work.labels_kji, area.astype(np.uint8))


def test_a_lifted_slice_is_replaced_by_the_next_automatic_result(work):
    found = np.ones(SIZE_KJI, np.uint8)
    work.accept_volume(merge(found, work))
    accept(work, FOUND, prompts([(0, 0, True)]))
    assert merge(found, work).kept_slices == (1,)
    work.lift(Place(0, 1), work.labels_kji)
    assert merge(found, work).kept_slices == ()


def test_a_session_that_goes_on_knows_the_slices_that_are_as_they_were_found(work):
    found = np.zeros(SIZE_KJI, np.uint8)
    found[:, 1:3] = 1
    work.accept_volume(merge(found, work))
    painted = found.copy()
    painted[2, 4] = 2
    again = Session.restored(painted, work.locks, "grid", axial_plane(volume()))
    np.testing.assert_array_equal(again.labels_kji[:2], found[:2])
    assert (again.labels_kji[2] == 255).all()
    lost = Session.restored(painted, work.locks, "another grid", axial_plane(volume()))
    assert (lost.labels_kji == 255).all()


def test_marks_lead_back_and_forth_and_an_unknown_one_leaves_nothing_known(work):
    marks, states = [work.mark], [slice_of(work)]
    for place, text in enumerate((FOUND, POINTED)):
        accept(work, text, prompts([(place, 4, True)]))
        marks.append(work.mark)
        states.append(slice_of(work))
    for place in (0, 2, 1, 2, 0):
        work.go_to(marks[place])
        assert slice_of(work) == states[place]
    work.go_to(Session(np.zeros(SIZE_KJI, np.uint8)).mark)
    assert (work.labels_kji == 255).all()


def test_the_oldest_changes_are_dropped_when_they_take_too_much_memory(work, monkeypatch):
    monkeypatch.setattr(session, "MAXIMUM_BYTES", 2 * 4 * 30)  # four pictures of 5 x 6 pixels each
    beginning = work.mark
    for place in range(4):
        accept(work, FOUND, prompts([(place, 4, True)]))
    assert [work.undo() is not None for _ in range(3)] == [True, True, False]
    work.go_to(beginning)
    assert (work.labels_kji == 255).all()


def test_a_change_that_takes_more_memory_than_all_may_is_written_and_not_kept(work, monkeypatch):
    monkeypatch.setattr(session, "MAXIMUM_BYTES", 0)
    beginning, found = work.mark, np.zeros(SIZE_KJI, np.uint8)
    found[:, 1:3] = 1
    work.accept_volume(merge(found, work))
    np.testing.assert_array_equal(work.labels_kji, found)
    assert work.undo() is None
    work.go_to(beginning)
    assert (work.labels_kji == 255).all()


def test_a_volume_takes_the_memory_of_what_changes_in_it(work):
    found = np.zeros(SIZE_KJI, np.uint8)
    found[:, 1:3] = 1
    work.accept_volume(merge(found, work))
    found[2, 4] = 2
    change = work.accept_volume(merge(found, work))
    assert (list(change.before), list(change.after)) == ([2], [2])


@pytest.mark.parametrize("is_changed", [False, True])
def test_what_was_prepared_on_another_thread_is_done_and_worked_out_anew_where_the_session_has_changed(is_changed):
    found = np.zeros(SIZE_KJI, np.uint8)
    found[:, 1:3] = 1
    area = np.ones(SIZE_KJI, bool)
    area[1, 0] = False
    results = []
    for is_prepared in (False, True):
        work = Session(np.zeros(SIZE_KJI, np.uint8))
        plane, locks = axial_plane(volume()), work.locks.of_grid("grid", 3)
        merged = merge_volume(None, found, (1, 2), plane, locks, editable_kji=area)
        prepared = work.prepare_volume(merged) if is_prepared else None
        if is_changed:
            accept(work, "222222 " * 5, prompts())
        work.accept_volume(merged, prepared)
        results.append(np.array(work.labels_kji))
        assert results[-1][1, 0, 0] == (2 if is_changed else 0)
        work.undo()
        results.append(np.array(work.labels_kji))
        work.redo()
        np.testing.assert_array_equal(work.labels_kji, results[-2])
    np.testing.assert_array_equal(results[:2], results[2:])


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_the_same_place_in_the_world_is_written_however_the_volume_is_stored(flips):
    signs = np.array(flips)
    tilted = np.eye(4)
    tilted[:3, :3] = [[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]
    to_ras = LPS.copy()
    size_ijk = np.array(SIZE_KJI[::-1])
    to_ras[:3, 3] += to_ras[:3, :3] @ ((size_ijk - 1) * (signs < 0))
    to_ras[:3, :3] *= signs
    to_ras = tilted @ to_ras
    where = volume(to_ras)
    ras = (tilted @ LPS @ [4, 3, 1, 1])[:3]
    reformat = reformat_volume(SIZE_KJI, to_ras, tilted[:3, :3] @ (0, 0, 1), ras)
    ijk = np.linalg.inv(to_ras) @ [*ras, 1]
    asked = SlicePrompts.of(reformat, VolumePrompts((VolumePoint(tuple(ijk[:3].tolist())),)), where)
    (point,) = asked.points
    np.testing.assert_allclose(point.xy, (4, 3), atol=1e-6)
    work = Session(np.zeros(SIZE_KJI, np.uint8))
    work.hold(Predicted.of(asked, labels(POINTED), (1, 2), needs_prompt=False))
    work.accept(work.preview())
    expected = labels(POINTED)[:: flips[1], :: flips[0]]
    k = round(float(ijk[2]))
    np.testing.assert_array_equal(work.labels_kji[k], expected)
    assert not np.delete(work.labels_kji, k, axis=0).any()

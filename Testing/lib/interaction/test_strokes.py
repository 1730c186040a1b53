"""Brush, lasso and scribble: which pixels they set, which lung they add, what becomes of them in a session."""

from __future__ import annotations

import numpy as np
import pytest
from slices_in_work import LPS, SIZE_KJI, axial, labels, predicted, prompts

from SAMLungSegLib.actions import Action, Actions
from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.interaction import Patch, Session, Stroke, nothing_found, with_patches
from SAMLungSegLib.interaction.strokes import brush_mask, lasso_mask, lung_at
from SAMLungSegLib.volume.reformat import reformat_volume

FOUND = "11..22 " * 5
SQUARE = np.array([(1.0, 0, 0), (0, 1, 0)])


def drawing(text):
    return np.array([[one == "#" for one in row] for row in text.split()])


@pytest.fixture
def work():
    return Session(np.zeros(SIZE_KJI, np.uint8))


def draw(work, stroke, present=FOUND, found=None, labels_=(1, 2), **how):
    """Draw over a prediction, or over what the slice has, and accept it."""
    present_hw = labels(present)
    found = found or nothing_found(axial())
    patch = Patch.of(stroke, axial(), present_hw, labels_)
    work.hold(with_patches(found, [patch], present_hw, labels_))
    return work.accept(work.preview(present_hw, **how))


def test_a_brush_sets_what_is_nearer_to_its_line_than_the_radius():
    mask = brush_mask(np.array([(2.0, 2.0), (5.0, 2.0)]), 1.0, (5, 9), SQUARE)
    expected = """
    .........
    ..####...
    .######..
    ..####...
    .........
    """
    np.testing.assert_array_equal(mask, drawing(expected))


def test_a_brush_is_round_in_mm_where_pixels_are_not_square():
    mask = brush_mask(np.array([(4.0, 2.0)]), 4.0, (5, 9), np.array([(1.0, 0, 0), (0, 4, 0)]))
    expected = """
    .........
    ....#....
    #########
    ....#....
    .........
    """
    np.testing.assert_array_equal(mask, drawing(expected))


def test_a_brush_in_sheared_pixels_is_round_in_mm():
    steps = np.array([(1.0, 0, 0), (0.6, 0.8, 0)])  # x, y are sqrt(x x + y y + 1.2 x y) mm from 0, 0
    mask = brush_mask(np.array([(2.0, 2.0)]), 1.0, (5, 5), steps)
    expected = """
    .....
    ..##.
    .###.
    .##..
    .....
    """
    np.testing.assert_array_equal(mask, drawing(expected))


def test_a_brush_smaller_than_a_pixel_sets_the_pixels_of_its_points_and_nothing_beyond_the_slice():
    mask = brush_mask(np.array([(1.4, 1.4), (-7.0, 1.4)]), 0.1, (3, 3), SQUARE)
    np.testing.assert_array_equal(mask, drawing("... .#. ..."))


def test_a_lasso_sets_what_its_closed_line_surrounds_even_twice():
    square = [(0.5, 0.5), (3.5, 0.5), (3.5, 2.5), (0.5, 2.5)]
    expected = drawing(".....  .###.  .###.  .....")
    for line in (square, square[::-1], square * 2):
        np.testing.assert_array_equal(lasso_mask(np.array(line), (4, 5)), expected)


def test_a_lasso_that_reaches_beyond_the_slice_sets_what_is_inside():
    line = np.array([(-9.0, 1.5), (3.5, 1.5), (3.5, 99.0), (-9.0, 99.0)])
    np.testing.assert_array_equal(lasso_mask(line, (4, 5)), drawing(".....  .....  ####.  ####."))


def test_a_lasso_without_area_sets_nothing():
    assert not lasso_mask(np.array([(1.0, 1.0)]), (4, 5)).any()
    assert not lasso_mask(np.array([(1.0, 1.0), (3.0, 3.0)]), (4, 5)).any()


@pytest.mark.parametrize(
    ("points", "radius"), [([], 3), ([(0, float("nan"))], 3), ([(1, 1)], 0), ([(1, 1)], float("inf"))]
)
def test_a_stroke_that_cannot_be_is_refused(points, radius):
    with pytest.raises(PromptError, match=r"expected finite x,y|radius of"):
        Stroke("brush", tuple(points), radius_mm=radius)


def test_the_lung_is_that_at_the_beginning_of_the_stroke_or_the_nearest_in_mm():
    shown = labels("1....2 ...... ...... ...... .....1")
    assert lung_at((0, 0), shown, axial(), (1, 2)) == 1
    assert lung_at((3, 0), shown, axial(), (1, 2)) == 2
    assert lung_at((5, 3), shown, axial(), (1, 2)) == 1
    assert lung_at((0, 0), shown, axial(), (2,)) == 2
    tall = reformat_volume(SIZE_KJI, LPS @ np.diag([1.0, 9, 1, 1]), (0, 0, 1), (0, 0, 1))
    assert lung_at((5, 3), labels("1..... ...... .....1 2..... ......"), tall, (1, 2)) == 2


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0.6, 0.8)])
def test_in_a_slice_without_lung_the_side_is_the_patients(mirrored, normal):
    matrix = np.diag([1.0 if mirrored else -1.0, -1, 1, 1])
    matrix[:3, 3] = 400, -7, 30  # where the patient lies plays no part
    centre = (matrix @ [2.5, 2, 1, 1])[:3]
    for offset, label in ((2, 1), (-2, 2)):
        point = centre + np.array([offset, 0, 0])
        reformat = reformat_volume(SIZE_KJI, matrix, normal, point)
        (x, y) = reformat.ijk_to_xy((np.linalg.inv(matrix) @ [*point, 1])[:3])
        assert lung_at((x, y), np.zeros(reformat.size_hw, np.uint8), reformat, (1, 2)) == label
        assert lung_at((x, y), np.zeros(reformat.size_hw, np.uint8), reformat, (2,)) == 2


def test_a_scribble_becomes_points_spread_evenly_in_mm_over_its_line():
    reformat = reformat_volume((1, 100, 100), np.diag([-1.0, -4, 1, 1]), (0, 0, 1), (0, 0, 0))
    points = Stroke("scribble", ((10.0, 10.0), (30.0, 10.0), (30.0, 25.0)), adds=False).points(reformat)
    assert [point.xy for point in points] == [(20.0, 10.0), (30.0, 12.5), (30.0, 17.5), (30.0, 22.5)]
    assert not any(point.positive for point in points)
    (point,) = Stroke("scribble", ((7.0, 8.0),)).points(reformat)
    assert (point.xy, point.positive) == ((7.0, 8.0), True)
    assert len(Stroke("scribble", ((0.0, 0.0), (0.0, 99.0))).points(reformat)) == 8


def test_a_lasso_adds_the_lung_at_its_beginning_and_no_pixel_beside_it_changes(work):
    draw_ = Stroke("lasso", ((1.0, 0.5), (3.2, 0.5), (3.2, 2.5), (1.0, 2.5)))
    change = draw(work, draw_)
    expected = "11..22 111122 111122 11..22 11..22"
    np.testing.assert_array_equal(change.after_hw, labels(expected))


def test_what_is_drawn_over_the_other_lung_gets_the_lung_of_the_stroke(work):
    change = draw(work, Stroke("brush", ((5.0, 1.0), (0.0, 1.0)), radius_mm=0.5))
    np.testing.assert_array_equal(change.after_hw, labels("11..22 222222 11..22 11..22 11..22"))


def test_erasing_takes_both_lungs_away_but_only_the_wanted_one_where_one_is_wanted(work):
    stroke = Stroke("brush", ((0.0, 1.0), (5.0, 1.0)), adds=False, radius_mm=0.5)
    change = draw(work, stroke)
    np.testing.assert_array_equal(change.after_hw, labels("11..22 ...... 11..22 11..22 11..22"))
    change = draw(work, stroke, labels_=(2,))
    np.testing.assert_array_equal(change.after_hw, labels("11..22 11.... 11..22 11..22 11..22"))


def test_the_whole_slice_is_shown_where_something_was_erased(work):
    patch = Patch.of(Stroke("brush", ((0.0, 0.0),), adds=False, radius_mm=0.5), axial(), labels(FOUND), (1, 2))
    work.hold(with_patches(nothing_found(axial()), [patch], labels(FOUND), (1, 2)))
    shown = work.preview(labels(FOUND)).shown_hw
    np.testing.assert_array_equal(shown, labels(".1..22 11..22 11..22 11..22 11..22"))


def test_drawing_is_undone_and_redone_as_one_step_and_changes_no_other_slice(work):
    change = draw(work, Stroke("brush", ((2.0, 0.0),), radius_mm=0.5))
    assert work.undo() is change
    assert work.redo() is change
    np.testing.assert_array_equal(change.before_hw, labels(FOUND))
    assert not work.labels_kji[[0, 2]].any()


def test_drawing_stays_out_of_what_may_not_be_edited(work):
    editable = drawing("###### ...... ###### ###### ######")
    change = draw(work, Stroke("brush", ((2.0, 0.0), (2.0, 2.0)), radius_mm=0.5), editable_hw=editable)
    np.testing.assert_array_equal(change.after_hw, labels("111.22 11..22 111.22 11..22 11..22"))


def test_what_was_drawn_is_kept_by_later_predictions_of_the_slice(work):
    work.hold(predicted(FOUND, prompts()))
    work.accept(work.preview(labels("...... " * 5)))
    after = draw(work, Stroke("brush", ((2.0, 0.0), (2.0, 1.0)), radius_mm=0.5)).after_hw
    asked = prompts([(3, 4, True)])
    work.hold(predicted("11..22 " * 4 + "11.222", asked, FOUND))
    preview = work.preview(after)
    np.testing.assert_array_equal(preview.labels_hw, labels("111.22 111.22 11..22 11..22 11.222"))
    assert preview.kept_pixels == 2
    work.hold(predicted(FOUND, prompts([(2, 0, False)]), FOUND))
    np.testing.assert_array_equal(work.preview(after).labels_hw, labels(FOUND))  # its patch was pointed at


def test_drawing_over_a_preview_is_accepted_together_with_it(work):
    asked = prompts([(2, 4, True)])
    found = predicted("11..22 " * 4 + "111.22", asked, FOUND)
    change = draw(work, Stroke("brush", ((3.0, 0.0),), adds=False, radius_mm=0.5), found=found)
    np.testing.assert_array_equal(change.after_hw, labels("11..22 11..22 11..22 11..22 111.22"))
    change = draw(work, Stroke("brush", ((2.0, 0.0),), radius_mm=0.5), present="...... " * 5)
    np.testing.assert_array_equal(change.after_hw, labels("..1... ...... ...... ...... ......"))
    assert not work.is_pending(asked)
    work.undo()
    work.undo()
    assert work.is_pending(asked)


def test_drawing_over_a_preview_in_a_box_changes_the_box_and_what_is_drawn():
    asked = prompts(boxes=[(0, 0, 1, 1)])
    found = predicted("222222 " * 5, asked)
    patch = Patch.of(Stroke("brush", ((3.0, 4.0),), radius_mm=0.5), axial(), labels(FOUND), (1, 2))
    work = Session(labels(FOUND)[None].repeat(3, axis=0))
    work.hold(with_patches(found, [patch], labels(FOUND), (1, 2)))
    expected = labels("22..22 22..22 11..22 11..22 11.222")
    np.testing.assert_array_equal(work.preview(labels(FOUND)).labels_hw, expected)


def test_the_later_of_two_strokes_has_the_last_word(work):
    present = labels(FOUND)
    strokes = [Stroke("brush", ((2.0, 0.0),), radius_mm=1.0), Stroke("brush", ((2.0, 1.0),), False, 0.5)]
    patches = [Patch.of(one, axial(), present, (1, 2)) for one in strokes]
    work.hold(with_patches(nothing_found(axial()), patches, present, (1, 2)))
    np.testing.assert_array_equal(work.preview(present).labels_hw, labels("111122 11..22 11..22 11..22 11..22"))


def test_an_action_that_was_drawn_is_not_completely_known():
    assert Actions().then(Action(None, axial(), is_drawn=True)).is_complete is False

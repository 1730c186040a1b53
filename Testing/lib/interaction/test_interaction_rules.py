"""What is written of a prediction in one slice: what the prompts are about, and nothing over what others painted."""

from __future__ import annotations

import numpy as np
import pytest
from slices_in_work import labels, predicted, prompts

from SAMLungSegLib.interaction import propose
from SAMLungSegLib.interaction.rules import UNKNOWN, written_over

FOUND = """
11..22
11..22
11..22
......
......
"""
PAINTED = """
11..22
11..22
11..22
..22..
..22..
"""
EMPTY = """
......
......
......
......
......
"""


def check(proposal, expected):
    np.testing.assert_array_equal(proposal.labels_hw, labels(expected))


def test_without_prompts_the_whole_slice_is_found_anew():
    proposal = propose(predicted(FOUND, prompts()), labels(EMPTY), labels(EMPTY))
    check(proposal, FOUND)
    np.testing.assert_array_equal(proposal.shown_hw, labels(FOUND))
    assert proposal.inside_hw.all()
    assert proposal.kept_pixels == 0


@pytest.mark.parametrize("points", [(), [(0, 3, True)]])
def test_painted_pixels_stay_and_are_counted_and_shown(points):
    with_row = FOUND.replace("......\n", "111111\n", 1)
    proposal = propose(predicted(with_row, prompts(points), FOUND), labels(PAINTED), labels(FOUND))
    expected = """
    11..22
    11..22
    11..22
    112211
    ..22..
    """
    check(proposal, expected)
    np.testing.assert_array_equal(proposal.shown_hw, labels(expected))
    assert proposal.kept_pixels == 4


def test_a_patch_with_a_point_in_it_is_drawn_anew_and_another_patch_is_not():
    present = PAINTED.replace("..22..\n..22..", "22..22\n22..22")
    proposal = propose(predicted(FOUND, prompts([(1, 4, False)]), FOUND), labels(present), labels(FOUND))
    expected = PAINTED.replace("..22..\n..22..", "....22\n....22")
    check(proposal, expected)


def test_a_box_draws_anew_what_is_painted_in_it_and_nothing_outside():
    asked = prompts(boxes=[(2, 2, 4, 3)])
    proposal = propose(predicted("111111 " * 5, asked), labels(PAINTED), labels(FOUND))
    expected = """
    11..22
    11..22
    111112
    ..111.
    ..22..
    """
    check(proposal, expected)
    shown = """
    ......
    ......
    ..111.
    ..111.
    ......
    """
    np.testing.assert_array_equal(proposal.shown_hw, labels(shown))


def test_a_positive_point_outside_the_box_concerns_the_slice_but_only_the_box_goes_over_what_is_painted():
    asked = prompts([(0, 0, True)], [(1.6, 2.6, 3.4, 3.4)])
    proposal = propose(predicted("111111 " * 5, asked, FOUND), labels(PAINTED), labels(FOUND))
    expected = """
    111111
    111111
    111111
    111111
    112211
    """
    check(proposal, expected)


def test_painted_pixels_are_replaced_where_they_are_not_to_be_kept():
    check(propose(predicted(FOUND, prompts()), labels(PAINTED), labels(FOUND), keep=False), FOUND)


def test_nothing_changes_outside_the_editable_area_and_that_does_not_count_as_painted():
    editable = labels("111... " * 5) > 0
    proposal = propose(predicted(FOUND, prompts()), labels(EMPTY), labels(EMPTY), editable_hw=editable)
    check(proposal, "11.... 11.... 11.... ...... ......")
    assert proposal.kept_pixels == 0


def test_where_it_is_not_known_what_was_written_a_point_changes_what_it_changes_in_what_is_found_without_it():
    unknown = np.full((5, 6), UNKNOWN, np.uint8)
    with_points = FOUND.replace("11..22\n......", "1...22\n...1..")
    proposal = propose(predicted(with_points, prompts([(1, 2, False), (5, 3, True)]), FOUND), labels(PAINTED), unknown)
    check(proposal, PAINTED.replace("11..22\n..22..", "1...22\n..21.."))


def test_of_two_lungs_the_one_that_is_not_wanted_stays():
    proposal = propose(predicted(FOUND, prompts(), wanted=(1,)), labels("222222 " * 5), labels("222222 " * 5))
    check(proposal, "112222 112222 112222 222222 222222")
    np.testing.assert_array_equal(proposal.shown_hw, labels("11.... 11.... 11.... ...... ......"))


def test_a_model_that_needs_prompts_says_nothing_of_a_lung_without_one():
    one = predicted("11.... " * 5, prompts([(0, 0, True)]), needs_prompt=True)
    assert one.labels == (1,)
    check(propose(one, labels(FOUND), labels(FOUND)), "11..22 11..22 11..22 11.... 11....")
    automatic = predicted("11.... " * 5, prompts(), needs_prompt=True)
    assert automatic.labels == (1, 2)
    assert predicted("11.... " * 5, prompts([(0, 0, True)])).labels == (1, 2)


def test_parts_that_are_done_are_left_as_they_are():
    asked = prompts(boxes=[(0, 0, 1, 1), (4, 3, 5, 4)])
    (first, second) = asked.parts()
    assert first != second
    proposal = propose(predicted("111111 " * 5, asked), labels(EMPTY), labels(EMPTY), done={first})
    check(proposal, "...... ...... ...... ....11 ....11")


def test_a_voxel_that_two_lungs_claim_is_right():
    before, found = labels("12"), labels("21")
    np.testing.assert_array_equal(written_over(before, found, (1, 2)), labels("21"))
    np.testing.assert_array_equal(written_over(before, found, (1,)), labels(".1"))
    np.testing.assert_array_equal(written_over(before, found, (2,)), labels("1."))
    np.testing.assert_array_equal(written_over(before, labels("22"), (2,)), labels("12"))


def test_a_prediction_that_does_not_follow_a_point_is_no_answer():
    assert predicted(FOUND, prompts([(0, 4, True)]), FOUND).objection.startswith("The model does not follow")
    assert predicted(FOUND, prompts([(0, 0, False)]), FOUND).objection.startswith("The model does not follow")
    assert predicted(FOUND, prompts([(0, 0, True), (2, 0, False)]), FOUND).objection == ""
    assert predicted(FOUND, prompts()).objection == ""


AGAINST = "The model changes this slice mostly against its points"


def test_a_prediction_that_mostly_changes_the_slice_the_other_way_is_no_answer():
    lost = "1..... 1..... ...... ...... 1....."  # one pixel more, nine fewer than found
    assert predicted(lost, prompts([(0, 4, True)]), FOUND).objection.startswith(
        "The model changes this slice mostly against"
    )
    assert predicted(FOUND.replace("......", "1....."), prompts([(0, 4, True)]), FOUND).objection == ""
    assert predicted(lost, prompts([(0, 4, True)])).objection == ""  # it is not known what is found without points
    grown = "111111 111111 111111 ...... .11111"
    assert predicted(grown, prompts([(0, 4, False)]), FOUND).objection.startswith(
        "The model changes this slice mostly against"
    )


def test_a_point_in_the_lung_that_is_not_looked_for_is_no_reason():
    assert predicted("11.... " * 5, prompts([(4, 0, True)]), wanted=(1,)).objection == ""

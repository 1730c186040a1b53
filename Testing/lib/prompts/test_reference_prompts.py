"""Prompts computed from a reference: the zero-shot paper's algorithm 1 by hand, and the other kinds."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.errors import PromptError, SettingsError
from SAMLungSegLib.prompts.reference import (
    ABLATION_STEPS,
    enlarged_box,
    gutierrez2024_prompt_steps,
    gutierrez2024_prompts,
    mean_image_points,
    outward_box,
    random_points,
    tight_box,
)
from SAMLungSegLib.prompts.simulated import distance_transform_peak

PAPER_SLICES = [
    "coronacases_001_masks_slice_98",
    "coronacases_001_masks_slice_122",
    "radiopaedia_14_85914_0_masks_slice_0",
]


def slice_of(size_hw, *boxes):
    """Labels (H, W) with (label, top, left, height, width) filled."""
    labels = np.zeros(size_hw, np.uint8)
    for label, top, left, height, width in boxes:
        labels[top : top + height, left : left + width] = label
    return labels


def positives(prompts):
    return [point.xy for point in prompts.points if point.positive]


def negatives(prompts):
    return [point.xy for point in prompts.points if not point.positive]


def positive(labels, **options):
    (xy,) = positives(gutierrez2024_prompts(labels, **options))
    return xy


def test_convex_lungs_get_a_point_in_the_middle_of_their_longer_side():
    labels = slice_of((10, 20), (1, 2, 3, 4, 7), (2, 1, 12, 8, 4))
    # 1: centroid (6, 3.5) -> (6, 3), the row's run 3..9 is longer than the column's 2..5, its middle is 3 + 7 // 2
    # 2: centroid (13.5, 4.5) -> (13, 4), the column's run 1..8 is longer, its middle is 1 + 8 // 2
    prompts = gutierrez2024_prompts(labels, "paper")
    assert positives(prompts) == [(6, 3), (13, 5)]
    assert prompts.box.xyxy == (3, 1, 16, 9)
    assert negatives(prompts) == [(9, 5)]
    assert labels[5, 9] == 1, "the paper's negative point may lie in lung"


def test_the_improved_negative_is_the_place_in_the_box_farthest_from_lung():
    labels = slice_of((12, 30), (1, 2, 3, 8, 7), (2, 2, 17, 8, 7))
    # between the lungs are the columns 10..16: 13 is 4 pixels from either; the first such row is the box's
    prompts = gutierrez2024_prompts(labels)
    assert negatives(prompts) == [(13, 2)]
    assert negatives(gutierrez2024_prompts(labels, "paper")) == [((3 + 24) // 2, (2 + 10) // 2)]
    assert positives(prompts) == positives(gutierrez2024_prompts(labels, "paper"))
    assert prompts.box == gutierrez2024_prompts(labels, "paper").box


def test_a_box_that_is_all_lung_has_no_improved_negative():
    labels = slice_of((8, 8), (1, 2, 2, 3, 3))
    assert negatives(gutierrez2024_prompts(labels)) == []
    assert negatives(gutierrez2024_prompts(labels, "paper")) == [(3, 3)]


def crescent(arm_rows=2):
    """Open to the right: columns 2..3 of rows 1..9, and arms of columns 2..8 along the first and last rows."""
    return slice_of((12, 12), (1, 1, 2, 9, 2), (1, 1, 2, arm_rows, 7), (1, 8, 2, 2, 7))


def test_a_centroid_outside_its_crescent_moves_to_the_left_where_rays_tie():
    # centroid (165 / 38, 5) -> (4, 5); left meets columns 2, 3, above rows 1, 2, below rows 8, 9, right nothing;
    # left wins the tie, its middle is number 2 // 2, column 3, whose run is rows 1..9
    assert not crescent()[5, 4]
    assert positive(crescent()) == (3, 1 + 9 // 2)


def test_a_centroid_outside_its_crescent_moves_along_the_ray_that_meets_most():
    # the upper arm is three rows thick: 43 pixels, centroid (195 / 43, 4.53...) -> (4, 4); above meets rows 1..3, whose
    # middle is 1 + 3 // 2 = 2; there the row's run 2..8 is longer than the column's 1..3, its middle is 2 + 7 // 2
    labels = crescent(arm_rows=3)
    assert not labels[4, 4]
    assert positive(labels) == (5, 2)


def test_rays_that_tie_go_left_right_above_below():
    cross = {
        "left": (5, 1, 1, 2),
        "right": (5, 8, 1, 2),
        "above": (1, 5, 2, 1),
        "below": (8, 5, 2, 1),
    }
    for names, expected in (
        (("left", "right", "above", "below"), (2, 5)),
        (("right", "left"), (2, 5)),
        (("above", "below"), (5, 2)),
    ):
        labels = slice_of((11, 11), *((1, *cross[name]) for name in names))
        assert positive(labels) == expected, names


def test_a_lung_in_two_parts_gets_its_point_in_the_part_that_the_rays_meet_more_of():
    # centroid (1 + 2 + 8 + ... + 12) / 7 = 7.57 -> (7, 5): left meets 2 pixels, right columns 8..12
    labels = slice_of((11, 14), (1, 5, 1, 1, 2), (1, 5, 8, 1, 5))
    assert positive(labels) == (10, 5)


def test_a_ray_counts_all_pixels_that_it_meets_across_gaps():
    labels = slice_of((11, 14), (1, 5, 0, 1, 2), (1, 5, 3, 1, 2), (1, 5, 9, 1, 3))
    # centroid (0 + 1 + 3 + 4 + 9 + 10 + 11) / 7 = 5.43 -> (5, 5)
    # left meets 4, its middle is number 2, column 3; its run is 3..4, whose middle is 3 + 2 // 2
    assert positive(labels) == (4, 5)


def test_without_any_ray_a_random_pixel_of_the_mask_is_taken():
    labels = slice_of((7, 7), (1, 0, 0, 2, 2), (1, 5, 5, 2, 2))  # centroid (3, 3), in an empty row and column
    found = {positive(labels, rng=np.random.default_rng(seed)) for seed in range(20)}
    # each pixel of a block of 2 x 2 is recentred in its row's run: to the block's second column
    assert found == {(1, 0), (1, 1), (6, 5), (6, 6)}
    assert positive(labels) == positive(labels), "reproducible without a generator"


def test_lungs_that_touch_every_border_work():
    labels = slice_of((4, 10), (1, 0, 0, 4, 10))
    prompts = gutierrez2024_prompts(labels, "paper")
    assert positives(prompts) == [(5, 1)]
    assert prompts.box.xyxy == (0, 0, 10, 4)
    assert negatives(prompts) == [(5, 2)]
    prompts.check_inside(labels.shape)


def test_a_single_pixel_is_a_lung_as_well():
    prompts = gutierrez2024_prompts(slice_of((5, 5), (2, 4, 4, 1, 1)), "paper")
    assert positives(prompts) == [(4, 4)]
    assert prompts.box.xyxy == (4, 4, 5, 5)


def test_the_steps_build_on_each_other():
    labels = slice_of((10, 20), (1, 2, 3, 4, 7), (2, 1, 12, 8, 4))
    bare, centred, with_negative, whole = gutierrez2024_prompt_steps(labels, "paper").values()
    assert tuple(gutierrez2024_prompt_steps(labels)) == ABLATION_STEPS
    assert positives(bare) == [(6, 3), (13, 4)]
    assert positives(centred) == [(6, 3), (13, 5)]
    assert negatives(bare) == negatives(centred) == []
    assert with_negative.points == whole.points
    assert negatives(with_negative) == [(9, 5)]
    assert [one.box for one in (bare, centred, with_negative)] == [None] * 3
    assert whole == gutierrez2024_prompts(labels, "paper")


def test_the_first_step_is_the_centroid_even_outside_the_mask():
    assert positives(gutierrez2024_prompt_steps(crescent())[ABLATION_STEPS[0]]) == [(4, 5)]


def test_nothing_can_be_computed_from_an_empty_slice_or_in_an_unknown_mode():
    with pytest.raises(PromptError, match="empty"):
        gutierrez2024_prompts(np.zeros((4, 4), np.uint8))
    with pytest.raises(SettingsError, match="improved, paper"):
        gutierrez2024_prompts(slice_of((4, 4), (1, 0, 0, 2, 2)), "best")


def walked(mask, x, y):
    """The middle of the longer run through (x, y), by walking."""
    ends = {}
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        px, py = x, y
        while 0 <= px + dx < mask.shape[1] and 0 <= py + dy < mask.shape[0] and mask[py + dy, px + dx]:
            px, py = px + dx, py + dy
        ends[dx, dy] = px if dx else py
    left, right, top, bottom = ends.values()
    if right - left >= bottom - top:
        return left + (right - left + 1) // 2, y
    return x, top + (bottom - top + 1) // 2


@pytest.mark.parametrize("name", PAPER_SLICES)
def test_the_papers_own_slices_get_points_centred_in_each_lung(shared_data, name):
    labels = np.load(shared_data / "ct_coronacases" / f"{name}.npy")
    prompts = gutierrez2024_prompts(labels, "paper")
    rows, columns = np.nonzero(labels)
    assert prompts.box.xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert negatives(prompts) == [((columns.min() + columns.max() + 1) // 2, (rows.min() + rows.max() + 1) // 2)]
    values = [value for value in (1, 2) if (labels == value).any()]
    assert len(positives(prompts)) == len(values)
    for value, (x, y) in zip(values, positives(prompts), strict=True):
        mask = labels == value
        rows, columns = np.nonzero(mask)
        seed = int(columns.mean()), int(rows.mean())
        assert mask[int(y), int(x)]
        if mask[seed[::-1]]:
            assert (x, y) == walked(mask, *seed)
    (improved,) = negatives(gutierrez2024_prompts(labels))
    assert labels[int(improved[1]), int(improved[0])] == 0


def test_a_tight_box_reaches_one_pixel_beyond_the_last():
    assert tight_box(slice_of((9, 9), (1, 2, 3, 4, 5)) > 0).xyxy == (3, 2, 8, 6)


def test_an_enlarged_box_grows_about_its_middle_and_stays_in_the_slice():
    mask = slice_of((20, 30), (1, 8, 10, 4, 5)) > 0
    assert enlarged_box(mask, 5).xyxy == (7.5, 5.5, 17.5, 14.5)
    assert enlarged_box(mask, 100).xyxy == (0, 0, 30, 20)


def test_a_jittered_box_only_grows():
    mask = slice_of((100, 100), (1, 40, 45, 10, 10)) > 0
    boxes = np.array([outward_box(mask, np.random.default_rng(seed)).xyxy for seed in range(200)])
    moved = (boxes - tight_box(mask).xyxy) * (-1, -1, 1, 1)
    assert moved.min() >= 0
    assert moved.max() <= 20
    assert moved.mean() == pytest.approx(10, abs=1)
    assert outward_box(mask, np.random.default_rng(1)) == outward_box(mask, np.random.default_rng(1))


def test_the_peak_is_the_deepest_pixel_with_the_border_outside():
    assert distance_transform_peak(slice_of((9, 9), (1, 0, 0, 5, 5), (1, 0, 5, 1, 4)) > 0) == (2, 2)


def test_random_points_lie_in_the_mask_and_differ():
    mask = slice_of((9, 9), (1, 2, 3, 2, 3)) > 0
    points = [point.xy for point in random_points(mask, np.random.default_rng(0), 6)]
    assert len(set(points)) == 6
    assert all(mask[int(y), int(x)] for x, y in points)
    assert len(random_points(mask, np.random.default_rng(0), 9)) == 9
    with pytest.raises(PromptError, match="empty"):
        random_points(np.zeros((3, 3), bool), np.random.default_rng(0))


def test_mean_image_points_are_the_peaks_of_what_half_of_the_masks_share():
    masks = np.stack(
        [slice_of((20, 40), (1, 4, left, 9, 9), (1, 4, 25, 9, 9), (1, 17, 20 + left, 1, 1)) > 0 for left in (3, 4, 5)]
    )
    # columns shared by two of three: 4..12 at the left and 25..33 at the right
    assert [point.xy for point in mean_image_points(masks)] == [(8, 8), (29, 8)]


def test_several_mean_image_points_are_spread_over_each_lung():
    masks = np.stack([slice_of((40, 60), (1, 2, 5, 36, 12), (1, 2, 40, 36, 12)) > 0] * 2)
    points = np.array([point.xy for point in mean_image_points(masks, per_lung=3)])
    assert points.shape == (6, 2)
    for lung, centre_x in ((points[:3], 10.5), (points[3:], 45.5)):
        assert lung[:, 0] == pytest.approx([centre_x] * 3, abs=1.5)
        assert sorted(lung[:, 1]) == pytest.approx([7.5, 19.5, 31.5], abs=1.5)
    again = [point.xy for point in mean_image_points(masks, per_lung=3)]
    assert again == [tuple(xy) for xy in points.tolist()]


def test_mean_image_points_need_two_lungs():
    masks = np.stack([slice_of((9, 9), (1, 0, 0, 2, 2)) > 0, *np.zeros((2, 9, 9), bool)])
    with pytest.raises(PromptError, match="no two lungs"):
        mean_image_points(masks)

"""Sides, components and holes of masks."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.air import without_airway
from SAMLungSegLib.masks import split_sides
from SAMLungSegLib.postprocess import clean_lungs, majority_filter_slices
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG


def test_the_lung_at_the_left_of_the_image_is_the_patients_right():
    mask = np.zeros((8, 12), bool)
    mask[2:6, 1:4] = mask[2:6, 8:11] = True
    labelmap = split_sides(mask)
    assert (labelmap[2:6, 1:4] == RIGHT_LUNG).all()
    assert (labelmap[2:6, 8:11] == LEFT_LUNG).all()
    assert np.array_equal(labelmap > 0, mask)


def test_lungs_that_touch_are_cut_at_the_narrow_bridge():
    mask = np.zeros((20, 40), bool)
    mask[2:18, 2:17] = mask[2:18, 23:38] = True
    mask[9:11, 17:23] = True
    labelmap = split_sides(mask)
    assert (labelmap[2:18, 2:17] == RIGHT_LUNG).all()
    assert (labelmap[2:18, 23:38] == LEFT_LUNG).all()
    assert np.array_equal(labelmap > 0, mask)


def test_parts_of_one_lung_stay_together():
    mask = np.zeros((20, 40), bool)
    mask[1:5, 3:12] = mask[8:18, 2:10] = True
    mask[3:17, 28:38] = True
    labelmap = split_sides(mask)
    assert set(np.unique(labelmap[:, :20])) == {0, RIGHT_LUNG}
    assert set(np.unique(labelmap[:, 20:])) == {0, LEFT_LUNG}


def test_an_empty_mask_has_no_sides():
    assert not split_sides(np.zeros((5, 5), bool)).any()


def test_a_single_column_is_split_without_error():
    mask = np.zeros((5, 5), bool)
    mask[:, 2] = True
    assert np.array_equal(split_sides(mask) > 0, mask)


def column(*labels: int) -> np.ndarray:
    """One voxel in each slice, off the corner of 3 x 3."""
    labelmap = np.zeros((len(labels), 3, 3), np.uint8)
    labelmap[:, 1, 2] = labels
    return labelmap


@pytest.mark.parametrize(
    ("spacing_mm", "before", "after"),
    [
        (2.5, (1, 1, 0, 1, 1), (1, 1, 1, 1, 1)),
        (2.5, (0, 0, 2, 0, 0), (0, 0, 0, 0, 0)),
        (3.0, (1, 1, 2, 1, 1), (1, 1, 1, 1, 1)),
        (3.0000002, (1, 0, 1, 0, 1), (1, 1, 0, 1, 1)),
        (2.5, (0, 1, 2, 0, 0), (0, 1, 2, 0, 0)),  # most are lung, and the sides have as many: its own
        (1.5, (2, 2, 1, 1, 2, 2), (2, 2, 2, 2, 2, 2)),
        (2.5, (1, 0, 0, 0, 2), (1, 0, 0, 0, 2)),  # the last slice counts twice, as if it went on
        (1.5, (0, 1, 1, 0, 1, 0, 0, 0), (0, 0, 1, 1, 0, 0, 0, 0)),
        (1.5, (1, 1, 0, 0, 0, 1, 1, 1), (1, 1, 0, 0, 0, 1, 1, 1)),
        (5.0, (1, 0, 1, 0, 1), (1, 0, 1, 0, 1)),
        (0.5, (1,), (1,)),
    ],
)
def test_a_voxel_gets_the_label_of_most_slices_within_3_mm(spacing_mm, before, after):
    labelmap = column(*before)
    assert np.array_equal(majority_filter_slices(labelmap, spacing_mm), column(*after))
    assert np.array_equal(labelmap, column(*before))


def test_fixed_slices_stay_and_are_counted():
    assert np.array_equal(majority_filter_slices(column(1, 1, 0, 0, 1), 2.5, fixed=[2]), column(1, 1, 0, 0, 1))
    assert np.array_equal(majority_filter_slices(column(1, 1, 0, 1, 1), 2.5, fixed=[2]), column(1, 1, 0, 1, 1))


def test_holes_are_filled_and_islands_dropped():
    labelmap = np.zeros((3, 30, 30), np.uint8)
    labelmap[:, 5:25, 3:13] = RIGHT_LUNG
    labelmap[:, 10:12, 6] = 0
    labelmap[1, 27, 27] = RIGHT_LUNG
    labelmap[:, 5:25, 16:26] = LEFT_LUNG
    clean = clean_lungs(labelmap)
    assert (clean[:, 5:25, 3:13] == RIGHT_LUNG).all()
    assert clean[1, 27, 27] == 0
    assert np.array_equal(clean == LEFT_LUNG, labelmap == LEFT_LUNG)


def test_a_notch_at_the_edge_of_the_image_is_no_hole():
    labelmap = np.full((1, 40, 40), RIGHT_LUNG, np.uint8)
    labelmap[0, 0:3, 10:13] = 0
    labelmap[0, 20:22, 20:22] = 0
    clean = clean_lungs(labelmap)
    assert not clean[0, 0:3, 10:13].any()
    assert np.sum(clean == 0) == 9


def test_a_hole_whose_pixels_meet_the_outside_only_at_a_corner_is_filled():
    labelmap = np.zeros((1, 30, 30), np.uint8)
    labelmap[0, 5:25, 5:25] = LEFT_LUNG
    labelmap[0, 5, 5] = labelmap[0, 6, 6] = 0
    clean = clean_lungs(labelmap)
    assert clean[0, 6, 6] == LEFT_LUNG and clean[0, 5, 5] == 0


def test_nothing_stays_nothing():
    empty = np.zeros((2, 9, 9), np.uint8)
    assert np.array_equal(clean_lungs(empty), empty)


def test_the_dome_of_the_liver_inside_the_right_lung_is_not_filled():
    labelmap = np.zeros((2, 60, 60), np.uint8)
    labelmap[:, 5:55, 5:45] = RIGHT_LUNG
    labelmap[0, 20:40, 15:35] = 0
    assert np.array_equal(clean_lungs(labelmap), labelmap)


def test_a_hole_is_never_taken_from_the_other_lung():
    labelmap = np.full((1, 30, 30), RIGHT_LUNG, np.uint8)
    labelmap[0, 3:7, 3:7] = LEFT_LUNG
    labelmap[0, 20:22, 20:22] = 0
    clean = clean_lungs(labelmap, smallest_share=0.01)
    assert np.array_equal(clean == LEFT_LUNG, labelmap == LEFT_LUNG)
    assert (clean[0, 20:22, 20:22] == RIGHT_LUNG).all()


def test_a_patch_with_the_wrong_side_is_given_to_the_lung_around_it():
    labelmap = np.zeros((4, 40, 40), np.uint8)
    labelmap[:, 5:35, 3:18] = RIGHT_LUNG
    labelmap[:, 5:35, 22:37] = LEFT_LUNG
    truth = labelmap.copy()
    labelmap[2, 30:35, 3:9] = LEFT_LUNG
    assert np.array_equal(clean_lungs(labelmap), truth)


def chest_with_pocket(columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Two lungs of -850 HU beside 40 mm of tissue, and a pocket of pure air of 12 x 12 mm; all of it labelled lung."""
    hu = np.full((2, 80, 140), 40, np.int16)
    labelmap = np.zeros(hu.shape, np.uint8)
    hu[:, 10:70, 5:50] = hu[:, 10:70, 90:135] = -850
    labelmap[:, 10:70, 5:50], labelmap[:, 10:70, 90:135] = RIGHT_LUNG, LEFT_LUNG
    hu[:, 30:42, columns] = -1000
    labelmap[:, 30:42, columns] = np.where(labelmap[:, 30:42, columns] > 0, labelmap[:, 30:42, columns], RIGHT_LUNG)
    return labelmap, hu


def test_a_trachea_between_the_lungs_is_taken_out():
    labelmap, hu = chest_with_pocket(slice(60, 72))
    result = without_airway(labelmap, hu, (5.0, 1.0, 1.0))
    assert not result[:, 30:42, 60:72].any()
    assert (result[:, 10:70, 5:50] == RIGHT_LUNG).all() and (result[:, 10:70, 90:135] == LEFT_LUNG).all()


def test_a_bulla_inside_a_lung_or_at_its_outside_stays():
    for columns in (slice(35, 47), slice(5, 17)):
        labelmap, hu = chest_with_pocket(columns)
        assert np.array_equal(without_airway(labelmap, hu, (5.0, 1.0, 1.0)), labelmap)


def test_no_lung_has_no_airway():
    empty = np.zeros((2, 8, 8), np.uint8)
    assert not without_airway(empty, np.full(empty.shape, -1000, np.int16), (1.0, 1.0, 1.0)).any()


def test_beside_consolidation_aerated_lung_is_not_taken_for_airway():
    labelmap, hu = chest_with_pocket(slice(60, 72))
    hu[:, 10:70, 5:50] = hu[:, 10:70, 90:135] = -100
    hu[:, 30:42, 60:72] = -850
    assert np.array_equal(without_airway(labelmap, hu, (5.0, 1.0, 1.0)), labelmap)

"""Sides, components and holes of masks."""

from __future__ import annotations

import numpy as np

from SAMLungSegLib.postprocess import LEFT_LUNG, RIGHT_LUNG, clean_lungs, split_sides


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


def test_holes_are_filled_and_islands_dropped():
    labelmap = np.zeros((3, 30, 30), np.uint8)
    labelmap[:, 5:25, 3:13] = RIGHT_LUNG
    labelmap[:, 10:12, 6:8] = 0
    labelmap[1, 27, 27] = RIGHT_LUNG
    labelmap[:, 5:25, 16:26] = LEFT_LUNG
    clean = clean_lungs(labelmap)
    assert (clean[:, 5:25, 3:13] == RIGHT_LUNG).all()
    assert clean[1, 27, 27] == 0
    assert np.array_equal(clean == LEFT_LUNG, labelmap == LEFT_LUNG)


def test_a_hole_is_never_taken_from_the_other_lung():
    labelmap = np.full((1, 9, 9), RIGHT_LUNG, np.uint8)
    labelmap[0, 3:6, 3:6] = LEFT_LUNG
    assert np.array_equal(clean_lungs(labelmap)[0, 3:6, 3:6], labelmap[0, 3:6, 3:6])


def test_a_patch_with_the_wrong_side_is_given_to_the_lung_around_it():
    labelmap = np.zeros((4, 40, 40), np.uint8)
    labelmap[:, 5:35, 3:18] = RIGHT_LUNG
    labelmap[:, 5:35, 22:37] = LEFT_LUNG
    truth = labelmap.copy()
    labelmap[2, 30:35, 3:9] = LEFT_LUNG
    assert np.array_equal(clean_lungs(labelmap), truth)

"""Prompt types, automatic prompts, simulated prompts."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.air import coarse_lungs_ct, coarse_lungs_ct_slice
from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet, automatic_prompts
from SAMLungSegLib.prompts.simulated import corrective_click, jittered_box, random_point
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.volume import axial_plane, read_volume

# ---- types


@pytest.mark.parametrize("xyxy", [(5, 5, 5, 9), (9, 0, 3, 4), (0, 0, np.nan, 4)])
def test_a_box_without_area_is_refused(xyxy):
    with pytest.raises(PromptError, match="Box"):
        BoxPrompt(xyxy)


def test_a_point_that_is_not_finite_is_refused():
    with pytest.raises(PromptError, match="two finite numbers"):
        PointPrompt((np.inf, 3))


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (PromptSet(points=(PointPrompt((10, 3)),)), "Point 10,3 lies outside the slice of 10 x 8"),
        (PromptSet(box=BoxPrompt((12, 1, 15, 4))), "lies outside the slice"),
        (PromptSet(mask=MaskPrompt(np.zeros((4, 4), bool))), "Mask prompt has shape"),
    ],
)
def test_prompts_outside_the_slice_are_refused(prompts, message):
    with pytest.raises(PromptError, match=message):
        prompts.check_inside((8, 10))


def test_the_last_pixel_is_inside():
    PromptSet(points=(PointPrompt((9, 7)), PointPrompt((0, 0)))).check_inside((8, 10))


def test_a_bool_mask_becomes_saturated_logits():
    assert MaskPrompt(np.array([[True, False]])).logits().tolist() == [[10.0, -10.0]]


# ---- automatic


@pytest.fixture(scope="module")
def phantom():
    return chest_ct(seed=3, size_kji=(40, 128, 128), spacing_mm=(8.0, 3.0, 3.0))


def test_lung_that_the_end_of_a_coronal_slice_cuts_is_not_taken_for_the_air_outside():
    hu = np.full((60, 100), -1000, np.int16)
    hu[:, 10:90] = 0  # the body, from the first row to the last
    hu[:45, 20:45], hu[:45, 55:80] = -850, -850
    hu[:, 95] = 100  # the table
    assert not coarse_lungs_ct_slice(hu, (1.5, 1.5), ends_in_body=False).any()
    coarse = coarse_lungs_ct_slice(hu, (1.5, 1.5), ends_in_body=True)
    assert coarse.shape == hu.shape
    for side in (RIGHT_LUNG, LEFT_LUNG):
        columns = slice(20, 45) if side == RIGHT_LUNG else slice(55, 80)
        truth = np.zeros(hu.shape, bool)
        truth[:45, columns] = True
        assert dice(coarse == side, truth) > 0.95


def test_aerated_lung_of_a_ct_is_found_side_by_side_without_gas(phantom):
    coarse = coarse_lungs_ct(phantom.hu_kji.astype(np.float32), (8.0, 3.0, 3.0))
    for side in (RIGHT_LUNG, LEFT_LUNG):
        assert dice(coarse == side, (phantom.labelmap_kji == side) & (phantom.hu_kji < -320)) > 0.9
    lowest_lung = np.flatnonzero(phantom.labelmap_kji.any(axis=(1, 2)))[0]
    assert not coarse[:lowest_lung].any()


def test_a_ct_without_air_gives_nothing():
    assert not coarse_lungs_ct(np.full((3, 32, 32), 40.0), (2.0, 1.0, 1.0)).any()


def test_automatic_prompts_point_into_each_lung_and_between_them():
    coarse = np.zeros((40, 60), np.uint8)
    coarse[5:35, 4:20] = RIGHT_LUNG
    coarse[8:30, 38:56] = LEFT_LUNG
    prompts = automatic_prompts(coarse)
    assert set(prompts) == {RIGHT_LUNG, LEFT_LUNG}
    assert prompts[RIGHT_LUNG].box.xyxy == (3.5, 4.5, 19.5, 34.5)
    assert prompts[LEFT_LUNG].box.xyxy == (37.5, 7.5, 55.5, 29.5)
    for side, prompt in prompts.items():
        for point in prompt.points:
            x, y = (round(value) for value in point.xy)
            assert coarse[y, x] == (side if point.positive else 0)
    assert [point.positive for point in prompts[RIGHT_LUNG].points] == [True, False]


def test_a_lung_of_a_few_pixels_gets_no_prompt():
    coarse = np.zeros((100, 100), np.uint8)
    coarse[50, 50:53] = LEFT_LUNG
    assert automatic_prompts(coarse) == {}


@pytest.mark.slow
def test_a_real_ct_gives_lungs_without_trachea_table_and_stomach_gas(shared_data):
    volume = read_volume(shared_data / "ct_ricord_dicom")
    plane = axial_plane(volume)
    hu = plane.to_display(volume.array_kji)
    coarse = coarse_lungs_ct(hu, (plane.slice_spacing_mm, *plane.spacing_hw_mm))
    litres = [np.sum(coarse == side) * np.prod(volume.spacing_mm) / 1e6 for side in (RIGHT_LUNG, LEFT_LUNG)]
    assert 1.0 < litres[0] < 1.6 and 1.2 < litres[1] < 1.8
    assert not coarse[:5].any(), "the lowest slices hold stomach gas only"
    assert not coarse[:, 440:].any(), "the table lies there"
    assert not coarse[:, :, 500:].any()


# ---- simulated


def test_random_points_and_boxes_of_an_empty_mask_are_refused():
    empty = np.zeros((4, 4), bool)
    rng = np.random.default_rng(0)
    with pytest.raises(PromptError):
        random_point(empty, rng)
    with pytest.raises(PromptError):
        jittered_box(empty, rng, 3)


def test_a_random_point_of_a_single_pixel_is_that_pixel():
    mask = np.zeros((4, 6), bool)
    mask[2, 5] = True
    assert random_point(mask, np.random.default_rng(0)) == (5.0, 2.0)


def test_a_box_without_jitter_is_the_bounding_box():
    mask = np.zeros((20, 30), bool)
    mask[3:9, 10:25] = True
    assert jittered_box(mask, np.random.default_rng(0), 0) == (10.0, 3.0, 25.0, 9.0)


def test_a_click_goes_to_the_middle_of_the_largest_error():
    reference = np.zeros((30, 30), bool)
    reference[5:16, 5:16] = True
    prediction = np.zeros((30, 30), bool)
    prediction[20:23, 20:23] = True
    assert corrective_click(prediction, reference) == ((10.0, 10.0), True)
    assert corrective_click(prediction, np.zeros((30, 30), bool)) == ((21.0, 21.0), False)


def test_a_perfect_answer_needs_no_click():
    mask = np.ones((4, 4), bool)
    assert corrective_click(mask, mask) is None

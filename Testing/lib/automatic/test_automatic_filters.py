"""Which automatic masks stay: thresholds, overlaps and small parts, computed by hand."""

from __future__ import annotations

import numpy as np
from scripted_models import BrightThings, Scripted, areas, block
from tiny_sams import grey

from SAMLungSegLib.automatic import (
    AutomaticSettings,
    automatic_masks,
    generator,
)
from SAMLungSegLib.automatic.masks import without_small_parts
from SAMLungSegLib.models import load_model

EVERYTHING = AutomaticSettings(points_per_side=2, iou=0, stability=0, nms=1, min_area_px=0, max_share=1)


def test_a_predicted_iou_must_exceed_the_threshold():
    model = Scripted((block((40, 40), np.s_[:10], np.s_[:10]), 0.875), (block((40, 40), np.s_[20:], np.s_[20:]), 0.9))
    settings = AutomaticSettings(2, iou=0.875, stability=0, min_area_px=0)
    assert areas(automatic_masks(model, grey((40, 40)), settings)) == [400]
    assert areas(automatic_masks(model, grey((40, 40)), AutomaticSettings(2, iou=0.87, min_area_px=0))) == [100, 400]


def test_stability_is_the_overlap_of_the_masks_cut_higher_and_lower():
    """Above 1 are 60 pixels, above -1 are 80: 0.75. The mask itself, above 0, has 70."""
    logits = np.full((40, 40), -5.0)
    logits[:6, :10], logits[6, :10], logits[7, :10] = 3, 0.5, -0.5
    model = Scripted((logits, 1.0))
    for threshold, expected in ((0.75, [70]), (0.76, [])):
        settings = AutomaticSettings(2, stability=threshold, min_area_px=0)
        assert areas(automatic_masks(model, grey((40, 40)), settings)) == expected
    [mask] = automatic_masks(model, grey((40, 40)), AutomaticSettings(2, stability=0.5, min_area_px=0))
    assert mask.stability == 0.75


def test_of_two_boxes_that_overlap_enough_the_better_one_stays():
    """Boxes of 10 x 10 and 10 x 8 within it: corners are pixel indices, so the overlap is 9 * 7 / (9 * 9) = 0.78."""
    model = Scripted((block((40, 40), np.s_[:10], np.s_[:10]), 0.9), (block((40, 40), np.s_[:10], np.s_[:8]), 0.95))
    for nms, expected in ((0.77, [80]), (0.79, [80, 100])):
        settings = AutomaticSettings(2, nms=nms, min_area_px=0)
        assert areas(automatic_masks(model, grey((40, 40)), settings)) == expected


def test_masks_of_nearly_the_whole_slice_are_dropped_and_suppress_nothing():
    """1520 of 1600 pixels are 95 %; of the rest one mask overlaps the large one's box by more than 0.7."""
    size_hw = (40, 40)
    large = block(size_hw, np.s_[:38], np.s_[:])
    model = Scripted((large, 1.0), (block(size_hw, np.s_[:37], np.s_[:]), 0.9))
    assert areas(automatic_masks(model, grey(size_hw), AutomaticSettings(2, min_area_px=0))) == [1480]
    keep_large = AutomaticSettings(2, min_area_px=0, max_share=1)
    assert areas(automatic_masks(model, grey(size_hw), keep_large)) == [1520]
    whole = Scripted((np.full(size_hw, 5.0), 1.0))
    assert areas(automatic_masks(whole, grey(size_hw), keep_large)) == [1600]


def test_small_holes_are_filled_and_small_islands_dropped():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    mask[20:23, 20:23] = False  # 9 pixels
    mask[30:35, 30:32] = False  # 10 pixels
    mask[0:3, 0:3] = mask[55:60, 0:2] = True  # 9 and 10 pixels
    expected = mask.copy()
    expected[20:23, 20:23], expected[0:3, 0:3] = True, False
    assert np.array_equal(without_small_parts(mask, 10), expected)
    assert np.array_equal(without_small_parts(mask, 0), mask)


def test_parts_that_touch_at_a_corner_are_one():
    mask = np.zeros((20, 20), bool)
    mask[2:5, 2:5] = mask[5:8, 5:8] = True  # 9 pixels each
    assert np.array_equal(without_small_parts(mask, 18), mask)
    assert not without_small_parts(mask, 19).any()


def test_masks_of_small_parts_only_are_dropped():
    model = Scripted((block((60, 60), np.s_[:9], np.s_[:11]), 1.0), (block((60, 60), np.s_[30:40], np.s_[:10]), 1.0))
    assert areas(automatic_masks(model, grey((60, 60)), AutomaticSettings(2))) == [100]


def test_empty_masks_are_dropped_whatever_is_kept():
    model = Scripted((np.full((40, 40), -5.0), 1.0))
    assert automatic_masks(model, grey((40, 40)), EVERYTHING) == []


def test_the_grid_of_points_is_centred_and_stays_inside_tiny_slices():
    asked = []
    model = BrightThings()
    decode = model.decode_points
    model.decode_points = lambda embedding, points_xy: asked.append(points_xy) or decode(embedding, points_xy)
    automatic_masks(model, grey((40, 80)), AutomaticSettings(points_per_side=2))
    assert asked[0].tolist() == [[20, 10], [60, 10], [20, 30], [60, 30]]
    automatic_masks(load_model(device="cpu"), grey((3, 2)), AutomaticSettings(points_per_side=8))


def test_only_sure_masks_are_drawn_at_full_size_and_few_at_a_time(monkeypatch):
    size_hw = (32, 64)
    model = Scripted((block(size_hw, np.s_[:20], np.s_[:20]), 0.9), (block(size_hw, np.s_[:], np.s_[30:]), 0.1))
    monkeypatch.setattr(generator, "_FRAME_PIXELS", 1)
    monkeypatch.setattr(generator, "_PIXELS_AT_ONCE", 3 * 32 * 64)
    automatic_masks(model, grey(size_hw), AutomaticSettings(points_per_side=8, iou=0.5))
    assert sum(model.drawn_at_once) == 64
    assert max(model.drawn_at_once) == 3


def test_progress_counts_the_points_of_all_crops():
    seen = []
    settings = AutomaticSettings(points_per_side=10, crop_layers=1)
    automatic_masks(BrightThings(), grey((64, 64)), settings, progress=lambda *step: seen.append(step))
    assert seen == [(done, 500) for crop in range(5) for done in (100 * crop + 64, 100 * crop + 100)]

"""Flags and predicted quality of segmentations with known lungs."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.batch.quality import FLAGS, flags_of, measure, predicted_quality
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.volume import Volume, axial_plane

SPACING_MM = (25.0, 5.0, 5.0)
SIZE_KJI = (10, 60, 80)


def lungs() -> np.ndarray:
    """Labels in display order: two blocks of 6 slices, 30 x 25 and 30 x 24 pixels: 2813 and 2700 ml."""
    labels = np.zeros(SIZE_KJI, np.uint8)
    labels[2:8, 15:45, 10:35], labels[2:8, 15:45, 45:69] = 1, 2
    return labels


def segmentation(labels: np.ndarray, scores=0.95, modality: str = "CT", spacing_mm=SPACING_MM) -> Segmentation:
    ijk_to_ras = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1])
    volume = Volume(np.zeros(labels.shape, np.int16), ijk_to_ras, "case", modality)
    plane = axial_plane(volume)
    grey = np.full(labels.shape, 90, np.uint8)
    scores = np.broadcast_to(np.float32(scores), len(labels))
    return Segmentation(volume, modality, plane, plane.from_display(labels), grey, scores)


def flags(labels: np.ndarray, **options) -> list[str]:
    return flags_of(measure(segmentation(labels, **options)))


def test_sound_lungs_have_no_flag():
    one = measure(segmentation(lungs()))
    assert one.ml == {1: pytest.approx(2812.5), 2: pytest.approx(2700)}
    assert one.numbers.right_to_left == pytest.approx(25 / 24)
    assert flags_of(one) == []


def test_a_missing_lung_is_flagged_unless_it_was_not_asked_for():
    labels = lungs()
    labels[labels == 2] = 0
    assert flags(labels) == ["lung_missing"]
    assert flags_of(measure(segmentation(labels), "right")) == []


def test_no_lung_at_all_has_no_quality():
    one = measure(segmentation(np.zeros(SIZE_KJI, np.uint8)))
    assert flags_of(one) == ["lung_missing"]
    assert predicted_quality(one.score, 1) == 0


def test_scores_weigh_by_lung_and_slices_without_do_not_count():
    labels = lungs()
    labels[2, :, :] = 0
    labels[2, 15, 10:35] = 1  # little lung: not among the lowest
    scores = np.array([0.1, 0.1, 0.2, 0.9, 0.9, 0.5, 0.9, 0.9, 0.1, np.nan])
    one = measure(segmentation(labels, scores=scores))
    area = 30 * 49
    assert one.score == pytest.approx((0.9 * 4 * area + 0.5 * area + 0.2 * 25) / (5 * area + 25))
    assert one.lowest_score == pytest.approx(0.5)
    assert flags_of(one) == ["low_score", "poor_slice"]


def test_lungs_of_a_child_or_a_wrong_spacing_are_flagged():
    assert flags(lungs(), spacing_mm=(5.0, 5.0, 5.0)) == []
    assert flags(lungs(), spacing_mm=(2.0, 5.0, 5.0)) == ["odd_size"]
    assert flags(lungs(), spacing_mm=(50.0, 5.0, 5.0)) == ["odd_size"]


def test_one_lung_much_larger_than_the_other_is_flagged():
    labels = lungs()
    labels[:4][labels[:4] == 2] = 0  # 25 x 6 against 24 x 4
    assert flags(labels) == []
    labels[:5][labels[:5] == 2] = 0  # against 24 x 3
    assert flags(labels) == ["odd_ratio"]


def test_a_lung_in_pieces_is_flagged_and_an_island_is_not():
    labels = lungs()
    labels[9, 50:53, 10:13] = 1
    assert flags(labels) == []
    labels[5, labels[5] == 1] = 0
    assert flags(labels) == ["in_pieces"]


def test_a_scan_that_ends_in_the_lungs_is_flagged():
    assert flags(lungs()[4:]) == ["cut_off_end"]


def test_a_lung_that_leaves_the_image_is_flagged():
    labels = lungs()
    labels[2:8, 15:45, 0:35] = 1
    assert flags(labels) == ["cut_off_side"]


def test_an_xray_is_judged_by_its_area_and_has_no_ends():
    labels = lungs()[4:5]
    one = measure(segmentation(labels, modality="XRAY"))
    assert np.isnan(one.ml[1]) and flags_of(one) == []
    labels = labels.copy()
    labels[:, 20:] = 0
    assert flags(labels, modality="XRAY") == ["odd_size"]


def test_each_flag_lowers_the_quality():
    assert predicted_quality(0.9, 0) == 0.9
    assert predicted_quality(0.9, 2) == pytest.approx(0.7)
    assert predicted_quality(0.1, len(FLAGS)) == 0

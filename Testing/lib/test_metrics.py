"""Metrics against values worked out by hand, and against MONAI's where that is installed."""

from __future__ import annotations

import subprocess
import sys
from math import inf, isnan, sqrt

import numpy as np
import pytest

from SAMLungSegLib.errors import GeometryError, SettingsError
from SAMLungSegLib.metrics import (
    METRICS,
    assd_mm,
    dice,
    hausdorff_95_mm,
    in_pixels,
    jaccard,
    measure_all,
    precision,
    relative_volume_error,
    sensitivity,
    surface_dice,
    surface_distances_mm,
    volume_difference_ml,
)

EMPTY = np.zeros((8, 8), dtype=bool)


def square(row: int, column: int, size: int = 2, image: int = 8) -> np.ndarray:
    mask = np.zeros((image, image), dtype=bool)
    mask[row : row + size, column : column + size] = True
    return mask


def voxel(k: int, j: int, i: int) -> np.ndarray:
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[k, j, i] = True
    return mask


def test_a_square_shifted_by_half_its_width_overlaps_by_half():
    reference, prediction = square(2, 2), square(2, 3)
    assert dice(reference, prediction) == pytest.approx(2 * 2 / (4 + 4))
    assert jaccard(reference, prediction) == pytest.approx(2 / 6)


def test_precision_and_sensitivity_tell_too_much_from_too_little():
    small, large = square(2, 2, size=2), square(2, 2, size=4)
    assert precision(small, large) == pytest.approx(4 / 16)
    assert sensitivity(small, large) == 1
    assert precision(large, small) == 1
    assert sensitivity(large, small) == pytest.approx(4 / 16)


def test_dice_and_jaccard_agree_through_their_identity():
    rng = np.random.default_rng(0)
    reference, prediction = rng.random((2, 9, 7, 5)) > 0.4
    overlap = jaccard(reference, prediction)
    assert dice(reference, prediction) == pytest.approx(2 * overlap / (1 + overlap))


@pytest.mark.parametrize("function", [dice, jaccard, precision, sensitivity])
def test_overlap_of_two_empty_masks_is_undefined(function):
    assert isnan(function(EMPTY, EMPTY))


def test_a_missed_object_scores_zero_and_is_infinitely_far():
    reference = square(2, 2)
    assert dice(reference, EMPTY) == jaccard(reference, EMPTY) == sensitivity(reference, EMPTY) == 0
    assert isnan(precision(reference, EMPTY))
    assert hausdorff_95_mm(reference, EMPTY, (1, 1)) == hausdorff_95_mm(EMPTY, reference, (1, 1)) == inf
    assert surface_dice(reference, EMPTY, (1, 1), 100) == 0


def test_surfaces_of_two_empty_masks_are_undefined():
    assert isnan(hausdorff_95_mm(EMPTY, EMPTY, (1, 1)))
    assert isnan(surface_dice(EMPTY, EMPTY, (1, 1), 1))


@pytest.mark.parametrize(
    ("moved", "expected_mm"),
    [((3, 2, 2), 1.0), ((2, 3, 2), 2.0), ((2, 2, 3), 3.0), ((3, 3, 3), sqrt(1 + 4 + 9)), ((4, 2, 3), sqrt(4 + 9))],
)
def test_each_axis_counts_with_its_own_spacing(moved, expected_mm):
    reference, prediction = voxel(2, 2, 2), voxel(*moved)
    assert hausdorff_95_mm(reference, prediction, (1, 2, 3)) == pytest.approx(expected_mm)


def test_the_nearest_voxel_depends_on_the_spacing():
    reference = voxel(2, 2, 2)
    prediction = voxel(2, 2, 3) | voxel(4, 2, 2)
    assert surface_distances_mm(reference, prediction, (1, 1, 1))[0] == pytest.approx([1])
    assert surface_distances_mm(reference, prediction, (1, 1, 3))[0] == pytest.approx([2])


def test_hausdorff_95_takes_the_percentile_in_the_worse_direction():
    # Twenty pixels agree and the prediction has one more, 10 mm away. From the reference's side all distances are 0;
    # from the prediction's they are twenty zeros and a ten, and 95 % of the way along them is the last zero.
    reference, prediction = np.zeros((2, 3, 40), dtype=bool)
    reference[1, :20] = prediction[1, :20] = True
    prediction[1, 29] = True
    assert hausdorff_95_mm(reference, prediction, (1, 1)) == 0
    # With ten of the agreeing pixels gone it is half way between the last zero and the ten.
    reference[1, :10] = prediction[1, :10] = False
    assert hausdorff_95_mm(reference, prediction, (1, 1)) == pytest.approx(5)
    assert hausdorff_95_mm(prediction, reference, (1, 1)) == pytest.approx(5)


def test_assd_averages_over_the_boundary_voxels_of_both_masks():
    reference, prediction = voxel(2, 2, 2) | voxel(4, 4, 4), voxel(2, 2, 3)
    # From the reference 3 mm, and over (2, 2, 1) voxels of 1, 2 and 3 mm sqrt(4 + 16 + 9) mm; from the prediction 3 mm.
    assert assd_mm(reference, prediction, (1, 2, 3)) == pytest.approx((3 + sqrt(29) + 3) / 3)
    assert assd_mm(prediction, reference, (1, 2, 3)) == pytest.approx((3 + sqrt(29) + 3) / 3)
    assert isnan(assd_mm(EMPTY, EMPTY, (1, 1)))
    assert assd_mm(square(2, 2), EMPTY, (1, 1)) == inf


def test_the_relative_volume_error_is_a_share_of_the_reference():
    assert relative_volume_error(square(2, 2, size=2), square(2, 2, size=3)) == pytest.approx(5 / 4)
    assert relative_volume_error(square(2, 2, size=2), EMPTY) == -1
    assert isnan(relative_volume_error(EMPTY, square(2, 2)))


def test_only_distances_in_millimetres_have_a_form_in_pixels():
    assert [(one.name, one.unit) for one in in_pixels(METRICS)] == [("hausdorff_95_px", "px"), ("assd_px", "px")]


def test_surface_dice_counts_boundary_voxels_of_both_masks_within_the_tolerance():
    # Two 3x3 squares two columns apart: 8 boundary pixels each (all but the centre). Distances by column are
    # 2, 1, 0 from the left square (its middle column has 2 boundary pixels, which lie 1 from the other square's
    # left column) and 0, 1, 2 from the right one.
    reference, prediction = square(2, 2, size=3), square(2, 4, size=3)
    assert surface_dice(reference, prediction, (1, 1), 0) == pytest.approx((3 + 3) / 16)
    assert surface_dice(reference, prediction, (1, 1), 1) == pytest.approx((5 + 5) / 16)
    assert surface_dice(reference, prediction, (1, 1), 2) == 1
    assert surface_dice(reference, prediction, (1, 3), 2) == pytest.approx((3 + 3) / 16)


def test_a_hole_has_a_surface_that_overlap_hardly_sees():
    # A 7x7 square with and without its centre pixel: 24 outer boundary pixels, and the four beside the hole, which
    # lie 2 from the outer ones.
    whole, holed = square(0, 0, size=7), square(0, 0, size=7)
    holed[3, 3] = False
    assert dice(whole, holed) == pytest.approx(2 * 48 / 97)
    assert surface_dice(whole, holed, (1, 1), 1) == pytest.approx((24 + 24) / (24 + 28))
    assert hausdorff_95_mm(whole, holed, (1, 1)) == pytest.approx(2)


def test_a_crescent_is_measured_along_its_inner_edge():
    # A ring of 16 pixels with a gap of one, against the filled 5x5 square. All surface pixels of the C lie on the
    # square's; of the square's, only the one in the gap is off the C, by one pixel.
    filled = square(1, 1, size=5)
    crescent = filled & ~square(2, 2, size=3)
    crescent[3, 5] = False
    assert dice(filled, crescent) == pytest.approx(2 * 15 / (25 + 15))
    from_filled, from_crescent = surface_distances_mm(filled, crescent, (1, 1))
    assert from_crescent.max() == 0
    assert sorted(from_filled) == [0] * 15 + [1]


def test_the_image_border_counts_as_surface():
    full = np.ones((5, 5), dtype=bool)
    assert len(surface_distances_mm(full, full, (1, 1))[0]) == 16


def test_a_volume_one_voxel_thick_is_treated_as_a_slice():
    reference, prediction = square(1, 1, size=5), square(1, 2, size=5)
    in_slice = surface_distances_mm(reference, prediction, (1, 2))
    for axis, spacing in ((0, (9, 1, 2)), (2, (1, 2, 9))):
        flat = [np.expand_dims(mask, axis) for mask in (reference, prediction)]
        in_volume = surface_distances_mm(*flat, spacing)
        assert np.array_equal(in_slice[0], in_volume[0])
        assert np.array_equal(in_slice[1], in_volume[1])


def test_an_image_of_one_pixel_still_has_a_surface():
    one = np.ones((1, 1, 1), dtype=bool)
    assert hausdorff_95_mm(one, one, (1, 1, 1)) == 0


def test_volume_difference_is_positive_where_the_prediction_is_larger():
    small, large = voxel(1, 1, 1), np.ones((6, 6, 6), dtype=bool)
    assert volume_difference_ml(small, large, (1, 2, 5)) == pytest.approx(215 * 10 / 1000)
    assert volume_difference_ml(large, small, (1, 2, 5)) == pytest.approx(-2.15)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_refuses_masks_of_different_shapes(metric):
    with pytest.raises(GeometryError, match=r"\(2, 3, 4\).*\(2, 3, 5\).*same grid"):
        metric.measure(np.ones((2, 3, 4), bool), np.ones((2, 3, 5), bool), (1, 1, 1))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_of_a_perfect_prediction_has_its_best_value(metric):
    best = {True: 1, False: 0, None: 0}[metric.higher_is_better]
    mask = voxel(1, 2, 3) | voxel(2, 2, 3)
    assert metric.measure(mask, mask, (1, 2, 3)) == best


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_only_metrics_in_millimetres_are_undefined_without_spacing(metric):
    assert isnan(metric.measure(voxel(1, 2, 3), voxel(1, 2, 3))) == metric.needs_spacing


def test_the_tolerance_reaches_the_metric_that_takes_it():
    (metric,) = [metric for metric in METRICS if metric.needs_tolerance]
    assert metric.measure(voxel(1, 1, 1), voxel(1, 1, 2), (1, 1, 3), tolerance_mm=2.9) == 0
    assert metric.measure(voxel(1, 1, 1), voxel(1, 1, 2), (1, 1, 3), tolerance_mm=3) == 1


@pytest.mark.parametrize("spacing_mm", [None, (1, 2, 3)])
def test_metrics_measured_together_are_those_measured_alone(spacing_mm):
    reference, prediction = voxel(1, 2, 3) | voxel(2, 2, 3), voxel(2, 3, 3) | voxel(2, 2, 3)
    together = measure_all(METRICS, reference, prediction, spacing_mm, 1.5)
    alone = {metric.name: metric.measure(reference, prediction, spacing_mm, 1.5) for metric in METRICS}
    assert together == pytest.approx(alone, nan_ok=True)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, -2), (1, 1, float("nan"))])
def test_a_spacing_that_does_not_fit_is_refused(spacing):
    with pytest.raises(GeometryError, match="one positive number for each axis"):
        hausdorff_95_mm(voxel(1, 1, 1), voxel(1, 1, 2), spacing)


def test_a_negative_tolerance_is_refused():
    with pytest.raises(SettingsError, match="Tolerance -1 mm"):
        surface_dice(square(1, 1), square(1, 1), (1, 1), -1)


def test_a_slice_has_no_volume():
    with pytest.raises(GeometryError, match="ml"):
        volume_difference_ml(square(1, 1), square(1, 1), (1, 1))


def test_surface_distances_are_those_of_monai():
    monai_metrics = pytest.importorskip("monai.metrics", reason="MONAI is the independent implementation")
    torch = pytest.importorskip("torch")
    z, y, x = np.ogrid[:12, :20, :20]
    reference = ((z - 6) / 5) ** 2 + ((y - 10) / 7) ** 2 + ((x - 9) / 6) ** 2 < 1
    prediction = ((z - 5) / 4) ** 2 + ((y - 11) / 8) ** 2 + ((x - 10) / 6) ** 2 < 1
    spacing, tensors = (2.5, 0.7, 0.9), [torch.from_numpy(m)[None, None].float() for m in (prediction, reference)]
    distance = monai_metrics.compute_hausdorff_distance(*tensors, percentile=95, spacing=spacing)
    share = monai_metrics.compute_surface_dice(*tensors, [1.0], spacing=spacing)
    assert hausdorff_95_mm(reference, prediction, spacing) == pytest.approx(float(distance), rel=1e-5)
    assert surface_dice(reference, prediction, spacing, 1.0) == pytest.approx(float(share), rel=1e-5)


def test_metrics_do_without_torch():
    code = "import sys, SAMLungSegLib.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

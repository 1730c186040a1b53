"""Labelmaps that were cropped to what they hold, before they are compared: nothing outside is lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_lungs import lungs, ras_matrix, row, volume

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.volume import Volume

BOX = (slice(1, 4), slice(2, 6), slice(1, 9))  # of the voxels that are lung


def oblique(spacing_kji=(4.0, 1.0, 2.0)) -> np.ndarray:
    """Turned by 0.3 about the patient's long axis and 0.2 about the left-right axis; slices run downwards."""
    c, s, d, t = np.cos(0.3), np.sin(0.3), np.cos(0.2), np.sin(0.2)
    turned = np.eye(4)
    turned[:3, :3] = np.array([[1, 0, 0], [0, d, -t], [0, t, d]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return turned @ ras_matrix(spacing_kji, origin=(31.7, -12.3, 140.9)) @ np.diag([1, 1, -1, 1.0])


def cropped(one: Volume, box=BOX) -> Volume:
    matrix = one.ijk_to_ras.copy()
    matrix[:3, 3] = matrix[:3] @ [*(part.start for part in box[::-1]), 1]
    return replace(one, array_kji=one.array_kji[box], ijk_to_ras=matrix)


def stored_otherwise(one: Volume) -> Volume:
    """The same voxels with their axes in another order, two of them backwards."""
    array, matrix = one.array_kji.transpose(1, 2, 0)[::-1, :, ::-1], one.ijk_to_ras[:, [2, 0, 1, 3]].copy()
    k, _, i = array.shape
    matrix[:3, 3] += matrix[:3, 0] * (i - 1) + matrix[:3, 2] * (k - 1)
    matrix[:3, [0, 2]] *= -1
    return replace(one, array_kji=np.ascontiguousarray(array), ijk_to_ras=matrix)


def with_false_lung() -> np.ndarray:
    """Lung beyond the lungs on every side: 24 voxels of right lung above, 8 of left lung below, one at each corner."""
    labelmap = lungs()
    labelmap[4, 0:4, 0:6] = 1
    labelmap[0, 7, 2:10] = 2
    labelmap[0, 0, 0] = labelmap[4, 7, 9] = 1
    return labelmap


@pytest.mark.parametrize("matrix", [ras_matrix(), oblique()], ids=["straight", "oblique, downwards"])
@pytest.mark.parametrize("store", [lambda one: one, stored_otherwise], ids=["as it is", "stored otherwise"])
def test_false_lung_outside_a_cropped_reference_counts(matrix, store):
    prediction, reference = volume(with_false_lung(), matrix), volume(lungs(), matrix)
    whole, result = evaluate(prediction, reference), evaluate(store(prediction), cropped(reference))
    right = row(result.per_volume, structure="right lung")
    assert right["prediction_voxels"] == 36 + 24 + 2
    pd.testing.assert_frame_equal(result.per_volume, whole.per_volume)
    same = [name for name in whole.per_slice if name != "array_index"]
    pd.testing.assert_frame_equal(result.per_slice[same], whole.per_slice[same])
    assert any("reaches beyond the reference's grid, with 34 voxels" in note for note in result.notes)


@pytest.mark.parametrize("matrix", [ras_matrix(), oblique()], ids=["straight", "oblique, downwards"])
def test_the_reference_outside_a_cropped_prediction_counts(matrix):
    reference = volume(with_false_lung(), matrix)
    whole = evaluate(volume(lungs(), matrix), reference)
    result = evaluate(cropped(stored_otherwise(volume(lungs(), matrix)), (BOX[1], BOX[2], BOX[0])), reference)
    pd.testing.assert_frame_equal(result.per_volume, whole.per_volume)
    pd.testing.assert_frame_equal(result.per_slice, whole.per_slice)


def test_both_may_be_cropped_each_to_its_own_content():
    prediction = np.zeros_like(lungs())
    prediction[2:5, 3:8, 0:4] = 1
    result = evaluate(cropped(volume(prediction), (slice(2, 5), slice(3, 8), slice(0, 4))), cropped(volume(lungs())))
    expected, found = lungs() == 1, prediction == 1
    both = row(result.per_volume, structure="right lung")
    assert (both["reference_voxels"], both["prediction_voxels"]) == (36, 60)
    assert both["dice"] == pytest.approx(2 * (expected & found).sum() / (36 + 60))


def test_slices_keep_the_index_they_have_in_the_cropped_reference():
    result = evaluate(volume(with_false_lung()), cropped(volume(lungs())))
    both = result.per_slice[result.per_slice["structure"] == "both lungs"]
    assert both["slice"].tolist() == [0, 1, 2, 3, 4]
    assert both["array_index"].tolist() == [-1, 0, 1, 2, 3]
    assert result.plane.size_nhw == (5, 8, 10)


def test_false_lung_outside_a_cropped_reference_counts_on_a_finer_grid_too():
    fine = with_false_lung().repeat(2, axis=1).repeat(2, axis=2)
    finer = volume(fine, ras_matrix((4.0, 0.5, 1.0), origin=(0.5, 0.25, 0)))
    whole, result = (evaluate(finer, one) for one in (volume(lungs()), cropped(volume(lungs()))))
    for one in (whole, result):
        assert row(one.per_volume, structure="both lungs")["prediction_voxels"] == 60 + 34
    assert whole.per_volume["dice"].tolist() == result.per_volume["dice"].tolist()


def test_a_prediction_without_lung_beyond_the_reference_changes_nothing():
    result = evaluate(volume(lungs()), cropped(volume(lungs())))
    assert (result.per_volume["dice"] == 1).all()
    assert row(result.per_volume, structure="both lungs")["slices"] == 5


def test_cropped_labelmaps_that_do_not_meet_are_refused():
    elsewhere = cropped(volume(with_false_lung(), name="other"), (slice(4, 5), slice(0, 1), slice(0, 1)))
    with pytest.raises(GeometryError, match="other and case do not overlap"):
        evaluate(elsewhere, cropped(volume(lungs())))

"""Evaluation on small volumes with known answers, on the authors' published table, and on a real labelmap."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_lungs import SPACING_MM, lungs, ras_matrix, row, shifted_evaluation, volume

from SAMLungSegLib.errors import GeometryError, SettingsError, VolumeError
from SAMLungSegLib.evaluation import (
    evaluate,
    summarise,
    summarise_tables,
)
from SAMLungSegLib.metrics import METRICS, Metric
from SAMLungSegLib.volume import Volume, read_volume, write_labelmap


def test_a_perfect_prediction_has_the_best_values_everywhere():
    result = evaluate(volume(lungs()), volume(lungs()))
    assert list(result.per_volume["structure"]) == ["right lung", "left lung", "both lungs"]
    for metric in METRICS:
        best = {True: 1, False: 0, None: 0}[metric.higher_is_better]
        assert (result.per_volume[metric.name] == best).all()
    assert set(result.per_slice["dice"].dropna()) == {1}


def test_slices_are_scored_one_by_one_and_as_a_whole():
    result = shifted_evaluation()
    right = result.per_slice[result.per_slice["structure"] == "right lung"].set_index("slice")
    assert right["dice"].to_dict() == pytest.approx({0: 0, 1: 1, 2: 1, 3: 2 * 9 / 21, 4: np.nan}, nan_ok=True)
    assert right["reference_voxels"].tolist() == [0, 12, 12, 12, 0]
    assert right["prediction_voxels"].tolist() == [2, 12, 12, 9, 0]
    whole = row(result.per_volume, structure="right lung")
    assert whole["dice"] == pytest.approx(2 * 33 / (36 + 35))
    assert whole["reference_ml"] == pytest.approx(36 * 8 / 1000)
    assert whole["volume_difference_ml"] == pytest.approx(-8 / 1000)
    both = row(result.per_volume, structure="both lungs")
    assert both["dice"] == pytest.approx(2 * 57 / (60 + 59))


def test_distances_in_a_slice_use_the_spacing_of_its_rows_and_columns():
    predicted = lungs()
    predicted[3, :, 1:4] = 0
    predicted[3, 2:6, 2:5] = 1
    result = evaluate(volume(predicted), volume(lungs()), tolerance_mm=1.9)
    moved = row(result.per_slice, structure="right lung", slice=3)
    assert moved["hausdorff_95_mm"] == pytest.approx(2.0)
    # Of ten boundary pixels each, the outermost column of four is off by 2 mm and the rest is on the other's outline,
    # except two of the middle column that lie 1 mm from it.
    assert moved["surface_dice"] == pytest.approx(12 / 20)


def test_slices_count_from_inferior_and_keep_their_array_index():
    upside_down = ras_matrix() @ np.diag([1, 1, -1, 1.0])
    labelmap = lungs()
    result = evaluate(volume(labelmap, upside_down), volume(labelmap, upside_down))
    left = result.per_slice[result.per_slice["structure"] == "left lung"]
    assert left["slice"].tolist() == [0, 1, 2, 3, 4]
    assert left["array_index"].tolist() == [4, 3, 2, 1, 0]
    assert left.loc[left["reference_voxels"] > 0, "array_index"].tolist() == [3, 2]


def test_storage_order_does_not_change_the_result():
    matrix = ras_matrix()
    sagittal = Volume(np.ascontiguousarray(lungs().transpose(2, 1, 0)), matrix[:, [2, 1, 0, 3]], "case")
    straight = evaluate(volume(lungs()), volume(lungs()))
    other = evaluate(sagittal, sagittal)
    pd.testing.assert_frame_equal(straight.per_slice, other.per_slice)
    pd.testing.assert_frame_equal(straight.per_volume, other.per_volume)


def test_a_prediction_stored_otherwise_is_resampled_onto_the_reference():
    flipped = ras_matrix() @ np.array([[-1, 0, 0, 9], [0, -1, 0, 7], [0, 0, -1, 4], [0, 0, 0, 1.0]])
    result = evaluate(volume(lungs()[::-1, ::-1, ::-1], flipped), volume(lungs()))
    assert (result.per_volume["dice"] == 1).all()
    assert any("resampled" in note for note in result.notes)
    assert not any("outside" in note for note in result.notes)


def test_a_finer_prediction_is_resampled_by_nearest_neighbour():
    fine = lungs().repeat(2, axis=1).repeat(2, axis=2)
    k, j, i = SPACING_MM
    matrix = ras_matrix((k, j / 2, i / 2), origin=(i / 4, j / 4, 0))
    result = evaluate(volume(fine, matrix), volume(lungs()))
    assert (result.per_volume["dice"] == 1).all()


def test_what_the_prediction_does_not_cover_is_no_lung_and_is_said():
    result = evaluate(volume(lungs()[:3]), volume(lungs()))
    assert row(result.per_volume, structure="left lung")["sensitivity"] == pytest.approx(0.5)
    assert any(note.startswith("40.0% of the reference's grid is outside") for note in result.notes)


def test_grids_that_do_not_overlap_are_refused():
    elsewhere = volume(lungs(), ras_matrix(origin=(500, 0, 0)), name="other")
    with pytest.raises(GeometryError, match="other and case do not overlap"):
        evaluate(elsewhere, volume(lungs()))


def test_pictures_of_one_size_are_compared_without_millimetres():
    picture = {"has_physical_spacing": False, "matrix": np.diag([-1.0, -1, 1, 1])}
    result = evaluate(volume(lungs()[2:3], **picture), volume(lungs()[2:3], **picture))
    assert (result.per_volume["dice"] == 1).all()
    in_mm = ["hausdorff_95_mm", "surface_dice", "volume_difference_ml", "reference_ml"]
    assert result.per_volume[in_mm].isna().to_numpy().all()
    assert any("no physical spacing" in note for note in result.notes)


def test_distances_in_pictures_are_said_in_pixels():
    picture = {"has_physical_spacing": False, "matrix": np.diag([-1.0, -1, 1, 1])}
    predicted = lungs()[2:3].copy()
    predicted[0, 5, 6:9] = 0  # the left lung's last row of four
    result = evaluate(volume(predicted, **picture), volume(lungs()[2:3], **picture))
    left = row(result.per_volume, structure="left lung")
    # The boundaries have 10 and 8 pixels. Of the reference's, the three of the last row are one pixel from the
    # prediction; of the prediction's, the middle one of its last row is inside the reference, a pixel from its edge.
    assert left["assd_px"] == pytest.approx(4 / 18)
    assert left["hausdorff_95_px"] == pytest.approx(1)
    assert np.isnan(left["assd_mm"])
    assert row(result.per_slice, structure="left lung")["hausdorff_95_px"] == pytest.approx(1)
    assert "hausdorff_95_px" not in shifted_evaluation().per_volume


def test_pictures_of_different_sizes_are_refused():
    picture = {"has_physical_spacing": False}
    with pytest.raises(GeometryError, match="give one size"):
        evaluate(volume(lungs()[2:3, 1:], **picture), volume(lungs()[2:3], **picture))


def touching_lungs() -> np.ndarray:
    """Both lungs as one part: a row of voxels joins them."""
    mask = lungs() > 0
    mask[2, 3, 4:6] = True
    return mask


@pytest.mark.parametrize("value", [1, 2, 255])
def test_one_label_of_lungs_that_touch_is_compared_as_both_lungs_only(value):
    result = evaluate(volume(lungs()), volume(touching_lungs() * np.int16(value)))
    assert list(result.per_volume["structure"]) == ["both lungs"]
    assert result.per_volume["dice"].item() == pytest.approx(2 * 60 / (60 + 62))
    assert any("one lung label" in note for note in result.notes)


def test_one_predicted_label_of_lungs_that_touch_is_compared_as_both_lungs_only():
    result = evaluate(volume(touching_lungs().astype(np.uint8)), volume(lungs()))
    assert list(result.per_volume["structure"]) == ["both lungs"]
    assert any("prediction has one lung label, 1:" in note for note in result.notes)


def test_other_numbers_for_the_sides_are_named_and_can_be_said():
    theirs = volume(np.select([lungs() == 1, lungs() == 2], [20, 10], 0).astype(np.int16))
    for role, pair in {"reference": (volume(lungs()), theirs), "prediction": (theirs, volume(lungs()))}.items():
        guessed = evaluate(*pair)
        assert list(guessed.per_volume["structure"]) == ["both lungs"]
        (note,) = (note for note in guessed.notes if "both lungs only" in note)
        assert note.startswith(f"The {role} uses labels 10, 20, not 1 and 2:")
        assert f"--{role}-right and --{role}-left" in note
        said = evaluate(*pair, **{f"{role}_labels": {"right": (20,), "left": (10,)}})
        assert said.per_volume["dice"].tolist() == [1, 1, 1]


def test_a_missed_lung_is_not_taken_for_a_binary_prediction():
    predicted = np.where(lungs() == 1, 1, 0).astype(np.uint8)
    result = evaluate(volume(predicted), volume(lungs()))
    assert row(result.per_volume, structure="left lung")["dice"] == 0
    assert row(result.per_volume, structure="left lung")["hausdorff_95_mm"] == np.inf
    assert row(result.per_volume, structure="right lung")["dice"] == 1


def test_an_empty_prediction_scores_zero_for_every_lung():
    result = evaluate(volume(np.zeros_like(lungs())), volume(lungs()))
    assert result.per_volume["dice"].tolist() == [0, 0, 0]


def test_a_volume_without_lung_is_undefined_not_perfect():
    nothing = volume(np.zeros((3, 4, 5), np.uint8))
    result = evaluate(nothing, nothing)
    assert result.per_volume["dice"].isna().all()
    assert result.worst == ()
    summary = row(summarise([result]), scope="slices", structure="both lungs", metric="dice")
    assert (summary["n"], summary["empty"], summary["undefined"]) == (0, 3, 0)


def test_labels_of_the_reference_can_be_named():
    theirs = np.select([lungs() == 1, lungs() == 2], [20, 10], 0).astype(np.int16)
    theirs[0, 0, 0] = 5
    result = evaluate(volume(lungs()), volume(theirs), reference_labels={"right": (20, 21), "left": (10,)})
    assert result.per_volume["dice"].tolist() == [1, 1, 1]


def test_labels_for_an_unknown_side_are_refused():
    with pytest.raises(SettingsError, match=r"heart.*right, left, both"):
        evaluate(volume(lungs()), volume(lungs()), reference_labels={"heart": (3,)})


def test_labels_that_the_labelmap_does_not_have_are_refused():
    with pytest.raises(VolumeError, match=r"case has none of the given labels 98, 99; it holds 1, 2: give those"):
        evaluate(volume(lungs()), volume(lungs()), reference_labels={"right": (99,), "left": (98,)})
    nothing = volume(np.zeros_like(lungs()))
    assert evaluate(nothing, nothing, reference_labels={"right": (99,), "left": (98,)}).per_volume["empty"].all()


def test_labels_of_a_lung_that_is_missing_are_accepted():
    result = evaluate(volume(lungs()), volume(lungs()), reference_labels={"right": (1,), "left": (98,)})
    assert row(result.per_volume, structure="right lung")["dice"] == 1
    assert row(result.per_volume, structure="left lung")["dice"] == 0


@pytest.mark.parametrize(
    ("right", "left", "message"),
    [((1, 3), (2, 3), "Label 3 was given for more than one side"), ((0,), (2,), "Label 0 .* is the background")],
)
def test_labels_that_make_no_sense_are_refused(right, left, message):
    with pytest.raises(SettingsError, match=message):
        evaluate(volume(lungs()), volume(lungs()), reference_labels={"right": right, "left": left})


def test_other_labels_count_in_both_lungs_only():
    infected = lungs()
    infected[2, 3, 2] = 3
    result = evaluate(volume(lungs()), volume(infected))
    assert row(result.per_volume, structure="both lungs")["dice"] == 1
    assert row(result.per_volume, structure="right lung")["dice"] < 1
    assert any("other than 1 and 2" in note for note in result.notes)


def test_exchanged_sides_are_noticed():
    exchanged = np.select([lungs() == 1, lungs() == 2], [2, 1], 0).astype(np.uint8)
    result = evaluate(volume(exchanged), volume(lungs()))
    assert any("exchanged" in note for note in result.notes)
    assert not any("exchanged" in note for note in shifted_evaluation().notes)


def test_probabilities_are_refused_and_whole_floats_accepted():
    with pytest.raises(VolumeError, match="fractions"):
        evaluate(volume(lungs() * np.float32(0.4)), volume(lungs()))
    assert (evaluate(volume(lungs().astype(np.float32)), volume(lungs())).per_volume["dice"] == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_number_are_not_called_fractions(value):
    labelmap = lungs().astype(np.float32)
    labelmap[0, 0, 0] = value
    with pytest.raises(VolumeError, match="NaN or infinite"):
        evaluate(volume(labelmap), volume(lungs()))


def test_images_are_not_taken_for_labelmaps():
    hounsfield = (lungs() == 0) * np.int16(1000) - np.int16(900)
    grey = np.arange(400, dtype=np.int16).reshape(5, 8, 10)
    with pytest.raises(VolumeError, match=r"values from -900 to 100: .* looks like an image"):
        evaluate(volume(hounsfield), volume(lungs()))
    with pytest.raises(VolumeError, match=r"400 different values from 0 to 399: .* looks like an image"):
        evaluate(volume(lungs()), volume(grey))


def test_a_labelmap_may_name_the_organs_of_a_whole_body():
    organs = np.minimum(np.arange(400), 170).astype(np.int16).reshape(5, 8, 10)
    result = evaluate(volume(organs), volume(organs), reference_labels={"right": (1,), "left": (2,)})
    assert row(result.per_volume, structure="right lung")["reference_voxels"] == 1


@pytest.mark.parametrize("tolerance_mm", [0, -1, np.nan, np.inf])
def test_a_tolerance_that_is_no_positive_length_is_refused(tolerance_mm):
    with pytest.raises(SettingsError, match="not a positive length"):
        evaluate(volume(lungs()), volume(lungs()), tolerance_mm=tolerance_mm)


def test_a_metric_of_ones_own_reaches_tables_and_summary():
    missed = Metric("missed", "Missed voxels", "", lambda a, b: float(np.count_nonzero(a & ~b)))
    predicted = lungs()
    predicted[3, 2, 1:4] = 0
    result = evaluate(volume(predicted), volume(lungs()), metrics=(missed,))
    assert row(result.per_volume, structure="right lung")["missed"] == 3
    assert row(summarise([result]), scope="slices", structure="both lungs", metric="missed")["max"] == 3


def test_the_worst_slices_come_first_and_carry_their_masks():
    worst = shifted_evaluation().worst
    assert [one.number for one in worst] == [0, 3, 1, 2]
    assert worst[0].scores == {"dice": 0, "jaccard": 0}
    assert worst[1].scores["jaccard"] == pytest.approx(21 / 24)
    assert np.array_equal(worst[1].reference_hw, lungs()[3])
    assert worst[0].aspect == pytest.approx(0.5)


def test_summaries_pool_slices_average_volumes_and_count_what_is_left_out():
    one = shifted_evaluation()
    summary = summarise([one, replace(evaluate(volume(lungs()), volume(lungs())), name="other")])
    pooled = row(summary, scope="slices", structure="right lung", metric="dice")
    values = [0, 1, 1, 18 / 21, 1, 1, 1]
    assert pooled["n"] == 7
    assert pooled["empty"] == 3
    assert pooled["mean"] == pytest.approx(np.mean(values))
    assert pooled["sd"] == pytest.approx(np.std(values, ddof=1))
    assert (pooled["min"], pooled["median"], pooled["max"]) == (0, 1, 1)
    distances = row(summary, scope="slices", structure="right lung", metric="hausdorff_95_mm")
    assert (distances["n"], distances["undefined"]) == (6, 1)
    assert np.isfinite(distances["mean"])


def test_volumes_of_one_name_are_kept_apart():
    one = shifted_evaluation()
    summary = summarise([one, evaluate(volume(lungs()), volume(lungs()))])
    means = row(summary, scope="volume means", structure="right lung", metric="dice")
    assert means["n"] == 2
    assert means["mean"] == pytest.approx((np.mean([0, 1, 1, 18 / 21]) + 1) / 2)


def test_nothing_to_summarise_is_refused():
    with pytest.raises(VolumeError, match="at least one pair"):
        summarise([])


def test_the_summary_recomputes_the_published_zero_shot_scores(shared_data):
    published = pd.read_csv(shared_data / "reference" / "zero_shot_ct_per_slice.csv")
    table = published.rename(columns={"image": "volume"}).assign(structure="both lungs", empty=published["dice"].isna())
    summary = summarise_tables(table).set_index(["scope", "metric"])
    pooled_dice, pooled_jaccard = summary.loc[("slices", "dice")], summary.loc[("slices", "jaccard")]
    assert (pooled_dice["n"], pooled_dice["empty"]) == (2973, 547)
    # Printed to two decimals of a percent; two of the printed numbers are 0.01 from what their own table gives.
    assert 100 * pooled_jaccard[["mean", "sd"]].to_numpy(float) == pytest.approx([91.45, 12.25], abs=0.0125)
    assert 100 * pooled_dice[["mean", "sd"]].to_numpy(float) == pytest.approx([94.95, 9.30], abs=0.0125)
    assert 100 * pooled_dice[["min", "max"]].to_numpy(float) == pytest.approx([11.79, 99.42], abs=0.005)
    assert 100 * summary.loc[("volume means", "dice"), "mean"] == pytest.approx(93.69, abs=0.005)


def test_volume_means_are_those_of_the_published_table_of_volumes(shared_data):
    published = pd.read_csv(shared_data / "reference" / "zero_shot_ct_per_slice.csv")
    table = published.rename(columns={"image": "volume"}).assign(structure="both lungs", empty=published["dice"].isna())
    means = summarise_tables(table).set_index(["scope", "metric"]).loc[("volume means", "jaccard")]
    volumes = pd.read_csv(shared_data / "reference" / "zero_shot_ct_per_volume.csv")["jaccard_avg"]
    assert (means["mean"], means["sd"], means["min"]) == pytest.approx((volumes.mean(), volumes.std(), volumes.min()))


def test_a_real_labelmap_keeps_its_lungs_through_files_and_resampling(shared_data, tmp_path):
    codes = read_volume(shared_data / "ct_cip_64" / "lm-64.nrrd")
    region = (
        codes.array_kji & 255
    )  # thirds: 9 to 11 left lung, 12 to 14 right lung; the high byte says vessel or airway
    sides = np.select([region >= 12, region >= 9], [1, 2], 0).astype(np.uint8)
    labels = {
        "right": np.unique(codes.array_kji[sides == 1]).tolist(),
        "left": np.unique(codes.array_kji[sides == 2]).tolist(),
    }
    after_ten_columns = codes.ijk_to_ras @ np.array([[1, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_labelmap(sides[:, :, 10:], Volume(sides[:, :, 10:], after_ten_columns), tmp_path / "cropped.seg.nrrd")
    result = evaluate(read_volume(tmp_path / "cropped.seg.nrrd"), codes, reference_labels=labels)
    assert row(result.per_volume, structure="right lung")["precision"] == 1
    assert row(result.per_volume, structure="left lung")["precision"] == 1
    lost = np.count_nonzero(sides[:, :, :10]) / np.count_nonzero(sides)
    assert lost > 0.01
    assert row(result.per_volume, structure="both lungs")["sensitivity"] == pytest.approx(1 - lost)


def test_measuring_does_without_torch_and_matplotlib():
    code = "import sys, SAMLungSegLib.evaluation; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

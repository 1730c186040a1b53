"""The consensus of several readers and their agreement, on labelmaps with known answers, and against SimpleITK."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from small_lungs import lungs, ras_matrix, row, volume

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.evaluation.consensus import (
    consensus_of,
    readable_agreement_of_readers,
    reader_agreement,
    readings_of,
    summarise_agreement,
)
from SAMLungSegLib.structures import LOBES
from SAMLungSegLib.volume import Volume, read_volume, write_labelmap


def line(*labels: int) -> np.ndarray:
    """A row of voxels."""
    return np.array([[labels]], np.uint8)


def readings(*labelmaps: np.ndarray, **options):
    return readings_of({f"r{n}": volume(one) for n, one in enumerate(labelmaps, 1)}, name="case", **options)


def test_a_majority_is_more_than_half_of_the_readers():
    three = readings(line(1, 1, 0, 2, 1, 2), line(1, 1, 0, 2, 2, 2), line(1, 0, 1, 2, 0, 1))
    # The fifth voxel has three different labels.
    assert consensus_of(three).labelmap_kji.ravel().tolist() == [1, 1, 0, 2, 0, 2]
    two = readings(line(1, 1, 0, 2), line(1, 0, 0, 2))
    assert consensus_of(two).labelmap_kji.ravel().tolist() == [1, 0, 0, 2]


def test_many_readers_are_counted_rightly():
    most, few = line(1, 0, 2), line(0, 0, 2)
    many = readings_of({str(n): volume(most if n < 150 else few) for n in range(200)}, name="case")
    assert consensus_of(many).labelmap_kji.ravel().tolist() == [1, 0, 2]


def noisy(seed: int, share: float) -> np.ndarray:
    """Small lungs of which a share of the voxels was changed to background, or to lung of the side they lie on."""
    rng = np.random.default_rng(seed)
    labelmap = lungs()
    sides = np.broadcast_to(np.where(np.arange(10) < 5, 1, 2), labelmap.shape)
    wrong = rng.random(labelmap.shape) < share
    return np.where(wrong, np.where(labelmap > 0, 0, sides), labelmap).astype(np.uint8)


def test_staple_is_that_of_simple_itk_for_each_structure():
    masks = [noisy(1, 0.02), noisy(2, 0.05), noisy(3, 0.3)]
    found = consensus_of(readings(*masks), "staple")
    for label, side in ((1, "right"), (2, "left")):
        staple = sitk.STAPLEImageFilter()
        probability = staple.Execute([sitk.GetImageFromArray((one == label).astype(np.uint8)) for one in masks])
        np.testing.assert_array_equal(found.labelmap_kji == label, sitk.GetArrayFromImage(probability) > 0.5)
        rows = found.performance.query(f"structure == '{side} lung'")
        assert rows["reader"].tolist() == ["r1", "r2", "r3"]
        assert rows["sensitivity"].tolist() == pytest.approx(staple.GetSensitivity())
        assert rows["specificity"].tolist() == pytest.approx(staple.GetSpecificity())
        assert rows["specificity"].iloc[2] < rows["specificity"].iloc[0]


@pytest.mark.parametrize("method", ["majority", "staple"])
def test_readers_who_agree_have_their_labelmap_as_consensus(method):
    found = consensus_of(readings(lungs(), lungs(), lungs()), method)
    np.testing.assert_array_equal(found.labelmap_kji, lungs())


@pytest.mark.parametrize("method", ["majority", "staple"])
def test_readers_who_see_nothing_agree_on_that(method):
    empty = readings(np.zeros_like(lungs()), np.zeros_like(lungs()))
    assert not consensus_of(empty, method).labelmap_kji.any()
    assert reader_agreement(empty)["dice"].isna().all()


def test_a_labelmap_stored_in_another_order_lies_where_it_is():
    turned = np.ascontiguousarray(lungs().transpose(2, 1, 0))
    oblique = ras_matrix()
    angle = np.deg2rad(20)
    oblique[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]] @ oblique[
        :3, :3
    ]
    both = {"a": volume(lungs(), oblique), "b": Volume(turned, oblique[:, [2, 1, 0, 3]], "b")}
    found = readings_of(both, name="case")
    np.testing.assert_array_equal(consensus_of(found).labelmap_kji, lungs())
    assert any(note.startswith("b: The labelmap was resampled to the first reader's grid") for note in found.notes)


def test_a_cropped_first_reader_cuts_nothing_off_the_others():
    crop = ras_matrix()
    crop[:3, 3] = (crop @ [1, 2, 2, 1])[:3]
    cropped = Volume(np.ascontiguousarray(lungs()[2:4, 2:6, 1:9]), crop, "cropped")
    found = readings_of({"a": cropped, "b": volume(lungs()), "c": volume(lungs())}, name="case")
    consensus = Volume(consensus_of(found).labelmap_kji, found.frame.ijk_to_ras, "consensus")
    assert np.count_nonzero(consensus.array_kji) == 60
    first_i, first_j, first_k = np.argwhere(consensus.array_kji)[0][::-1]
    expected = ras_matrix() @ [*np.argwhere(lungs())[0][::-1], 1]
    assert consensus.ijk_to_ras @ [first_i, first_j, first_k, 1] == pytest.approx(expected)


def test_a_reader_without_sides_leaves_the_others_both_lungs_only():
    touching = lungs() > 0
    touching[2, 3, 4:6] = True
    found = readings(lungs(), touching.astype(np.uint8))
    assert list(found.structures) == ["both lungs"]
    assert consensus_of(found).labelmap_kji.max() == 1
    assert any("does not tell right from left" in note for note in found.notes)
    assert reader_agreement(found)["dice"].item() == pytest.approx(2 * 60 / 122)


def test_a_lung_that_a_reader_missed_is_not_taken_for_both():
    found = readings(lungs(), lungs(), np.where(lungs() == 1, 1, 0).astype(np.uint8))
    assert list(found.structures) == ["right lung", "left lung", "both lungs"]
    np.testing.assert_array_equal(consensus_of(found).labelmap_kji, lungs())


@pytest.mark.parametrize(("exchanged", "told"), [((0,), "r1"), ((1,), "r2"), ((0, 2), "r2")])
def test_readers_who_exchanged_right_and_left_are_named(exchanged, told):
    other = np.where(lungs() > 0, 3 - lungs(), 0).astype(np.uint8)
    found = readings(*(other if place in exchanged else lungs() for place in range(3)))
    (note,) = found.notes
    assert note.startswith(f"Right and left of {told} look exchanged against ")


def test_exchanged_sides_are_seen_where_the_first_reader_saw_nothing():
    other = np.where(lungs() > 0, 3 - lungs(), 0).astype(np.uint8)
    found = readings(np.zeros_like(lungs()), lungs(), other, lungs())
    assert found.notes[0].startswith("Right and left of r3 look exchanged against r2, r4:")


def test_readers_who_agree_on_sides_or_see_nothing_are_not_said_to_exchange_them():
    assert readings(lungs(), np.zeros_like(lungs()), lungs()).notes == ()


def test_a_consensus_without_sides_is_written_as_lungs_and_not_as_a_right_lung(tmp_path):
    touching = lungs() > 0
    touching[2, 3, 4:6] = True
    found = readings(touching.astype(np.uint8), touching.astype(np.uint8))
    path = tmp_path / "case.seg.nrrd"
    write_labelmap(consensus_of(found).labelmap_kji, found.frame, path, label_set=found.label_set)
    assert dict(read_volume(path).structure_labels) == {"lungs": [1]}


def test_one_label_of_lungs_apart_is_no_reason_to_lose_the_sides():
    found = readings(lungs(), (lungs() > 0).astype(np.uint8))
    np.testing.assert_array_equal(consensus_of(found).labelmap_kji, lungs())


def test_lobes_have_a_consensus_too():
    three = [line(1, 2, 3, 4, 5), line(1, 2, 3, 4, 4), line(1, 1, 3, 0, 4)]
    found = readings(*three, label_set=LOBES)
    assert consensus_of(found).labelmap_kji.ravel().tolist() == [1, 2, 3, 4, 4]
    assert list(found.structures)[-1] == "all structures"


def test_each_two_readers_are_compared_and_each_with_the_consensus():
    three = readings(line(1, 1, 1, 0), line(1, 1, 0, 0), line(1, 0, 0, 2))
    found = reader_agreement(three, consensus_of(three).labelmap_kji)
    right = found.query("structure == 'right lung'").set_index(["first", "second"])["dice"].to_dict()
    assert right == pytest.approx(
        {
            **{("r1", "r2"): 4 / 5, ("r1", "r3"): 2 / 4, ("r2", "r3"): 2 / 3},
            **{("r1", "consensus"): 4 / 5, ("r2", "consensus"): 1, ("r3", "consensus"): 2 / 3},
        }
    )


def test_the_agreement_of_readers_has_intervals_over_cases():
    same, half = (reader_agreement(readings(line(1, 1, 0, 2), line(*other))) for other in ((1, 1, 0, 2), (1, 0, 0, 2)))
    table = pd.concat([same.assign(case="a"), half.assign(case="b")])
    found = row(summarise_agreement(table), structure="right lung", metric="dice")
    assert (found["n"], found["mean"]) == (2, pytest.approx((1 + 2 / 3) / 2))
    assert (found["mean_low"], found["mean_high"]) == pytest.approx((2 / 3, 1))
    of_one = summarise_agreement(table, patients={"a": "p", "b": "p"})
    assert of_one["mean_low"].isna().all()
    shown = readable_agreement_of_readers(summarise_agreement(table))
    assert row(shown, Structure="right lung")["Dice (95 % interval)"] == "0.8333 (0.6667 to 1.0000)"


def test_one_reader_and_other_methods_are_refused():
    with pytest.raises(SettingsError, match="needs two or more"):
        readings(lungs())
    with pytest.raises(SettingsError, match="choose one of majority, staple"):
        consensus_of(readings(lungs(), lungs()), "mean")

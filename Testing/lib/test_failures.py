"""The gallery of failures: its findings are what they say, its numbers are counted right, its page is written by it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from SAMLungSegLib.phantom import Phantom, chest_ct
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.volume import axial_plane

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Testing" / "tools"))
import failures  # noqa: E402
import hard_chests  # noqa: E402
from failures import BEGIN, NO_DIFFERENCE, by_finding, lowest, one_by_one, outcome, put_between_marks  # noqa: E402
from hard_chests import FINDINGS, Case  # noqa: E402
from small_lungs import lungs, volume  # noqa: E402


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return chest_ct(3001, size_kji=(12, 64, 64), spacing_mm=(25.0, 6.0, 6.0))


def found(finding: str, chest: Phantom) -> Phantom:
    return FINDINGS[finding](chest, np.random.default_rng(0))


def changed_side(before: Phantom, after: Phantom) -> int:
    (side,) = np.unique(before.labelmap_kji[before.labelmap_kji != after.labelmap_kji])
    return int(side)


def test_a_consolidation_stays_lung_and_is_as_dense_as_tissue(chest):
    after = found("large consolidation", chest)
    dense = (after.hu_kji - chest.hu_kji > 500) & (chest.labelmap_kji > 0)
    assert np.array_equal(after.labelmap_kji, chest.labelmap_kji)
    assert 0.1 < dense.sum() / (chest.labelmap_kji > 0).sum() < 0.4


def test_an_effusion_and_a_lung_that_is_gone_are_no_lung(chest):
    fluid, gone = found("large effusion", chest), found("one lung", chest)
    side = changed_side(chest, fluid)
    left_over = (fluid.labelmap_kji == side).sum() / (chest.labelmap_kji == side).sum()
    assert left_over == pytest.approx(2 / 3, abs=0.03)
    assert set(np.unique(gone.labelmap_kji)) == {0, 3 - changed_side(chest, gone)}


def test_a_mirrored_chest_has_its_right_lung_on_the_patients_right(chest):
    after = found("sides swapped", chest)
    where = {side: np.argwhere(after.labelmap_kji == side)[:, 2].mean() for side in (1, 2)}
    assert where[1] < where[2]  # I runs to the patient's left
    assert np.array_equal(after.hu_kji[:, :, ::-1], chest.hu_kji)


def test_a_cropped_image_shows_the_same_voxels_at_the_same_places(chest):
    after = found("cropped field of view", chest)
    at = (chest.ijk_to_ras @ [30, 34, 3, 1])[:3]
    i, j, k = np.rint((np.linalg.inv(after.ijk_to_ras) @ [*at, 1])[:3]).astype(int)
    assert after.hu_kji[k, j, i] == chest.hu_kji[3, 34, 30]
    for edge in (after.labelmap_kji[:, :, 0], after.labelmap_kji[:, :, -1]):
        assert edge.any()


def test_metal_is_metal_a_child_is_small_and_noise_is_noise(chest):
    assert (found("metal device", chest).hu_kji == hard_chests.METAL_HU).sum() > 100
    assert np.linalg.norm(found("as small as a child", chest).ijk_to_ras[:3, 0]) == pytest.approx(0.45 * 6)
    inside = chest.labelmap_kji > 0
    assert (found("noise", chest).hu_kji - chest.hu_kji)[inside].std() == pytest.approx(250, rel=0.1)


def test_missed_extra_and_wrong_side_are_in_percent_of_the_true_lungs():
    """36 voxels right, 24 left, 12 a slice and lung: one slice missed, one on the other side, 6 voxels too many."""
    image, predicted = volume(np.zeros((5, 8, 10), np.int16)), lungs()
    predicted[1] = 0
    predicted[3][lungs()[3] == 1] = 2
    predicted[0, 0, :6] = 1
    plane = axial_plane(image)
    grey, scores = plane.to_display(image.array_kji).astype(np.uint8), np.ones(5, np.float32)
    one = outcome(Case("f", 1, image, volume(lungs())), Segmentation(image, "CT", plane, predicted, grey, scores))
    assert (one.missed, one.extra, one.other_side) == (20.0, 10.0, 20.0)
    assert one.dice == pytest.approx(2 * 48 / (54 + 60))
    assert one.lowest == pytest.approx(2 * 12 / (18 + 36))  # of the right lung
    assert one.slice.number == 1 and one.slice.scores == {"dice": 0.0}


def test_an_absent_lung_is_right_where_nothing_was_found_of_it():
    nothing, something = np.zeros(3, bool), np.array([True, False, False])
    assert failures._dice(nothing, nothing) == 1.0 and failures._dice(something, nothing) == 0.0


def fake(finding: str, dice: float, flags: tuple[str, ...] = ()) -> failures.Outcome:
    case = Case(finding, 1, volume(lungs(), name=f"{finding}, 1"), volume(lungs()))
    return failures.Outcome(case, dice, dice, 0.0, 0.0, 0.0, flags, None)


def test_the_lowest_are_taken_but_not_too_many_of_a_finding():
    outcomes = [fake("a", 0.5), fake("a", 0.6), fake("a", 0.4), fake("b", 0.9), fake("c", 0.95)]
    assert [(one.case.finding, one.dice) for one in lowest(outcomes, 3, 2)] == [("a", 0.4), ("a", 0.5), ("b", 0.9)]


def test_a_row_counts_what_is_bad_and_what_of_it_a_flag_warns_of():
    (row,) = by_finding([fake("a", 0.5, ("low_score",)), fake("a", 0.7), fake("a", 0.99)]).to_dict("records")
    assert (row["cases"], row["below 0.95"], row["of these flagged"]) == (3, 2, 1)
    assert row["Dice, mean"] == pytest.approx(0.73) and row["lowest Dice of a lung"] == 0.5
    assert [*one_by_one([fake("a", 0.5, ("low_score",))])["flags of `batch`"]] == ["`low_score`"]


def test_text_is_put_between_the_marks_of_a_page_and_nowhere_else():
    page = f"before\n{BEGIN.format('CT')}\nold\n{failures.END}\nafter\n"
    assert put_between_marks(page, "CT", "new\n") == f"before\n{BEGIN.format('CT')}\nnew\n{failures.END}\nafter\n"
    with pytest.raises(ValueError, match="has no"):
        put_between_marks(page, "X-ray", "new")


def test_the_page_has_a_row_for_each_finding_of_each_kind_and_its_pictures_are_small():
    page = REPOSITORY / "docs" / "failures.md"
    text = page.read_text(encoding="utf-8")
    for kind in ("CT", "X-ray"):
        part = text.partition(BEGIN.format(kind))[2].partition(failures.END)[0]
        assert [one for one in FINDINGS if (f"| {one} " in part) == ((kind, one) in NO_DIFFERENCE)] == []
    pictures = [*(REPOSITORY / "docs" / "images").glob("failures_*.png")]
    assert len(pictures) == 2 and sum(path.stat().st_size for path in pictures) < 1_000_000

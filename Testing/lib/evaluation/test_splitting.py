"""One label of both lungs is split where they lie apart, side by side."""

from __future__ import annotations

import numpy as np
import pytest
from small_lungs import lungs, ras_matrix, row, volume

from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.evaluation.splitting import split_lungs, with_sides
from SAMLungSegLib.volume import Volume


def rotated(degrees: float) -> np.ndarray:
    """The small lungs' matrix, turned about the patient's long axis and tilted."""
    turn, tilt = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    about_s = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_r = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    matrix = ras_matrix()
    matrix[:3, :3] = about_s @ about_r @ matrix[:3, :3]
    return matrix


@pytest.mark.parametrize("degrees", [0, 25, -40])
@pytest.mark.parametrize("value", [1, 2, 255])
def test_lungs_apart_are_split_by_the_patients_sides_in_oblique_volumes_too(degrees, value):
    mask = volume((lungs() > 0) * np.int16(value), rotated(degrees))
    codes, guessed, (note,) = with_sides(mask, None, "reference")
    np.testing.assert_array_equal(codes, lungs())
    assert guessed == ()
    assert note == f"The reference has one lung label, {value}, of two lungs apart: split into right and left by " + (
        "the patient's directions."
    )


def test_lungs_are_split_whichever_way_the_array_is_stored():
    stored = np.ascontiguousarray((lungs() > 0).transpose(2, 1, 0)[::-1])
    matrix = ras_matrix()[:, [2, 1, 0, 3]]  # columns for I, J, K of the stored array
    matrix[:3, 3] += matrix[:3, 2] * (stored.shape[0] - 1)
    matrix[:3, 2] *= -1
    codes, _, _ = with_sides(Volume(stored.astype(np.uint8), matrix, "case"), None, "reference")
    np.testing.assert_array_equal(codes, lungs().transpose(2, 1, 0)[::-1])


def test_a_picture_is_split_by_how_x_rays_are_shown():
    picture = {"has_physical_spacing": False, "matrix": np.diag([-1.0, -1, 1, 1])}
    mask = volume((lungs()[2:3] > 0).astype(np.uint8), **picture)
    codes, _, (note,) = with_sides(mask, None, "reference")
    np.testing.assert_array_equal(codes, lungs()[2:3])
    assert note.endswith("by the picture, the patient's right at its left.")


def test_specks_go_to_the_nearer_lung():
    labelmap = np.zeros((1, 20, 40), np.uint8)
    labelmap[0, 2:18, 2:14], labelmap[0, 2:18, 24:36] = 1, 2
    labelmap[0, 0, 16], labelmap[0, 0, 22] = 1, 2
    np.testing.assert_array_equal(split_lungs(labelmap > 0), labelmap)


@pytest.mark.parametrize(
    "parts",
    [
        [(slice(0, 9), slice(0, 9))],
        [(slice(0, 9), slice(0, 9)), (slice(10, 19), slice(0, 9))],  # one above the other
        [(slice(0, 9), slice(0, 9)), (slice(0, 3), slice(12, 15))],  # the second is too small to be a lung
        [(slice(0, 9), slice(0, 9)), (slice(0, 9), slice(10, 19)), (slice(0, 9), slice(20, 29))],  # three
        [],
    ],
)
def test_what_is_not_plainly_two_lungs_is_not_split(parts):
    mask = np.zeros((1, 20, 40), bool)
    for rows, columns in parts:
        mask[0, rows, columns] = True
    assert split_lungs(mask) is None


def test_a_sagittal_slice_has_no_sides():
    matrix = np.array([[0, 0, -1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])  # columns run to posterior
    thin = volume((lungs()[2:3] > 0).astype(np.uint8), matrix)
    assert split_lungs(thin.array_kji > 0) is not None
    assert with_sides(thin, None, "reference")[1] == (1,)


def test_labels_that_were_said_stay_as_they_were_said():
    mask = volume((lungs() > 0).astype(np.uint8))
    codes, _, notes = with_sides(mask, {"right": (1,), "left": (2,)}, "reference")
    assert set(np.unique(codes)) == {0, 1} and notes == []


def test_each_lung_is_measured_by_a_mask_of_both():
    predicted = lungs()
    predicted[3, 2, 6:9] = 0
    result = evaluate(volume(predicted), volume((lungs() > 0).astype(np.uint8)))
    assert list(result.per_volume["structure"]) == ["right lung", "left lung", "both lungs"]
    assert row(result.per_volume, structure="right lung")["dice"] == 1
    assert row(result.per_volume, structure="left lung")["dice"] == pytest.approx(2 * 21 / (24 + 21))
    assert any("split into right and left" in note for note in result.notes)

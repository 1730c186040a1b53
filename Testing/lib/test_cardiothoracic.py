"""The cardiothoracic ratio on shapes whose widths are known, on generated and on real X-rays."""

from __future__ import annotations

import numpy as np
import pytest
from generated_chests import generated_xray
from PIL import Image

from SAMLungSegLib.cardiothoracic import BY_LUNGS, cardiothoracic_ratio, ratio_if_measurable
from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.masks import split_sides
from SAMLungSegLib.volume import Volume

CORONAL = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # columns to the left, rows down
TILTED = np.array([[0.96, 0, -0.28], [0, 1, 0], [0.28, 0, 0.96]])  # about the anterior axis
TURNED = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])  # about the body's axis


def chest_hw() -> np.ndarray:
    """Lungs in rows 10 to 89, columns 10 to 49 and 70 to 109; the heart takes columns 50 to 84 down to row 79.

    Below lie the domes, which leave ten columns of each lung.
    """
    labels = np.zeros((100, 120), np.uint8)
    labels[10:90, 10:50], labels[10:90, 70:110] = 1, 2
    labels[50:80, 70:85] = 0
    labels[80:90, 20:100] = 0
    return labels


def xray(labels_hw: np.ndarray, spacing_hw_mm=(1.0, 1.0), rotation=None, **options) -> Volume:
    matrix = CORONAL.copy()
    matrix[:3, 0] *= spacing_hw_mm[1]
    matrix[:3, 1] *= spacing_hw_mm[0]
    if rotation is not None:
        matrix[:3, :3] = rotation @ matrix[:3, :3]
    return Volume(labels_hw[None], matrix, "chest", **options)


def ends(width) -> list[tuple[float, float]]:
    """Columns and row of a width's ends in an image that is stored as shown."""
    return [one[:2] for one in (width.right_ijk, width.left_ijk)]


def test_lungs_alone_bound_the_heart_below_the_hila_and_above_the_domes():
    found = cardiothoracic_ratio(xray(chest_hw()))
    assert found.ratio == 35 / 100
    assert (found.heart.mm, found.chest.mm, found.found_by, found.in_mm) == (35, 100, "lungs", True)
    assert ends(found.heart) == [(49.5, 79), (84.5, 79)]
    assert ends(found.chest) == [(9.5, 89), (109.5, 89)]
    assert found.notes == (BY_LUNGS,)


def test_what_the_hila_leave_out_of_the_lungs_is_no_heart():
    labels = chest_hw()
    labels[35:45, 30:50] = 0
    assert cardiothoracic_ratio(xray(labels)).ratio == 35 / 100


def test_a_heart_that_leans_into_the_lung_is_followed_and_a_dome_is_not():
    labels = np.zeros((100, 120), np.uint8)
    labels[10:84, 10:50], labels[10:84, 70:110] = 1, 2
    for row in range(55, 80):
        labels[row, 70 : 70 + row - 54] = 0  # at 45 degrees, 25 columns at its lowest
    for row in range(80, 84):
        labels[row, 50 - 3 * (row - 79) : 95 + 3 * (row - 79)] = 0  # domes: three columns aside for each row down
    assert cardiothoracic_ratio(xray(labels)).heart.mm == pytest.approx(20 + 25, abs=1)


def test_without_a_turn_the_level_of_the_other_dome_ends_the_heart():
    labels = chest_hw()
    labels[50:90, 70:110] = 2
    for row in range(50, 90):
        labels[row, 70 : 70 + (row - 49)] = 0  # at 45 degrees from heart to costophrenic angle
    found = cardiothoracic_ratio(xray(labels))
    assert found.heart.mm == 20 + (79 + 8 - 49)  # the right lung turns in row 79, domes lie 8 of 80 rows apart


def test_a_mask_of_the_heart_is_measured_right_and_left_of_any_midline():
    heart = np.zeros((100, 120), bool)
    heart[40:50, 45:60], heart[50:60, 50:60], heart[60:69, 55:91] = True, True, True
    heart[5, 100] = True  # a speck
    found = cardiothoracic_ratio(xray(chest_hw()), heart[None])
    assert found.ratio == 46 / 100 and found.found_by == "heart" and found.notes == ()
    assert ends(found.heart) == [(44.5, 64), (90.5, 64)]


def test_an_ellipse_has_its_axis_as_width():
    y, x = np.mgrid[:100, :120]
    heart = ((x - 62) / 22) ** 2 + ((y - 62) / 15) ** 2 <= 1
    found = cardiothoracic_ratio(xray(chest_hw(), (0.5, 0.25)), heart[None])
    assert found.heart.mm == 45 * 0.25 and found.chest.mm == 25 and found.ratio == 0.45


@pytest.mark.parametrize("rotation", [None, TILTED, TURNED, TILTED @ TURNED])
@pytest.mark.parametrize("flips", [(), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_any_storage_gives_the_same_lines_in_the_patient(axes, flips, rotation):
    straight = xray(chest_hw(), (0.7, 0.4), rotation)
    expected = cardiothoracic_ratio(straight)
    found = cardiothoracic_ratio(stored := stored_otherwise(straight, axes, flips))
    assert found.ratio == pytest.approx(0.35) and found.chest.mm == pytest.approx(40)
    for name in ("heart", "chest"):
        for end in ("right_ijk", "left_ijk"):
            points = [getattr(getattr(one, name), end) for one in (expected, found)]
            in_patient = [ras(*pair) for pair in zip((straight, stored), points, strict=True)]
            assert in_patient[1] == pytest.approx(in_patient[0])
        width = getattr(found, name)
        assert ras(stored, width.right_ijk)[0] > ras(stored, width.left_ijk)[0]


def stored_otherwise(volume: Volume, axes: tuple[int, ...], flips: tuple[int, ...]) -> Volume:
    """The same voxels at the same places in another order of the array."""
    permutation = np.zeros((4, 4))
    permutation[3, 3] = 1
    for new, old in enumerate(axes):
        permutation[2 - old, 2 - new] = 1
    array = volume.array_kji.transpose(axes)
    flip = np.eye(4)
    for axis in flips:
        flip[2 - axis, 2 - axis], flip[2 - axis, 3] = -1, array.shape[axis] - 1
    matrix = volume.ijk_to_ras @ permutation @ flip
    return Volume(np.ascontiguousarray(np.flip(array, flips)), matrix, volume.name)


def ras(volume: Volume, ijk) -> np.ndarray:
    return (volume.ijk_to_ras @ [*ijk, 1])[:3]


def test_a_picture_without_spacing_is_measured_in_pixels():
    found = cardiothoracic_ratio(xray(chest_hw(), (3.0, 3.0), has_physical_spacing=False))
    assert (found.heart.mm, found.in_mm) == (35, False)


def test_rows_that_are_thinned_out_change_little():
    labels = generated_xray(3)[1]
    whole = cardiothoracic_ratio(xray(labels, (0.5, 0.5))).ratio
    assert cardiothoracic_ratio(xray(labels[::3], (1.5, 0.5))).ratio == pytest.approx(whole, abs=0.02)
    assert cardiothoracic_ratio(xray(labels[:, ::3], (0.5, 1.5))).ratio == pytest.approx(whole, abs=0.02)


def test_hidden_parts_count_neither_as_lung_nor_as_heart():
    labels = chest_hw()
    labels[60:75, 75:85] = 4
    assert cardiothoracic_ratio(xray(labels, extent="both")).ratio == 0.35


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda labels: np.where(labels == 2, 0, labels), "no left lung"),
        (lambda labels: np.where(labels == 1, 0, labels), "no right lung"),
        (lambda labels: np.where(labels > 0, 3 - labels, 0).astype(np.uint8), "lie exchanged"),
    ],
)
def test_lungs_that_cannot_be_measured_are_refused(change, words):
    with pytest.raises(VolumeError, match=words):
        cardiothoracic_ratio(xray(change(chest_hw())))


def test_other_images_are_refused():
    with pytest.raises(VolumeError, match="has 2 slices"):
        cardiothoracic_ratio(Volume(np.stack([chest_hw()] * 2), np.diag([-1.0, -1, 1, 1]), "ct"))
    with pytest.raises(VolumeError, match="from the side"):
        cardiothoracic_ratio(xray(chest_hw(), is_lateral=True))
    sagittal = CORONAL.copy()
    sagittal[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    with pytest.raises(VolumeError, match="from the side"):
        cardiothoracic_ratio(Volume(chest_hw()[None], sagittal, "lateral"))


def test_whole_lungs_need_a_heart():
    heart = np.zeros((1, 100, 120), bool)
    heart[:, 40:60, 40:90] = True
    with pytest.raises(VolumeError, match="visible lungs"):
        cardiothoracic_ratio(xray(chest_hw(), extent="whole"))
    assert cardiothoracic_ratio(xray(chest_hw(), extent="whole"), heart).ratio == 0.5


def test_a_heart_must_fit_and_hold_something():
    with pytest.raises(GeometryError, match="expected"):
        cardiothoracic_ratio(xray(chest_hw()), np.ones((1, 5, 5), bool))
    with pytest.raises(VolumeError, match="is empty"):
        cardiothoracic_ratio(xray(chest_hw()), np.zeros((1, 100, 120), bool))


def test_what_is_unlikely_or_cut_off_is_said():
    narrow = chest_hw()
    narrow[50:80, 70:85] = 2
    assert "unusually small" in " ".join(cardiothoracic_ratio(xray(narrow)).notes)
    wide = chest_hw()
    wide[45:80, 20:105] = 0
    assert "unusually large" in " ".join(cardiothoracic_ratio(xray(wide)).notes)
    assert "image's edge" in " ".join(cardiothoracic_ratio(xray(chest_hw()[:, 10:])).notes)


def test_a_ct_and_what_is_refused_have_no_ratio():
    assert ratio_if_measurable(xray(chest_hw()), "CT") is None
    assert ratio_if_measurable(xray(np.where(chest_hw() == 1, 0, chest_hw())), "XRAY") is None
    assert ratio_if_measurable(xray(chest_hw()), "XRAY") == 0.35


def test_real_chests_have_ratios_of_adults(shared_data):
    """Montgomery's masks are of visible lungs; most of these patients have no heart disease."""
    paths = sorted((shared_data / "cxr_montgomery" / "masks").glob("*.png"))[::5]
    masks = [np.asarray(Image.open(path).convert("L")) > 0 for path in paths]
    ratios = np.array([cardiothoracic_ratio(xray(split_sides(mask))).ratio for mask in masks])
    assert 0.38 < np.median(ratios) < 0.48
    assert np.mean((ratios > 0.33) & (ratios < 0.6)) > 0.85

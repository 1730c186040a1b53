"""Which lung it is where only one is in view: by the body around it, in every storage and direction."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from SAMLungSegLib.batch.quality import flags_of, measure
from SAMLungSegLib.laterality import Tissue, with_one_side_each
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.volume import Volume

SPACING_MM = (10.0, 5.0, 5.0)
WIDTH = 80

BY_THE_BODY = "Only one lung is in view, taken as the {} one by the body around it."
UNCERTAIN = "Only one lung is in view, taken as the {} one: the side is uncertain, check it."


def chest() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, body and bone of ten slices of 60 x 80 pixels: lungs in columns 12 to 35 and 44 to 67, spine between."""
    labels, body, bone = (np.zeros((10, 60, WIDTH), kind) for kind in (np.uint8, bool, bool))
    body[:, 5:55, 5:75] = True
    labels[:, 12:48, 12:36], labels[:, 12:48, 44:68] = 1, 2
    bone[:, 38:46, 37:43] = True
    body &= labels == 0
    return labels, body, bone


def part_of_chest(columns: slice, *, spine: bool = True) -> tuple[np.ndarray, Tissue]:
    labels, body, bone = (one[..., columns].copy() for one in chest())
    return labels, Tissue(body, bone if spine else np.zeros_like(bone))


def sided(labels: np.ndarray, tissue: Tissue) -> tuple[np.ndarray, str]:
    return with_one_side_each(labels, SPACING_MM, lambda: tissue)


def untold() -> Tissue:
    raise AssertionError("what surrounds two lungs is not looked at")


# ---- hand-made chests


def test_two_lungs_stay_as_they_are():
    labels, _, _ = chest()
    assert with_one_side_each(labels, SPACING_MM, untold) == (labels, "")
    assert not with_one_side_each(np.zeros_like(labels), SPACING_MM, untold)[0].any()


def test_two_lungs_that_touch_in_front_stay_as_they_are():
    labels, body, bone = chest()
    labels[2:6, 12:16, 36:40], labels[2:6, 12:16, 40:44] = 1, 2
    result, note = sided(labels, Tissue(body, bone))
    assert np.array_equal(result, labels) and note == ""


def test_two_lungs_that_touch_in_every_slice_stay_as_they_are():
    labels, body, bone = chest()
    labels[:, 12:36, 36:40], labels[:, 12:36, 40:44] = 1, 2
    result, note = sided(labels, Tissue(body, bone))
    assert np.array_equal(result, labels) and note == ""


@pytest.mark.parametrize("spine", [True, False])
@pytest.mark.parametrize(("columns", "side", "name"), [(slice(39, None), 2, "left"), (slice(0, 41), 1, "right")])
def test_half_a_chest_shows_the_lung_of_the_side_where_the_body_ends(columns, side, name, spine):
    labels, tissue = part_of_chest(columns, spine=spine)
    labels[labels > 0] = 3 - side
    labels[:, 30:] = np.where(labels[:, 30:] > 0, side, 0)  # one lung in two colours
    result, note = sided(labels, tissue)
    assert np.array_equal(result, np.where(labels > 0, side, 0))
    assert note == BY_THE_BODY.format(name)


@pytest.mark.parametrize(("columns", "side", "name"), [(slice(36, 66), 2, "left"), (slice(14, 43), 1, "right")])
def test_a_tight_field_of_view_is_told_by_the_spine(columns, side, name):
    labels, tissue = part_of_chest(columns)
    labels[labels > 0] = 3 - side
    result, note = sided(labels, tissue)
    assert np.array_equal(result, np.where(labels > 0, side, 0))
    assert note == BY_THE_BODY.format(name)


def test_one_lung_of_a_whole_chest_is_told_by_the_spine():
    labels, body, bone = chest()
    labels[labels == 1] = 0
    wrong = np.where(labels == 2, 1, 0).astype(np.uint8)
    assert np.array_equal(sided(wrong, Tissue(body, bone))[0], labels)
    assert sided(labels, Tissue(body, bone))[1] == ""  # nothing was changed


def test_what_nothing_tells_gets_one_side_and_is_said_to_be_uncertain():
    labels, tissue = part_of_chest(slice(44, 66), spine=False)
    labels[2:5] = np.where(labels[2:5] > 0, 1, 0)
    result, note = sided(labels, tissue)
    assert np.array_equal(result, np.where(labels > 0, 2, 0))
    assert note == UNCERTAIN.format("left")


def test_spine_and_edges_that_disagree_are_uncertain():
    labels, tissue = part_of_chest(slice(36, 70))
    tissue.body[:, :, [0, -1]] = False
    tissue.body[:, 12:23, -1] = True  # 11 of the lung's 36 rows reach the edge that is far from the spine
    assert sided(labels, tissue)[1] == UNCERTAIN.format("right")


def test_a_little_of_the_other_lung_is_the_other_lung():
    labels, tissue = part_of_chest(slice(33, None))
    labels[labels > 0] = 1
    result, _ = sided(labels, tissue)
    assert np.array_equal(result, chest()[0][..., 33:])


def test_a_lung_with_two_labels_beside_another_gets_that_of_its_side_of_the_spine():
    labels, body, bone = chest()
    labels[:, 12:30, 44:68] = 1
    result, note = sided(labels, Tissue(body, bone))
    assert np.array_equal(result, chest()[0]) and note == ""


def test_without_a_spine_lungs_of_a_cut_off_chest_with_mixed_labels_are_uncertain():
    labels, tissue = part_of_chest(slice(24, None), spine=False)
    labels[:, 12:30, 20:44] = np.where(labels[:, 12:30, 20:44] > 0, 1, 0)
    result, note = sided(labels, tissue)
    assert np.array_equal(result, labels)
    assert "the sides are uncertain" in note


def test_ribs_and_a_thin_slab_are_no_spine():
    labels, body, bone = chest()
    labels[labels == 1] = 0
    bone[:] = False
    for number in range(10):
        bone[number, 38:46, 60 - 3 * number : 64 - 3 * number] = True  # moves from slice to slice
    assert "uncertain" in sided(labels, Tissue(body, bone))[1]
    bone[:, 38:46, 37:43] = True
    assert "uncertain" in with_one_side_each(labels, (5.0, 5.0, 5.0), lambda: Tissue(body, bone))[1]


def test_a_single_slice_is_told_as_a_volume_is():
    labels, tissue = part_of_chest(slice(39, None))
    one = Tissue(tissue.body[:1], tissue.bone[:1])
    result, note = sided(np.where(labels[:1] > 0, 1, 0).astype(np.uint8), one)
    assert set(np.unique(result)) == {0, 2} and note == BY_THE_BODY.format("left")


# ---- the whole job


@pytest.fixture(scope="module")
def phantom():
    return chest_ct(seed=0, size_kji=(16, 128, 128), spacing_mm=(20.0, 3.0, 3.0))


def half(phantom, columns: slice) -> tuple[Volume, np.ndarray]:
    """Part of a chest, and its labels."""
    matrix = phantom.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, 0] * (columns.start or 0)
    return Volume(phantom.hu_kji[..., columns].copy(), matrix, "half"), phantom.labelmap_kji[..., columns]


def share_of_side(labelmap: np.ndarray, side: int) -> float:
    return np.count_nonzero(labelmap == side) / np.count_nonzero(labelmap)


@pytest.mark.parametrize(("columns", "side"), [(slice(62, None), 2), (slice(None, 66), 1)])
def test_half_of_a_generated_chest_shows_one_lung_of_its_side(phantom, model, columns, side):
    volume, labels = half(phantom, columns)
    result = segment_volume(volume, model)
    assert share_of_side(result.labelmap_kji, side) == 1
    overlap = 2 * np.count_nonzero((result.labelmap_kji == side) & (labels == side))
    assert overlap / (np.count_nonzero(result.labelmap_kji) + np.count_nonzero(labels == side)) > 0.85
    assert result.notes == (BY_THE_BODY.format({1: "right", 2: "left"}[side]),)
    assert "assumed" in flags_of(measure(result))
    assert not segment_volume(volume, model, Options(lungs={1: "left", 2: "right"}[side])).labelmap_kji.any()


@pytest.mark.parametrize("flips", list(product((1, -1), repeat=3)))
def test_half_a_chest_has_one_side_however_it_is_stored_and_turned(phantom, model, flips):
    volume, _ = half(phantom, slice(62, None))
    k, j, i = flips
    array, matrix = volume.array_kji[::k, ::j, ::i], volume.ijk_to_ras.copy()
    for column, (step, length) in enumerate(zip((i, j, k), volume.size_kji[::-1], strict=True)):
        if step < 0:
            matrix[:3, 3] += matrix[:3, column] * (length - 1)
            matrix[:3, column] *= -1
    angle = np.radians(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix[:3] = turn @ matrix[:3]
    result = segment_volume(Volume(np.ascontiguousarray(array), matrix, "half"), model)
    assert share_of_side(result.labelmap_kji, 2) == 1


def test_a_windowed_half_of_a_chest_is_told_as_well(phantom, model):
    volume, _ = half(phantom, slice(62, None))
    grey = np.clip((volume.array_kji.astype(np.float32) + 1350) / 1500 * 255, 0, 255).astype(np.uint8)
    result = segment_volume(Volume(grey, volume.ijk_to_ras, "grey"), model)
    assert share_of_side(result.labelmap_kji, 2) == 1


def test_a_real_ct_of_one_right_lung_has_one_side(shared_data, model):
    from SAMLungSegLib.volume import read_volume

    volume = read_volume(shared_data / "ct_elastix_onelung" / "baseline_5mm_ct.nii.gz")
    result = segment_volume(volume, model, Options(every=3))
    assert share_of_side(result.labelmap_kji, 1) == 1
    assert result.notes == (BY_THE_BODY.format("right"),)


@pytest.mark.parametrize(("half_of_it", "side"), [(np.s_[..., 32:], 2), (np.s_[..., :32], 1)])
def test_halves_of_a_real_ct_have_one_side_each(shared_data, model, half_of_it, side):
    from SAMLungSegLib.volume import axial_plane, read_volume

    volume = read_volume(shared_data / "ct_cip_64" / "ct-64.nrrd")
    plane = axial_plane(volume)
    shown = plane.to_display(volume.array_kji)[half_of_it]
    k, j, i = plane.slice_spacing_mm, *plane.spacing_hw_mm
    half_volume = Volume(np.ascontiguousarray(shown), np.diag([-i, -j, k, 1]), "half")
    result = segment_volume(half_volume, model, Options(every=4))
    assert share_of_side(result.labelmap_kji, side) == 1

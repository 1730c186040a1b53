"""One lung in one slice: it gets one side where the image tells which, unless the user has said where lungs are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cohorts import DarkIsLung
from sliced_chest import axial_cut

from SAMLungSegLib.laterality import Tissue, slice_with_one_side
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.pipeline import Options, SliceSegmenter, VolumePoint, segment_slice
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.volume import Volume, read_volume

SPACING_MM = (5.0, 5.0)
UNCERTAIN = "Only one lung is in view, and its side is uncertain, check it."


def chest() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, body and bone of 60 x 80 pixels: lungs in columns 12 to 35 and 44 to 67, spine between."""
    labels, body, bone = np.zeros((60, 80), np.uint8), np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    body[5:55, 5:75] = True
    labels[12:48, 12:36], labels[12:48, 44:68] = 1, 2
    bone[38:46, 37:43] = True
    return labels, body & (labels == 0), bone


def sided(labels, body, bone):
    return slice_with_one_side(labels, SPACING_MM, lambda: Tissue(body[None], bone[None]))


def half(columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Part of the chest, with the lower third of its lung taken for the other one."""
    labels, body, bone = (one[:, columns].copy() for one in chest())
    labels[36:] = np.where(labels[36:] > 0, 3 - labels.max(), 0)
    return labels, body, bone


@pytest.mark.parametrize(("columns", "side"), [(slice(39, None), 2), (slice(0, 41), 1)])
def test_half_a_chest_shows_the_lung_of_the_side_where_the_body_ends(columns, side):
    labels, body, bone = half(columns)
    result, note = sided(labels, body, bone)
    assert np.array_equal(result, np.where(labels > 0, side, 0))
    assert note.endswith("by the body around it.")


def test_edges_and_spine_must_agree_where_the_body_hardly_reaches_an_edge():
    labels, body, bone = half(slice(0, 41))
    body[24:48, -1] = False  # 12 of the lung's 36 rows reach the edge
    assert np.array_equal(sided(labels, body, bone)[0], np.where(labels > 0, 1, 0))
    beyond = np.zeros_like(bone)
    beyond[38:46, 4:10] = True  # a shoulder blade
    for unlike in (beyond, np.zeros_like(bone)):
        assert sided(labels, body, unlike) == (labels, UNCERTAIN)
    more_of_the_other = np.where(labels > 0, 3 - labels, 0).astype(np.uint8)
    assert sided(more_of_the_other, body, bone) == (more_of_the_other, UNCERTAIN)


def test_what_the_image_does_not_cut_off_keeps_its_labels():
    labels, body, bone = half(slice(0, 41))
    body[:, -1] = False
    assert sided(labels, body, bone) == (labels, UNCERTAIN)


def test_two_lungs_stay_as_they_are_also_where_they_touch_or_reach_over_the_middle():
    labels, body, bone = chest()
    touching = labels.copy()
    touching[12:36, 36:40], touching[12:36, 40:44] = 1, 2
    over = touching.copy()
    over[40:48, 30:36] = 2
    for one in (labels, touching, over):
        assert sided(one, body, bone) == (one, "")


# ---- of an image


class TwoOfOne(DarkIsLung):
    """Takes the lower third of what is dark inside the body for the left lung."""

    capabilities = Capabilities(needs_prompt=False, structures=LUNGS)

    def decode(self, embedding, prompts):
        found = super().decode(embedding, prompts)
        logits = np.full(found.logits.shape, -4, np.float32)
        logits[12:48, 12:36] = found.logits[12:48, 12:36]
        right, left = logits.copy(), logits.copy()
        right[36:] = left[:36] = -4
        return replace(found, logits=logits, structure_logits={"right_lung": right, "left_lung": left})


@pytest.fixture(scope="module")
def one_lung() -> tuple[Volume, SliceSegmenter]:
    """Three slices with the right half of a chest, and a segmenter that takes its lung for two."""
    labels, body, bone = (one[:, :41] for one in chest())
    hu = np.where(labels > 0, -850, np.where(bone, 400, np.where(body, 40, -1000))).astype(np.int16)
    volume = Volume(np.stack([hu] * 3), np.diag([-5.0, -5, 5, 1]), "half", "CT")
    return volume, SliceSegmenter(volume, TwoOfOne())


def test_a_lung_split_in_two_gets_one_side_on_an_axial_slice_without_prompts(one_lung):
    volume, segmenter = one_lung
    reformat = axial_cut(volume, 1)
    result = segmenter.segment(reformat)
    assert set(np.unique(result.labels_hw)) == {0, 1} and result.notes[0].endswith("by the body around it.")
    prompted = segmenter.segment(reformat, Options(points=(VolumePoint((20, 30, 1)),)))
    assert set(np.unique(prompted.labels_hw)) == {0, 1, 2} and prompted.notes == ()


def test_slices_of_a_real_ct_of_one_lung_have_one_side_where_it_is_told(shared_data, model):
    volume = read_volume(shared_data / "ct_elastix_onelung" / "baseline_5mm_ct.nii.gz")
    results = [segment_slice(volume, axial_cut(volume, n), model) for n in (20, 30, 40)]
    assert [sorted(np.unique(one.labels_hw)) for one in results] == [[0, 1]] * 3

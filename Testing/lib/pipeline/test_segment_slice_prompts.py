"""One slice along any plane: prompts on it, what is kept of it and given back, how it is cancelled."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sliced_chest import ANTERIOR, MIDDLE, SUPERIOR, BoxModel, axial_cut, cut_through

from SAMLungSegLib.errors import ModelError, PromptError
from SAMLungSegLib.models.base import Prediction
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.pipeline import (
    CancelledError,
    Options,
    SliceSegmenter,
    VolumeBox,
    VolumePoint,
    segment_slice,
)
from SAMLungSegLib.pipeline.view import KEPT_VIEWS
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.volume import Volume, reformat_volume

# ---- prompts


def test_prompts_on_other_slices_are_left_out(volume, model):
    reformat = axial_cut(volume, MIDDLE)
    elsewhere = Options(points=(VolumePoint((40, 60, MIDDLE + 1)), VolumePoint((40, 60, 0), positive=False)))
    expected = segment_slice(volume, reformat, model)
    assert np.array_equal(segment_slice(volume, reformat, model, elsewhere).labels_hw, expected.labels_hw)


def test_a_slice_outside_every_box_stays_empty_and_is_not_encoded(volume):
    model = BoxModel()
    result = segment_slice(volume, axial_cut(volume, 3), model, Options(boxes=(VolumeBox((9, 9, 5), (60, 60, 9)),)))
    assert not result.labels_hw.any()
    assert np.isnan(result.score)
    assert result.embedding is None
    assert model.encoded == []


def test_prompts_of_a_tilted_plane_are_where_it_meets_them(volume):
    model = BoxModel()
    reformat = cut_through(volume, (64, 64, MIDDLE), Rotation.from_euler("x", 20, degrees=True).apply(SUPERIOR))
    clicked = reformat.xy_to_ijk((50.25, 40.5))
    segment_slice(volume, reformat, model, Options(points=(VolumePoint(tuple(clicked)),)))
    assert model.asked[0].points[0].xy == pytest.approx((50.25, 40.5))


def test_a_click_at_the_slanting_end_of_a_cut_counts_at_its_border(volume):
    """k = 0.3 i leaves the volume at i = 51.66; so the last pixel is 51, and there is still image beyond 51.5."""
    reformat = reformat_volume(volume.size_kji, np.diag([-1.0, -1, 1, 1]), (0.3, 0, 1), (0, 0, 0))
    assert reformat.size_hw[1] == 52
    model = BoxModel()
    shown = Volume(volume.array_kji, np.diag([-1.0, -1, 1, 1]), "slanting")
    options = Options(boxes=(VolumeBox((0, 0, 0), (60, 90, 15)),), points=(VolumePoint((51.6, 40, 15.48)),))
    segment_slice(shown, reformat, model, options)
    assert model.asked[0].points[0].xy == (51.5, 40.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(points=(VolumePoint((5, 5, 16)),)), "is outside phantom"),
        (Options(boxes=(VolumeBox((5, 5, MIDDLE), (5, 50, MIDDLE)),)), "is flat in the slice; widen it"),
    ],
)
def test_impossible_prompts_are_refused(volume, model, options, message):
    with pytest.raises(PromptError, match=message):
        segment_slice(volume, axial_cut(volume, MIDDLE), model, options)


def test_prompts_that_a_model_does_not_accept_are_refused_before_anything_is_encoded(volume):
    model = BoxModel()
    model.capabilities = Capabilities(("box", "mask"))
    with pytest.raises(PromptError, match="accepts boxes only"):
        segment_slice(volume, axial_cut(volume, MIDDLE), model, Options(points=(VolumePoint((40, 60, MIDDLE)),)))
    assert model.encoded == []


def test_a_speck_stays_only_where_it_was_clicked(volume):
    """The model answers every point with a square and one pixel at (100, 100)."""

    class SpeckModel(BoxModel):
        def decode(self, embedding, prompts):
            return super().decode(embedding, PromptSet((PointPrompt((100, 100)),)))

    def labels_after(*points: tuple[int, int]) -> np.ndarray:
        options = Options(modality="XRAY", points=tuple(VolumePoint((*point, MIDDLE)) for point in points))
        return segment_slice(volume, axial_cut(volume, MIDDLE), SpeckModel(), options).labels_hw

    clicked, other = labels_after((20, 20), (100, 100)), labels_after((20, 20))
    assert clicked[100, 100] > 0
    assert np.count_nonzero(clicked) == np.count_nonzero(other) + 1 == 41 * 41 + 1


def test_a_hole_that_was_clicked_as_no_lung_is_not_filled(volume):
    class HoleModel(BoxModel):
        capabilities = Capabilities(structures=LUNGS)

        def decode(self, embedding, prompts):
            logits = super().decode(embedding, prompts).logits
            logits[40, 20] = -5
            all_right = {"right_lung": np.ones_like(logits), "left_lung": np.zeros_like(logits)}
            return Prediction(logits, 0.5, logits, all_right)

    def label_after(*points: VolumePoint) -> int:
        options = Options(modality="XRAY", points=points)
        return segment_slice(volume, axial_cut(volume, MIDDLE), HoleModel(), options).labels_hw[40, 20]

    lung, no_lung = VolumePoint((20, 20, MIDDLE)), VolumePoint((20, 40, MIDDLE), positive=False)
    assert label_after(lung) > 0
    assert label_after(lung, no_lung) == 0


def test_only_the_lung_that_is_asked_for_is_given(volume, model):
    reformat = axial_cut(volume, MIDDLE)
    both = segment_slice(volume, reformat, model).labels_hw
    right = segment_slice(volume, reformat, model, Options(lungs="right")).labels_hw
    assert np.array_equal(right, np.where(both == 1, 1, 0))


# ---- what is kept


def test_a_cut_is_encoded_once_whatever_is_asked_and_wherever_its_plane_was_touched(volume):
    model = BoxModel()
    segmenter = SliceSegmenter(volume, model)
    for i, j in ((40, 60), (41, 60), (90, 61)):
        reformat = cut_through(volume, (i, j, MIDDLE))
        segmenter.segment(reformat, Options(points=(VolumePoint((i, j, MIDDLE)),)))
    assert len(model.encoded) == 1
    segmenter.segment(reformat, Options(points=(VolumePoint((90, 61, MIDDLE)),), window="mediastinum"))
    assert len(model.encoded) == 2


def test_the_latest_cuts_stay_encoded_and_earlier_ones_go():
    volume = Volume(np.random.default_rng(0).integers(-1000, 400, (40, 60, 60), np.int16), np.diag([-1.0, -1, 1, 1]))
    model = BoxModel()
    segmenter = SliceSegmenter(volume, model)

    def show(k: int) -> int:
        segmenter.segment(axial_cut(volume, k), Options(points=(VolumePoint((30, 30, k)),)))
        return len(model.encoded)

    assert [show(k) for k in range(KEPT_VIEWS)][-1] == KEPT_VIEWS
    assert show(0) == KEPT_VIEWS
    assert show(KEPT_VIEWS) == KEPT_VIEWS + 1
    assert show(0) == KEPT_VIEWS + 1  # was asked for lately
    assert show(1) == KEPT_VIEWS + 2  # had to go


def test_an_embedding_that_is_given_back_is_used(volume):
    model, reformat = BoxModel(), axial_cut(volume, MIDDLE)
    options = Options(points=(VolumePoint((40, 60, MIDDLE)),))
    first = segment_slice(volume, reformat, model, options)
    again = segment_slice(volume, reformat, model, options, embedding=first.embedding)
    assert len(model.encoded) == 1
    assert again.embedding is first.embedding
    assert np.array_equal(again.labels_hw, first.labels_hw)
    with pytest.raises(ModelError, match=r"slice of \(128, 128\) pixels; expected \(106, 128\)"):
        segment_slice(volume, cut_through(volume, (40, 60, 8), ANTERIOR), model, options, embedding=first.embedding)


def test_a_cancelled_slice_is_not_encoded_and_what_was_encoded_is_kept(volume):
    model, reformat = BoxModel(), axial_cut(volume, MIDDLE)
    options = Options(points=(VolumePoint((40, 60, MIDDLE)),))
    segmenter = SliceSegmenter(volume, model)
    with pytest.raises(CancelledError, match="slice of phantom"):
        segmenter.segment(reformat, options, cancelled=lambda: True)
    assert model.encoded == []
    with pytest.raises(CancelledError):
        segmenter.segment(reformat, options, cancelled=lambda: bool(model.encoded))
    assert model.asked == []
    segmenter.segment(reformat, options)
    assert len(model.encoded) == len(model.asked) == 1

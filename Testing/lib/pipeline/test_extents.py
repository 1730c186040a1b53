"""Visible fields, whole lungs, or both: what comes of a choice of extent."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from cohorts import chest_hu
from scipy import ndimage
from two_extents import (
    FIELD_GREY,
    HEART_GREY,
    SIZE_HW,
    TwoExtents,
    body_grey,
    chest_grey,
    fields,
    fields_and_hidden,
    xray,
)

from SAMLungSegLib import Options, SliceSegmenter, VolumePoint, segment, segment_volume
from SAMLungSegLib.errors import PromptError, SettingsError
from SAMLungSegLib.volume import reformat_volume


def found(extent, grey_hw=None, model=None, **options):
    volume = xray(chest_grey() if grey_hw is None else grey_hw)
    return segment_volume(volume, model or TwoExtents(), Options(extent=extent, **options))


def as_whole(labels_hw):
    return np.where(labels_hw > 2, labels_hw - 2, labels_hw)


def test_visible_fields_end_at_the_heart_and_are_what_is_found_without_a_choice():
    model = TwoExtents()
    assert np.array_equal(found("visible", model=model).labelmap_kji[0], fields())
    assert np.array_equal(segment_volume(xray(chest_grey()), TwoExtents()).labelmap_kji[0], fields())
    assert [one.extent for one in model.prompts] == ["visible"]


def test_whole_lungs_have_the_same_two_labels():
    result = found("whole")
    assert np.array_equal(result.labelmap_kji[0], as_whole(fields_and_hidden()))
    assert result.extent == "whole" and result.notes == ()


def test_both_extents_come_of_one_encoding_with_labels_for_what_is_hidden():
    model = TwoExtents()
    result = found("both", model=model)
    assert np.array_equal(result.labelmap_kji[0], fields_and_hidden())
    assert model.encoded == 1 and [one.extent for one in model.prompts] == ["visible", "whole"]
    assert result.scores.tolist() == [pytest.approx(0.8)]  # the lower one


@pytest.mark.parametrize(("lungs", "labels"), [("right", {1, 3}), ("left", {2, 4}), ("both", {1, 2, 3, 4})])
def test_the_hidden_part_goes_with_its_lung(lungs, labels):
    assert set(np.unique(found("both", lungs=lungs).labelmap_kji)) - {0} == labels


def test_visible_fields_lie_within_whole_lungs_whatever_a_model_says():
    class Contradicting(TwoExtents):
        def mask(self, grey_hw, extent):
            return grey_hw < 80 if extent == "visible" else (grey_hw > 80) & (grey_hw < 180)

    assert np.array_equal(found("whole", model=Contradicting()).labelmap_kji[0], as_whole(fields_and_hidden()))
    assert np.array_equal(found("both", model=Contradicting()).labelmap_kji[0], fields_and_hidden())


def test_rims_along_the_chest_wall_are_not_hidden_lung():
    class Wider(TwoExtents):
        def mask(self, grey_hw, extent):
            found = super().mask(grey_hw, extent)
            return found | ndimage.binary_dilation(super().mask(grey_hw, "visible")) if extent == "whole" else found

    both = found("both", model=Wider()).labelmap_kji[0]
    assert np.array_equal(np.where(both > 2, 0, both), fields())
    behind_heart = fields_and_hidden() > 2
    assert (both > 2)[behind_heart].all()
    assert not (both > 2)[~ndimage.binary_dilation(behind_heart, np.ones((3, 3)))].any()
    whole, rim = found("whole", model=Wider()).labelmap_kji[0], ndimage.binary_dilation(fields() > 0)
    assert np.array_equal(whole > 0, (both > 0) | rim)


def test_a_model_of_whole_lungs_only_predicts_these():
    model = TwoExtents(("whole",))
    assert np.array_equal(found("whole", model=model).labelmap_kji[0], as_whole(fields_and_hidden()))
    with pytest.raises(PromptError, match="does not predict visible lungs: give extent=whole"):
        found("visible", model=model)


@pytest.mark.parametrize("extent", ["whole", "both"])
def test_a_model_without_that_extent_is_refused_before_anything_is_computed(extent):
    model, volume = TwoExtents(("visible",)), xray(chest_grey())
    with pytest.raises(PromptError, match="two-extents does not predict whole lungs: give extent=visible"):
        segment_volume(volume, model, Options(extent=extent))
    reformat = reformat_volume(volume.size_kji, volume.ijk_to_ras, normal_ras=(0, 0, 1), point_ras=(0, 0, 0))
    with pytest.raises(PromptError, match="does not predict whole lungs"):
        SliceSegmenter(volume, model).segment(reformat, Options(extent=extent))
    assert model.encoded == 0


def test_whole_lungs_that_touch_keep_their_sides_and_raise_no_doubt():
    grey_hw = chest_grey()
    grey_hw[25:45, 30:50] = HEART_GREY
    expected = fields()
    expected[25:45, 30:40], expected[25:45, 40:50] = 1, 2
    result = found("whole", grey_hw)
    assert np.array_equal(result.labelmap_kji[0], expected)
    assert result.notes == ()


def test_a_lung_that_is_alone_has_one_side_with_what_is_hidden_of_it():
    grey_hw = body_grey()
    grey_hw[10:45, 22:42] = FIELD_GREY  # the model takes it for two: the image's middle is column 40
    grey_hw[25:45, 42:52] = HEART_GREY
    grey_hw[1:, :5] = 5  # air beside the chest wall; the mediastinum is at the other edge
    expected = np.zeros(SIZE_HW, np.uint8)
    expected[10:45, 22:42], expected[25:45, 42:52] = 1, 3

    class Inside(TwoExtents):
        def mask(self, grey_hw, extent):
            return super().mask(grey_hw, extent) & (np.arange(80) >= 5)

    result = found("both", grey_hw, Inside())
    assert np.array_equal(result.labelmap_kji[0], expected)
    assert any("Only one lung is in view, taken as the right one" in note for note in result.notes)


def test_ct_has_one_extent_and_says_so(caplog):
    with caplog.at_level(logging.WARNING, "SAMLungSegLib"):
        usual, whole, both = (
            segment(chest_hu(), ijk_to_ras=np.diag([-6.0, -6, 40, 1]), model=TwoExtents(), extent=extent)
            for extent in ("visible", "whole", "both")
        )
    assert usual.labelmap_kji.any()
    assert np.array_equal(usual.labelmap_kji, whole.labelmap_kji)
    assert np.array_equal(usual.labelmap_kji, both.labelmap_kji)
    assert whole.extent is None and whole.notes == usual.notes
    said = [record.getMessage() for record in caplog.records if "is about X-rays" in record.getMessage()]
    assert len(said) == 2 and "'whole'" in said[0] and "'both'" in said[1]


def test_points_correct_each_extent_by_its_own_prediction():
    model = TwoExtents()
    found("both", model=model, points=(VolumePoint((42, 30)),))
    own_visible, visible, own_whole, whole = model.prompts
    assert own_visible.is_empty and own_whole.is_empty
    assert (own_visible.extent, visible.extent) == ("visible", "visible")
    assert (own_whole.extent, whole.extent) == ("whole", "whole")
    assert visible.points == whole.points and len(whole.points) == 1
    assert np.array_equal(whole.mask.array[1:] > 0, fields_and_hidden()[1:] > 0)


def test_automatic_prompts_of_a_model_that_needs_some_are_used_for_both_extents(monkeypatch):
    monkeypatch.setattr("SAMLungSegLib.pipeline.volume.load_model", TwoExtents)
    model = TwoExtents(needs_prompt=True)
    assert np.array_equal(found("both", model=model).labelmap_kji[0] > 0, fields_and_hidden() > 0)
    assert [one.extent for one in model.prompts] == ["visible", "visible", "whole", "whole"]


@pytest.mark.parametrize("extent", ["visible", "whole", "both"])
def test_a_slice_has_the_labels_of_the_volume(extent):
    volume, model = xray(chest_grey()), TwoExtents()
    reformat = reformat_volume(volume.size_kji, volume.ijk_to_ras, normal_ras=(0, 0, 1), point_ras=(0, 0, 0))
    found_hw = SliceSegmenter(volume, model).segment(reformat, Options(extent=extent)).labels_hw
    assert np.array_equal(found_hw, found(extent).labelmap_nhw[0]) and model.encoded == 1


def test_another_extent_is_refused_with_those_there_are():
    with pytest.raises(SettingsError, match="Extent 'full' of the lungs is not one of visible, whole, both"):
        Options(extent="full")

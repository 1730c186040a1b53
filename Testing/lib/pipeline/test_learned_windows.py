"""Weights whose card says how they were trained: another CT window, and organs that are no lungs, are told."""

from __future__ import annotations

import json

import numpy as np
import pytest
from adaptation_sets import keen_sam
from safetensors.torch import save_file
from tuning_sets import register_tiny_sam

from SAMLungSegLib.automatic.settings import AutomaticSettings
from SAMLungSegLib.automatic.whole import volume_masks
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.options import Options
from SAMLungSegLib.pipeline import segment_volume
from SAMLungSegLib.prompts.volume import VolumePoint
from SAMLungSegLib.volume import Volume

SAID = "The weights were trained with the CT window 400/40, and see the image in 1500/-600; give --window 400/40."
POINT = (VolumePoint((20.0, 30.0, 1.0)),)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache", keen_sam)
    path = tmp_path / "mine.safetensors"
    save_file(keen_sam().state_dict(), str(path))
    return path


def model_of(weights, **card):
    weights.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return ModelChoice("sam-vit-b", weights, keeps_embeddings=False, input_size=128).load("cpu")


def abdomen():
    """A CT of three oblique, anisotropic slices, mirrored: air, soft tissue, and a darker organ in it."""
    array = np.full((3, 60, 70), -1000, np.int16)
    array[:, 8:52, 6:64] = 60
    array[:, 20:40, 14:30] = -10
    matrix = np.eye(4)
    matrix[:3, :3] = [[-0.9, -0.2, 0.1], [0.2, -1.1, 0.2], [0.05, 0.2, 5.0]]
    return Volume(array, matrix, "scan", "CT")


LEARNED = {"windowing": {"level": 40.0, "width": 400.0, "stretched": False}}


def test_a_ct_that_is_shown_in_another_window_than_the_weights_were_trained_with_is_told(weights):
    model = model_of(weights, **LEARNED)
    assert SAID in segment_volume(abdomen(), model, Options(points=POINT)).notes
    assert SAID not in segment_volume(abdomen(), model, Options(points=POINT, window="400/40")).notes
    few = AutomaticSettings(points_per_side=2)
    assert volume_masks(abdomen(), model, few, Options()).notes[-1:] == (SAID,)


@pytest.mark.parametrize("said", [None, 3, {"level": "x"}, {"width": -1, "level": 0}])
def test_nothing_is_told_where_no_window_is_known(said, weights):
    notes = segment_volume(abdomen(), model_of(weights, windowing=said), Options(points=POINT)).notes
    assert not any("trained with" in note for note in notes)


def test_pictures_that_are_windowed_already_and_x_rays_have_no_other_window(weights):
    model = model_of(weights, **LEARNED)
    grey = Volume(np.clip(abdomen().array_kji + 100, 0, 255).astype(np.uint8), np.eye(4), "slice", "CT")
    for volume, modality in ((grey, "CT"), (grey, "XRAY")):
        notes = segment_volume(volume, model, Options(points=POINT, modality=modality)).notes
        assert not any("trained with" in note for note in notes)


def test_organs_that_are_labelled_as_lungs_are_told(weights):
    model = model_of(weights, adaptation={"organs": ["liver", "right_kidney"]})
    notes = segment_volume(abdomen(), model, Options(points=POINT)).notes
    told = "The weights were adapted to liver, right kidney: what was prompted is labelled as a right or left lung"
    assert any(note.startswith(told) for note in notes)
    model = model_of(weights, adaptation={"organs": ["right_lung", "left_lung"]})
    assert not any("adapted" in note for note in segment_volume(abdomen(), model, Options(points=POINT)).notes)

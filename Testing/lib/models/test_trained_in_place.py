"""Weights that were changed since they were loaded are said in the provenance, and not taken for the file's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SAMLungSegLib import load_model, segment_volume
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.cached import cached
from SAMLungSegLib.models.choice import ModelChoice, note_origin, origin_of
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.volume import Volume

FILES = {"lung-compact": MODELS["lung-compact"].sha256}


def changed(model):
    """As an optimiser's step."""
    with torch.no_grad():
        next(model.network.mask_decoder.parameters()).add_(0.01)


def test_a_trained_model_names_its_changed_weights_besides_those_it_was_loaded_from():
    model, other = load_model(device="cpu", engine="torch"), load_model(device="cpu", engine="torch")
    assert origin_of(model).weights_sha256 == FILES
    changed(model)
    weights = origin_of(model).weights_sha256
    assert weights.keys() == {"lung-compact", "changed"} and len(weights["changed"]) == 64
    assert origin_of(model).weights_sha256 == weights and origin_of(other).weights_sha256 == FILES
    changed(model)
    assert origin_of(model).weights_sha256["changed"] != weights["changed"]


def test_another_part_in_the_place_of_one_is_a_change_and_predicting_is_none():
    model = load_model(device="cpu", engine="torch")
    model.decode(model.encode([np.zeros((32, 32), np.uint8)])[0], PromptSet())
    assert origin_of(model).weights_sha256 == FILES
    model.network.mask_decoder = load_model(device="cpu", engine="torch").network.mask_decoder
    assert "changed" in origin_of(model).weights_sha256


def test_a_model_in_a_wrapper_of_ours_is_looked_into():
    inside = load_model(device="cpu", engine="torch")
    model = cached(inside)
    note_origin(model, ModelChoice())
    changed(inside)
    assert "changed" in origin_of(model).weights_sha256


def test_what_changed_weights_made_says_so_and_is_not_made_again():
    model = load_model(device="cpu", engine="torch")
    changed(model)
    picture = Volume(np.tile(np.arange(64, dtype=np.uint8) * 4, (1, 64, 1)), np.eye(4), modality_hint="XRAY")
    made = segment_volume(picture, model).provenance()
    assert "changed" in made.weights_sha256
    with pytest.raises(ModelError, match="weights of lung-compact were changed after they were loaded"):
        made.check_model(made.model)

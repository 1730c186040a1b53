"""Weights that hold earlier ones: what users made with those goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save, save_file

from SAMLungSegLib import load_model, segment
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.checkpoints import OPTIONAL_PARTS
from SAMLungSegLib.models.registry import bundled_file, model_spec
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.prompts.volume import VolumePoint
from SAMLungSegLib.volume import Volume

SPEC = model_spec("lung-compact")
[EARLIER_SHA256] = SPEC.extends_sha256


@pytest.fixture(scope="module")
def earlier() -> dict[str, np.ndarray]:
    """What the shipped file holds beside its branches."""
    state = load_file(bundled_file(SPEC.file_name))
    return {name: one for name, one in state.items() if not name.startswith(OPTIONAL_PARTS)}


def test_the_shipped_file_holds_the_earlier_one_to_the_bit(earlier):
    assert hashlib.sha256(save(earlier)).hexdigest() == EARLIER_SHA256


def test_a_decoder_that_was_tuned_on_top_of_the_earlier_weights_loads(tmp_path, earlier):
    tuned = {name: one for name, one in earlier.items() if name.startswith("mask_decoder.")}
    decoder = {name: np.asarray(one + 0.01, one.dtype) for name, one in tuned.items()}
    save_file(decoder, tmp_path / "tuned.safetensors")
    card = {
        "schema": "samlungseg-tuned-decoder/1",
        "base": "lung-compact",
        "base_sha256": EARLIER_SHA256,
        "base_file": "lung-compact.safetensors",
        "weights_sha256": hashlib.sha256((tmp_path / "tuned.safetensors").read_bytes()).hexdigest(),
        "prompts": {"kind": "none", "mean_points": []},
        "threshold": 0.5,
        "input_size": None,
    }
    (tmp_path / "tuned.json").write_text(json.dumps(card))
    assert load_model(weights=tmp_path / "tuned.safetensors", device="cpu").name == "lung-compact"
    (tmp_path / "tuned.json").write_text(json.dumps(card | {"base_sha256": "0" * 64}))
    with pytest.raises(ModelError, match="was tuned on top of weights of lung-compact"):
        load_model(weights=tmp_path / "tuned.safetensors", device="cpu")


def test_a_record_of_the_earlier_weights_is_made_again_unless_points_played_a_part():
    phantom = chest_ct(0, size_kji=(4, 48, 64), spacing_mm=(60.0, 8.0, 6.0))
    volume = Volume(phantom.hu_kji, phantom.ijk_to_ras, "chest", "CT")
    plain, clicked = segment(volume), segment(volume, points=(VolumePoint((20, 20, 2)),))
    for result in (plain, clicked):
        record = replace(result.provenance(), weights_sha256={"lung-compact": EARLIER_SHA256})
        if result is plain:
            record.check_model(record.model)
            continue
        with pytest.raises(ModelError, match="not those that made the segmentation"):
            record.check_model(record.model)

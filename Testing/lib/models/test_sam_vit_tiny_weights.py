"""The weights of the small SAM that lie beside the tests, on images that it has not learned from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.checkpoints import file_sha256
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.training.data.leakage import seen_images
from SAMLungSegLib.training.data.packs import LabelledSlice, paired_examples
from SAMLungSegLib.training.data.splits import split_of
from SAMLungSegLib.training.promptable_export import dice_by_kind

WEIGHTS = Path(__file__).resolve().parents[2] / "models" / "sam-vit-tiny.safetensors"
LEAST_DICE = {"none": 0.9, "point": 0.85, "points": 0.85, "box": 0.85}

pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"{WEIGHTS} is in the repository only")


@pytest.fixture(scope="module")
def tiny():
    return load_model("sam-vit-tiny", weights=WEIGHTS, device="cpu")


def test_the_card_names_the_weights_and_what_they_learned_from():
    card = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert card["sha256"] == file_sha256(WEIGHTS)
    assert card["size_bytes"] == WEIGHTS.stat().st_size < 14e6
    assert "research use only" in card["licence"]
    assert {"cxr_montgomery", "cxr_shenzhen", "ct_kmader"} <= seen_images("sam-vit-tiny", WEIGHTS).split_sets


def test_both_lungs_and_single_ones_are_found_on_a_generated_chest(tiny):
    chest = chest_ct(seed=7, size_kji=(32, 128, 128), spacing_mm=(10.0, 3.0, 3.0))
    middle = LabelledSlice("phantom_ct", "middle", "CT", chest.hu_kji[16], chest.labelmap_kji[16])
    for kind, found in dice_by_kind(tiny, middle).items():
        assert found > LEAST_DICE[kind], kind


@pytest.mark.parametrize("set_name", ["cxr_montgomery", "ct_kmader"])
def test_a_held_out_image_is_segmented_by_every_kind_of_prompt(tiny, shared_data, set_name):
    examples = (one for one in paired_examples(shared_data / set_name) if one.sides_known)
    held_out = next(one for one in examples if split_of(one.name) == "validation")
    for kind, found in dice_by_kind(tiny, held_out).items():
        assert found > LEAST_DICE[kind], kind

"""Which images a model has seen: those are left out of studies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from montgomery import montgomery

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.training.data.cases import StudyCase
from SAMLungSegLib.training.data.leakage import check_unseen, seen_images, without_seen
from SAMLungSegLib.training.data.splits import split_of


def case_of(subset, name):
    return StudyCase(subset, name, Path(f"{name}.png"), Path(f"{name}.png"))


def card_beside(path, **card):
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return path


def test_the_bundled_model_has_seen_what_it_was_trained_and_validated_on():
    seen = seen_images("lung-compact")
    train, validation, test = (case_of("cxr_montgomery", name) for name in montgomery())
    assert seen.is_known
    assert (seen.include(train), seen.include(validation), seen.include(test)) == (True, True, False)
    assert seen.include(case_of("renamed", train.name)), "the set is known by the names of its files"
    assert seen.include(case_of("ct_ricord_dicom", "anything")), "no part of it was kept for tests"
    assert not seen.include(case_of("of_my_own", "patient1"))
    assert without_seen([train, validation, test], seen) == [test]
    with pytest.raises(ModelError, match="has learned from 2 of the images, of cxr_montgomery"):
        check_unseen([train, validation, test], seen)
    with pytest.raises(ModelError, match="held_out_sets"):
        without_seen([train], seen)


def test_weights_that_held_a_set_out_may_be_tested_on_all_of_it_and_on_no_other(tmp_path):
    weights = tmp_path / "variant.safetensors"
    rows = [{"set": name} for name in ("cxr_montgomery", "cxr_shenzhen")]
    card_beside(weights, data=rows, held_out_sets=["cxr_montgomery"])
    seen = seen_images("lung-compact", weights)
    assert not any(seen.include(case_of("cxr_montgomery", name)) for name in montgomery())
    shenzhen = [f"CHNCXR_{number:04d}_0" for number in range(1, 60)]
    assert {split_of(name) for name in shenzhen} == {"train", "validation", "test"}
    assert all(seen.include(case_of("cxr_shenzhen", name)) for name in shenzhen), "the test part was learned, too"


def test_a_card_may_name_images_and_the_card_of_its_base_counts(tmp_path):
    weights = tmp_path / "tuned.safetensors"
    train, _, test = (case_of("cxr_montgomery", name) for name in montgomery())
    images = {"training": ["p1"], "validation": ["p2"], "held_out": ["p3"]}
    card_beside(weights, images=images, base="lung-compact")
    seen = seen_images("lung-compact", weights)
    assert [seen.include(case_of("mine", name)) for name in ("p1", "p2", "p3")] == [True, True, False]
    assert (seen.include(train), seen.include(test)) == (True, False)
    card_beside(weights, images=images, base="lung-compact", base_sha256="0" * 64, base_file="own.safetensors")
    assert not seen_images("lung-compact", weights).is_known, "nothing is known about that base"
    card_beside(tmp_path / "own.safetensors", data=[{"set": "cxr_montgomery"}], held_out_sets=["ct_kmader"])
    seen = seen_images("lung-compact", weights)
    assert seen.is_known
    assert seen.include(test)


def test_weights_without_a_card_are_known_to_be_unknown(tmp_path):
    assert not seen_images("lung-compact", tmp_path / "plain.safetensors").is_known
    assert not seen_images("sam-vit-l").is_known
    broken = tmp_path / "broken.safetensors"
    broken.with_suffix(".json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"broken\.json"):
        seen_images("lung-compact", broken)


def test_images_are_known_with_and_without_the_name_of_their_set(tmp_path):
    weights = tmp_path / "mine.safetensors"
    card_beside(weights, images={"training": ["icu/scan1"], "validation": ["scan2"]})
    seen = seen_images("lung-compact", weights)
    assert seen.include(case_of("icu", "scan1")) and not seen.include(case_of("ward", "scan1"))
    longer = StudyCase("icu", "icu/scan2", Path("scan2.png"), Path("scan2.png"))
    assert seen.include(longer)

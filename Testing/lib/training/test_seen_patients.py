"""Of sets that were split by patient, the images of the test part's patients may be tested on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.training.data.cases import StudyCase, study_cases
from SAMLungSegLib.training.data.leakage import chosen_by, seen_images, without_seen
from SAMLungSegLib.training.data.splits import split_of

SET = "cxr_kermany_paediatric"
PATIENTS = {part: next(f"p{n}" for n in range(200) if split_of(f"{SET}:p{n}") == part) for part in (
    "train", "validation", "test"
)}  # fmt: skip


def case_of(patient, subset=SET, name="one"):
    return StudyCase(subset, name, Path("one.png"), Path("one.png"), patient=patient)


@pytest.fixture
def seen(tmp_path):
    card = {"data": [{"set": SET}, {"set": "phantom_ct"}]}
    (tmp_path / "mine.json").write_text(json.dumps(card), encoding="utf-8")
    return seen_images("lung-compact", tmp_path / "mine.safetensors")


def test_images_of_the_test_parts_patients_were_not_seen(seen):
    cases = [case_of(PATIENTS[part]) for part in ("train", "validation", "test")]
    assert without_seen(cases, seen) == cases[2:]


def test_where_nobody_says_whose_an_image_is_it_counts_as_seen(seen):
    assert seen.include(case_of("", name=PATIENTS["test"])), "its own name would put it into the test part"


def test_the_validation_part_can_be_chosen_instead(seen):
    cases = [case_of(PATIENTS[part]) for part in ("train", "validation", "test")]
    assert chosen_by(cases, seen) == cases[1:2]
    with pytest.raises(ModelError, match="names none of these 1 images as chosen by"):
        chosen_by([case_of(PATIENTS["validation"], "cxr_mine")], seen)


def test_cases_have_the_patients_of_the_manifest_beside_their_set(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / SET / kind).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            (tmp_path / SET / kind / name).write_bytes(b"")
    text = f"set,name,patient\nother,a.png,p1\n{SET},a.png,p2\n"
    (tmp_path / "manifest_more.csv").write_text(text, encoding="utf-8")
    assert [(case.name, case.patient) for case in study_cases(tmp_path)] == [("a", "p2"), ("b", "")]

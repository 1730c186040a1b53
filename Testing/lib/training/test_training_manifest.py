"""A manifest of images and masks, and how its cases are split."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tuning_sets import chest, write_png, write_set

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.training import PromptPolicy, StudyCase, TuningConfig
from SAMLungSegLib.training.data.examples import Example, with_targets
from SAMLungSegLib.training.data.manifest import read_manifest
from SAMLungSegLib.training.data.splits import PARTS, split_cases


@pytest.fixture
def folder(tmp_path):
    """Two sets whose files have the same names."""
    write_set(tmp_path / "ward", 3)
    write_set(tmp_path / "icu", 2, first_seed=10)
    return tmp_path


def manifest(folder, content, name="manifest.csv"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_folders_and_single_files_are_sets(folder):
    cases = read_manifest(
        manifest(
            folder,
            "image,mask,set,weight,patient,modality\n"
            "ward/images,ward/masks,,,,\n"
            "icu/images/chest_01.png,icu/masks/chest_01.png,night,2.5,p7,xray\n",
        )
    )
    names = ["chest_00", "images/chest_01", "chest_02", "night/chest_01"]  # those that two have are told apart
    assert [case.name for case in cases] == names
    assert [(one.subset, one.weight, one.patient, one.modality) for one in cases[2:]] == [
        ("images", 1.0, "", None),
        ("night", 2.5, "p7", "XRAY"),
    ]
    assert cases[3].mask == folder / "icu" / "masks" / "chest_01.png"


def test_json_and_toml_say_the_same_as_a_table(folder):
    row = {"image": "ward/images", "mask": "ward/masks", "set": "w", "weight": 2, "right": [3], "left": [5, 6]}
    toml = "[[sets]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in row.items())
    csv = "image,mask,set,weight,right,left\nward/images,ward/masks,w,2,3,5 6\n"
    read = [
        read_manifest(manifest(folder, {"sets": [row]}, "a.json")),
        read_manifest(manifest(folder, toml, "a.toml")),
        read_manifest(manifest(folder, csv)),
    ]
    assert read[0] == read[1] == read[2]
    assert [dict(case.labels) for case in read[0]] == [{"right": (3,), "left": (5, 6)}] * 3


def test_label_values_say_which_lung_is_which(folder):
    labels = np.zeros((96, 80), np.uint8)
    labels[20:60, 5:20], labels[20:60, 50:70], labels[70:, :] = 7, 4, 9
    write_png(folder / "icu" / "masks" / "chest_00.png", labels)
    row = {"image": "icu/images/chest_00.png", "mask": "icu/masks/chest_00.png", "right": [7], "left": [4]}
    (case,) = read_manifest(manifest(folder, [row], "a.json"))
    _, (read,) = case.read()
    assert np.array_equal(read, np.where(labels == 7, 1, np.where(labels == 4, 2, 0)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image,mask\n", "lists no images"),
        ("image,mask,colour\na,b,red\n", "there is no column colour; use image, mask"),
        ("image,mask\nward/images,\n", "1 has no mask"),
        ("image,mask\nward/images,nowhere\n", "neither two files nor two folders"),
        ("image,mask,weight\nward/images,ward/masks,0\n", "weight is '0', expected a number above 0"),
        ("image,mask,weight\nward/images,ward/masks,much\n", "weight is 'much'"),
        ("image,mask,split\nward/images,ward/masks,test\n", "split is 'test', expected one of training, validation"),
        ("image,mask,modality\nward/images,ward/masks,mr\n", "modality is 'mr', expected one of auto, ct, xray"),
        ("image,mask,right\nward/images,ward/masks,one\n", "right is 'one', expected label values"),
        ("image,mask,split\nward/images,ward/masks,training\nicu/images,icu/masks,\n", "the split of some rows only"),
        ("image,mask\nward/images,ward/masks,more\n", "there is no column"),
    ],
    ids=lambda value: value[:20],
)
def test_rows_that_make_no_sense_are_refused(folder, content, said):
    with pytest.raises(VolumeError, match=said):
        read_manifest(manifest(folder, content))


def test_files_that_are_no_manifest_are_refused(folder):
    for name, content in (("a.json", "{"), ("a.json", '{"images": 1}'), ("a.toml", "sets = 3"), ("b.csv", "\0")):
        with pytest.raises(VolumeError, match=r"cannot be read as a manifest|is no manifest|lists no images|no column"):
            read_manifest(manifest(folder, content, name))
    with pytest.raises(VolumeError, match="cannot be read as a manifest"):
        read_manifest(folder / "none.csv")
    with pytest.raises(SettingsError, match="more than one side"):
        read_manifest(manifest(folder, "image,mask,right,left\nward/images,ward/masks,1,1\n"))


# ---- splits


def cases_of(folder, count, **facts):
    write_set(folder, count)
    return [
        StudyCase(
            "set",
            f"chest_{number:02d}",
            folder / "images" / f"chest_{number:02d}.png",
            folder / "masks" / f"chest_{number:02d}.png",
            **{name: values[number] for name, values in facts.items()},
        )
        for number in range(count)
    ]


def part_of(split, name):
    (part,) = [part for part in PARTS if name in getattr(split, part)]
    return part


def test_all_images_of_a_patient_are_in_one_part(tmp_path):
    cases = cases_of(tmp_path, 24, patient=[f"p{number // 3}" for number in range(24)])
    split = split_cases(cases)
    parts = [part_of(split, case.name) for case in cases]
    assert all(len(set(parts[first : first + 3])) == 1 for first in range(0, 24, 3))
    assert [parts.count(part) for part in PARTS] == [9, 6, 9], "3, 2 and 3 of 8 patients"
    with pytest.raises(VolumeError, match="There are 7 patients with masks"):
        split_cases(cases[:21])


def test_images_of_the_same_content_are_in_one_part(tmp_path):
    cases = cases_of(tmp_path, 16)
    for number in range(8):
        shutil.copy(cases[number].image, cases[number + 8].image)
    split = split_cases(cases)
    pairs = [(part_of(split, cases[n].name), part_of(split, cases[n + 8].name)) for n in range(8)]
    assert all(first == second for first, second in pairs) and {first for first, _ in pairs} == set(PARTS)


def test_a_given_split_is_kept_and_refused_where_it_leaks(tmp_path):
    given = ["held_out"] * 3 + ["validation"] * 2 + ["training"]
    cases = cases_of(tmp_path, 6, split=given, patient=["a", "b", "c", "d", "e", "f"])
    split = split_cases(cases)
    assert (split.training, split.validation) == (("chest_05",), ("chest_03", "chest_04"))
    with pytest.raises(VolumeError, match=r"held_out has 2 image\(s\); give it at least 3"):
        split_cases(cases[1:])
    shared = cases_of(tmp_path / "patient", 6, split=given, patient=["a", "b", "c", "d", "e", "a"])
    with pytest.raises(VolumeError, match="chest_00 is in the part held_out, and chest_05 of the same patient in trai"):
        split_cases(shared)
    shutil.copy(cases[0].image, cases[5].image)
    with pytest.raises(VolumeError, match="chest_05 of the same image in training"):
        split_cases(cases)


# ---- weights


def test_slices_are_drawn_by_their_weights():
    from tiny_sams import tiny_sam

    from SAMLungSegLib.models.tuned import PromptRecipe
    from SAMLungSegLib.training.decoder import DecoderTask

    model = SamModel(tiny_sam(), name="sam")
    grey, mask = chest(0)
    examples = [Example(name, 0, grey, mask.astype(np.uint8), weight) for name, weight in (("a", 1.0), ("b", 3.0))]
    training = [with_targets(model, one) for one in examples] * 2000
    task = DecoderTask(model, training, training[:1], PromptPolicy(PromptRecipe("none")), TuningConfig())
    drawn = [one.example.name for batch in task.batches(0) for one in batch.examples]
    assert len(drawn) == 4000 and abs(drawn.count("b") / 4000 - 0.75) < 0.03
    even = DecoderTask(model, training[::2], training[:1], PromptPolicy(PromptRecipe("none")), TuningConfig())
    assert sum(len(batch.examples) for batch in even.batches(0)) == 2000


def test_the_command_trains_on_the_sets_of_a_manifest(tmp_path, monkeypatch, capsys):
    from tuning_sets import register_tiny_sam

    register_tiny_sam(monkeypatch, tmp_path / "cache")
    write_set(tmp_path / "ward", 6)
    write_set(tmp_path / "icu", 4, first_seed=10)
    path = manifest(tmp_path, "image,mask,set,weight\nward/images,ward/masks,ward,1\nicu/images,icu/masks,icu,3\n")
    options = ("--model", "sam-vit-b", "--learning-rate", "1e-2", "--epochs", "2", "--device", "cpu")
    out = tmp_path / "out"
    assert main(["train", "--manifest", str(path), "--part", "all", "-o", str(out), *options]) == 0
    assert "Adopted" in capsys.readouterr().out
    card = json.loads((out / "sam-vit-b-all.json").read_text())
    assert [(row["name"], row["images"]) for row in card["data"]] == [("ward", 6), ("icu", 4)]
    assert sum(len(names) for names in card["images"].values()) == 10

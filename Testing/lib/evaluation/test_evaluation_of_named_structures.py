"""Lobes and organs of segmentations, by code or by name, measured as those of a labelmap are."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from segmentfiles import coded, segmentation
from small_lungs import lungs, volume

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.structures import ABDOMEN, LABEL_SETS, LOBES
from SAMLungSegLib.volume import read_volume, write_labelmap
from SAMLungSegLib.volume.structurenames import Terminology, known_structures

SHAPE = (5, 8, 10)


def box(rows, columns, slices=slice(0, 5)):
    mask = np.zeros(SHAPE, bool)
    mask[slices, rows, columns] = True
    return mask


LIVER, SPLEEN, KIDNEY = box(slice(0, 3), slice(0, 4)), box(slice(0, 3), slice(6, 9)), box(slice(5, 7), slice(0, 4))


def labelled(**masks):
    labels = np.zeros(SHAPE, np.uint8)
    for key, mask in masks.items():
        labels[mask] = ABDOMEN.label_of(key)
    return volume(labels)


def dices(path, label_set, prediction):
    result = evaluate(prediction, read_volume(path), label_set=label_set)
    return dict(zip(result.per_volume["structure"], result.per_volume["dice"], strict=True)), result


def test_organs_are_found_by_code_whatever_their_names_and_numbers(tmp_path):
    """The prediction's liver lacks one of three rows: 2 * 40 / (40 + 60)."""
    tags = [coded("SCT^10200004^Liver"), coded("SRT^T-C3000^Spleen"), coded("SCT^64033007^Kidney~SCT^24028007^Right")]
    segments = [("a", 7, 0, tags[0]), ("b", 1, 0, tags[1]), ("left lung", 6, 0, tags[2])]
    labels = np.where(LIVER, 7, 0) + np.where(SPLEEN, 1, 0) + np.where(KIDNEY, 6, 0)
    path = segmentation(tmp_path / "case.seg.nrrd", [labels], segments)
    smaller = LIVER & ~box(slice(2, 3), slice(0, 4))
    found, _ = dices(path, ABDOMEN, labelled(liver=smaller, spleen=SPLEEN, right_kidney=KIDNEY))
    assert found["liver"] == pytest.approx(0.8)
    assert (found["spleen"], found["right kidney"]) == (1, 1)
    assert found["all structures"] == pytest.approx(2 * 125 / (125 + 145))  # liver 40 of 60, spleen 45, kidney 40


def test_organs_in_layers_of_their_own_and_lungs_beside_them_are_measured_by_either_set(tmp_path):
    layers = [LIVER, lungs() == 1, SPLEEN, lungs() == 2]
    segments = [("Liver", 1, 0), ("Right lung", 1, 1), ("spleen", 1, 2), ("lung_left", 1, 3)]
    path = segmentation(tmp_path / "case.seg.nrrd", layers, segments)
    found, _ = dices(path, ABDOMEN, labelled(liver=LIVER, spleen=SPLEEN))
    assert (found["liver"], found["spleen"], found["all structures"]) == (1, 1, 1)
    by_lungs = evaluate(volume(lungs()), read_volume(path)).per_volume
    assert by_lungs["dice"].tolist() == [1, 1, 1]


def test_what_two_organs_share_counts_in_all_structures_only_and_is_said(tmp_path, caplog):
    """60 of liver, 45 of spleen, 20 of them shared with the liver in a larger spleen."""
    larger = SPLEEN | box(slice(0, 2), slice(2, 4))
    path = segmentation(tmp_path / "case.seg.nrrd", [LIVER, larger], [("liver", 1, 0), ("spleen", 1, 1)])
    found, result = dices(path, ABDOMEN, labelled(liver=LIVER, spleen=SPLEEN))
    assert "20 voxels are in the spleen and in the liver; they count in all structures only" in caplog.text
    voxels = dict(zip(result.per_volume["structure"], result.per_volume["reference_voxels"], strict=True))
    assert (voxels["liver"], voxels["spleen"], voxels["all structures"]) == (40, 45, 105)
    assert found["all structures"] == 1


def test_lobes_and_the_lungs_that_they_make_up_are_both_measured(tmp_path):
    """Right lung: upper lobe in slice 1, middle in 2, lower in 3, 12 voxels each; left: upper in 2, lower in 3."""
    right, left = lungs() == 1, lungs() == 2
    labels = np.zeros(SHAPE, np.uint8)
    for value, lung, place in ((11, right, 1), (12, right, 2), (13, right, 3), (14, left, 2), (15, left, 3)):
        labels[place][lung[place]] = value
    upper, lower = "SCT^45653009^Upper lobe of lung", "SCT^90572001^Lower lobe of lung"
    on_right, on_left = "~SCT^24028007^Right", "~SCT^7771000^Left"
    tags = [upper + on_right, "SCT^72481006^Middle lobe of right lung", "SCT^266005^?", upper + on_left]
    segments = [(f"Segment_{n}", 11 + n, 0, coded(tag)) for n, tag in enumerate(tags)]
    segments.append(("lung_lower_lobe_left", 15, 0, coded(lower)))
    path = segmentation(tmp_path / "case.seg.nrrd", [labels], segments)
    expected = np.zeros(SHAPE, np.uint8)
    for value, label in ((11, 3), (12, 4), (13, 5), (14, 1), (15, 2)):
        expected[labels == value] = label
    found, _ = dices(path, LOBES, volume(expected))
    assert found == {name: 1 for name in (*(one.name for _, one in LOBES), "all structures")}
    assert evaluate(volume(lungs()), read_volume(path)).per_volume["dice"].tolist() == [1, 1, 1]


def test_a_kidney_without_a_side_counts_in_all_structures_only(tmp_path):
    path = segmentation(tmp_path / "case.seg.nrrd", [KIDNEY], [("Kidney", 1, 0)])
    found, result = dices(path, ABDOMEN, labelled(right_kidney=KIDNEY))
    assert found["all structures"] == 1
    assert result.per_volume.set_index("structure").loc["right kidney", "reference_voxels"] == 0


def test_a_segmentation_of_another_set_is_refused_by_what_it_holds(tmp_path):
    path = segmentation(tmp_path / "case.seg.nrrd", [LIVER], [("liver", 1, 0)])
    with pytest.raises(VolumeError, match=r"holds liver, none of the set 'lungs'.*lungs, lobes, abdomen"):
        evaluate(volume(lungs()), read_volume(path))


def test_what_is_not_known_is_said_once_and_left_out(tmp_path, caplog):
    labels = np.where(LIVER, 1, np.where(SPLEEN, 2, np.where(KIDNEY, 3, 0)))
    segments = [("liver", 1, 0), ("colon", 2, 0), ("liver lesion", 3, 0)]
    path = segmentation(tmp_path / "case.seg.nrrd", [labels], segments)
    with caplog.at_level(logging.WARNING):
        _, result = dices(path, ABDOMEN, labelled(liver=LIVER))
    assert result.per_volume.set_index("structure").loc["all structures", "reference_voxels"] == 60
    assert [one.message for one in caplog.records if "colon" in one.message] == [
        f"{path}: segments of no known structure are left out: 'colon', 'liver lesion'."
    ]


def test_the_command_measures_a_segmentation_of_other_numbers_as_its_labelmap(tmp_path, capsys):
    write_labelmap(
        labelled(liver=LIVER, spleen=SPLEEN).array_kji, volume(lungs()), tmp_path / "map.nii.gz", label_set=ABDOMEN
    )
    path = segmentation(tmp_path / "case.seg.nrrd", [LIVER, SPLEEN], [("liver", 1, 0), ("spleen", 1, 1)])
    assert main(["evaluate", str(path), str(tmp_path / "map.nii.gz"), "--structures", "abdomen"]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    for name in ("liver", "spleen", "all structures"):
        assert "1.0000" in next(row for row in rows if row[1].strip() == name)[3]


@pytest.mark.parametrize("label_set", LABEL_SETS.values(), ids=LABEL_SETS)
def test_every_structure_is_known_by_its_own_name_and_by_its_own_code(label_set):
    for _, one in label_set:
        assert known_structures(one.name, None, "case")[label_set.name] == one.key
        assert known_structures("Segment", Terminology.of_entry(one.terminology), "case")[label_set.name] == one.key


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("inferior_vena_cava", "inferior_vena_cava;IVC;postcava;Vena cava inferior"),
        ("portal_and_splenic_vein", "portal_vein_and_splenic_vein;Portal vein and splenic vein"),
        ("left_adrenal_gland", "adrenal_gland_left;Left adrenal;LeftAdrenalGland"),
        ("right_kidney", "kidney_right;Kidney R;RightKidney"),
        ("oesophagus", "esophagus;Oesophagus"),
        ("abdomen", "kidney;both kidneys;adrenal glands"),
        (None, "liver lesion;splenic artery;kidney cyst left;aortic valve;renal vein;lung;Segment_1;portal vein"),
    ],
)
def test_names_of_organs_are_recognised(key, names):
    found = {one: known_structures(one, None, "case").get("abdomen") for one in names.split(";")}
    assert found == dict.fromkeys(names.split(";"), key)


def test_a_name_that_says_another_side_than_the_code_is_refused(tmp_path):
    tag = coded("SCT^64033007^Kidney~SCT^7771000^Left")
    path = segmentation(tmp_path / "case.seg.nrrd", [KIDNEY], [("right kidney", 1, 0, tag)])
    with pytest.raises(VolumeError, match="segment 'right kidney' is the left kidney by its terminology"):
        read_volume(path)

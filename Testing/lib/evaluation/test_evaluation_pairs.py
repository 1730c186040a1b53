"""Which prediction belongs to which reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation import (
    case_name,
    pair_files,
)


def test_one_file_each_is_a_pair_whatever_the_names():
    assert pair_files(["a.nrrd"], ["b.nii.gz"]) == [(Path("a.nrrd"), Path("b.nii.gz"))]


def test_files_are_paired_by_case_name():
    predictions = ["out/b_lungs.seg.nrrd", "out/a_lungs.nii.gz"]
    references = ["truth/a_lung_mask.nii", "truth/b-Seg.nrrd"]
    assert pair_files(predictions, references) == [
        (Path(predictions[0]), Path(references[1])),
        (Path(predictions[1]), Path(references[0])),
    ]


@pytest.mark.parametrize(
    ("file", "case"),
    [
        ("case7_lungs.seg.nrrd", "case7"),
        ("CHNCXR_0001_0_mask.png", "CHNCXR_0001_0"),
        ("scan.v2_label.nii.gz", "scan.v2"),
        ("mask.nrrd", "mask"),
        ("unmasked.nrrd", "unmasked"),
    ],
)
def test_a_case_name_is_without_extension_and_role(file, case):
    assert case_name(f"folder/{file}") == case


def test_files_without_partner_are_listed():
    with pytest.raises(VolumeError, match=r"2 file\(s\) have no partner: prediction b_lungs.nrrd, reference c.nrrd"):
        pair_files(["a_lungs.nrrd", "b_lungs.nrrd"], ["a.nrrd", "c.nrrd"])


def test_two_files_of_one_case_are_refused():
    with pytest.raises(VolumeError, match="same case name 'a'"):
        pair_files(["a_lungs.nrrd", "a_seg.nrrd"], ["a.nrrd", "b.nrrd"])


def test_a_folder_without_files_is_refused():
    with pytest.raises(VolumeError, match=r"0 reference\(s\)"):
        pair_files(["a.nrrd"], [])

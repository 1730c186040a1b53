"""DICOM series with DICOM segmentations as images and masks of studies and training."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from dicomfiles import ct_series, write_dicom
from segmentfiles import dicom_segmentation
from small_lungs import lungs

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.training.data.cases import image_sha256, paired_cases, study_cases
from SAMLungSegLib.training.data.manifest import read_manifest

HU = np.where(lungs() > 0, -800, 40)
LUNG = "SCT^39607008^Lung~SCT^{}"
BODY = np.ones((5, 8, 10), bool)


def segments(labels_kji):
    """Left before right, and a liver that overlaps both: neither order nor overlap decides what is lung."""
    return [
        ("a", LUNG.format("7771000^Left"), labels_kji == 2),
        ("b", LUNG.format("24028007^Right"), labels_kji == 1),
        ("c", "SCT^10200004^Liver", BODY[: len(labels_kji)]),
    ]


@pytest.fixture
def data(tmp_path):
    """Two cases: a series with a file of segments, and one with a folder that holds such a file."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks" / "b_seg").mkdir(parents=True)
    ct_series(tmp_path / "images" / "a", HU)
    ct_series(tmp_path / "images" / "b", HU[:, ::-1])
    dicom_segmentation(tmp_path / "masks" / "a_seg.dcm", segments(lungs()))
    dicom_segmentation(tmp_path / "masks" / "b_seg" / "1-1.dcm", segments(lungs()[:, ::-1]))
    return tmp_path


def test_series_are_paired_with_segmentations_and_read_slice_by_slice(data):
    cases = study_cases(data)
    assert [case.name for case in cases] == ["a", "b"]
    for case, expected in zip(cases, (lungs(), lungs()[:, ::-1]), strict=True):
        greys, labels, modality = case.read_as_seen()
        assert np.array_equal(labels, expected) and modality == "CT"
        assert all((grey < 128)[label > 0].all() for grey, label in zip(greys, labels, strict=True))
    assert [case.name for case in paired_cases(data / "images", data / "masks")] == ["a", "b"]


def test_a_series_lies_beside_its_mask_or_in_a_row_of_a_manifest(data):
    for name in ("a", "b"):
        shutil.copytree(data / "images" / name, data / "beside" / name)
    shutil.copy(data / "masks" / "a_seg.dcm", data / "beside" / "a_seg.dcm")
    shutil.copytree(data / "masks" / "b_seg", data / "beside" / "b_seg")
    assert [(one.image.name, one.mask.name) for one in study_cases(data / "beside")] == [
        ("a", "a_seg.dcm"),
        ("b", "b_seg"),
    ]
    (data / "manifest.csv").write_text("image,mask\nimages/a,masks/a_seg.dcm\n")
    (case,) = read_manifest(data / "manifest.csv")
    assert case.name == "a" and np.array_equal(case.read()[1], lungs())
    (data / "manifest.csv").write_text("image,mask\n.,masks/a_seg.dcm\n")
    with pytest.raises(VolumeError, match="nor a DICOM folder and a file"):
        read_manifest(data / "manifest.csv")


def test_copies_of_a_series_are_known_whatever_their_files_are_called(data):
    copy = data / "copy"
    copy.mkdir()
    for number, path in enumerate(sorted((data / "images" / "a").iterdir(), reverse=True)):
        shutil.copy(path, copy / f"IM{number}")
    assert image_sha256(copy) == image_sha256(data / "images" / "a") != image_sha256(data / "images" / "b")


def test_an_xray_file_and_its_segmentation_are_a_pair(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    frontal = np.where(lungs()[2] > 0, 20, 200).astype(np.uint16)
    write_dicom(tmp_path / "images" / "frontal.dcm", frontal, PatientOrientation=["L", "F"])
    path = tmp_path / "masks" / "frontal.dcm"
    dicom_segmentation(path, segments(lungs()[2:3]), direction=(1, 0, 0, 0, 0, -1), spacing_kji=(1, 1, 1))
    (case,) = study_cases(tmp_path)
    assert np.array_equal(case.read()[1], lungs()[2:3])

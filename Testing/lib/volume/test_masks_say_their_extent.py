"""Masks of X-rays say in their files which lungs they hold: visible fields, whole lungs, or both."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from segmentfiles import coded, dicom_segmentation, segmentation
from two_extents import chest_grey, fields, fields_and_hidden, xray

from SAMLungSegLib.structures import HIDDEN_LUNGS, LUNGS, LUNGS_WITH_HIDDEN, WHOLE_LUNGS
from SAMLungSegLib.volume import read_volume, write_labelmap
from SAMLungSegLib.volume.extents import EXTENT_NAME

BOTH_LABELS = {"right_lung": (1, 3), "left_lung": (2, 4), "right_hidden_lung": (3,), "left_hidden_lung": (4,)}
RIGHT, LEFT = "~SCT^24028007^Right", "~SCT^7771000^Left"


def written(tmp_path, name, extent):
    labels_hw = fields_and_hidden() if extent == "both" else fields()
    write_labelmap(labels_hw[np.newaxis], xray(chest_grey()), tmp_path / name, extent=extent)
    return tmp_path / name


@pytest.mark.parametrize("extent", ["visible", "whole", "both", None])
@pytest.mark.parametrize("name", ["x.seg.nrrd", "x.nrrd", "x.png"])
def test_what_was_written_is_read(tmp_path, name, extent):
    read = read_volume(written(tmp_path, name, extent))
    assert read.extent == extent
    assert np.array_equal(read.array_kji[0], fields_and_hidden() if extent == "both" else fields())
    if extent == "both":
        assert {key: tuple(values) for key, values in read.structure_labels.items()} == BOTH_LABELS


def test_formats_without_a_place_for_it_say_nothing(tmp_path):
    assert read_volume(written(tmp_path, "x.nii.gz", "whole")).extent is None


@pytest.mark.parametrize(
    ("extent", "names"),
    [
        ("visible", ["right lung", "left lung"]),
        ("whole", ["right lung (whole)", "left lung (whole)"]),
        ("both", ["right lung", "left lung", "right hidden lung", "left hidden lung"]),
    ],
)
def test_segments_have_names_and_tags_for_slicer(tmp_path, extent, names):
    image = sitk.ReadImage(str(written(tmp_path, "x.seg.nrrd", extent)))
    assert [image.GetMetaData(f"Segment{number}_Name") for number in range(len(names))] == names
    assert not image.HasMetaDataKey(f"Segment{len(names)}_Name")
    for number in range(len(names)):
        assert f"|{EXTENT_NAME}:{extent}|" in image.GetMetaData(f"Segment{number}_Tags")


def test_a_mask_of_a_ct_has_no_tag(tmp_path):
    image = sitk.ReadImage(str(written(tmp_path, "x.seg.nrrd", None)))
    assert EXTENT_NAME not in image.GetMetaData("Segment0_Tags") and not image.HasMetaDataKey(EXTENT_NAME)


def test_segments_that_slicer_saved_say_it_by_their_tags(tmp_path):
    layer = fields()[np.newaxis]
    tag = f"{EXTENT_NAME}:whole"
    segments = [("R", 1, 0, coded("SCT^39607008^Lung" + RIGHT), tag), ("L", 2, 0, coded("SCT^39607008^Lung" + LEFT))]
    read = read_volume(segmentation(tmp_path / "x.seg.nrrd", [layer], segments))
    assert read.extent == "whole"


def test_segments_without_tags_say_it_by_their_names(tmp_path):
    layer = fields()[np.newaxis]
    whole = [("right lung (whole)", 1, 0), ("left lung (whole)", 2, 0)]
    assert read_volume(segmentation(tmp_path / "w.seg.nrrd", [layer], whole)).extent == "whole"
    plain = [("right lung", 1, 0), ("left lung", 2, 0)]
    assert read_volume(segmentation(tmp_path / "p.seg.nrrd", [layer], plain)).extent is None
    other = [("right lung", 1, 0), ("left lung", 2, 0), ("liver (whole)", 3, 0)]
    assert read_volume(segmentation(tmp_path / "o.seg.nrrd", [layer], other)).extent is None


def test_a_dicom_segmentation_with_hidden_parts_is_of_both(tmp_path):
    labels_kji = fields_and_hidden()[np.newaxis]
    lung, hidden = "SCT^39607008^Lung", "99SAMLUNGSEG^HIDDEN_LUNG^Part of lung behind heart and diaphragm"
    codes = [lung + RIGHT, lung + LEFT, hidden + RIGHT, hidden + LEFT]
    segments = [
        (one.name, code, labels_kji == label) for (label, one), code in zip(LUNGS_WITH_HIDDEN, codes, strict=True)
    ]
    read = read_volume(dicom_segmentation(tmp_path / "seg.dcm", segments))
    assert read.extent == "both"
    for key, labels in BOTH_LABELS.items():
        assert np.array_equal(np.isin(read.array_kji, read.structure_labels[key]), np.isin(labels_kji, labels)[::1]), (
            key
        )


def test_hidden_parts_are_structures_of_their_own_that_belong_to_their_lung():
    assert LUNGS_WITH_HIDDEN.structures == (*LUNGS.structures, *HIDDEN_LUNGS.structures)
    assert [one.part_of for _, one in HIDDEN_LUNGS] == ["right_lung", "left_lung"]
    assert WHOLE_LUNGS.keys == LUNGS.keys
    assert "~99SAMLUNGSEG^HIDDEN_LUNG^" in HIDDEN_LUNGS.structure_of(1).terminology

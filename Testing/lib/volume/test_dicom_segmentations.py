"""DICOM segmentations: frames of segments put where they lie, and known by their codes."""

from __future__ import annotations

import numpy as np
import pytest
from segmentfiles import dicom_segmentation
from small_lungs import lungs, ras_matrix, volume

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.volume import read_volume, write_labelmap

RIGHT, LEFT = lungs() == 1, lungs() == 2
LUNG = "SCT^39607008^Lung~SCT^{}"
SEGMENTS = [("a", LUNG.format("7771000^Left"), LEFT), ("b", LUNG.format("24028007^Right"), RIGHT)]
LIVER = np.zeros((5, 8, 10), bool)
LIVER[0:4, 3:8, 2:5] = True


def said(found):
    return {key: tuple(values) for key, values in found.structure_labels.items()}


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_lungs_are_read_by_their_codes_on_their_grid(tmp_path, kind):
    found = read_volume(dicom_segmentation(tmp_path / "seg.dcm", SEGMENTS, kind=kind, keep_empty=True))
    assert np.array_equal(found.array_kji, lungs())
    assert found.ijk_to_ras == pytest.approx(ras_matrix())
    assert said(found) == {"right_lung": (1,), "left_lung": (2,)}


def test_planes_that_hold_nothing_may_be_left_out(tmp_path):
    """Lungs lie in slices 1 to 3, the upper segment in 2 and 3."""
    found = read_volume(dicom_segmentation(tmp_path / "seg.dcm", SEGMENTS))
    assert np.array_equal(found.array_kji, lungs()[1:4])
    assert found.ijk_to_ras == pytest.approx(ras_matrix(origin=(0, 0, 4)))
    result = evaluate(volume(lungs()), found).per_volume
    assert result["dice"].tolist() == [1, 1, 1]


def test_a_plane_that_is_left_out_between_two_is_empty(tmp_path):
    parts = RIGHT.copy()
    parts[2] = False
    segments = [("right lung", "", parts | (np.arange(5) == 0)[:, None, None] & (lungs() == 0))]
    found = read_volume(dicom_segmentation(tmp_path / "seg.dcm", segments))
    assert found.size_kji == (4, 8, 10)
    assert not found.array_kji[2].any()
    assert np.array_equal(found.array_kji[[1, 3]] == 1, RIGHT[[1, 3]])


def test_an_oblique_anisotropic_grid_lies_where_its_frames_say(tmp_path):
    direction = (0.6, 0.8, 0, 0, 0, -1)  # rows to the left and back, columns to the feet
    path = dicom_segmentation(
        tmp_path / "seg.dcm", SEGMENTS, direction=direction, spacing_kji=(3, 0.75, 0.5), keep_empty=True
    )
    found = read_volume(path)
    lps = np.array([[0.3, 0, -2.4, 0], [0.4, 0, 1.8, 0], [0, -0.75, 0, 0], [0, 0, 0, 1]])
    assert found.ijk_to_ras == pytest.approx(np.diag([-1, -1, 1, 1]) @ lps, abs=1e-6)
    assert np.array_equal(found.array_kji, lungs())


def test_segments_that_overlap_keep_what_each_has(tmp_path):
    """The liver reaches 6 voxels into the right lung, in each of slices 1 to 3 (rows 3 to 5, columns 2 and 3)."""
    path = dicom_segmentation(tmp_path / "seg.dcm", [*SEGMENTS, ("c", "SRT^T-62000^Liver", LIVER)], keep_empty=True)
    found = read_volume(path)
    labels = said(found)
    assert len(set(labels["liver"]) & set(labels["right_lung"])) == 1
    for key, mask in (("liver", LIVER), ("right_lung", RIGHT), ("left_lung", LEFT)):
        assert np.array_equal(np.isin(found.array_kji, labels[key]), mask)
    (shared,) = set(labels["liver"]) & set(labels["right_lung"])
    assert np.count_nonzero(found.array_kji == shared) == 18


def test_fractions_count_from_one_half_on(tmp_path):
    fractions = np.where(RIGHT, 0.5, 0.495)
    found = read_volume(dicom_segmentation(tmp_path / "seg.dcm", [("right lung", "", fractions)], kind="FRACTIONAL"))
    assert np.array_equal(found.array_kji == 1, RIGHT)


def test_a_folder_of_one_segmentation_is_read_and_of_several_is_refused(tmp_path):
    dicom_segmentation(tmp_path / "one.dcm", SEGMENTS, keep_empty=True)
    assert np.array_equal(read_volume(tmp_path).array_kji, lungs())
    dicom_segmentation(tmp_path / "two.dcm", SEGMENTS)
    with pytest.raises(VolumeError, match="holds 2 segmentations in one series"):
        read_volume(tmp_path)


def test_the_command_measures_organs_of_a_dicom_segmentation(tmp_path, capsys):
    """The labelmap has four of the liver's five rows: 2 * 48 / (48 + 60)."""
    rows = np.zeros((5, 8, 10), np.uint8)
    rows[0:4, 3:7, 2:5] = 6
    write_labelmap(rows, volume(lungs()), tmp_path / "map.nii.gz")
    path = dicom_segmentation(tmp_path / "seg.dcm", [("x", "SCT^10200004^Liver", LIVER)])
    assert main(["evaluate", str(tmp_path / "map.nii.gz"), str(path), "--structures", "abdomen"]) == 0
    assert "0.8889" in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| liver"))


def test_segments_that_are_not_known_are_refused_by_name_or_said_once(tmp_path, caplog):
    with pytest.raises(VolumeError, match="with the segments 'femur'; expected some whose code or name"):
        read_volume(dicom_segmentation(tmp_path / "seg.dcm", [("femur", "SCT^71341001^Femur", RIGHT)]))
    read_volume(dicom_segmentation(tmp_path / "seg.dcm", [*SEGMENTS, ("femur", "SCT^71341001^Femur", LIVER)]))
    assert caplog.text.count("segments of no known structure are left out: 'femur'") == 1


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PixelData": b"\0\0"}, "truncated"),
        ({"SegmentSequence": []}, "expected some whose code or name"),
        ({"PerFrameFunctionalGroupsSequence": []}, "damaged"),
        ({"SharedFunctionalGroupsSequence": []}, "damaged"),
    ],
)
def test_a_damaged_segmentation_is_refused_in_words(tmp_path, tags, words):
    with pytest.raises(VolumeError, match=words):
        read_volume(dicom_segmentation(tmp_path / "seg.dcm", SEGMENTS, **tags))


def test_frames_on_no_grid_are_refused(tmp_path):
    path = dicom_segmentation(tmp_path / "seg.dcm", SEGMENTS, keep_empty=True)
    import pydicom

    file = pydicom.dcmread(path)
    file.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5.5]
    file.save_as(path)
    with pytest.raises(VolumeError, match="on no grid"):
        read_volume(path)


def test_thin_slices_that_lie_evenly_apart_are_no_sparse_ones_which_is_said(tmp_path, caplog):
    """Slices of 1 mm every 10 mm, as of high-resolution CT, where the file says their thickness only."""
    path = dicom_segmentation(tmp_path / "seg.dcm", SEGMENTS, keep_empty=True, spacing_kji=(10, 1, 1))
    import pydicom

    file = pydicom.dcmread(path)
    file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = 1
    file.save_as(path)
    found = read_volume(path)
    assert found.size_kji == (5, 8, 10)
    assert found.spacing_mm == pytest.approx((10, 1, 1))
    assert np.array_equal(found.array_kji, lungs())
    assert "its slices are 1 mm thick and 10 mm apart, and taken as the next to each other" in caplog.text


def test_a_sparse_segmentation_is_compared_on_the_grid_of_the_image(tmp_path):
    """The reference has frames in slices 1 to 3 of 5 only; a prediction with 12 voxels more, in slice 4."""
    more = lungs()
    more[4, 2:6, 1:4] = 1
    sparse = read_volume(dicom_segmentation(tmp_path / "seg.dcm", SEGMENTS))
    scores = evaluate(volume(more), sparse).per_volume.set_index("structure")
    assert scores.loc["left lung", "dice"] == 1
    assert scores.loc["right lung", "dice"] == pytest.approx(2 * 36 / (36 + 48))


def test_real_segmentations_are_read_where_their_slices_lie(shared_data):
    """A liver on the three slices that it was drawn on: by its code the abdomen's sixth structure."""
    folder = shared_data / "dicom_oddities" / "seg" / "dcmqi_liver"
    found = read_volume(folder / "liver.dcm")
    drawn = read_volume(folder / "liver_seg.nrrd")
    assert said(found) == {"liver": (6,)}
    assert np.array_equal(found.array_kji > 0, drawn.array_kji > 0)
    assert found.ijk_to_ras == pytest.approx(drawn.ijk_to_ras, abs=1e-3)
    for name in ("partial_overlaps.dcm", "../seg_image_ct_true_fractional.dcm"):
        with pytest.raises(VolumeError, match="expected some whose code or name is that of a lung"):
            read_volume(folder / name)

"""DICOM segmentations out: what other programs find in them, and that they come back as they were."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from dicomfiles import ct_series, enhanced_ct, write_dicom
from small_disks import room_for
from small_lungs import lungs

from SAMLungSegLib.errors import GeometryError, OutputError, SettingsError
from SAMLungSegLib.results import check_format
from SAMLungSegLib.structures import ABDOMEN
from SAMLungSegLib.volume import Volume, read_volume, write_labelmap
from SAMLungSegLib.volume.dicomout import Algorithm, check_dicom_possible

hd = pytest.importorskip("highdicom", reason="needs the extra 'dicom'")

HU = np.where(lungs() > 0, -800, 40)
OBLIQUE = (0.6, 0.8, 0, 0, 0, -1)  # rows to the left and back, columns to the feet
GRIDS = {
    "axial": {},
    "from the feet, mirrored": {"direction": (-1, 0, 0, 0, 1, 0)},
    "columns to the front": {"direction": (1, 0, 0, 0, -1, 0)},
    "coronal": {"direction": (1, 0, 0, 0, 0, -1)},
    "oblique and anisotropic": {"direction": OBLIQUE, "spacing_kji": (3, 0.75, 0.5)},
}


def written(labelmap_kji, image, path, **options):
    write_labelmap(labelmap_kji, image, path, **options)
    return path


def complaints(path):
    """Errors of David Clunie's validator; None where it is not on this machine."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not on this machine")
    said = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, errors="replace", check=False)
    assert "Segmentation" in said.stderr
    return [line for line in said.stderr.splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_series_comes_back_voxel_for_voxel_on_its_grid(tmp_path, grid):
    image = read_volume(ct_series(tmp_path / "ct", HU, **grid))
    found = read_volume(written(lungs(), image, tmp_path / "lungs.dcm"))
    assert np.array_equal(found.array_kji, lungs())
    assert found.ijk_to_ras == pytest.approx(image.ijk_to_ras, abs=1e-6)
    assert dict(found.structure_labels) == {"right_lung": [1], "left_lung": [2]}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_highdicom_finds_each_lung_in_the_slices_that_it_refers_to(tmp_path, grid):
    """Segment 1 is the right lung; slice 1 along the normal has 4 x 3 voxels of it and none of the left."""
    folder = ct_series(tmp_path / "ct", HU, **grid)
    path = written(lungs(), read_volume(folder), tmp_path / "lungs.dcm")
    sources = [pydicom.dcmread(folder / f"{number:03d}.dcm") for number in (5, 4, 3, 2, 1)]
    segments = hd.seg.segread(path).get_pixels_by_source_instance([one.SOPInstanceUID for one in sources])
    assert np.array_equal(segments[..., 0] > 0, lungs() == 1)
    assert np.array_equal(segments[..., 1] > 0, lungs() == 2)
    assert segments[1].sum(axis=(0, 1)).tolist() == [12, 0]
    assert np.array_equal(sources[1].pixel_array == -800, segments[1, ..., 0] > 0)


def test_what_made_it_and_of_whom_is_said(tmp_path):
    folder = ct_series(tmp_path / "ct", HU, PatientID="p7", PatientName="Doe^Jo", StudyID="12", SeriesNumber=3)
    algorithm = Algorithm("SAMLungSeg lung-compact", True, {"threshold": "0.5"})
    path = written(lungs(), read_volume(folder), tmp_path / "lungs.dcm", algorithm=algorithm)
    found, source = pydicom.dcmread(path), pydicom.dcmread(folder / "001.dcm")
    same = ("PatientID", "PatientName", "StudyID", "StudyInstanceUID", "FrameOfReferenceUID")
    assert [found[name].value for name in same] == [source[name].value for name in same]
    assert found.SeriesInstanceUID != source.SeriesInstanceUID and found.SeriesNumber == 1003
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    right, left = found.SegmentSequence
    assert (right.SegmentLabel, left.SegmentLabel) == ("right lung", "left lung")
    assert right.SegmentAlgorithmType == "AUTOMATIC"
    (how,) = right.SegmentationAlgorithmIdentificationSequence
    assert (how.AlgorithmName, how.AlgorithmParameters) == ("SAMLungSeg lung-compact", "threshold=0.5")
    codes = [(one.CodeValue, one.CodingSchemeDesignator) for one in left.SegmentedPropertyTypeCodeSequence]
    assert codes == [("39607008", "SCT")]
    (side,) = left.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert (side.CodeValue, side.CodeMeaning) == ("7771000", "Left")


def test_frames_of_an_enhanced_ct_in_any_order_are_referred_to_one_by_one(tmp_path):
    order = (3, 0, 4, 1, 2)
    source = enhanced_ct(tmp_path / "enhanced.dcm", HU, order)
    image = read_volume(source)
    path = written(lungs(), image, tmp_path / "lungs.dcm")
    found = read_volume(path)
    assert np.array_equal(found.array_kji, lungs())
    assert found.ijk_to_ras == pytest.approx(image.ijk_to_ras)
    uid = pydicom.dcmread(source).SOPInstanceUID
    segments = hd.seg.segread(path).get_pixels_by_source_frame(uid, [1, 2, 3, 4, 5])
    assert np.array_equal(segments[..., 1] > 0, lungs()[list(order)] == 2)


@pytest.mark.parametrize("letters", [["L", "F"], ["R", "F"], ["A", "F"], None])
@pytest.mark.parametrize("spacing", [[0.2, 0.3], None])
def test_an_xray_comes_back_with_its_directions_and_spacing(tmp_path, letters, spacing):
    tags = {"PatientOrientation": letters, "PixelSpacing": spacing, "ImagerPixelSpacing": spacing}
    given = {name: value for name, value in tags.items() if value}
    image = read_volume(write_dicom(tmp_path / "frontal.dcm", np.arange(80, dtype=np.uint16).reshape(8, 10), **given))
    labels = lungs()[2:3]
    found = read_volume(written(labels, image, tmp_path / "lungs.dcm", extent="whole"))
    assert np.array_equal(found.array_kji, labels)
    assert found.ijk_to_ras == pytest.approx(image.ijk_to_ras)
    assert (found.has_physical_spacing, found.extent) == (bool(spacing), "whole")


def test_hidden_parts_of_lungs_are_segments_of_their_own(tmp_path):
    image = read_volume(write_dicom(tmp_path / "frontal.dcm", np.ones((8, 10), np.uint16)))
    labels = np.zeros((1, 8, 10), np.uint8)
    labels[0, 2:6, 1:4], labels[0, 2:6, 6:8], labels[0, 5:6, 4], labels[0, 3:6, 5] = 1, 2, 3, 4
    found = read_volume(written(labels, image, tmp_path / "lungs.dcm", extent="both"))
    assert found.extent == "both"
    for key, values in (("right_lung", (1, 3)), ("left_lung", (2, 4)), ("left_hidden_lung", (4,))):
        assert np.array_equal(np.isin(found.array_kji, found.structure_labels[key]), np.isin(labels, values))


def test_a_slice_without_lung_is_kept_and_a_labelmap_without_any_is_possible(tmp_path):
    image = read_volume(ct_series(tmp_path / "ct", HU))
    found = read_volume(written(np.zeros((5, 8, 10), np.uint8), image, tmp_path / "lungs.dcm"))
    assert found.size_kji == (5, 8, 10) and not found.array_kji.any()


def test_a_tilted_series_keeps_its_planes_and_is_read_as_the_image_is(tmp_path, caplog):
    folder = ct_series(tmp_path / "ct", HU, tilt=(0, 1.5, 0))
    image = read_volume(folder)
    path = written(lungs(), image, tmp_path / "lungs.dcm")
    found = read_volume(path)
    assert np.array_equal(found.array_kji, lungs())
    assert found.ijk_to_ras == pytest.approx(image.ijk_to_ras)
    assert caplog.text.count("the gantry was tilted") == 2
    positions = {tuple(one.PlanePositionSequence[0].ImagePositionPatient) for one in frames_of(path)}
    assert positions == {(0, 1.5 * k, 4 * k) for k in range(5)}


def frames_of(path):
    return pydicom.dcmread(path).PerFrameFunctionalGroupsSequence


def test_a_stale_spacing_of_the_source_is_not_taken_over(tmp_path):
    """Every other slice of a series of 2 mm, which still says so."""
    image = read_volume(ct_series(tmp_path / "ct", HU, SpacingBetweenSlices=2.0))
    assert read_volume(written(lungs(), image, tmp_path / "lungs.dcm")).size_kji == (5, 8, 10)


def test_the_standard_is_kept_for_a_series_an_enhanced_ct_and_an_xray(tmp_path):
    series = read_volume(ct_series(tmp_path / "ct", HU, direction=OBLIQUE))
    assert complaints(written(lungs(), series, tmp_path / "a.dcm", algorithm=Algorithm("x", True, {"a": "b"}))) == []
    assert complaints(written(lungs(), read_volume(enhanced(tmp_path)), tmp_path / "b.dcm")) == []
    for name, tags in (("c", {"PatientOrientation": ["L", "F"], "PixelSpacing": [0.2, 0.2]}), ("d", {})):
        xray = read_volume(write_dicom(tmp_path / f"{name}_image.dcm", np.ones((8, 10), np.uint16), **tags))
        assert complaints(written(lungs()[2:3], xray, tmp_path / f"{name}.dcm", extent="both")) == []


def enhanced(folder):
    return enhanced_ct(folder / "enhanced.dcm", HU, (4, 3, 2, 1, 0))


@pytest.mark.parametrize(
    "name", ["ct_ricord_dicom", "dicom_oddities/gantry_tilt", "dicom_oddities/enhanced_ct", "xrays"]
)
def test_real_images_keep_the_standard_and_come_back(tmp_path, shared_data, name):
    xrays, enhanced = "dicom_oddities/cr_monochrome1", "dicom_oddities/enhanced_ct"
    several = sorted((shared_data / (xrays if name == "xrays" else enhanced)).iterdir())
    for number, path in enumerate(several if name in ("xrays", enhanced) else [shared_data / name]):
        image = read_volume(path)
        labels = np.random.default_rng(number).integers(0, 3, image.size_kji).astype(np.uint8)
        found = written(labels, image, tmp_path / f"{number}.dcm")
        assert np.array_equal(read_volume(found).array_kji, labels)
        assert read_volume(found).ijk_to_ras == pytest.approx(image.ijk_to_ras, abs=1e-4)
        hd.seg.segread(found)
        assert complaints(found) == []


def test_an_image_that_is_not_of_dicom_is_refused_before_the_work(tmp_path):
    image = Volume(HU, np.eye(4), "case")
    with pytest.raises(OutputError, match="case was not read from DICOM files"):
        check_format(image, "dcm")
    with pytest.raises(OutputError, match="case was not read from DICOM files"):
        write_labelmap(lungs(), image, tmp_path / "lungs.dcm")
    assert not (tmp_path / "lungs.dcm").exists()


def test_what_no_longer_fits_its_files_is_refused(tmp_path):
    folder = ct_series(tmp_path / "ct", HU)
    image = read_volume(folder)
    cropped = replace(image, array_kji=image.array_kji[:, 1:])
    with pytest.raises(GeometryError, match="no longer on the grid of its DICOM files"):
        check_dicom_possible(cropped)
    moved = replace(image, ijk_to_ras=image.ijk_to_ras + np.eye(4, k=3))
    with pytest.raises(GeometryError, match="no longer on the grid of its DICOM files"):
        check_dicom_possible(moved)
    with pytest.raises(OutputError, match="not of the set 'lungs'"):
        write_labelmap(lungs() * 2, image, tmp_path / "lungs.dcm")
    (folder / "002.dcm").unlink()
    with pytest.raises(OutputError, match=r"002\.dcm is no longer there"):
        check_dicom_possible(image)


def test_slices_without_a_position_are_refused(tmp_path):
    folder = tmp_path / "ct"
    folder.mkdir()
    for number in (1, 2):
        write_dicom(folder / f"{number}.dcm", HU[number].astype(np.int16), Modality="CT", InstanceNumber=number)
    with pytest.raises(OutputError, match="do not say where in the patient they lie"):
        check_dicom_possible(read_volume(folder))


def test_headers_that_do_not_suffice_are_told_and_leave_the_earlier_file(tmp_path):
    image = read_volume(write_dicom(tmp_path / "frontal.dcm", np.ones((8, 10), np.uint16), StudyDate="no date"))
    (tmp_path / "lungs.dcm").write_bytes(b"earlier")
    with pytest.raises(OutputError, match="the headers of frontal do not suffice"):
        write_labelmap(lungs()[2:3], image, tmp_path / "lungs.dcm")
    assert (tmp_path / "lungs.dcm").read_bytes() == b"earlier"


def test_a_full_disk_leaves_the_earlier_file(tmp_path):
    image, path = read_volume(ct_series(tmp_path / "ct", HU)), tmp_path / "lungs.dcm"
    size_bytes = written(lungs(), image, path).stat().st_size
    path.write_bytes(b"earlier")
    for room in (1, size_bytes // 2, size_bytes - 100):
        with room_for(room), pytest.raises(OutputError, match=r"lungs\.dcm cannot be written"):
            write_labelmap(lungs(), image, path)
        assert path.read_bytes() == b"earlier"
        assert {one.name for one in tmp_path.iterdir()} == {"ct", "lungs.dcm"}


def test_without_highdicom_the_extra_is_named(tmp_path, monkeypatch):
    image = read_volume(ct_series(tmp_path / "ct", HU))
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(SettingsError, match=r"pip install 'samlungseg\[dicom\]'"):
        check_format(image, "dcm")


def test_organs_are_written_by_their_codes(tmp_path):
    image = read_volume(ct_series(tmp_path / "ct", HU))
    labels = (lungs() > 0) * np.uint8(ABDOMEN.label_of("left_kidney"))
    found = read_volume(written(labels, image, tmp_path / "organs.dcm", label_set=ABDOMEN))
    assert np.array_equal(np.isin(found.array_kji, found.structure_labels["left_kidney"]), lungs() > 0)


@pytest.mark.parametrize("extension", ["dcm", "rtstruct.dcm"])
def test_slices_that_share_an_identity_are_refused(tmp_path, extension):
    folder = ct_series(tmp_path / "ct", lungs().astype(int))
    first, second = sorted(folder.iterdir())[:2]
    header = pydicom.dcmread(second)
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = pydicom.dcmread(first).SOPInstanceUID
    header.save_as(second)
    with pytest.raises(OutputError, match="2 slices of ct have one SOPInstanceUID"):
        check_format(read_volume(folder), extension)


@pytest.mark.parametrize("extension", ["dcm", "rtstruct.dcm"])
def test_placed_slices_without_the_size_of_a_pixel_are_refused(tmp_path, extension):
    folder = ct_series(tmp_path / "ct", lungs().astype(int), direction=(0.6, 0.8, 0, 0, 0, -1))
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        del header.PixelSpacing
        header.save_as(path)
    with pytest.raises(OutputError, match=r"does not say how large its pixels are \(Pixel Spacing\)"):
        check_format(read_volume(folder), extension)

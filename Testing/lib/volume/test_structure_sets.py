"""RT Structure Sets: contours out, and back as the voxels that they enclose."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from dicomfiles import ct_series, enhanced_ct, write_dicom
from small_lungs import lungs

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import OutputError, SettingsError, VolumeError
from SAMLungSegLib.results import check_format
from SAMLungSegLib.volume import read_volume, write_labelmap
from SAMLungSegLib.volume.dicomout import Algorithm

HU = np.where(lungs() > 0, -800, 40)
GRIDS = {
    "axial": {},
    "mirrored": {"direction": (-1, 0, 0, 0, 1, 0)},
    "coronal": {"direction": (1, 0, 0, 0, 0, -1)},
    "oblique and anisotropic": {"direction": (0.6, 0.8, 0, 0, 0, -1), "spacing_kji": (3, 0.75, 0.5)},
    "tilted": {"tilt": (0, 1.5, 0)},
}


def written(labelmap_kji, folder, name="lungs.rtstruct.dcm"):
    write_labelmap(labelmap_kji, read_volume(folder), folder / name, algorithm=Algorithm("SAMLungSeg x", True))
    return folder / name


def with_hole_and_islands():
    """A right lung with a hole and with voxels at the image's edge, and a left one that touches itself by a corner."""
    labels = lungs()
    labels[2, 3, 2] = 0
    labels[3, 7, 0] = labels[3, 0, 9] = 1
    labels[1, 6, 6] = labels[1, 7, 7] = 2
    return labels


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("labels", [lungs(), with_hole_and_islands()], ids=["plain", "with a hole and islands"])
def test_what_is_written_comes_back_voxel_for_voxel(tmp_path, grid, labels):
    folder = ct_series(tmp_path / "ct", HU, **grid)
    image = read_volume(folder)
    found = read_volume(written(labels, folder))
    assert np.array_equal(found.array_kji, labels)
    assert found.ijk_to_ras == pytest.approx(image.ijk_to_ras)
    assert dict(found.structure_labels) == {"right_lung": [1], "left_lung": [2]}


def test_contours_run_halfway_between_voxels_of_their_slice(tmp_path):
    """The right lung: columns 1 to 3 of 2 mm, rows 2 to 5 of 1 mm, in slices 1 to 3 of 4 mm; corners are cut."""
    folder = ct_series(tmp_path / "ct", HU)
    file = pydicom.dcmread(written(lungs(), folder))
    assert [one.ROIName for one in file.StructureSetROISequence] == ["right lung", "left lung"]
    right = file.ROIContourSequence[0]
    assert [float(one.ContourData[2]) for one in right.ContourSequence] == [4, 8, 12]
    assert {one.ContourGeometricType for one in right.ContourSequence} == {"CLOSED_PLANAR"}
    points = np.array(right.ContourSequence[0].ContourData, float).reshape(-1, 3)
    assert (points.min(axis=0).tolist(), points.max(axis=0).tolist()) == ([1, 1.5, 4], [7, 5.5, 4])
    assert len(points) == 8 == right.ContourSequence[0].NumberOfContourPoints
    source = pydicom.dcmread(folder / "004.dcm")
    assert right.ContourSequence[0].ContourImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert file.StudyInstanceUID == source.StudyInstanceUID


def test_a_hole_makes_the_contours_of_its_structure_exclude_each_other(tmp_path):
    file = pydicom.dcmread(written(with_hole_and_islands(), ct_series(tmp_path / "ct", HU)))
    kinds = [{one.ContourGeometricType for one in region.ContourSequence} for region in file.ROIContourSequence]
    assert kinds == [{"CLOSEDPLANAR_XOR"}, {"CLOSED_PLANAR"}]


def test_frames_of_an_enhanced_ct_are_referred_to(tmp_path):
    order = (3, 0, 4, 1, 2)
    (tmp_path / "ct").mkdir()
    enhanced_ct(tmp_path / "ct" / "image.dcm", HU, order)
    path = written(lungs(), tmp_path / "ct")
    first = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence[0].ContourImageSequence[0]
    assert first.ReferencedFrameNumber == order.index(1) + 1
    assert np.array_equal(read_volume(path).array_kji, lungs())


def test_the_standard_is_kept(tmp_path):
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not on this machine")
    path = written(lungs(), ct_series(tmp_path / "ct", HU))
    said = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, errors="replace", check=False)
    assert "RTStructureSet" in said.stderr
    assert [line for line in said.stderr.splitlines() if line.startswith("Error")] == []


def test_without_its_images_beside_it_none_is_read(tmp_path):
    path = written(lungs(), ct_series(tmp_path / "ct", HU))
    (tmp_path / "alone").mkdir()
    shutil.move(path, tmp_path / "alone")
    with pytest.raises(VolumeError, match="need the images that they were drawn on"):
        read_volume(tmp_path / "alone" / path.name)


def test_contours_between_slices_and_damaged_ones_are_refused(tmp_path):
    path = written(lungs(), ct_series(tmp_path / "ct", HU))
    file = pydicom.dcmread(path)
    contour = file.ROIContourSequence[0].ContourSequence[0]
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    contour.ContourData = [f"{one:g}" for one in (points + np.array([0, 0, 2])).ravel()]
    file.save_as(path)
    with pytest.raises(VolumeError, match="between the slices"):
        read_volume(path)
    contour.ContourData = ["1", "2"]
    file.save_as(path)
    with pytest.raises(VolumeError, match="damaged, its contours cannot be read"):
        read_volume(path)


def test_an_xray_has_no_place_for_contours(tmp_path):
    image = read_volume(write_dicom(tmp_path / "frontal.dcm", np.ones((8, 10), np.uint16)))
    with pytest.raises(OutputError, match="so that contours have no place"):
        check_format(image, "rtstruct.dcm")


def test_regions_of_other_things_are_refused_by_name(shared_data):
    with pytest.raises(VolumeError, match="RT Structure Set with the segments 'GTV-1'"):
        read_volume(shared_data / "dicom_oddities" / "rtstruct_phantom_pat2" / "DCM_RS_00041.dcm")


def test_a_real_structure_set_is_filled_as_its_contours_enclose(tmp_path, shared_data):
    """A tumour's contours under another name: the area that each encloses, by the shoelace formula."""
    folder = tmp_path / "ct"
    shutil.copytree(shared_data / "dicom_oddities" / "rtstruct_phantom_pat2", folder)
    file = pydicom.dcmread(folder / "DCM_RS_00041.dcm")
    file.StructureSetROISequence[0].ROIName = "Lung_L"
    file.save_as(tmp_path / "ct" / "renamed.dcm")
    found = read_volume(folder / "renamed.dcm")
    contours = [np.array(one.ContourData, float).reshape(-1, 3) for one in file.ROIContourSequence[0].ContourSequence]
    x, y = (np.array([c[:, axis] for c in contours], object) for axis in (0, 1))
    areas = [abs(np.dot(a, np.roll(b, 1)) - np.dot(b, np.roll(a, 1))) / 2 for a, b in zip(x, y, strict=True)]
    pixel_mm2 = found.spacing_mm[1] * found.spacing_mm[2]
    counts = np.count_nonzero(found.array_kji == found.structure_labels["left_lung"][0], axis=(1, 2))
    assert np.count_nonzero(counts) == len(contours)
    assert counts.sum() * pixel_mm2 == pytest.approx(sum(areas), rel=0.03)


def test_the_command_writes_and_evaluates_one(tmp_path, capsys, monkeypatch):
    """Without highdicom, which it does not take."""
    from SAMLungSegLib.phantom import chest_ct

    monkeypatch.setitem(sys.modules, "highdicom", None)
    phantom = chest_ct(0, size_kji=(8, 48, 64), spacing_mm=(40, 8, 6))
    folder = ct_series(tmp_path / "case", phantom.hu_kji, spacing_kji=(40, 8, 6))
    assert main(["segment", str(folder), "-o", str(folder), "--format", "rtstruct.dcm"]) == 0
    assert main(["segment", str(folder), "-o", str(tmp_path), "--format", "nrrd"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder / "case_lungs.rtstruct.dcm"), str(tmp_path / "case_lungs.nrrd")]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| both lungs")]
    assert rows[0].split("|")[2].strip() == "1.0000"
    with pytest.raises(SettingsError, match="highdicom"):
        check_format(read_volume(folder), "dcm")


def drawn_on_changed_images(tmp_path, change):
    """A structure set of small lungs, whose images were changed afterwards."""
    folder = ct_series(tmp_path / "ct", lungs().astype(int))
    image = read_volume(folder)
    write_labelmap(lungs(), image, folder / "lungs.rtstruct.dcm")
    for path in sorted(folder.glob("0*.dcm")):
        header = pydicom.dcmread(path)
        change(header)
        header.save_as(path)
    return folder / "lungs.rtstruct.dcm"


def test_contours_on_images_without_the_size_of_a_pixel_are_refused(tmp_path):
    path = drawn_on_changed_images(tmp_path, lambda header: header.pop("PixelSpacing"))
    with pytest.raises(VolumeError, match=r"do not say how large their pixels are \(Pixel Spacing\)"):
        read_volume(path)


def test_contours_are_read_by_places_where_images_share_an_identity(tmp_path):
    path = drawn_on_changed_images(tmp_path, lambda header: setattr(header, "SOPInstanceUID", "1.2.3.4"))
    np.testing.assert_array_equal(read_volume(path).array_kji, lungs())

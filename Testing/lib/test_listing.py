"""Which images a folder holds, and which files their results become."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.results import check_format, lung_volumes_ml, result_path
from SAMLungSegLib.volume import Volume
from SAMLungSegLib.volume.listing import images_in


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def write_dicom(path, series: str, modality: str = "CT", position: float = 0.0):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.SeriesInstanceUID, file.Modality = series, modality
    file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, position], [1, 0, 0, 0, 1, 0]
    file.PhotometricInterpretation, file.SamplesPerPixel, file.PixelSpacing = "MONOCHROME2", 1, [1, 1]
    file.Rows, file.Columns, file.BitsAllocated, file.BitsStored, file.HighBit = 2, 3, 16, 16, 15
    file.PixelRepresentation, file.PixelData = 0, np.zeros((2, 3), np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, file, enforce_file_format=True)


def names(folder) -> list[str]:
    return [str(path.relative_to(folder)) for path in images_in(folder)]


def test_images_are_listed_by_name_and_everything_else_is_left_out(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.png", "notes.csv", ".hidden.nrrd", "c.raw", "results/a_lungs.png", ".git/x.png")
    assert names(tmp_path) == ["a.png", "b.nii.gz"]


def test_a_sub_folder_with_dicom_somewhere_is_one_image(tmp_path):
    write_dicom(tmp_path / "patient 2" / "series" / "1", "1.2")
    touch(tmp_path, "a.png", "patient 3/readme.txt")
    assert names(tmp_path) == ["a.png", "patient 2"]


def test_the_slices_of_one_series_are_one_image(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / f"{number}.dcm", "1.2", position=number)
    touch(tmp_path, "other.nii.gz")
    assert images_in(tmp_path) == [tmp_path, tmp_path / "other.nii.gz"]


def test_dicom_xrays_and_single_slices_are_one_image_each(tmp_path):
    for number in range(2):
        write_dicom(tmp_path / f"xray {number}", "1.2", "DX")
    assert names(tmp_path) == ["xray 0", "xray 1"]
    write_dicom(tmp_path / "slice of another series", "1.3")
    assert len(names(tmp_path)) == 3


def test_slices_beside_another_series_are_refused(tmp_path):
    write_dicom(tmp_path / "scout", "1.1")
    for number in range(3):
        write_dicom(tmp_path / f"{number}.dcm", "1.2", position=number)
    with pytest.raises(VolumeError, match=r"holds 2 DICOM series, one of them with 3 slices; .* sub-folder"):
        images_in(tmp_path)


def test_a_folder_that_is_none_or_holds_no_image_is_refused(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(VolumeError, match="holds no image"):
        images_in(tmp_path)
    with pytest.raises(VolumeError, match="is not a folder"):
        images_in(tmp_path / "notes.txt")


# ---- results


def test_results_are_named_after_the_image_and_its_kind(tmp_path):
    (tmp_path / "series").mkdir()
    assert result_path(tmp_path / "a.nii.gz", tmp_path / "out") == tmp_path / "out" / "a_lungs.seg.nrrd"
    assert result_path(tmp_path / "a.JPG", tmp_path / "out") == tmp_path / "out" / "a_lungs.png"
    assert result_path(tmp_path / "series", tmp_path, "nii.gz") == tmp_path / "series_lungs.nii.gz"


def test_lungs_are_measured_in_ml_where_that_has_a_meaning():
    labelmap = np.zeros((2, 3, 4), np.uint8)
    labelmap[0, 0, :3], labelmap[1] = 1, 2
    matrix = np.diag([10.0, 10.0, 5.0, 1.0])
    assert lung_volumes_ml(labelmap, Volume(labelmap, matrix)) == pytest.approx((1.5, 6.0))
    assert lung_volumes_ml(labelmap, Volume(labelmap, matrix, has_physical_spacing=False)) is None
    assert lung_volumes_ml(labelmap[:1], Volume(labelmap[:1], matrix)) is None


def test_png_is_refused_for_what_it_cannot_hold():
    check_format(Volume(np.zeros((1, 2, 2), np.uint8), np.eye(4)), "png")
    with pytest.raises(VolumeError, match="PNG holds one slice"):
        check_format(Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)), "png")

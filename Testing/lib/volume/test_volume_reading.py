from __future__ import annotations

import gzip
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import GeometryError, SAMLungSegError, VolumeError
from SAMLungSegLib.volume import axial_plane, is_image_path, read_volume

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 5
RANDOM = np.random.default_rng(0)


def save(path, array, *, is_vector=False, **geometry):
    image = sitk.GetImageFromArray(array, isVector=is_vector)
    for name, value in geometry.items():
        getattr(image, f"Set{name}")(value)
    sitk.WriteImage(image, str(path))
    return path


def refusal(path, kind=SAMLungSegError):
    with pytest.raises(kind) as caught:
        read_volume(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.stem in message
    return message


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".NRRD"])
def test_volume_formats_keep_values_and_place(tmp_path, extension):
    path = tmp_path / f"scan{extension}"
    save(path, ARRAY, Spacing=(0.5, 0.75, 2.0), Origin=(10.0, 20.0, 30.0))
    volume = read_volume(path)
    assert np.array_equal(volume.array_kji, ARRAY)
    assert volume.array_kji.dtype == np.int16
    expected = [[-0.5, 0, 0, -10], [0, -0.75, 0, -20], [0, 0, 2, 30], [0, 0, 0, 1]]
    assert np.allclose(volume.ijk_to_ras, expected)
    assert (volume.name, volume.modality_hint, volume.has_physical_spacing) == ("scan", None, True)


def test_a_rotated_direction_is_carried_over_to_ras(tmp_path):
    # LPS: i runs to superior, j to left, k to posterior.
    path = save(tmp_path / "turned.nrrd", ARRAY, Direction=(0, 1, 0, 0, 0, 1, 1, 0, 0), Spacing=(1, 2, 3))
    expected = [[0, -2, 0, 0], [0, 0, -3, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert np.allclose(read_volume(path).ijk_to_ras, expected)


def test_wide_integers_and_doubles_are_narrowed_without_loss(tmp_path):
    fits = save(tmp_path / "fits.nrrd", ARRAY.astype(np.int32))
    too_large = save(tmp_path / "too_large.nrrd", ARRAY.astype(np.int32) + 40000)
    doubles = save(tmp_path / "doubles.nrrd", ARRAY / 2)
    assert read_volume(fits).array_kji.dtype == np.int16
    assert read_volume(too_large).array_kji.max() == 40018
    assert read_volume(doubles).array_kji.dtype == np.float32


@pytest.mark.parametrize("extension", [".png", ".tif", ".tiff"])
def test_16_bit_pictures_are_shown_as_stored(tmp_path, extension):
    pixels = RANDOM.integers(0, 65536, (6, 5)).astype(np.uint16)
    volume = read_volume(save(tmp_path / f"picture{extension}", pixels))
    assert volume.array_kji.dtype == np.uint16
    assert np.array_equal(axial_plane(volume).to_display(volume.array_kji), pixels[None])
    assert not volume.has_physical_spacing


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_saved_in_colour_is_read_as_grey(tmp_path, channels):
    pixels = RANDOM.integers(0, 256, (6, 5)).astype(np.uint8)
    colour = np.repeat(pixels[..., None], channels, axis=2)
    colour[..., 3:] = 255
    volume = read_volume(save(tmp_path / "grey.png", colour, is_vector=True))
    assert np.array_equal(volume.array_kji, pixels[None])


def test_a_grey_jpeg_in_colour_is_read_as_grey(tmp_path):
    pixels = np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8)
    volume = read_volume(save(tmp_path / "grey.jpg", np.repeat(pixels[..., None], 3, axis=2), is_vector=True))
    assert np.abs(volume.array_kji[0].astype(int) - pixels).max() <= 6


def test_a_colour_picture_is_refused(tmp_path):
    colour = np.zeros((6, 5, 3), np.uint8)
    colour[2, 2, 0] = 30
    assert "colour" in refusal(save(tmp_path / "colour.png", colour, is_vector=True), VolumeError)


def test_several_volumes_or_vectors_in_one_file_are_refused(tmp_path):
    assert "4 dimensions (4 x 3 x 2 x 2)" in refusal(save(tmp_path / "time.nii.gz", np.stack([ARRAY, ARRAY])))
    vectors = np.zeros((2, 3, 4, 2), np.float32)
    assert "2 values" in refusal(save(tmp_path / "vectors.nrrd", vectors, is_vector=True))
    assert "2 pages" in refusal(save(tmp_path / "pages.tif", ARRAY.astype(np.uint8)))
    assert "complex" in refusal(save(tmp_path / "complex.nrrd", ARRAY.astype(np.complex64)))


def test_a_fourth_dimension_of_size_one_is_dropped(tmp_path):
    for name in ("one.nii.gz", "one.nrrd", "one.mha"):
        volume = read_volume(save(tmp_path / name, ARRAY[None]))
        assert np.array_equal(volume.array_kji, ARRAY)
    header = b"NRRD0004\ntype: short\ndimension: 4\nspace: left-posterior-superior\nsizes: 1 4 3 2\n"
    header += b"space directions: none (1,0,0) (0,1,0) (0,0,1)\nkinds: list domain domain domain\n"
    header += b"endian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    listed = tmp_path / "list.nrrd"
    listed.write_bytes(header + ARRAY.astype("<i2").tobytes())
    assert np.array_equal(read_volume(listed).array_kji, ARRAY)


def nifti_with_rows(path, rows):
    save(path, ARRAY)
    header = bytearray(path.read_bytes())
    struct.pack_into("<hh", header, 252, 0, 1)  # qform_code, sform_code
    struct.pack_into("<12f", header, 280, *np.ravel(rows))
    path.write_bytes(header)
    return path


def test_nifti_with_unusable_directions_is_refused(tmp_path):
    flat = nifti_with_rows(tmp_path / "flat.nii", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0)])
    sheared = nifti_with_rows(tmp_path / "sheared.nii", [(1, 0.4, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)])
    assert "repair" in refusal(flat, GeometryError)
    assert "orthonormal" in refusal(sheared, GeometryError)


def test_nrrd_with_a_zero_direction_is_refused(tmp_path):
    path = save(tmp_path / "flat.nrrd", ARRAY)
    path.write_bytes(path.read_bytes().replace(b"(0,0,1)", b"(0,0,0)"))
    assert "Zero-valued spacing" in refusal(path, GeometryError)


def test_an_image_of_nothing_but_nan_is_refused(tmp_path):
    refusal(save(tmp_path / "nan.nrrd", np.full((2, 3, 4), np.nan, np.float32)), VolumeError)


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".jpg"])
def test_a_truncated_file_is_refused(tmp_path, capfd, extension):
    is_picture = extension in (".png", ".tif", ".jpg")
    noise = RANDOM.integers(0, 255, (64, 64) if is_picture else (4, 64, 64)).astype(np.uint8)
    path = save(tmp_path / f"cut{extension}", noise)
    path.write_bytes(path.read_bytes()[:-500])
    message = refusal(path, VolumeError)
    assert capfd.readouterr() == ("", "")
    if extension not in (".png", ".tif"):
        assert "is truncated" in message


def test_a_truncated_compressed_file_is_refused(tmp_path, capfd):
    image = sitk.GetImageFromArray(RANDOM.integers(0, 255, (4, 64, 64)).astype(np.uint8))
    for name, reason in (("packed.mha", "is truncated"), ("packed.nrrd", "read: expected 16384 bytes but received")):
        path = tmp_path / name
        sitk.WriteImage(image, str(path), useCompression=True)
        assert np.array_equal(read_volume(path).array_kji, sitk.GetArrayFromImage(image))
        path.write_bytes(path.read_bytes()[:-500])
        assert reason in refusal(path, VolumeError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("extension", [".mhd", ".nhdr"])
def test_a_header_without_its_whole_data_file_is_refused(tmp_path, capfd, extension):
    path = save(tmp_path / f"scan{extension}", ARRAY)
    data = tmp_path / "scan.raw"
    data.write_bytes(data.read_bytes()[:-1])
    assert "its data file scan.raw is truncated" in refusal(path, VolumeError)
    data.unlink()
    assert f"its data file scan.raw is missing; copy it to {tmp_path}." in refusal(path, VolumeError)
    assert capfd.readouterr() == ("", "")


def test_data_in_a_sub_folder_and_in_several_files_are_read(tmp_path):
    path = save(tmp_path / "scan.mhd", ARRAY)
    (tmp_path / "data").mkdir()
    (tmp_path / "scan.raw").rename(tmp_path / "data" / "whole file.raw")
    header = path.read_text()
    path.write_text(header.replace("scan.raw", "data/whole file.raw"))
    assert np.array_equal(read_volume(path).array_kji, ARRAY)
    for index, one_slice in enumerate(ARRAY, start=1):
        (tmp_path / f"{index}.raw").write_bytes(one_slice.tobytes())
    for several in ("LIST\n1.raw\n2.raw", "%d.raw 1 2 1"):
        path.write_text(header.replace("scan.raw", several))
        assert np.array_equal(read_volume(path).array_kji, ARRAY)


def test_a_nifti_of_several_gzip_members_is_complete(tmp_path):
    plain = save(tmp_path / "plain.nii", ARRAY).read_bytes()
    parts = tmp_path / "parts.nii.gz"
    parts.write_bytes(gzip.compress(plain[:370]) + gzip.compress(plain[370:]))
    assert np.array_equal(read_volume(parts).array_kji, ARRAY)


@pytest.mark.parametrize("name", ["text.nii.gz", "text.nrrd", "text.mha", "text.png", "text.dcm", "text.pdf", "text"])
@pytest.mark.parametrize("content", [b"", b"hello, this is a text\n" * 40])
def test_a_file_that_is_no_image_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path, VolumeError)
    assert (
        "give a DICOM file or folder, NIfTI (.nii, .nii.gz, .hdr with .img)" if content else "is empty (0 bytes)"
    ) in message


def test_a_missing_file_and_a_folder_without_images_are_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nothing.nii.gz", VolumeError)
    assert "no DICOM image" in refusal(tmp_path, VolumeError)
    (tmp_path / "readme.txt").write_text("hello")
    assert "no DICOM image" in refusal(tmp_path, VolumeError)


def test_the_image_files_of_a_folder_without_dicom_are_named(tmp_path):
    path = save(tmp_path / "scan.nrrd", ARRAY)
    assert refusal(tmp_path).endswith("no DICOM image; it holds the image file scan.nrrd: give the file.")
    for name in ("a.mha", "a.txt", ".hidden.nrrd"):
        (tmp_path / name).write_bytes(path.read_bytes())
    advice = "it holds 2 image files such as a.mha: give one of them, or the folder to `samlungseg batch`."
    assert refusal(tmp_path).endswith(advice)


def test_a_few_values_that_are_not_finite_are_counted(tmp_path, caplog):
    array = ARRAY.astype(np.float32)
    path = save(tmp_path / "whole.nrrd", array)
    read_volume(path)
    assert caplog.text == ""
    array[0, 0, :2] = np.nan, np.inf
    read_volume(save(tmp_path / "holes.nrrd", array))
    assert "holes.nrrd: 2 of 24 voxels are NaN or infinite." in caplog.text


def test_a_series_is_chosen_in_folders_only(tmp_path):
    path = save(tmp_path / "scan.nrrd", ARRAY)
    with pytest.raises(VolumeError, match="DICOM folder"):
        read_volume(path, series="1.2.3")


def test_itk_warnings_stay_off_the_terminal_and_on_elsewhere(tmp_path, capfd):
    refusal(nifti_with_rows(tmp_path / "sheared.nii", [(1, 0.4, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)]))
    refusal(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert sitk.ProcessObject.GetGlobalWarningDisplay()


def test_image_names_are_recognised():
    assert is_image_path("a/scan.NII.GZ")
    assert is_image_path("slice.dcm")
    assert not is_image_path("notes.txt")
    assert not is_image_path("archive.gz")


def test_a_nifti_ct_is_displayed_head_up_and_left_to_the_right(shared_data):
    volume = read_volume(shared_data / "ct_abdomen_totalseg" / "example_ct.nii.gz")
    plane = axial_plane(volume)
    assert volume.name == "example_ct"
    assert volume.spacing_mm == pytest.approx((3, 3, 3))
    assert plane.flips == (False, True, True)  # stored towards right and anterior


def test_a_small_ct_and_an_xray_are_read(shared_data):
    ct = read_volume(shared_data / "ct_cip_64" / "ct-64.nrrd")
    assert ct.size_kji == (79, 64, 64)
    assert ct.spacing_mm == pytest.approx((3.98734, 4.171872, 4.171872), abs=1e-5)
    xray = read_volume(next(iter(sorted((shared_data / "cxr_montgomery" / "images").glob("*.png")))))
    assert xray.size_kji == (1, 512, 512)
    assert axial_plane(xray).flips == (False, False, False)


@pytest.mark.parametrize(("pack", "name"), [(bytes, "scan.nii"), (gzip.compress, "scan.nii.gz")])
def test_a_nifti_file_without_spacing_is_refused_not_taken_as_1_mm(tmp_path, pack, name):
    content = bytearray(save(tmp_path / "sound.nii", ARRAY, Spacing=(0.5, 0.75, 2.0)).read_bytes())
    content[84:88] = struct.pack("<f", 0)
    (tmp_path / name).write_bytes(pack(bytes(content)))
    assert "spacing of zero along its axis 1" in refusal(tmp_path / name, GeometryError)


def test_the_missing_third_spacing_of_a_flat_nifti_file_is_no_fault(tmp_path):
    content = bytearray(save(tmp_path / "flat.nii", ARRAY[:1]).read_bytes())
    content[88:92] = struct.pack("<f", 0)
    (tmp_path / "flat.nii").write_bytes(content)
    assert read_volume(tmp_path / "flat.nii").size_kji == (1, 3, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text on other systems")
@pytest.mark.parametrize("extension", [".nii", ".dcm", ""])
def test_a_name_that_is_no_text_is_refused(tmp_path, extension):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + extension.encode()))
    path.write_bytes(b"anything") if extension else path.mkdir()
    with pytest.raises(VolumeError, match="no UTF-8 text; rename it"):
        read_volume(path)

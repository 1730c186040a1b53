from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.volume import LABELMAP_EXTENSIONS, Volume, read_volume, write_labelmap

VOLUME_EXTENSIONS = [extension for extension in LABELMAP_EXTENSIONS if extension != ".png"]
LABELMAP = np.zeros((2, 3, 4), np.uint8)
LABELMAP[0, 1, 1:3] = 1
LABELMAP[1, 2, 3] = 2
AXIAL = np.eye(3)
LEFT_HANDED = np.diag([1, 1, -1])
TURNED = np.array([[0.8, 0, 0.6], [0, 1, 0], [-0.6, 0, 0.8]])
SHEARED = np.array([[1, 0, 0], [0, 1, 0.6], [0, 0, 0.8]])


def volume_with(directions=AXIAL, spacing_ijk=(0.5, 0.75, 2.0), size_kji=(2, 3, 4)):
    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(directions) * spacing_ijk
    matrix[:3, 3] = 10, -20, 30
    return Volume(np.zeros(size_kji, np.int16), matrix, "scan")


@pytest.mark.parametrize("extension", VOLUME_EXTENSIONS)
@pytest.mark.parametrize("directions", [AXIAL, LEFT_HANDED, TURNED, TURNED @ LEFT_HANDED])
def test_values_and_place_survive_writing_and_reading(tmp_path, extension, directions):
    like = volume_with(directions)
    path = tmp_path / f"lungs{extension}"
    write_labelmap(LABELMAP, like, path)
    found = read_volume(path)
    assert found.array_kji.dtype == np.uint8
    assert np.array_equal(found.array_kji, LABELMAP)
    assert np.allclose(found.ijk_to_ras, like.ijk_to_ras, atol=1e-5)
    assert found.name == "lungs"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("extension", [".nrrd", ".mha"])
def test_a_sheared_grid_is_kept_where_the_format_can_hold_it(tmp_path, extension):
    like = volume_with(SHEARED)
    write_labelmap(LABELMAP, like, tmp_path / f"lungs{extension}")
    assert np.allclose(read_volume(tmp_path / f"lungs{extension}").ijk_to_ras, like.ijk_to_ras, atol=1e-5)


def test_a_sheared_grid_is_refused_for_nifti(tmp_path):
    with pytest.raises(GeometryError, match=r"use \.nrrd"):
        write_labelmap(LABELMAP, volume_with(SHEARED), tmp_path / "lungs.nii.gz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("thin_axis", [0, 1, 2])
def test_a_single_slice_is_written_as_png_with_its_label_values_as_palette_indices(tmp_path, thin_axis):
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    labelmap = np.expand_dims(labels, thin_axis)
    write_labelmap(labelmap, volume_with(size_kji=labelmap.shape), tmp_path / "lungs.png")
    picture = Image.open(tmp_path / "lungs.png")
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), labels)
    assert np.array_equal(read_volume(tmp_path / "lungs.png").array_kji[0], labels)


def test_people_see_a_png_of_labels_in_the_colours_of_the_segments(tmp_path):
    labels = np.array([[[0, 1, 2, 3]]], np.uint8)
    write_labelmap(labels, volume_with(size_kji=labels.shape), tmp_path / "lungs.png")
    shown = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "lungs.png")))  # most programs expand a palette
    assert shown[0].tolist() == [[0, 0, 0], [197, 165, 145], [145, 178, 197], [230, 92, 212]]
    sitk.WriteImage(sitk.GetImageFromArray(shown, isVector=True), str(tmp_path / "saved_again.png"))
    assert np.array_equal(read_volume(tmp_path / "saved_again.png").array_kji, labels)


def test_a_png_with_no_lung_in_it_is_read_as_no_lung(tmp_path):
    labels = np.zeros((1, 3, 4), np.uint8)
    write_labelmap(labels, volume_with(size_kji=labels.shape), tmp_path / "lungs.png")
    assert np.array_equal(read_volume(tmp_path / "lungs.png").array_kji, labels)


def test_a_picture_in_other_colours_is_still_refused(tmp_path):
    colours = np.array([[[0, 0, 0], [197, 165, 145], [197, 165, 144]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "picture.png")
    with pytest.raises(VolumeError, match="colour image"):
        read_volume(tmp_path / "picture.png")


def test_more_than_255_labels_are_grey_levels_of_16_bits_in_png(tmp_path):
    labels = np.array([[[0, 1, 300]]])
    write_labelmap(labels, volume_with(size_kji=labels.shape), tmp_path / "masks.png", dtype=np.uint16)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "masks.png"))).tolist() == labels[0].tolist()


def test_several_slices_are_refused_as_png(tmp_path):
    with pytest.raises(VolumeError, match="one slice"):
        write_labelmap(LABELMAP, volume_with(), tmp_path / "lungs.png")


def test_bool_and_wide_integer_labelmaps_become_uint8(tmp_path):
    for labelmap in (LABELMAP > 0, LABELMAP.astype(np.int64)):
        write_labelmap(labelmap, volume_with(), tmp_path / "lungs.nrrd")
        assert np.array_equal(read_volume(tmp_path / "lungs.nrrd").array_kji, labelmap)


@pytest.mark.parametrize("labelmap", [LABELMAP.astype(float), LABELMAP.astype(int) - 1, LABELMAP.astype(int) + 255])
def test_values_that_are_no_labels_are_refused(tmp_path, labelmap):
    with pytest.raises(VolumeError, match="0 to 255"):
        write_labelmap(labelmap, volume_with(), tmp_path / "lungs.nrrd")


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
def test_more_than_255_labels_are_written_as_16_bit_on_request(tmp_path, extension):
    path = tmp_path / f"masks{extension}"
    many = LABELMAP.astype(np.int32) * 30000
    write_labelmap(many, volume_with(), path, dtype=np.uint16)
    assert sitk.ReadImage(str(path)).GetPixelID() == sitk.sitkUInt16
    assert np.array_equal(read_volume(path).array_kji, many)
    with pytest.raises(VolumeError, match="0 to 65535"):
        write_labelmap(many * 3, volume_with(), path, dtype=np.uint16)


def test_another_size_or_extension_or_folder_is_refused(tmp_path):
    with pytest.raises(GeometryError, match=r"\(2, 4, 3\)"):
        write_labelmap(LABELMAP.transpose(0, 2, 1), volume_with(), tmp_path / "lungs.nrrd")
    with pytest.raises(VolumeError, match=r"\.seg\.nrrd"):
        write_labelmap(LABELMAP, volume_with(), tmp_path / "lungs.jpg")
    with pytest.raises(VolumeError, match="folder does not exist"):
        write_labelmap(LABELMAP, volume_with(), tmp_path / "nowhere" / "lungs.nrrd")


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "lungs.nrrd"
    path.write_text("old")
    write_labelmap(LABELMAP, volume_with(), path)
    assert np.array_equal(read_volume(path).array_kji, LABELMAP)


@pytest.mark.parametrize("failing", ["SimpleITK.WriteImage", "os.replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    def fail(_, target, **__):
        with open(target, "a") as file:
            file.write("half")
        raise RuntimeError("sitk::ERROR: disk full")

    def refuse(*_):
        raise PermissionError("not allowed")

    path = tmp_path / "lungs.nii.gz"
    path.write_text("old")
    monkeypatch.setattr(failing, fail if failing == "SimpleITK.WriteImage" else refuse)
    with pytest.raises(VolumeError, match=r"disk full|not allowed"):
        write_labelmap(LABELMAP, volume_with(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["lungs.nii.gz"]
    assert path.read_text() == "old"


def test_a_slicer_segmentation_names_both_lungs_even_when_one_is_empty(tmp_path):
    path = tmp_path / "lungs.seg.nrrd"
    write_labelmap(np.where(LABELMAP == 1, LABELMAP, 0), volume_with(), path)
    image = sitk.ReadImage(str(path))
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert fields["Segment0_Name"] == "right lung"
    assert fields["Segment1_Name"] == "left lung"
    assert (fields["Segment0_LabelValue"], fields["Segment1_LabelValue"]) == ("1", "2")
    assert fields["Segment0_Extent"] == "0 3 0 2 0 1"
    assert [float(part) * 255 for part in fields["Segment0_Color"].split()] == pytest.approx((197, 165, 145), abs=1e-3)
    assert fields["Segment1_Tags"] == (
        "TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^39607008^Lung~SCT^7771000^Left"
        "~Anatomic codes - DICOM master list~^^~^^|"
    )
    assert fields["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"


def test_a_label_without_a_name_is_refused_as_segmentation(tmp_path):
    with pytest.raises(VolumeError, match=r"\[7\]"):
        write_labelmap(np.where(LABELMAP == 2, 7, LABELMAP), volume_with(), tmp_path / "lungs.seg.nrrd")


def test_segments_are_distinct():
    assert LUNGS.labels == (1, 2)
    assert len({structure.colour for _label, structure in LUNGS}) == len(LUNGS)


@pytest.mark.parametrize("extension", [".seg.nrrd", ".nrrd"])
def test_texts_are_kept_in_nrrd(tmp_path, extension):
    text = '{"a": "line\\n", "long": "' + "x" * 5000 + '"}'
    write_labelmap(LABELMAP, volume_with(), tmp_path / f"lungs{extension}", metadata={"Said": text})
    assert sitk.ReadImage(str(tmp_path / f"lungs{extension}")).GetMetaData("Said") == text


@pytest.mark.parametrize("extension", LABELMAP_EXTENSIONS)
@pytest.mark.parametrize("room_bytes", [100, 20_000])
def test_a_disk_that_fills_up_leaves_the_earlier_file_whole(tmp_path, extension, room_bytes):
    resource = pytest.importorskip("resource", reason="file sizes cannot be limited on this system")
    path = tmp_path / f"lungs{extension}"
    path.write_bytes(b"earlier")
    labelmap = np.random.default_rng(0).integers(0, 3, (1, 600, 600)).astype(np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
    try:
        with pytest.raises(VolumeError, match="cannot be written"):
            write_labelmap(labelmap, volume_with(size_kji=labelmap.shape), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"earlier"

from __future__ import annotations

import logging

import numpy as np
import pydicom
import pytest
from dicomfiles import PIXELS, write_dicom

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume import axial_plane, read_volume
from SAMLungSegLib.volume.dicom import read_dicom_series, series_of

AXIAL = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.75, 0.5]}


def write_ct(folder, places_mm, *, name="slice", step=(0.0, 0.0, 1.0), **tags):
    """A CT series whose slice n lies at `places_mm[n]` along `step` and holds the value n."""
    folder.mkdir(exist_ok=True)
    for n, place in enumerate(places_mm):
        place_tags = {"ImagePositionPatient": [place * part for part in step], "InstanceNumber": n + 1}
        all_tags = {"Modality": "CT", **AXIAL} | place_tags | tags
        write_dicom(folder / f"{name}{n}", np.full((2, 3), n, np.int16), **all_tags)
    return folder


def displayed(volume):
    return axial_plane(volume).to_display(volume.array_kji)


@pytest.mark.parametrize(
    ("pixels", "tags", "lowest_becomes"),
    [
        (PIXELS, {}, 65535),
        (PIXELS, {"BitsStored": 12}, 4095),
        (PIXELS.astype(np.uint8), {}, 255),
        (PIXELS.astype(np.int16), {}, -1),
        (PIXELS, {"PresentationLUTShape": "INVERSE"}, 65535),
    ],
)
def test_monochrome1_xrays_are_inverted_exactly_once(tmp_path, pixels, tags, lowest_becomes):
    path = write_dicom(tmp_path / "x.dcm", pixels, PhotometricInterpretation="MONOCHROME1", **tags)
    volume = read_volume(path)
    assert volume.modality_hint == "XRAY"
    assert np.array_equal(volume.array_kji[0].astype(int), lowest_becomes - PIXELS.astype(int))


def test_an_inverse_presentation_lut_is_applied_once(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", PIXELS, PresentationLUTShape="INVERSE")
    volume = read_volume(path)
    assert np.array_equal(volume.array_kji[0], 100 - PIXELS)
    assert volume.array_kji.dtype == np.uint16


def test_monochrome2_xrays_stay_as_they_are(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", PIXELS, PresentationLUTShape="IDENTITY")
    assert np.array_equal(read_volume(path).array_kji[0], PIXELS)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_monochrome1_does_not_change_the_hu_of_a_ct(tmp_path, kind):
    tags = {"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": -1000, "PhotometricInterpretation": "MONOCHROME1"}
    volume = read_volume(write_dicom(tmp_path / "x.dcm", PIXELS.astype(kind), **tags, **AXIAL))
    assert np.array_equal(volume.array_kji[0], 2 * PIXELS.astype(int) - 1000)


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (["L", "F"], [[1, 2, 3], [4, 5, 6]]),
        (["R", "F"], [[3, 2, 1], [6, 5, 4]]),
        (["L", "H"], [[4, 5, 6], [1, 2, 3]]),
        (["R", "H"], [[6, 5, 4], [3, 2, 1]]),
        (["F", "L"], [[1, 4], [2, 5], [3, 6]]),
        (["P", "F"], [[1, 2, 3], [4, 5, 6]]),
        (["A", "F"], [[3, 2, 1], [6, 5, 4]]),
        (["LPH", "FA"], [[1, 2, 3], [4, 5, 6]]),
    ],
)
def test_patient_orientation_decides_how_an_xray_is_displayed(tmp_path, orientation, shown):
    pixels = np.array([[1, 2, 3], [4, 5, 6]], np.uint16)
    path = write_dicom(tmp_path / "x.dcm", pixels, PatientOrientation=orientation, ImagerPixelSpacing=[0.2, 0.1])
    volume = read_volume(path)
    assert displayed(volume).tolist() == [shown]
    assert volume.spacing_mm == pytest.approx((1, 0.2, 0.1))
    assert volume.has_physical_spacing


@pytest.mark.parametrize("spacing", [[1, 1], [1, 2]])
def test_a_stated_spacing_is_physical_even_where_it_is_one(tmp_path, spacing):
    volume = read_volume(write_dicom(tmp_path / "x.dcm", PIXELS, ImagerPixelSpacing=spacing))
    assert volume.has_physical_spacing
    assert volume.spacing_mm[1:] == pytest.approx(spacing)


@pytest.mark.parametrize("tags", [{}, {"PatientOrientation": ["L"]}, {"PatientOrientation": ["L", "R"]}])
def test_an_xray_of_unknown_orientation_is_displayed_as_stored(tmp_path, tags):
    volume = read_volume(write_dicom(tmp_path / "x.dcm", PIXELS, **tags))
    assert np.array_equal(displayed(volume)[0], PIXELS)
    assert not volume.has_physical_spacing


def test_a_position_in_the_patient_outweighs_patient_orientation(tmp_path):
    tags = {"Modality": "CT", "PatientOrientation": ["R", "F"], "ImagePositionPatient": [1, 2, 3], **AXIAL}
    volume = read_volume(write_dicom(tmp_path / "x.dcm", PIXELS, **tags))
    assert np.allclose(volume.ijk_to_ras, [[-0.5, 0, 0, -1], [0, -0.75, 0, -2], [0, 0, 1, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize(("modality", "hint"), [("CT", "CT"), ("CR", "XRAY"), ("RG", "XRAY"), ("MR", None), ("", None)])
def test_the_modality_tag_becomes_a_hint(tmp_path, modality, hint):
    assert read_volume(write_dicom(tmp_path / "x.dcm", PIXELS, Modality=modality)).modality_hint == hint


def test_frames_become_slices(tmp_path):
    frames = np.stack([PIXELS, PIXELS + 1])
    assert np.array_equal(read_volume(write_dicom(tmp_path / "x.dcm", frames)).array_kji, frames)


def test_slices_are_sorted_by_position_and_need_no_extension(tmp_path):
    volume = read_volume(write_ct(tmp_path / "ct", [4, 0, 2]))
    assert displayed(volume)[:, 0, 0].tolist() == [1, 2, 0]
    assert volume.spacing_mm == pytest.approx((2, 0.75, 0.5))
    assert (volume.name, volume.modality_hint) == ("ct", "CT")


def test_a_file_in_a_folder_is_read_alone(tmp_path):
    folder = write_ct(tmp_path / "ct", [0, 2, 4])
    volume = read_volume(folder / "slice1")
    assert volume.size_kji == (1, 2, 3)
    assert volume.ijk_to_ras[2, 3] == 2
    assert volume.name == "slice1"


def test_other_files_beside_a_series_do_not_disturb(tmp_path):
    folder = write_ct(tmp_path / "ct", [0, 2])
    (folder / "readme.txt").write_text("hello")
    report = pydicom.dcmread(folder / "slice0")
    del report.PixelData, report.Rows, report.Columns
    report.Modality, report.SeriesInstanceUID = "SR", "1.7"
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(folder / "report")
    assert read_volume(folder).size_kji == (2, 2, 3)


@pytest.fixture
def two_series(tmp_path):
    folder = write_ct(tmp_path / "ct", [0, 2], SeriesInstanceUID="1.2.3.41", SeriesDescription="LUNG")
    return write_ct(folder, [0, 2, 4], name="b", SeriesInstanceUID="1.2.9.42")


def test_several_series_are_listed_to_choose_from(two_series):
    with pytest.raises(VolumeError) as caught:
        read_volume(two_series)
    message = str(caught.value)
    assert "1.2.3.41 'LUNG' (2 files)" in message
    assert "1.2.9.42 'no description' (3 files)" in message
    assert "--series UID" in message
    assert "\n" not in message


@pytest.mark.parametrize(("series", "slices"), [("1.2.3.41", 2), ("1.2.9", 3), ("42", 3), (".41", 2)])
def test_a_series_is_chosen_by_its_uid_or_an_end_of_it(two_series, series, slices):
    assert len(read_volume(two_series, series=series).array_kji) == slices


@pytest.mark.parametrize(("series", "message"), [("1.2", "2 that match"), ("7", "none that match"), ("", "none that")])
def test_a_series_that_is_not_there_or_not_unique_is_refused(two_series, series, message):
    with pytest.raises(VolumeError, match=message):
        read_volume(two_series, series=series)


@pytest.mark.parametrize(
    ("places", "step", "warning"),
    [
        ([0, 2, 4, 8], (0, 0, 1), "2 to 4 mm apart"),
        ([0, 2, 4, 6], (0, 0.25, 1), "gantry was tilted"),
        ([0, 2.0, 4.01, 6], (0, 0, 1), None),
    ],
)
def test_an_uneven_stack_is_read_with_a_warning(tmp_path, caplog, places, step, warning):
    with caplog.at_level(logging.WARNING):
        volume = read_volume(write_ct(tmp_path / "ct", places, step=step))
    assert len(volume.array_kji) == 4
    assert (warning in caplog.text) if warning else (caplog.text == "")


def test_slices_without_a_position_are_read_with_a_warning(tmp_path, caplog):
    folder = write_ct(tmp_path / "ct", [0, 2])
    for path in folder.iterdir():
        file = pydicom.dcmread(path)
        del file.ImagePositionPatient, file.ImageOrientationPatient
        file.save_as(path)
    volume = read_volume(folder)
    assert volume.array_kji[:, 0, 0].tolist() == [0, 1]
    assert not volume.has_physical_spacing
    assert "without a position" in caplog.text


def test_a_folder_of_one_slice_without_a_position_keeps_its_spacing(tmp_path):
    (tmp_path / "ct").mkdir()
    write_dicom(tmp_path / "ct" / "slice", PIXELS, Modality="CT", PixelSpacing=[0.75, 0.5])
    assert read_volume(tmp_path / "ct").has_physical_spacing


def test_the_sub_folder_that_holds_dicom_is_named(tmp_path):
    (tmp_path / "study").mkdir()
    write_ct(tmp_path / "study" / "series", [0, 2])
    with pytest.raises(VolumeError, match=r"no DICOM image; its sub-folder study.series holds DICOM: give that\.$"):
        read_volume(tmp_path)


def test_a_series_that_is_no_volume_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="at the same place"):
        read_volume(write_ct(tmp_path / "repeated", [0, 0, 2, 2]))
    with pytest.raises(VolumeError, match="X-rays in one series"):
        read_volume(write_ct(tmp_path / "xrays", [0, 2], Modality="DX"))
    mixed = write_ct(tmp_path / "sizes", [0, 2])
    write_dicom(mixed / "larger", np.zeros((4, 4), np.int16), Modality="CT", ImagePositionPatient=[0, 0, 4], **AXIAL)
    with pytest.raises(VolumeError, match="3 x 2, 4 x 4 pixels"):
        read_volume(mixed)
    turned = write_ct(tmp_path / "turned", [0, 2])
    write_ct(turned, [6], name="scout", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    with pytest.raises(VolumeError, match="different directions"):
        read_volume(turned)


def test_a_damaged_dicom_file_is_refused(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", np.ones((20, 20), np.uint16))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(VolumeError, match=r"x\.dcm") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    assert "is DICOM, but damaged, truncated" in str(caught.value)


def test_colour_dicom_is_refused(tmp_path):
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "BitsAllocated": 8}
    pixels = np.arange(0, 180, 10, dtype=np.uint8).reshape(2, 3, 3)
    path = write_dicom(tmp_path / "x.dcm", pixels, Rows=2, Columns=3, NumberOfFrames=1, **tags)
    with pytest.raises(VolumeError, match="colour"):
        read_volume(path)


def test_a_whole_chest_ct_is_read_in_hu(shared_data):
    volume = read_volume(shared_data / "ct_ricord_dicom")
    assert volume.size_kji == (99, 512, 512)
    assert volume.spacing_mm == pytest.approx((2.5, 0.703125, 0.703125))
    assert volume.array_kji.dtype == np.int16
    assert volume.array_kji.min() == -3024
    assert (volume.name, volume.modality_hint) == ("ct_ricord_dicom", "CT")
    assert volume.ijk_to_ras[:3, 3] == pytest.approx((172, 156.5, 10.75))
    assert axial_plane(volume).flips == (False, False, False)


def test_a_series_without_uid_and_one_without_modality_are_read(shared_data):
    abdomen = read_volume(shared_data / "ct_abdomen_totalseg" / "dicom")
    assert (len(abdomen.array_kji), abdomen.spacing_mm[0]) == (20, pytest.approx(2))
    pair = read_volume(shared_data / "ct_chest_slices_dicom")
    assert (len(pair.array_kji), pair.modality_hint) == (2, None)
    alone = read_volume(shared_data / "ct_chest_slices_dicom" / "1.dcm")
    assert np.array_equal(alone.array_kji[0], pair.array_kji[1])


def test_a_series_with_a_gap_is_refused_on_request(tmp_path):
    folder = write_ct(tmp_path / "ct", [0, 2, 4, 8])
    assert read_volume(folder).size_kji[0] == 4
    with pytest.raises(VolumeError, match=r"2 to 4 mm apart, some may be missing; copy the series again"):
        read_volume(folder, allow_gaps=False)
    assert read_volume(write_ct(tmp_path / "even", [0, 2, 4]), allow_gaps=False).size_kji[0] == 3


def test_a_series_in_several_folders_is_put_in_order_by_position(tmp_path):
    write_ct(tmp_path / "a", [6, 2])
    write_ct(tmp_path / "b", [4, 0], name="other")
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert displayed(read_dicom_series(paths, tmp_path))[:, 0, 0].tolist() == [1, 1, 0, 0]  # at 0, 2, 4, 6 mm
    write_ct(tmp_path / "c", [2])
    with pytest.raises(VolumeError, match="at the same place"):
        read_dicom_series([*paths, tmp_path / "c" / "slice0"], tmp_path)


def test_the_series_and_kind_of_a_file_are_told_without_reading_it(tmp_path):
    assert series_of(write_dicom(tmp_path / "x.dcm", PIXELS)) == ("1.2.3", "XRAY")
    assert series_of(write_dicom(tmp_path / "m.dcm", PIXELS, Modality="MR", SeriesInstanceUID="")) == ("", None)
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(VolumeError):
        series_of(tmp_path / "text.dcm")


def test_every_slice_has_its_own_pixel_type_and_rescale(tmp_path):
    write_ct(tmp_path, [0, 1, 2, 3])
    place = {"Modality": "CT", **AXIAL}
    write_dicom(tmp_path / "slice0", np.full((2, 3), 7, np.uint16), ImagePositionPatient=[0, 0, 0], **place)
    tags = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    write_dicom(tmp_path / "slice1", np.full((2, 3), 24, np.uint16), ImagePositionPatient=[0, 0, 1], **place, **tags)
    tags = {"RescaleSlope": "0.5", "RescaleIntercept": "-3.25"}
    write_dicom(tmp_path / "slice2", np.full((2, 3), 5, np.uint8), ImagePositionPatient=[0, 0, 2], **place, **tags)
    volume = read_volume(tmp_path)
    assert volume.array_kji[:, 0, 0].tolist() == [7, -1000, -0.75, 3]
    assert volume.spacing_mm == (1, 0.75, 0.5)


def test_hu_of_monochrome1_slices_beside_others_are_their_own(tmp_path):
    write_ct(tmp_path, [0, 1])
    tags = {"Modality": "CT", **AXIAL, "ImagePositionPatient": [0, 0, 0], "PhotometricInterpretation": "MONOCHROME1"}
    write_dicom(tmp_path / "slice0", np.full((2, 3), -700, np.int16), RescaleIntercept="-24", RescaleSlope="1", **tags)
    assert read_volume(tmp_path).array_kji[:, 0, 0].tolist() == [-724, 1]


def test_pixels_whose_size_changes_within_a_series_are_refused(tmp_path):
    write_ct(tmp_path, [0, 1])
    write_ct(tmp_path, [2, 3], name="other", PixelSpacing=[0.8, 0.5])
    with pytest.raises(VolumeError, match=r"mixes slices with pixels of 0\.5 to 0\.8 mm"):
        read_volume(tmp_path)


def test_slices_without_a_position_are_taken_by_instance_number(tmp_path, caplog):
    for number, name in ((3, "a"), (1, "b"), (2, "c"), (10, "d")):
        write_dicom(tmp_path / name, np.full((2, 3), number, np.int16), Modality="CT", InstanceNumber=number)
    volume = read_volume(tmp_path)
    assert volume.array_kji[:, 0, 0].tolist() == [1, 2, 3, 10]
    assert "in the order of the instance numbers" in caplog.text


def test_an_oblique_ct_of_another_image_class_lies_where_its_tags_say(tmp_path):
    directions = [0.8, 0.6, 0, 0, 0, -1]
    normal = np.cross(directions[:3], directions[3:])
    paths = []
    for number, name in ((2, "a"), (0, "b"), (1, "c")):
        position = (np.array([5.0, -7, 9]) + 2.5 * number * normal).round(6).tolist()
        tags = {"ImagePositionPatient": position, "ImageOrientationPatient": directions, "PixelSpacing": [0.75, 0.5]}
        path = write_dicom(tmp_path / name, np.full((2, 3), number, np.int16), Modality="CT", **tags)
        file = pydicom.dcmread(path)
        file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"  # CR
        file.save_as(path)
        paths.append(path)
    volume = read_volume(tmp_path)
    expected = np.diag([-1.0, -1, 1]) @ np.column_stack([[0.4, 0.3, 0], [0, 0, -0.75], 2.5 * normal, [5, -7, 9]])
    assert volume.array_kji[:, 0, 0].tolist() == [0, 1, 2]
    assert volume.ijk_to_ras[:3] == pytest.approx(expected)
    assert volume.has_physical_spacing


def test_an_enhanced_ct_whose_frames_have_no_order_is_refused(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", np.zeros((3, 2, 3), np.int16), Modality="CT")
    file = pydicom.dcmread(path)
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    file.save_as(path)
    with pytest.raises(VolumeError, match="enhanced CT whose frames are out of order, missing, or without a place"):
        read_volume(path)

"""X-rays that show one lung, or the chest from the side: the side is told by what surrounds the lung, or it is said."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from cohorts import DarkIsLung
from generated_chests import generated_xray

from SAMLungSegLib.laterality import IF_LATERAL, LATERAL, xray_with_one_side
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import segment_volume
from SAMLungSegLib.volume import Volume, axial_plane, read_volume

BY_THE_BODY = "Only one lung is in view, taken as the {} one by the body around it."
NAMES = {1: "right", 2: "left"}


def chest() -> tuple[np.ndarray, np.ndarray]:
    """Labels and grey of 80 x 100 pixels: lungs in columns 12 to 39 and 58 to 85, bright between, dark outside."""
    labels, grey = np.zeros((1, 80, 100), np.uint8), np.full((1, 80, 100), 20, np.uint8)
    grey[..., 8:92] = 120
    grey[..., 40:58] = 220
    labels[:, 10:70, 12:40], labels[:, 10:70, 58:86] = 1, 2
    grey[labels > 0] = 70
    return labels, grey


def test_two_lungs_stay_as_they_are():
    labels, grey = chest()
    assert xray_with_one_side(labels, grey) == (labels, "")
    assert not xray_with_one_side(np.zeros_like(labels), grey)[0].any()


@pytest.mark.parametrize(("columns", "side"), [(slice(48, None), 2), (slice(0, 50), 1)])
def test_half_a_chest_is_told_by_the_bright_mediastinum(columns, side):
    labels, grey = (one[..., columns] for one in chest())
    wrong = np.where(labels > 0, 3 - side, 0).astype(np.uint8)
    wrong[:, 60:] = np.where(wrong[:, 60:] > 0, side, 0)  # one lung in two colours
    result, note = xray_with_one_side(wrong, grey)
    assert np.array_equal(result, labels) and note == BY_THE_BODY.format(NAMES[side])


@pytest.mark.parametrize("side", [1, 2])
def test_one_lung_of_a_whole_chest_is_told_by_its_place(side):
    labels, grey = chest()
    labels[labels != side] = 0
    assert np.array_equal(xray_with_one_side(labels, grey)[0], labels)
    wrong = np.where(labels > 0, 3 - side, 0).astype(np.uint8)
    assert np.array_equal(xray_with_one_side(wrong, grey)[0], labels)


def test_edges_of_the_same_grey_leave_the_side_uncertain():
    labels, grey = (one[..., 50:].copy() for one in chest())
    grey[labels == 0] = 150
    result, note = xray_with_one_side(np.where(labels > 0, 1, 0).astype(np.uint8), grey)
    assert set(np.unique(result)) == {0, 1} and "the side is uncertain" in note
    assert note.endswith(IF_LATERAL)


def test_lungs_that_touch_keep_their_sides_and_are_said_to_be_uncertain():
    labels, grey = chest()
    labels[:, 20:60, 40:49], labels[:, 20:60, 49:58] = 1, 2
    result, note = xray_with_one_side(labels, grey)
    assert np.array_equal(result, labels) and "uncertain" in note and note.endswith(IF_LATERAL)


@pytest.mark.parametrize(("half", "side"), [(np.s_[:, :, 256:], 2), (np.s_[:, :, :256], 1)])
def test_half_a_generated_xray_has_one_side(model, half, side):
    image, _ = generated_xray()
    result = segment_volume(Volume(image[None][half].copy(), np.diag([-1.0, -1, 1, 1]), "half"), model)
    assert set(np.unique(result.labelmap_kji)) == {0, side}


def test_halves_of_real_xrays_have_the_right_side_or_it_is_said(shared_data, model):
    paths = [
        path
        for name in ("cxr_montgomery", "cxr_shenzhen", "cxr_v7_covid")
        for path in sorted((shared_data / name / "images").glob("*.png"))[3::80]
    ]
    for path in paths:
        volume = read_volume(path)
        lungs = segment_volume(volume, model)
        assert set(np.unique(lungs.labelmap_kji)) == {0, 1, 2} and lungs.notes == ()
        inner = [np.nonzero(lungs.labelmap_kji == side)[2] for side in (1, 2)]
        middle = int(np.percentile(inner[0], 99) + np.percentile(inner[1], 1)) // 2
        for half, side in ((np.s_[..., :middle], 1), (np.s_[..., middle:], 2)):
            result = segment_volume(Volume(volume.array_kji[half].copy(), volume.ijk_to_ras, "half"), model)
            assert set(np.unique(result.labelmap_kji)) == {0, side} or "uncertain" in result.notes[-1], path


# ---- from the side


def dicom(tmp_path, **tags) -> Volume:
    """A DICOM X-ray of a dark square, read."""
    path = tmp_path / "xray.dcm"
    image = sitk.GetImageFromArray(np.pad(np.full((20, 20), 30, np.uint8), 20, constant_values=200)[None])
    image.SetMetaData("0008|0060", "DX")
    sitk.WriteImage(image, str(path))
    dataset = pydicom.dcmread(path)
    for name in ("ImageOrientationPatient", "ImagePositionPatient"):
        if name in dataset:
            delattr(dataset, name)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return read_volume(path)


@pytest.mark.parametrize(
    "tags",
    [{"ViewPosition": "LL"}, {"ViewPosition": "RL"}, {"ViewPosition": "LATERAL"}, {"PatientOrientation": ["A", "F"]}],
)
def test_a_lateral_xray_is_told_by_its_tags_and_said(tmp_path, tags, caplog):
    result = segment_volume(dicom(tmp_path, **tags), DarkIsLung())
    assert LATERAL in result.notes
    assert any(LATERAL in message for message in caplog.messages)


@pytest.mark.parametrize(
    "tags", [{}, {"ViewPosition": "PA"}, {"ViewPosition": "LLD", "PatientOrientation": ["L", "F"]}]
)
def test_a_frontal_xray_is_not_lateral(tmp_path, tags):
    assert LATERAL not in segment_volume(dicom(tmp_path, **tags), DarkIsLung()).notes


# ---- from the side, by the image


def projection(hu_nhw: np.ndarray, axis: int) -> Volume:
    """What X-rays leave of a CT in display orientation, from the front (axis 1) or from the side (axis 2)."""
    depth = np.clip(hu_nhw / 1000 + 1, 0, None).sum(axis=axis)[::-1]
    low, high = np.percentile(depth[depth > depth.max() / 20], (2, 90))
    grey = np.clip((depth - low) / (high - low), 0, 1) * 255
    return Volume(grey.astype(np.uint8)[None], np.diag([-1.0, -1, 1, 1]), "xray", "XRAY", has_physical_spacing=False)


@pytest.mark.parametrize("name", ["phantom", "real"])
def test_an_xray_from_the_side_is_said_to_be_perhaps_one_and_one_from_the_front_is_not(request, model, name):
    if name == "phantom":
        hu_nhw = chest_ct(seed=0, size_kji=(96, 128, 128), spacing_mm=(3.5, 3.0, 3.0)).hu_kji
    else:
        volume = read_volume(request.getfixturevalue("shared_data") / "ct_cip_64" / "ct-64.nrrd")
        hu_nhw = axial_plane(volume).to_display(volume.array_kji)
    notes = {axis: segment_volume(projection(hu_nhw, axis), model).notes for axis in (1, 2)}
    assert notes[1] == ()
    assert notes[2][0].endswith(IF_LATERAL)


def test_no_real_frontal_xray_is_said_to_be_perhaps_lateral(shared_data, model):
    folders = ("cxr_montgomery", "cxr_shenzhen", "cxr_v7_covid", "cxr_kermany_paediatric")
    paths = [path for name in folders for path in sorted((shared_data / name / "images").iterdir())[7::50]]
    assert len(paths) > 10
    for path in paths:
        assert not any(IF_LATERAL in note for note in segment_volume(read_volume(path), model).notes), path

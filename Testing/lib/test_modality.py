"""Pictures that do not say what they are: CT slices are told from X-rays by what they show, and it is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from cohorts import DarkIsLung

from SAMLungSegLib.batch import run as run_batch
from SAMLungSegLib.batch.discovery import find_cases
from SAMLungSegLib.batch.settings import Settings
from SAMLungSegLib.modality import looks_like_ct_slice, recognise_modality
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.volume import Volume, read_volume

AS_DISPLAYED = np.diag([-1.0, -1, 1, 1])


@pytest.fixture(scope="module")
def phantom():
    return chest_ct(seed=0, size_kji=(16, 128, 128), spacing_mm=(20.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def slice_hu(phantom) -> np.ndarray:
    return np.maximum(phantom.hu_kji[8], -1024).astype(np.int32)


def picture(array_hw: np.ndarray) -> Volume:
    return Volume(np.ascontiguousarray(array_hw)[None], AS_DISPLAYED, "picture", has_physical_spacing=False)


def windowed(hu: np.ndarray) -> np.ndarray:
    return np.clip((hu + 1350) / 1500 * 255, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("stored", [lambda hu: (hu + 1024).astype(np.uint16), windowed], ids=["16 bit", "8 bit"])
def test_a_picture_of_a_ct_slice_is_taken_for_one_and_it_is_said(slice_hu, stored):
    volume = picture(stored(slice_hu))
    assert recognise_modality(volume).modality == "CT"
    result = segment_volume(volume, DarkIsLung())
    assert result.modality == "CT"
    assert result.notes[0].startswith("Taken as a CT slice, for it shows an oval body")


def test_a_flipped_ct_slice_is_recognised_as_displayed(slice_hu):
    flipped = Volume(windowed(slice_hu)[None, ::-1].copy(), np.diag([-1.0, 1, 1, 1]), "flipped")
    assert recognise_modality(flipped).modality == "CT"


def test_what_is_given_is_not_guessed(slice_hu):
    volume = picture(windowed(slice_hu))
    result = segment_volume(volume, DarkIsLung(), Options(modality="xray"))
    assert result.modality == "XRAY" and not any(note.startswith("Taken as") for note in result.notes)


@pytest.mark.parametrize("frame", [0, 5, 40])
@pytest.mark.parametrize("seed", range(3))
def test_an_xray_is_an_xray_with_and_without_a_frame(seed, frame):
    small = chest_ct(seed, size_kji=(16, 96, 96), spacing_mm=(20.0, 4.0, 4.0))
    image = np.pad(chest_xray(small)[0], frame)
    assert not looks_like_ct_slice(image)
    assert recognise_modality(picture(image)).modality == "XRAY" and recognise_modality(picture(image)).note == ""


@pytest.mark.parametrize("image", [np.zeros((40, 40)), np.full((30, 50), 7.0), np.eye(64), np.ones((1, 1))])
def test_a_picture_of_nothing_is_no_ct_slice(image):
    assert not looks_like_ct_slice(image)


def test_a_16_bit_picture_with_the_values_of_a_ct_may_be_one(slice_hu):
    centre = picture((slice_hu[40:100, 30:100] + 1024).astype(np.uint16))  # no air around it
    assert recognise_modality(centre).modality == "XRAY"
    assert "HU + 1024" in recognise_modality(centre).note and "give ct" in recognise_modality(centre).note
    said = Volume(centre.array_kji, AS_DISPLAYED, "dicom", "XRAY")
    assert recognise_modality(said).note == ""


def test_ct_slices_of_a_cohort_are_no_xrays(slice_hu, dark_is_lung, tmp_path):
    images = tmp_path / "in"
    images.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray((slice_hu + 1024).astype(np.uint16)), str(images / "slice.png"))
    (row,) = run_batch(images, tmp_path / "out").rows
    assert row["modality"] == "CT" and "assumed" in row["flags"]
    assert row["notes"].startswith("slice: Taken as a CT slice")


def test_a_list_says_the_modality_of_its_images(slice_hu, dark_is_lung, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(windowed(slice_hu)), str(tmp_path / "slice.png"))
    rows = [("ct", "ct"), ("xray", "DX"), ("guessed", "auto"), ("other", "MR")]
    text = "image,id,modality\n" + "".join(f"slice.png,{name},{code}\n" for name, code in rows)
    (tmp_path / "list.csv").write_text(text)
    result = run_batch(tmp_path / "list.csv", tmp_path / "out")
    got = {row["id"]: row.get("modality") for row in result.rows}
    assert (got["ct"], got["xray"], got["guessed"]) == ("CT", "XRAY", "CT")
    assert [row["id"] for row in result.failed] == ["other"]
    assert "Modality 'MR' is neither CT nor X-ray" in result.failed[0]["reason"]
    recipe = json.loads(next((tmp_path / "out" / "segmentations").glob("xray_lungs.json")).read_text())
    assert recipe["options"]["modality"] == "XRAY"


def test_another_modality_in_the_list_makes_the_result_anew(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    for code in ("ct", "xray"):
        (tmp_path / f"{code}.csv").write_text(f"image,id,modality\na.png,{code},{code}\n")
    ct, xray = find_cases([tmp_path / "ct.csv", tmp_path / "xray.csv"])
    assert (ct.modality, xray.modality) == ("CT", "XRAY")
    assert Settings().fingerprint(ct, {}) != Settings().fingerprint(xray, {})
    assert Settings(Options(modality="CT")).options_of(xray).modality == "XRAY"


def test_no_real_xray_is_taken_for_a_ct_slice(shared_data):
    paths = [
        path
        for name in ("cxr_montgomery", "cxr_shenzhen", "cxr_v7_covid", "cxr_kermany_paediatric")
        for path in sorted((shared_data / name / "images").glob("*.png"))[::8]
    ]
    assert len(paths) > 50
    for path in paths:
        image = read_volume(path).array_kji[0]
        assert not looks_like_ct_slice(image) and not looks_like_ct_slice(np.pad(image, 30)), path


def test_most_real_ct_slices_of_16_bit_are_recognised_and_the_others_doubted(shared_data):
    volumes = [read_volume(path) for path in sorted((shared_data / "ct_kmader" / "images").glob("*.png"))[::4]]
    taken = [recognise_modality(volume).modality == "CT" for volume in volumes]
    assert np.mean(taken) > 0.9
    assert np.mean([bool(recognise_modality(volume).note) for volume in volumes]) > 0.97

from __future__ import annotations

import logging
import time
import warnings

import numpy as np
import pytest

from SAMLungSegLib.errors import IntensityError
from SAMLungSegLib.intensity import (
    WINDOW_PRESETS,
    Window,
    grey_mapping,
    is_windowed,
    lung_window_hu,
    parse_window,
    to_grey,
)
from SAMLungSegLib.modality import recognise_modality
from SAMLungSegLib.volume import Volume, read_volume


def volume_of(array, hint=None):
    return Volume(np.asarray(array), np.eye(4), "scan", hint)


@pytest.mark.parametrize(
    ("text", "level", "width"),
    [("lung", -600, 1500), (" Bone ", 400, 1800), ("1500/-600", -600, 1500), (" 400 / 40.5 ", 40.5, 400)],
)
def test_a_window_is_a_preset_or_width_and_level(text, level, width):
    assert parse_window(text) == Window(level, width)


@pytest.mark.parametrize("text", ["", "brain fog", "1500", "1500/", "1/2/3", "-5/40", "0/40", "nan/40", "inf/0"])
def test_another_window_is_refused(text):
    with pytest.raises(IntensityError):
        parse_window(text)


def test_the_zero_shot_window_spans_the_range_of_the_paper():
    window = WINDOW_PRESETS["lung-zero-shot"]
    assert (window.low, window.high) == (-1400, 100)


@pytest.mark.parametrize(
    ("array", "hint", "expected"),
    [
        (np.array([[[0, 255]]], np.uint8), "CT", "CT"),
        (np.full((3, 2, 2), -900), "XRAY", "XRAY"),
        (np.array([[[0, 255]]], np.uint8), None, "XRAY"),
        (np.array([[[0, 4000]]], np.uint16), None, "XRAY"),
        (np.array([[[-1000, 300]]], np.int16), None, "CT"),
        (np.array([[[np.nan, -1000.0, 300]]]), None, "CT"),
        (np.array([[[-100, 300]]], np.int16), None, "XRAY"),
        (np.zeros((3, 2, 2), np.uint8), None, "CT"),
    ],
)
def test_the_modality_is_guessed_from_hint_size_and_values(array, hint, expected):
    assert recognise_modality(volume_of(array, hint)).modality == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 255], True), ([3.0, 90.5], True), ([-1, 200], False), ([0, 256], False), ([0, 1], False)],
)
def test_grey_levels_are_told_from_hu(values, expected):
    assert is_windowed(np.array([[values]])) is expected


def test_ct_is_spread_over_the_window_and_rounded():
    hu = np.array([[[-1400, -1350, -1347, -1000, -600, 149, 150, 3000]]], np.int16)
    # 255 * (hu + 1350) / 1500 = 0.51, 59.5, 127.5, 254.83; halves go to the even level
    assert to_grey(hu, "CT").tolist() == [[[0, 0, 1, 60, 128, 255, 255, 255]]]


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
def test_padding_is_black_even_in_a_wide_window(kind):
    hu = np.array([[[-3024, -2000, -1500, -1000, 0, 2000]]], kind)
    assert to_grey(hu, "CT", Window(0, 8000)).tolist() == [[[0, 0, 0, 96, 128, 191]]]


def test_nan_is_black_and_infinite_values_are_clipped():
    hu = np.array([[[np.nan, -np.inf, np.inf, -600.0, 0.0]]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_grey(hu, "CT").tolist() == [[[0, 0, 255, 128, 230]]]
        assert to_grey(hu, "XRAY").tolist() == [[[0, 0, 255, 0, 255]]]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_a_windowed_ct_is_not_windowed_again(kind):
    grey = np.array([[[0, 1, 100, 255]], [[7, 8, 9, 10]]], kind)
    assert np.array_equal(to_grey(grey, "CT"), grey)


def test_a_ct_without_negative_values_is_taken_as_hu_plus_1024(caplog):
    hu = np.array([[[-1024, -600, 0, 400]]], np.int16)
    with caplog.at_level(logging.INFO):
        shifted = to_grey((hu + 1024).astype(np.uint16), "CT")
    assert np.array_equal(shifted, to_grey(hu, "CT"))
    assert "1024" in caplog.text


@pytest.mark.parametrize("modality", ["CT", "XRAY"])
@pytest.mark.parametrize("value", [0, 7, 4000, -1000])
def test_a_constant_image_is_black(modality, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not to_grey(np.full((1, 4, 4), value, np.int16), modality).any()


def test_an_8_bit_xray_that_uses_its_range_stays_as_it_is():
    grey = np.tile(np.arange(60, 200, dtype=np.uint8), (20, 1))[None]
    assert np.array_equal(to_grey(grey, "XRAY"), grey)


def test_a_dull_8_bit_xray_is_stretched():
    grey = to_grey(np.tile(np.arange(100, 151, dtype=np.uint8), (20, 1))[None], "XRAY")
    assert (grey.min(), grey.max()) == (0, 255)


def test_an_xray_is_stretched_whatever_its_border_and_markers():
    row = np.arange(8000, 8401, dtype=np.uint16)
    framed = np.pad(np.tile(row, (300, 1)), 40, constant_values=0)
    framed[:5, :5] = 65535
    middle = to_grey(framed[None], "XRAY")[0, 150, 40:-40].astype(int)
    expected = 255 * np.clip((row - 8002.0) / 396, 0, 1)  # 0.5 and 99.5 percent of 8000..8400
    assert np.abs(middle - expected).max() <= 1
    assert to_grey(framed[None], "XRAY")[0, 0, 0] == 255


def test_an_xray_of_two_values_is_black_and_white():
    assert to_grey(np.array([[[5, 900]]], np.uint16), "XRAY").tolist() == [[[0, 255]]]


def test_a_slice_keeps_its_shape():
    assert to_grey(np.array([[-1000, 0]]), "CT").shape == (1, 2)


@pytest.mark.parametrize("modality", ["CT", "XRAY"])
@pytest.mark.parametrize(
    "stored",
    [
        lambda hu: hu,
        lambda hu: (hu + 1024).astype(np.uint16),
        lambda hu: ((hu + 1024) // 8).astype(np.uint8),
        lambda hu: np.where(hu > 900, np.nan, hu.astype(np.float32)),
    ],
)
def test_a_part_of_an_image_gets_the_grey_of_the_whole_image(modality, stored):
    volume = stored(np.random.default_rng(0).integers(-1024, 1000, (6, 40, 50), dtype=np.int16))
    volume[2] = np.maximum(volume[2], volume[2, 0, 0])  # no slice alone has the range of the volume
    whole, mapping = to_grey(volume, modality), grey_mapping(volume, modality)
    assert np.array_equal(mapping.apply(volume[2]), whole[2])
    assert np.array_equal(mapping.apply(volume[:, ::-1, 7]), whole[:, ::-1, 7])
    assert np.array_equal(mapping.apply(volume[1:3]), whole[1:3])
    assert mapping.lowest == np.nanmin(volume)


def test_hounsfield_units_come_back_from_the_lung_window():
    hu = np.arange(-1350, 151, 7, dtype=np.int16)[None]
    assert np.abs(lung_window_hu(to_grey(hu, "CT")) - hu).max() <= 4  # half a grey level is 2.9 HU, cut to whole ones


def test_an_unknown_modality_or_an_image_without_values_is_refused():
    with pytest.raises(IntensityError, match="'MR'"):
        to_grey(np.zeros((1, 2, 2)), "MR")
    with pytest.raises(IntensityError, match="finite"):
        to_grey(np.full((1, 2, 2), np.nan), "CT")


def test_real_8_bit_xrays_pass_unchanged(shared_data):
    paths = [
        path
        for name in ("cxr_montgomery", "cxr_shenzhen")
        for path in sorted((shared_data / name / "images").glob("*.png"))[::40]
    ]
    volumes = [read_volume(path) for path in paths]
    assert len(volumes) >= 10
    assert all(recognise_modality(volume).modality == "XRAY" for volume in volumes)
    assert all(np.array_equal(to_grey(volume, "XRAY"), volume.array_kji) for volume in volumes)


def test_a_ct_stored_as_hu_plus_1024_shows_dark_lungs(shared_data):
    path = sorted((shared_data / "ct_kmader" / "images").glob("*.png"))[0]
    volume = read_volume(path)
    mask = read_volume(shared_data / "ct_kmader" / "masks" / path.name).array_kji > 0
    grey = to_grey(volume, "CT")
    assert 30 < np.median(grey[mask]) < 130 < np.median(grey[:, 200:300, 200:300])


def test_a_whole_dicom_ct_becomes_grey_in_a_few_seconds(shared_data):
    start = time.perf_counter()
    volume = read_volume(shared_data / "ct_ricord_dicom")
    grey = to_grey(volume, recognise_modality(volume).modality)
    assert time.perf_counter() - start < 5
    assert not grey[volume.array_kji <= -1500].any()
    assert not is_windowed(volume)

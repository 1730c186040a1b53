"""The generated chest: sides, contents and repeatability."""

from __future__ import annotations

import numpy as np
import pytest
from generated_chests import generated_ct
from scipy import ndimage

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.phantom import Phantom, chest_ct, chest_xray

SMALL = {"size_kji": (64, 96, 96), "spacing_mm": (5.0, 4.0, 4.0)}


@pytest.fixture(scope="module", params=[0, 1, 7, 1003])
def phantom(request: pytest.FixtureRequest) -> Phantom:
    return chest_ct(request.param, **SMALL)


@pytest.fixture(scope="module")
def standard() -> Phantom:
    return generated_ct()


def centroid_ras(phantom: Phantom, side: int) -> np.ndarray:
    k, j, i = np.array(np.nonzero(phantom.labelmap_kji == side)).mean(axis=1)
    return (phantom.ijk_to_ras @ (i, j, k, 1.0))[:3]


def test_the_same_seed_gives_the_same_phantom() -> None:
    first, second = chest_ct(3, **SMALL), chest_ct(3, **SMALL)
    np.testing.assert_array_equal(first.hu_kji, second.hu_kji)
    np.testing.assert_array_equal(first.labelmap_kji, second.labelmap_kji)


def test_another_seed_gives_another_chest() -> None:
    first, second = (chest_ct(seed, **SMALL).labelmap_kji > 0 for seed in (3, 4))
    assert 2 * (first & second).sum() / (first.sum() + second.sum()) < 0.95


def test_the_phantom_has_the_size_types_and_geometry_asked_for(standard: Phantom) -> None:
    assert standard.hu_kji.shape == standard.labelmap_kji.shape == (64, 192, 192)
    assert standard.hu_kji.dtype == np.int16
    assert standard.labelmap_kji.dtype == np.uint8
    np.testing.assert_array_equal(np.diag(standard.ijk_to_ras), [-2.0, -2.0, 5.0, 1.0])
    np.testing.assert_allclose(standard.ijk_to_ras @ (95.5, 95.5, 31.5, 1), [0, 0, 0, 1], atol=1e-9)


def test_the_right_lung_lies_on_the_patients_right(phantom: Phantom) -> None:
    assert centroid_ras(phantom, 1)[0] > 30
    assert centroid_ras(phantom, 2)[0] < -30


def test_each_lung_is_of_human_size(phantom: Phantom) -> None:
    litres = np.bincount(phantom.labelmap_kji.ravel(), minlength=3)[1:] * 5 * 4 * 4 / 1e6
    assert (litres > 0.5).all()
    assert (litres < 3.5).all()


def test_the_scan_reaches_beyond_apices_and_bases(phantom: Phantom) -> None:
    with_lung = phantom.labelmap_kji.any(axis=(1, 2))
    assert not with_lung[-2:].any()
    assert not with_lung[:2].any()


def test_the_spine_is_behind_the_sternum(standard: Phantom) -> None:
    bone = standard.hu_kji > 300
    bone[:, :, :86], bone[:, :, 106:] = False, False
    rows = np.nonzero(bone.any(axis=(0, 2)))[0]
    behind = bone[:, rows.mean().astype(int) :].sum()
    assert behind > 0.6 * bone.sum()


def test_aerated_lung_has_the_hounsfield_units_of_lung(standard: Phantom) -> None:
    inside = ndimage.binary_erosion(standard.labelmap_kji > 0, iterations=2)
    assert -880 < np.median(standard.hu_kji[inside]) < -770


def test_consolidated_lung_stays_lung(standard: Phantom) -> None:
    dense = ndimage.binary_opening((standard.hu_kji > -150) & (standard.labelmap_kji > 0), iterations=2)
    assert dense.sum() > 200


def test_no_label_lies_outside_the_body_or_in_the_abdomens_gas(standard: Phantom) -> None:
    air = standard.hu_kji < -940
    assert (standard.labelmap_kji[air] > 0).mean() < 0.002
    outside = np.zeros_like(air)
    for plane, flooded in zip(air, outside, strict=True):
        parts, _ = ndimage.label(plane)
        flooded[...] = np.isin(parts, np.setdiff1d(parts[[0, -1]], [0]))
    assert outside.mean() > 0.3
    assert not standard.labelmap_kji[outside].any()


def test_there_is_air_outside_the_lungs_to_be_told_from_them(standard: Phantom) -> None:
    inner_air = (standard.hu_kji < -900) & (standard.hu_kji > -1100) & (standard.labelmap_kji == 0)
    middle = np.zeros_like(inner_air)
    middle[:, 60:120, 60:150] = True
    trachea_top, bowel = (inner_air & middle)[56:], (inner_air & middle)[:8]
    assert trachea_top.sum() > 50
    assert bowel.sum() > 50


def test_the_standard_phantom_has_padding_around_the_reconstruction_circle(standard: Phantom) -> None:
    assert (standard.hu_kji[:, 0, 0] == -3024).all()
    assert standard.hu_kji[:, 96, 96].min() > -1100


def test_a_finely_sampled_phantom_shows_the_same_chest() -> None:
    coarse = chest_ct(5, size_kji=(8, 96, 96), spacing_mm=(20.0, 4.0, 4.0), variation=0.0)
    fine = chest_ct(5, size_kji=(8, 384, 384), spacing_mm=(20.0, 1.0, 1.0), variation=0.0)
    shares = [(p.labelmap_kji > 0).mean() for p in (coarse, fine)]
    assert fine.hu_kji.shape == (8, 384, 384)
    assert shares[1] == pytest.approx(shares[0], rel=0.1)


def test_a_size_without_voxels_is_refused() -> None:
    with pytest.raises(GeometryError, match="expected positive numbers"):
        chest_ct(0, size_kji=(0, 96, 96))


def test_the_xray_shows_the_patients_right_at_the_images_left(phantom: Phantom) -> None:
    image, labelmap = chest_xray(phantom, (200, 256))
    assert image.shape == labelmap.shape == (200, 256)
    assert image.dtype == labelmap.dtype == np.uint8
    columns = [np.nonzero(labelmap == side)[1].mean() for side in (1, 2)]
    assert columns[0] < columns[1]


def test_the_same_phantom_gives_the_same_xray(standard: Phantom) -> None:
    for first, second in zip(chest_xray(standard, (64, 64)), chest_xray(standard, (64, 64)), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_xrays_lungs_narrow_toward_the_top(phantom: Phantom) -> None:
    _, labelmap = chest_xray(phantom, (256, 256))
    rows = np.flatnonzero((labelmap == 1).any(axis=1))
    widths = (labelmap == 1).sum(axis=1)[rows]
    assert widths[: len(rows) // 10].mean() < 0.7 * widths[len(rows) // 2 :].max()


def test_the_xrays_lungs_are_darker_than_the_mediastinum(phantom: Phantom) -> None:
    image, labelmap = chest_xray(phantom, (256, 256))
    rows = np.flatnonzero((labelmap == 1).any(axis=1) & (labelmap == 2).any(axis=1))
    between = [image[r, np.flatnonzero(labelmap[r] == 1)[-1] : np.flatnonzero(labelmap[r] == 2)[0]] for r in rows]
    assert image[labelmap > 0].mean() + 40 < np.concatenate(between).mean()


def test_the_xray_leaves_the_heart_out_of_the_left_lung(standard: Phantom) -> None:
    _, labelmap = chest_xray(standard, (256, 256))
    areas = [(labelmap == side).sum() for side in (1, 2)]
    assert areas[1] < areas[0]


def test_an_xray_of_no_pixels_is_refused(standard: Phantom) -> None:
    with pytest.raises(GeometryError, match="rows, columns"):
        chest_xray(standard, (0, 256))

"""The numbers of lungs beyond their size: densities, mass, height and thirds, by hand and as SimpleITK has them."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import isnan, nan, sqrt

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.densitometry import Densities, densities_of
from SAMLungSegLib.hounsfield import CTScale
from SAMLungSegLib.volume import Volume, read_volume
from SAMLungSegLib.volume.itk import image_of
from SAMLungSegLib.volumetry import LungSizes, lung_sizes

TILT = np.array(  # J and K turned by 36.87 degrees about R: spacings 2, 5 and 10 mm
    [[2, 0, 0, 9], [0, 5 * 0.8, -10 * 0.6, -4], [0, 5 * 0.6, 10 * 0.8, 30], [0, 0, 0, 1.0]]
)
AXIAL = np.diag([-0.5, -0.5, 4, 1])  # a voxel of 1 mm3


def tower() -> tuple[np.ndarray, Volume]:
    """Right lung of six slices, one voxel each, left lung of the lower four; HU by slice, the same in both."""
    labels = np.zeros((7, 2, 3), np.uint8)
    labels[:6, 0, 0], labels[:4, 1, 2] = 1, 2
    hu = np.array([-1000, -960, -950, -910, -600, -200, 40])
    return labels, Volume(np.broadcast_to(hu[:, None, None], labels.shape).astype(np.int16), AXIAL, modality_hint="CT")


def assert_same(found: LungSizes, expected: LungSizes) -> None:
    for one, wanted in zip(found.records(), expected.records(), strict=True):
        assert one == pytest.approx(wanted, nan_ok=True)


def test_densities_are_those_counted_by_hand():
    values = np.array([-1000, -951, -950, -911, -910, -601, -600, -250, -249, 21], np.int16)
    found = densities_of(values, CTScale())
    assert found.mean_hu == pytest.approx(-640.1)
    squares = sum((value + 640.1) ** 2 for value in values.tolist())
    assert found.sd_hu == pytest.approx(sqrt(squares / 9))
    assert found.perc15_hu == -951  # 15 % of ten are one and a half: the second lowest
    assert (found.laa950_percent, found.laa910_percent, found.haa_percent) == (20, 40, 20)
    assert found.g_per_ml == pytest.approx(0.3599)


@pytest.mark.parametrize(("count", "rank"), [(1, 1), (6, 1), (7, 2), (20, 3), (21, 4), (100, 15)])
def test_perc15_is_the_lowest_value_that_15_percent_do_not_exceed(count, rank):
    values = np.random.default_rng(0).permutation(np.arange(1, count + 1))
    assert densities_of(values, CTScale()).perc15_hu == rank


def test_values_that_are_scaled_hu_give_the_densities_of_their_hu():
    hu = np.array([-980, -930, -700, -400, 0], np.float64)
    scale = CTScale(slope=0.25, offset=300)
    found = densities_of(hu * 0.25 + 300, scale)
    assert asdict(found) == pytest.approx(asdict(densities_of(hu, CTScale())))
    assert found.laa950_percent == 20


def test_voxels_without_a_value_have_no_density_and_one_voxel_no_deviation():
    assert all(map(isnan, asdict(densities_of(np.array([np.nan, np.inf], np.float32), CTScale())).values()))
    one = densities_of(np.array([np.nan, -800], np.float32), CTScale())
    assert one == Densities(-800, one.sd_hu, -800, 0, 0, 0) and isnan(one.sd_hu)


def test_mass_is_volume_by_density():
    labels, image = tower()
    right, left, both = lung_sizes(labels, image).rows
    assert right.mass_g == pytest.approx((0 + 40 + 50 + 90 + 400 + 800) / 1e6)  # voxels of 0.001 ml
    assert left.mass_g == pytest.approx((0 + 40 + 50 + 90) / 1e6)
    assert both.mass_g == pytest.approx(right.mass_g + left.mass_g)


def test_height_is_that_of_the_voxels_as_solids_and_both_lungs_reach_from_the_lowest_to_the_highest():
    labels, image = tower()
    assert [row.height_mm for row in lung_sizes(labels, image).rows] == [24, 16, 24]


def test_each_lung_is_cut_into_thirds_of_its_own_height():
    labels, image = tower()
    thirds = {(row.key, row.part): row for row in lung_sizes(labels, image).thirds}
    counts = {key: [thirds[key, f"{part}_third"].voxels for part in ("upper", "middle", "lower")] for key, _ in thirds}
    assert counts == {"right_lung": [2, 2, 2], "left_lung": [1, 2, 1], "both_lungs": [3, 4, 3]}
    assert thirds["right_lung", "upper_third"].mean_hu == (-600 - 200) / 2
    assert thirds["left_lung", "upper_third"].mean_hu == -910
    assert thirds["both_lungs", "lower_third"].densities.laa950_percent == pytest.approx(100)  # -1000, -960, and -1000
    assert thirds["both_lungs", "middle_third"].densities.laa950_percent == pytest.approx(25)  # -950, -910, -960, -950
    assert all(isnan(row.height_mm) for row in thirds.values())


def test_an_array_that_runs_from_head_to_feet_has_its_upper_third_at_the_head():
    labels, image = tower()
    downwards = AXIAL.copy()
    downwards[2] = 0, 0, -4, 24
    turned = Volume(image.array_kji[::-1].copy(), downwards, modality_hint="CT")
    assert_same(lung_sizes(labels[::-1], turned), lung_sizes(labels, image))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_every_order_and_direction_of_storage_gives_the_same_numbers(order):
    random = np.random.default_rng(4)
    labels = random.integers(0, 3, (5, 4, 6), np.uint8)
    image = Volume(random.integers(-1000, 100, labels.shape).astype(np.int16), TILT, modality_hint="CT")
    flipped = np.ix_(*(range(size)[:: 1 - 2 * (axis == 1)] for axis, size in enumerate(labels.shape)))
    to_flipped = np.eye(4)
    to_flipped[1, 1], to_flipped[1, 3] = -1, labels.shape[1] - 1
    columns = [2 - order[2 - axis] for axis in range(3)]  # of the matrix, which counts axes backwards
    matrix = (TILT @ to_flipped)[:, [*columns, 3]]
    stored = Volume(image.array_kji[flipped].transpose(order).copy(), matrix, modality_hint="CT")
    assert_same(lung_sizes(labels[flipped].transpose(order), stored), lung_sizes(labels, image))


def test_on_a_tilted_grid_height_and_thirds_follow_the_patient_not_the_slices():
    labels = np.zeros((1, 3, 1), np.uint8)
    labels[0, :, 0] = 1
    labels = np.concatenate([labels, labels * 0])
    sizes = lung_sizes(labels, Volume(np.full(labels.shape, -800, np.int16), TILT, modality_hint="CT"))
    assert sizes.rows[0].height_mm == pytest.approx(2 * 3 + 3 + 8)  # three rows 3 mm apart in S, voxels 3 + 8 mm high
    # From -5.5 to 11.5 mm, cut at 0.17 and 5.83; the rows' centres lie at 0, 3 and 6.
    assert [row.voxels for row in sizes.thirds[:3]] == [1, 1, 1]


def test_a_radiograph_has_height_thirds_and_ratio_but_no_density():
    labels = np.zeros((1, 6, 4), np.uint8)
    labels[0, :, 0], labels[0, :2, 3] = 1, 2
    frontal = np.array([[-0.5, 0, 0, 0], [0, 0, 1, 0], [0, -2, 0, 0], [0, 0, 0, 1.0]])
    sizes = lung_sizes(labels, Volume(labels * 9, frontal), "XRAY")
    assert [row.height_mm for row in sizes.rows] == [12, 4, 12]
    assert [row.size for row in sizes.rows] == pytest.approx([0.06, 0.02, 0.08])
    assert sizes.right_to_left == pytest.approx(3)
    assert [row.voxels for row in sizes.thirds[:3]] == [2, 2, 2]
    assert all(isnan(row.mass_g) and isnan(row.mean_hu) for row in (*sizes.rows, *sizes.thirds))


def test_a_picture_without_a_place_in_the_patient_has_its_head_on_top_and_pixels_for_an_area():
    labels = np.zeros((1, 6, 4), np.uint8)
    labels[0, :, 0], labels[0, :2, 3], labels[0, 0, 1] = 1, 2, 1
    as_read = np.diag([-1.0, -1, 1, 1])
    sizes = lung_sizes(labels, Volume(labels * 9, as_read, has_physical_spacing=False), "XRAY")
    assert [row.voxels for row in sizes.thirds[:3]] == [3, 2, 2]
    assert (sizes.unit, sizes.right_to_left) == ("px", 3.5)
    assert all(isnan(row.height_mm) for row in sizes.rows)


def test_a_single_axial_slice_has_no_height_and_no_thirds():
    labels, image = tower()
    one = replace(image, array_kji=image.array_kji[1:2])
    sizes = lung_sizes(labels[1:2], one)
    assert sizes.thirds == () and isnan(sizes.rows[0].height_mm) and isnan(sizes.rows[0].mass_g)
    assert sizes.rows[0].densities.laa950_percent == 100


def test_a_ct_that_holds_grey_levels_has_no_density_and_says_so():
    labels, image = tower()
    grey = Volume(np.clip((image.array_kji + 1350) // 6, 0, 255).astype(np.uint8), AXIAL, modality_hint="CT")
    sizes = lung_sizes(labels, grey)
    assert isnan(sizes.rows[2].mean_hu) and isnan(sizes.rows[2].mass_g) and sizes.rows[2].size > 0
    assert "grey levels" in sizes.notes[0]


def test_records_have_units_in_their_names_and_the_same_columns_in_every_row():
    labels, image = tower()
    records = lung_sizes(labels, image).records()
    assert len(records) == 12 and len({tuple(row) for row in records}) == 1
    assert [*records[0]] == [
        *("structure", "part", "voxels", "volume_ml", "area_cm2", "height_mm", "mean_hu", "sd_hu", "perc15_hu"),
        *("laa950_percent", "laa910_percent", "haa_percent", "mass_g", "right_to_left"),
    ]
    assert [row["right_to_left"] for row in records] == pytest.approx([nan, nan, 1.5, *[nan] * 9], nan_ok=True)


def labelled_by_air(volume: Volume) -> np.ndarray:
    """What holds air, in two halves: any mask serves to compare two ways of counting."""
    labels = ((volume.array_kji < -500) & (volume.array_kji > -1020)).astype(np.uint8)
    labels[..., labels.shape[2] // 2 :] *= 2
    return labels


@pytest.mark.parametrize("name", ["ct_cip_64/ct-64.nrrd", "ct_ricord_dicom"])
def test_a_real_ct_has_the_numbers_of_simpleitk(shared_data, name):
    volume = read_volume(shared_data / name)
    labels = labelled_by_air(volume)
    image, mask = image_of(volume.array_kji, volume.ijk_to_ras), image_of(labels, volume.ijk_to_ras)
    by_intensity = sitk.LabelIntensityStatisticsImageFilter()
    by_intensity.Execute(mask, image)
    counting = sitk.LabelStatisticsImageFilter()
    counting.Execute(image, mask)
    for label, row in zip((1, 2), lung_sizes(labels, volume, "CT").rows, strict=False):
        assert row.voxels == by_intensity.GetNumberOfPixels(label) == counting.GetCount(label)
        assert row.size == pytest.approx(by_intensity.GetPhysicalSize(label) / 1000)
        assert row.mean_hu == pytest.approx(by_intensity.GetMean(label))
        assert row.densities.sd_hu == pytest.approx(by_intensity.GetStandardDeviation(label))
        assert row.densities.sd_hu == pytest.approx(counting.GetSigma(label))
        slices = by_intensity.GetBoundingBox(label)[-1]
        assert row.height_mm == pytest.approx(slices * volume.spacing_mm[0])
        below = sitk.LabelShapeStatisticsImageFilter()
        below.Execute(sitk.Cast(sitk.Mask(mask, sitk.Cast(image < -950, sitk.sitkUInt8)), sitk.sitkUInt8))
        share = below.GetNumberOfPixels(label) / row.voxels if below.HasLabel(label) else 0
        assert row.densities.laa950_percent == pytest.approx(100 * share)

"""Pictures of results: true proportions, the patient's right at the left, outlines on the pixels they are about.

Both lungs are blocks in the patient: the right one from 20 to 100 mm towards R, 100 mm deep (A -60 to 40) and 200 mm
high (S -120 to 80); the left one from 20 to 90 mm towards L, as deep, and 160 mm high (S -120 to 40).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from SAMLungSegLib import write_overlay
from SAMLungSegLib.errors import OutputError
from SAMLungSegLib.overlays import write_thumbnail
from SAMLungSegLib.overlays.painting import colour_of, paint_outlines
from SAMLungSegLib.overlays.sampling import CoarseLungs
from SAMLungSegLib.overlays.views import View, own_slices, reformats
from SAMLungSegLib.pipeline import Options, Segmentation, VolumePoint
from SAMLungSegLib.volume import Volume, axial_plane

RIGHT, LEFT = colour_of(1), colour_of(2)
SIZE_MM = np.array([260.0, 180.0, 260.0])  # of the image, along R, A and S, centred at 0


def segmentation_of(
    labels_kji: np.ndarray, ijk_to_ras: np.ndarray, *, grey: int = 90, modality: str = "CT", **options: object
) -> Segmentation:
    volume = Volume(np.zeros(labels_kji.shape, np.int16), ijk_to_ras, "chest", modality)
    plane = axial_plane(volume)
    shown = np.full(plane.size_nhw, grey, np.uint8)
    scores = np.ones(plane.size_nhw[0], np.float32)
    return Segmentation(volume, modality, plane, labels_kji, shown, scores, options=Options(modality, **options))


def chest(steps: np.ndarray, **options: object) -> Segmentation:
    """The blocks on a grid; columns of `steps` (3, 3) lead to the next voxel along I, J and K, in RAS in mm."""
    reach = np.abs(steps / np.linalg.norm(steps, axis=0)).T @ SIZE_MM  # more than there is, where it is oblique
    size_ijk = np.ceil(reach / np.linalg.norm(steps, axis=0)).astype(int)
    matrix = np.eye(4)
    matrix[:3, :3] = steps
    matrix[:3, 3] = -steps @ ((size_ijk - 1) / 2)
    kji = np.indices(size_ijk[::-1]).reshape(3, -1)
    ras = (matrix[:3, :3] @ kji[::-1] + matrix[:3, 3:]).reshape(3, *size_ijk[::-1])
    r, a, s = ras
    labels = np.zeros(size_ijk[::-1], np.uint8)
    deep = (a > -60) & (a < 40) & (s > -120)
    labels[deep & (r > 20) & (r < 100) & (s < 80)] = 1
    labels[deep & (r < -20) & (r > -90) & (s < 40)] = 2
    return segmentation_of(labels, matrix, **options)


LPS = np.diag([-2.0, -2.0, 5.0])
GRIDS = {
    "axial": LPS,
    "flipped": -LPS,
    "mirrored": np.diag([2.0, -2.0, 5.0]),
    "coronal storage": np.array([[-2.0, 0, 0], [0, 0, 5.0], [0, -2.0, 0]]),
    "oblique": Rotation.from_euler("zx", [20, 12], degrees=True).as_matrix() @ np.diag([-2.0, 2.0, -4.0]),
}


def extent_mm(view: View, label: int) -> tuple[float, float]:
    """Height and width of a label in a view."""
    rows, columns = np.nonzero(view.labels_hw == label)
    return (np.ptp(rows) + 1) * view.spacing_hw_mm[0], (np.ptp(columns) + 1) * view.spacing_hw_mm[1]


@pytest.mark.parametrize("steps", GRIDS.values(), ids=GRIDS)
def test_coronal_and_sagittal_pictures_have_true_proportions_and_the_right_lung_at_the_left(steps):
    one = chest(steps)
    coronal, right, left = reformats(one, CoarseLungs.of(one), 1.0)
    assert [view.title for view in (coronal, right, left)] == [
        "coronal",
        "sagittal, right lung",
        "sagittal, left lung",
    ]
    assert coronal.marks == ("R", "L", "H", "F") and right.marks == ("A", "P", "H", "F")
    assert extent_mm(coronal, 1) == pytest.approx((200, 80), abs=5)
    assert extent_mm(coronal, 2) == pytest.approx((160, 70), abs=5)
    assert extent_mm(right, 1) == pytest.approx((200, 100), abs=5) and not (right.labels_hw == 2).any()
    assert extent_mm(left, 2) == pytest.approx((160, 100), abs=5) and not (left.labels_hw == 1).any()
    columns = {label: np.nonzero(coronal.labels_hw == label)[1] for label in (1, 2)}
    assert columns[1].max() < coronal.labels_hw.shape[1] / 2 < columns[2].min()
    tops = {label: np.nonzero(coronal.labels_hw == label)[0].min() for label in (1, 2)}
    assert tops[2] - tops[1] == pytest.approx(40, abs=5)


def test_reformats_of_a_volume_along_the_patient_are_its_own_voxels():
    """Pixels of 2 mm are columns of the volume; of the slices each shows 2.5 rows."""
    one = chest(LPS)
    coronal = next(reformats(one, CoarseLungs.of(one), 2.0))
    row = one.plane.size_nhw[1] // 2
    assert np.array_equal(coronal.labels_hw[::5, :], one.labelmap_nhw[::-2, row, :][: len(coronal.labels_hw[::5])])


def drawn(one: Segmentation, path: Path) -> np.ndarray:
    write_overlay(one, path)
    return np.asarray(Image.open(path))


def columns_of(picture: np.ndarray, colour: tuple[int, int, int], tolerance: int = 0) -> np.ndarray:
    return np.nonzero((np.abs(picture.astype(int) - colour) <= tolerance).all(axis=2))[1]


@pytest.mark.parametrize("steps", [GRIDS["axial"], GRIDS["oblique"]], ids=["axial", "oblique"])
def test_the_sheet_of_a_volume_has_the_planes_the_surface_and_the_axial_slices(tmp_path, steps):
    picture = drawn(chest(steps, points=(VolumePoint((60, 40, 7)),)), tmp_path / "a.png")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    cell = (picture.shape[1] + 6) // 4  # of four in a row, 6 pixels apart
    first_row = picture[40 : picture.shape[0] // 4]
    coronal, _, _, surface = (first_row[:, column * cell : (column + 1) * cell - 6] for column in range(4))
    assert columns_of(coronal, RIGHT).max() < columns_of(coronal, LEFT).min()
    blue = np.nonzero((surface[..., 2] > 100) & (surface[..., 0] < 100))[1]
    orange = np.nonzero((surface[..., 0] > 100) & (surface[..., 2] < 60))[1]
    assert blue.size > 1000 and orange.size > 1000 and blue.mean() + 20 < orange.mean()
    assert columns_of(picture, (0, 158, 115)).size  # the point


def test_pixels_of_an_xray_are_pixels_of_the_picture_but_for_outlines_and_letters(tmp_path):
    stored = np.random.default_rng(0).integers(60, 200, (800, 700), np.uint8)
    labels = np.zeros((1, 800, 700), np.uint8)
    labels[0, 200:600, 100:300], labels[0, 200:600, 400:600] = 1, 2
    one = replace(segmentation_of(labels, np.diag([-1.0, -1, 1, 1]), modality="XRAY"), grey_nhw=stored[None])
    picture = drawn(one, tmp_path / "a.png")
    assert picture.shape == (36 + 800 + 40, 720, 3)
    shown = picture[36:836, 10:710]
    assert (shown[205:595, 105:295] == stored[205:595, 105:295, None]).all()
    inside = np.zeros((800, 700), bool)
    inside[201:599, 101:299] = True
    assert np.array_equal((shown == RIGHT).all(axis=2), (labels[0] == 1) & ~inside)


@pytest.mark.parametrize(
    ("size_hw", "expected_hw"), [((3000, 2500), (2048, 1707)), ((100, 60), (700, 420)), ((1, 900), (1, 900))]
)
def test_large_xrays_are_made_smaller_and_small_ones_larger_by_a_whole_number(tmp_path, size_hw, expected_hw):
    """2048 of 3000 pixels; seven times 100 are the most below 768."""
    labels = np.zeros((1, *size_hw), np.uint8)
    labels[:, :, : size_hw[1] // 2] = 1
    picture = drawn(segmentation_of(labels, np.diag([-1.0, -1, 1, 1]), modality="XRAY"), tmp_path / "a.png")
    height, width = expected_hw
    assert picture.shape[:2] == (36 + height + 40, max(720, width))


def test_an_outline_is_the_outermost_pixels_of_each_lung_also_where_both_touch():
    labels = np.array([[0, 1, 1, 1, 2, 2, 2, 0]] * 5, np.uint8)
    picture = np.zeros((5, 8, 3), np.uint8)
    paint_outlines(picture, labels)
    assert (picture[2] == [[0, 0, 0], RIGHT, [0, 0, 0], RIGHT, LEFT, [0, 0, 0], LEFT, [0, 0, 0]]).all()


@pytest.mark.parametrize("kept", [(1,), (2,), ()])
def test_pictures_of_one_lung_and_of_none_are_drawn(tmp_path, kept):
    one = chest(LPS)
    labels = np.where(np.isin(one.labelmap_kji, kept), one.labelmap_kji, 0).astype(np.uint8)
    picture = drawn(replace(one, labelmap_kji=labels), tmp_path / "a.png")
    assert (columns_of(picture[40:300], RIGHT).size > 0) == (1 in kept)
    assert (columns_of(picture[40:300], LEFT).size > 0) == (2 in kept)


def test_two_thick_slices_and_a_speck_are_a_volume_too(tmp_path):
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 3, 3] = 1
    assert drawn(segmentation_of(labels, np.diag([-5.0, -5, 50, 1])), tmp_path / "a.png").any()


def marks_of(matrix: np.ndarray, modality: str, *, is_lateral: bool = False) -> tuple[str, ...]:
    one = segmentation_of(np.zeros((1, 4, 4), np.uint8), matrix, modality=modality)
    one = replace(one, volume=replace(one.volume, is_lateral=is_lateral))
    return tuple(own_slices(one)[0].marks)


def test_letters_say_what_is_known_of_the_sides():
    as_displayed = np.diag([-1.0, -1, 1, 1])
    assert marks_of(as_displayed, "CT") == ("R", "L", "A", "P")
    assert marks_of(np.diag([1.0, 1, -1, 1]), "CT") == ("R", "L", "A", "P")
    assert marks_of(as_displayed, "XRAY") == ("R", "L", "H", "F")
    assert marks_of(as_displayed, "XRAY", is_lateral=True) == ("", "", "H", "F")
    sagittal = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    assert marks_of(sagittal, "XRAY", is_lateral=True) == ("A", "P", "H", "F")
    coronal = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    assert marks_of(coronal, "CT") == ("R", "L", "H", "F")


def test_a_picture_that_cannot_be_written_is_an_error_of_the_library(tmp_path):
    with pytest.raises(OutputError):
        write_overlay(chest(LPS), tmp_path / "absent" / "a.png")


def blocks() -> Segmentation:
    """In display order: 6 slices of 25 mm, 30 x 25 and 30 x 24 pixels of 5 mm."""
    labels = np.zeros((10, 60, 80), np.uint8)
    labels[2:8, 15:45, 10:35], labels[2:8, 15:45, 45:69] = 1, 2
    return segmentation_of(labels, np.diag([-5.0, -5, 25, 1]))


def thumbnail(one: Segmentation, path: Path) -> np.ndarray:
    write_thumbnail(one, path)
    return np.asarray(Image.open(path))


def test_the_thumbnail_of_a_volume_is_three_slices_and_a_coronal_one(tmp_path):
    picture = thumbnail(blocks(), tmp_path / "a.png")
    assert picture.shape == (256, 4 * 256, 3)
    for tile in np.split(picture, 4, axis=1):
        assert columns_of(tile, RIGHT).max() < columns_of(tile, LEFT).min()
    coronal = np.argwhere((picture[:, 768:] == RIGHT).all(axis=2))
    height_mm, width_mm = 6 * 25, 25 * 5
    assert np.ptp(coronal[:, 0]) / np.ptp(coronal[:, 1]) == pytest.approx(height_mm / width_mm, rel=0.03)


@pytest.mark.parametrize("size_hw", [(2000, 1500), (7, 3), (1, 900)])
def test_thumbnails_of_any_size_are_drawn(tmp_path, size_hw):
    labels = np.zeros((1, *size_hw), np.uint8)
    labels[:, :, : size_hw[1] // 2] = 1
    picture = thumbnail(segmentation_of(labels, np.diag([-1.0, -1, 1, 1]), modality="XRAY"), tmp_path / "a.png")
    assert picture.shape == (256, 256, 3) and columns_of(picture, RIGHT).size

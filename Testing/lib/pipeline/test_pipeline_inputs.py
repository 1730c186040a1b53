"""Images in memory, as SimpleITK and NumPy have them: the same lungs at the same places as from a file."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from cohorts import DarkIsLung
from generated_chests import generated_xray

from SAMLungSegLib import as_volume, segment
from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.volume import Volume, read_volume

SPACING_IJK_MM = (4.0, 5.0, 26.0)
ORIGIN_LPS_MM = (-170.0, -130.0, 40.0)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def tilted(degrees: float = 20) -> np.ndarray:
    """Direction (3, 3) in LPS: turned about the patient's left-right axis, then about the long axis."""
    a = np.deg2rad(degrees)
    about_left = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_head = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return about_head @ about_left


DIRECTIONS = {
    "axial": np.eye(3),
    "flipped": np.diag([-1.0, 1.0, -1.0]),
    "left-handed": np.diag([-1.0, 1.0, 1.0]),
    "oblique": tilted(),
}


@pytest.fixture(scope="module")
def hu_kji() -> np.ndarray:
    return chest_ct(seed=0, size_kji=(8, 96, 96), spacing_mm=(39.0, 4.0, 4.0)).hu_kji


def image_of(hu_kji: np.ndarray, direction: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(hu_kji)
    image.SetSpacing(SPACING_IJK_MM)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(ORIGIN_LPS_MM)
    return image


def matrix_of(direction: np.ndarray) -> np.ndarray:
    """By hand: columns are the directions times the spacings, LPS turned to RAS."""
    matrix = np.eye(4)
    matrix[:3, :3] = LPS_TO_RAS @ direction @ np.diag(SPACING_IJK_MM)
    matrix[:3, 3] = LPS_TO_RAS @ ORIGIN_LPS_MM
    return matrix


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_simpleitk_image_an_array_and_a_file_are_one_volume(hu_kji, tmp_path, name):
    image, matrix = image_of(hu_kji, DIRECTIONS[name]), matrix_of(DIRECTIONS[name])
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    volumes = [as_volume(image), as_volume(hu_kji, matrix), as_volume(tmp_path / "scan.nrrd")]
    for volume in volumes:
        assert np.array_equal(volume.array_kji, hu_kji)
        assert np.allclose(volume.ijk_to_ras, matrix, atol=1e-9)
        assert volume.spacing_mm == pytest.approx(SPACING_IJK_MM[::-1])
        assert volume.has_physical_spacing


@pytest.mark.parametrize("name", DIRECTIONS)
def test_the_result_comes_back_on_the_same_simpleitk_grid(hu_kji, name):
    image = image_of(hu_kji, DIRECTIONS[name])
    result = segment(image, model=DarkIsLung())
    back = result.to_sitk()
    assert back.GetPixelID() == sitk.sitkUInt8
    assert back.GetSize() == image.GetSize()
    for grid in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(back, grid)(), getattr(image, grid)(), atol=1e-12)
    assert np.array_equal(sitk.GetArrayFromImage(back), result.labelmap_kji)
    sitk.Mask(image, back)  # which refuses another grid


@pytest.mark.parametrize("name", ["axial", "flipped", "oblique"])
def test_right_and_left_follow_the_images_direction_not_its_storage(hu_kji, model, name):
    image = image_of(hu_kji, DIRECTIONS["axial"])
    stored = {"axial": image, "flipped": image[::-1, ::-1, ::-1], "oblique": image_of(hu_kji, tilted(15))}[name]
    array_kji, matrix = sitk.GetArrayFromImage(stored), as_volume(stored).ijk_to_ras
    for result in (segment(stored, model=model), segment(array_kji, ijk_to_ras=matrix, model=model)):
        places = {label: centre_lps(result.to_sitk() == label) for label in (1, 2)}
        assert places[1][0] < places[2][0] - 50  # L grows to the patient's left


def centre_lps(mask: sitk.Image) -> tuple[float, float, float]:
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(mask)
    return statistics.GetCentroid(1)


def test_an_array_with_its_place_is_segmented_as_the_volume_is(hu_kji):
    matrix = matrix_of(tilted())
    result = segment(hu_kji, ijk_to_ras=matrix, model=DarkIsLung())
    expected = segment(Volume(hu_kji, matrix), model=DarkIsLung())
    assert result.labelmap_kji.any()
    assert np.array_equal(result.labelmap_kji, expected.labelmap_kji)
    assert np.allclose(segment(hu_kji, ijk_to_ras=matrix.tolist(), model=DarkIsLung()).volume.ijk_to_ras, matrix)


def test_a_picture_is_one_slice_in_either_form(tmp_path):
    picture, _ = generated_xray()
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(tmp_path / "frontal.png"))
    from_file, from_image = read_volume(tmp_path / "frontal.png"), as_volume(sitk.GetImageFromArray(picture))
    from_array = as_volume(picture, np.diag([-1, -1, 1, 1]))
    for volume in (from_image, from_array):
        assert np.array_equal(volume.array_kji, from_file.array_kji)
        assert np.array_equal(volume.ijk_to_ras, from_file.ijk_to_ras)
    assert not from_image.has_physical_spacing


def test_an_image_read_from_dicom_keeps_what_its_tags_say(tmp_path):
    picture, _ = generated_xray()
    image = sitk.GetImageFromArray(picture.astype(np.uint16)[None])
    for tag, value in {"0008|0060": "DX", "0028|0004": "MONOCHROME2", "2050|0020": "INVERSE"}.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "x.dcm"))
    writer.Execute(image)
    from_file, from_image = read_volume(tmp_path / "x.dcm"), as_volume(sitk.ReadImage(str(tmp_path / "x.dcm")))
    assert from_image.modality_hint == from_file.modality_hint == "XRAY"
    assert np.array_equal(from_image.array_kji, from_file.array_kji)
    assert from_image.has_physical_spacing == from_file.has_physical_spacing


def test_an_array_without_its_place_is_refused_and_told_how_to_give_it(hu_kji):
    for array in (hu_kji, hu_kji[0]):
        with pytest.raises(VolumeError, match=r"Add ijk_to_ras, the matrix \(4, 4\)"):
            segment(array)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((64, 64, 3), "looks like colour"),
        ((64, 64, 4), "looks like colour"),
        ((9, 9, 9, 2), "has 4 axes"),
        ((9,), "1 ax"),
    ],
)
def test_arrays_that_are_no_grey_volume_are_refused(shape, words):
    with pytest.raises(VolumeError, match=words):
        segment(np.zeros(shape), ijk_to_ras=np.eye(4))


def test_simpleitk_images_that_are_no_grey_volume_are_refused():
    colour = np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)
    with pytest.raises(VolumeError, match="image is a colour image"):
        segment(sitk.GetImageFromArray(colour, isVector=True))
    with pytest.raises(VolumeError, match="image has 4 dimensions"):
        segment(sitk.JoinSeries([sitk.Image(4, 4, 4, sitk.sitkInt16)] * 2))
    with pytest.raises(VolumeError, match="complex64"):
        segment(sitk.Image([4, 4, 4], sitk.sitkComplexFloat32))


@pytest.mark.parametrize("matrix", ["left", np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan), [[1, 2], [3]]])
def test_a_place_that_is_none_is_refused(hu_kji, matrix):
    with pytest.raises(GeometryError):
        segment(hu_kji, ijk_to_ras=matrix)


def test_a_place_is_given_for_arrays_only(hu_kji):
    with pytest.raises(GeometryError, match="leave it out"):
        segment(image_of(hu_kji, np.eye(3)), ijk_to_ras=np.eye(4))


@pytest.mark.parametrize("image", [None, 3, [[1, 2], [3, 4]], {"image": 1}])
def test_what_is_no_image_is_named_by_its_type(image):
    with pytest.raises(VolumeError, match=type(image).__name__):
        segment(image)

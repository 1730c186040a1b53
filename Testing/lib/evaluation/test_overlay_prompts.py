"""Prompts in overlay pictures: where they were given, as they were given, on slices that are shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from SAMLungSegLib.cli import main
from SAMLungSegLib.evaluation import draw_overlay
from SAMLungSegLib.evaluation.figures import BOX_COLOUR, NEGATIVE_POINT, POSITIVE_POINT
from SAMLungSegLib.overlays.views import shown_slices
from SAMLungSegLib.pipeline import Options, VolumeBox, VolumePoint
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt
from SAMLungSegLib.volume import Volume, axial_plane

SIZE_KJI = (30, 20, 24)


def labelmap(first: int = 5, last: int = 25) -> np.ndarray:
    labels = np.zeros((30, 4, 4), np.uint8)
    labels[first : last + 1] = 1
    return labels


@pytest.mark.parametrize("flip", [False, True])
def test_prompts_are_placed_as_the_slices_are_displayed(flip):
    """Stored to the left, posterior and superior, voxel (i, j, k) is pixel (i, j) of slice k; reversed, 23 - i etc."""
    matrix = np.diag([-2.0, -2.0, 5.0, 1.0])
    if flip:
        matrix[:3, :3] *= -1
    volume = Volume(np.zeros(SIZE_KJI, np.int16), matrix)
    options = Options(points=(VolumePoint((3, 7, 11), positive=False),), boxes=(VolumeBox((2, 4, 10), (8, 9, 12)),))
    placed = options.prompts.by_slice(axial_plane(volume), volume)
    box = BoxPrompt((15, 10, 21, 15)) if flip else BoxPrompt((2, 4, 8, 9))
    point = PointPrompt((20, 12), False) if flip else PointPrompt((3, 7), False)
    first, middle, last = (17, 18, 19) if flip else (10, 11, 12)
    assert {index: [*prompts] for index, prompts in placed.items()} == {
        first: [box],
        middle: [point, box],
        last: [box],
    }


def test_points_are_plus_and_minus_and_a_box_is_a_frame():
    axes = Figure().add_subplot()
    prompts = [PointPrompt((3, 5)), PointPrompt((8, 2), positive=False), BoxPrompt((1, 2, 9, 6))]
    draw_overlay(axes, np.zeros((10, 12), np.uint8), np.zeros((10, 12), np.uint8), prompts=prompts)
    plus, minus = axes.lines
    assert (plus.get_marker(), *plus.get_xydata()[0]) == (POSITIVE_POINT["marker"], 3, 5)
    assert (minus.get_marker(), *minus.get_xydata()[0]) == (NEGATIVE_POINT["marker"], 8, 2)
    (frame,) = axes.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((1, 2), 8, 4)
    assert axes.get_xlim() == (-0.5, 11.5) and axes.get_ylim() == (9.5, -0.5)


def test_slices_with_points_are_shown_in_place_of_their_neighbours():
    spread = shown_slices(labelmap(), 8, {})
    assert spread == [7, 9, 12, 14, 16, 18, 21, 23]
    with_points = shown_slices(labelmap(), 8, {1: [PointPrompt((1, 1))], 15: [PointPrompt((1, 1))]})
    assert with_points == [1, 9, 12, 15, 16, 18, 21, 23]


def test_more_slices_with_points_than_fit_make_a_larger_sheet():
    prompts = {number: [PointPrompt((1, 1))] for number in range(3, 14)}
    assert shown_slices(labelmap(), 8, prompts) == [*range(3, 14)]
    many = {number: [PointPrompt((1, 1))] for number in range(1000)}
    assert len(shown_slices(np.ones((1000, 2, 2), np.uint8), 8, many)) == 60


def test_one_slice_of_each_box_is_shown():
    shared, apart = BoxPrompt((0, 0, 2, 2)), BoxPrompt((0, 0, 2, 2))
    prompts = {7: [shared], 8: [shared], 10: [apart], 11: [apart], 6: [PointPrompt((1, 1))]}
    assert shown_slices(labelmap(), 8, prompts) == [6, 7, 11, 14, 16, 18, 21, 23]


def shows(picture: Path, colour: str) -> bool:
    pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(picture)))[..., :3]
    return bool((pixels == np.round(np.array(to_rgb(colour)) * 255)).all(axis=-1).any())


@pytest.mark.parametrize(
    ("prompts", "colours"),
    [
        ([], ()),
        (["--point", "20,30,+"], (POSITIVE_POINT["color"],)),
        (["--point", "20,30,+", "--point", "32,9,-"], (POSITIVE_POINT["color"], NEGATIVE_POINT["color"])),
        (["--box", "8,8,30,50"], (BOX_COLOUR,)),
    ],
)
def test_the_overlay_of_the_command_shows_what_was_prompted(tmp_path, prompts, colours):
    grey = np.random.default_rng(0).integers(0, 200, (64, 64), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(grey), str(tmp_path / "x.png"))
    assert main(["segment", str(tmp_path / "x.png"), "-o", str(tmp_path), "--overlay", *prompts]) == 0
    for colour in (POSITIVE_POINT["color"], NEGATIVE_POINT["color"], BOX_COLOUR):
        assert shows(tmp_path / "x_lungs_overlay.png", colour) == (colour in colours)


def test_the_pictures_of_a_batch_show_the_prompts_of_its_list(tmp_path, dark_is_lung):
    hu_kji = np.full((12, 40, 40), 40, np.int16)
    hu_kji[2:10, 10:30, 5:18] = hu_kji[2:10, 10:30, 22:35] = -850
    image = sitk.GetImageFromArray(hu_kji)
    image.SetSpacing((8, 8, 20))
    sitk.WriteImage(image, str(tmp_path / "ct.nrrd"))
    prompts = {"points": [{"ijk": [10, 20, 0], "positive": True}, {"ijk": [20, 35, 3], "positive": False}]}
    cases = [{"image": "ct.nrrd", "id": "with", "prompts": prompts}, {"image": "ct.nrrd", "id": "without"}]
    (tmp_path / "list.json").write_text(json.dumps(cases))
    assert main(["batch", str(tmp_path / "list.json"), "-o", str(tmp_path / "out")]) == 0
    for colour in (POSITIVE_POINT["color"], NEGATIVE_POINT["color"]):
        assert shows(tmp_path / "out" / "overlays" / "with.png", colour)
        assert not shows(tmp_path / "out" / "overlays" / "without.png", colour)

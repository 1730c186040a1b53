"""Pictures are taken as viewers show them: turned by their orientation tag, and grey where alpha is beside it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume import axial_plane, read_volume, write_labelmap

SHOWN = np.kron(np.array([[10, 60, 110], [160, 210, 250]], np.uint8), np.ones((8, 8), np.uint8))
STORED = {  # by orientation tag, written by hand: what is stored so that a viewer shows `SHOWN`
    1: SHOWN,
    2: SHOWN[:, ::-1],
    3: SHOWN[::-1, ::-1],
    4: SHOWN[::-1],
    5: SHOWN.T,
    6: SHOWN.T[::-1],  # shown turned clockwise
    7: SHOWN.T[::-1, ::-1],
    8: SHOWN.T[:, ::-1],
}


def picture(path, pixels, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("extension", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_displayed_as_viewers_show_it_and_keeps_its_stored_grid(tmp_path, extension, orientation):
    options = {"quality": 100} if extension == "jpg" else {}
    path = picture(tmp_path / f"x.{extension}", STORED[orientation], orientation, **options)
    volume = read_volume(path)
    plane = axial_plane(volume)
    assert np.abs(plane.to_display(volume.array_kji)[0].astype(int) - SHOWN).max() <= 2
    assert np.abs(volume.array_kji[0].astype(int) - STORED[orientation]).max() <= 2
    assert not volume.has_physical_spacing


def test_a_turned_picture_is_said(tmp_path, caplog):
    read_volume(picture(tmp_path / "x.png", SHOWN, 3))
    assert "turned or mirrored by its orientation tag" in caplog.text


def test_a_turned_16_bit_tiff_keeps_its_values(tmp_path):
    deep = SHOWN.astype(np.uint16) * 250
    path = picture(tmp_path / "x.tif", np.rot90(deep, 2), 3)
    volume = read_volume(path)
    assert np.array_equal(axial_plane(volume).to_display(volume.array_kji)[0], deep)


def test_a_labelmap_of_a_turned_picture_has_the_pixels_of_the_file(tmp_path):
    volume = read_volume(picture(tmp_path / "x.png", STORED[6], 6))
    labels = (volume.array_kji > 200).astype(np.uint8) * 2
    write_labelmap(labels, volume, tmp_path / "labels.png")
    assert np.array_equal(read_volume(tmp_path / "labels.png").array_kji, labels)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_grey_with_alpha_is_grey(tmp_path, extension):
    grey = Image.fromarray(SHOWN)
    Image.merge("LA", (grey, Image.new("L", grey.size, 255))).save(tmp_path / f"x.{extension}")
    volume = read_volume(tmp_path / f"x.{extension}")
    assert np.array_equal(volume.array_kji[0], SHOWN)
    assert axial_plane(volume).flips == (False, False, False)


def test_a_tag_that_no_viewer_knows_changes_nothing(tmp_path):
    volume = read_volume(picture(tmp_path / "x.png", SHOWN, 9))
    assert np.array_equal(axial_plane(volume).to_display(volume.array_kji)[0], SHOWN)


def test_turned_pages_are_refused_as_pages(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    pages = [Image.fromarray(SHOWN)] * 2
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:], exif=exif)
    with pytest.raises(VolumeError, match="2 pages without geometry"):
        read_volume(tmp_path / "x.tif")

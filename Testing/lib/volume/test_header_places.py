"""Directions, spacings and origins in headers: what places no image is refused before ITK computes on it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from cohorts import chest_hu, write_image

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.volume import read_volume
from SAMLungSegLib.volume.suspicion import check_before_opening

META = (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"Offset = 0 0 0", b"ElementSpacing = 6 6 40")
NRRD = (b"space directions: (6,0,0) (0,6,0) (0,0,40)", b"space origin: (0,0,0)")


def with_line(path, old, new):
    content = write_image(path, chest_hu()).read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize("word", [b"1e308", b"-1e13", b"inf", b"1,5", b"A" * 50])
@pytest.mark.parametrize("line", META)
def test_a_metaimage_that_is_placed_by_impossible_numbers_is_refused(tmp_path, line, word):
    path = with_line(tmp_path / "v.mha", line, line.rpartition(b" ")[0] + b" " + word)
    name, shown = line.split(b" ")[0].decode(), word[:40].decode()
    with pytest.raises(GeometryError, match=rf"v\.mha has '{shown}' in '{name}' of its header; expected numbers"):
        check_before_opening(path)


@pytest.mark.parametrize("word", [b"1e308", b"-1e13", b"inf", b"x"])
@pytest.mark.parametrize("line", NRRD)
def test_a_nrrd_that_is_placed_by_impossible_numbers_is_refused(tmp_path, line, word):
    path = with_line(tmp_path / "v.nrrd", line, line.replace(b"(0,", b"(" + word + b",", 1))
    name = line.split(b":")[0].decode()
    with pytest.raises(GeometryError, match=rf"v\.nrrd has '{word.decode()}' in '{name}' of its header"):
        check_before_opening(path)


def test_a_direction_on_which_itk_computes_for_ever_is_refused_at_once(tmp_path):
    path = with_line(tmp_path / "v.mha", META[0], b"TransformMatrix = 1 0 0 0 1 0 0 1e308 1")
    start = time.process_time()
    with pytest.raises(GeometryError, match="'1e308'"):
        check_before_opening(path)
    assert time.process_time() - start < 1
    with pytest.raises(GeometryError, match=r"'1e308' in 'TransformMatrix' of its header"):
        read_volume(path)


def test_numbers_in_any_form_place_a_metaimage(tmp_path):
    path = with_line(tmp_path / "v.mha", META[1], b"Offset =  -1.5e+2 +20.\t.5 ")
    assert np.allclose(read_volume(path).ijk_to_ras[:3, 3], (150, -20, 0.5))


def test_axes_of_a_nrrd_without_a_place_are_no_fault(tmp_path):
    voxels = b"\1" * 16
    (tmp_path / "v.nrrd").write_bytes(
        b"NRRD0005\ntype: uchar\ndimension: 4\nspace: left-posterior-superior\nsizes: 1 4 2 2\n"
        b"space directions: none (1, 0, 0) (0,1,0)\t(0,0,1)\nspace origin: (0,0,0)\nthicknesses: NaN nan nan 2\n"
        b"encoding: raw\n\n" + voxels
    )
    check_before_opening(tmp_path / "v.nrrd")

"""What is logged of images that are read: a line for one, one line for many."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from cohorts import chest_hu, write_image
from tuning_sets import chest, write_png

from SAMLungSegLib.modality import recognise_modality
from SAMLungSegLib.training.data.cases import paired_cases
from SAMLungSegLib.training.data.examples import Windowing, read_examples
from SAMLungSegLib.training.data.packs import pack, read_pack
from SAMLungSegLib.volume import read_volume
from SAMLungSegLib.volume.telling import many_images


def write_pairs(folder, count):
    """Pictures and their masks."""
    for number in range(count):
        grey, mask = chest(number)
        write_png(folder / "images" / f"{number}.png", grey)
        write_png(folder / "masks" / f"{number}.png", mask.astype(np.uint8) * 255)
    return folder


def lines(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@pytest.fixture
def all_levels(caplog):
    caplog.set_level(logging.DEBUG, "SAMLungSegLib")
    return caplog


def test_one_image_is_told_of_with_its_size_and_modality(tmp_path, all_levels):
    path = write_image(tmp_path / "ct.nrrd", chest_hu(), (6, 5, 40))
    recognise_modality(read_volume(path))
    assert lines(all_levels, logging.INFO) == [
        f"{path}: read, 64 x 48 x 4 voxels (I, J, K) of 6 x 5 x 40 mm.",
        "ct: taken as a CT, for it has several slices.",
    ]


def test_many_images_are_told_of_in_one_line_and_each_for_those_who_want_it(tmp_path, all_levels):
    ct = write_image(tmp_path / "ct.nrrd", chest_hu())
    picture = tmp_path / "picture.png"
    write_png(picture, chest(0)[0])
    with many_images("looking"):
        for path in (ct, picture, picture):
            recognise_modality(read_volume(path))
    assert lines(all_levels, logging.INFO) == [
        "looking: 3 files of images and masks read; the size in mm of 2 is not known."
    ]
    assert len(lines(all_levels, logging.DEBUG)) == 6
    read_volume(ct)
    assert len(lines(all_levels, logging.INFO)) == 2


def test_where_all_have_a_size_nothing_is_said_of_it_and_where_none_was_read_nothing_at_all(tmp_path, all_levels):
    with many_images("looking"):
        pass
    with many_images("looking"):
        read_volume(write_image(tmp_path / "ct.nrrd", chest_hu()))
    assert lines(all_levels, logging.INFO) == ["looking: 1 file of images and masks read."]


def test_packing_and_reading_examples_say_how_many_they_read(tmp_path, all_levels):
    pack(write_pairs(tmp_path / "cxr_montgomery", 3).parent, tmp_path / "pack.npz", phantoms=0)
    assert len(read_pack(tmp_path / "pack.npz")["names"]) == 3
    assert lines(all_levels, logging.INFO) == [
        "packing images: 6 files of images and masks read; the size in mm of 6 is not known.",
        f"packed 3 examples into {tmp_path / 'pack.npz'}",
    ]
    all_levels.clear()
    folder = tmp_path / "cxr_montgomery"
    assert len(read_examples(paired_cases(folder / "images", folder / "masks"), Windowing())) == 3
    assert lines(all_levels, logging.INFO) == [
        "reading: 6 files of images and masks read; the size in mm of 6 is not known."
    ]

"""The slices of the CURVAS challenge as the studies read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tuning_sets import write_png

from SAMLungSegLib.adaptation.slices import ReadingOptions
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.studies.curvas import SPLIT, curvas_cases, is_curvas
from SAMLungSegLib.studies.objects import about, study_objects


def organs() -> np.ndarray:
    """Liver (3) at the left, kidneys (2) at both sides, pancreas (1) in the middle."""
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 2:14] = 3
    mask[30:44, 18:26] = 2
    mask[30:44, 44:52] = 2
    mask[10:20, 26:40] = 1
    return mask


def write_curvas(folder: Path) -> Path:
    """A slice or two of each patient, each by one of three readers."""
    for number, patient in enumerate(sorted(SPLIT)):
        for index in range(2):
            name = f"{patient}_{100 * number + index}.png"
            grey = np.random.default_rng([number, index]).integers(0, 256, (48, 64)).astype(np.uint8)
            write_png(folder / "images" / name, grey)
            write_png(folder / f"masks_rater{number % 3 + 1}" / name, organs())
    return folder


def test_slices_are_read_with_their_patient_part_and_organs(tmp_path):
    folder = write_curvas(tmp_path)
    assert is_curvas(folder) and not is_curvas(folder / "images")
    cases = curvas_cases(folder)
    assert len(cases) == 14 and {case.patient: case.split for case in cases} == SPLIT
    data = study_objects(folder, ReadingOptions(smallest_px=20))
    assert data.organs == ("pancreas", "right_kidney", "left_kidney", "liver")
    patients = [{one.patient for one in part} for part in (data.training, data.validation, data.held_out)]
    assert [len(some) for some in patients] == [3, 1, 3] and not patients[0] & patients[2]
    assert "held out 6 slices of 3 patients or images with 24 objects" in about(data)


def test_the_kidney_at_the_left_of_the_picture_is_the_right_one(tmp_path):
    one = study_objects(write_curvas(tmp_path), ReadingOptions(smallest_px=20)).training[0]
    expected = np.zeros((48, 64), np.uint8)
    mask = organs()
    expected[mask == 1], expected[mask == 3] = 1, 4
    expected[:, :32][mask[:, :32] == 2], expected[:, 32:][mask[:, 32:] == 2] = 2, 3
    assert np.array_equal(one.labels_hw, expected)


def test_an_image_without_a_mask_with_two_or_of_another_patient_is_refused(tmp_path):
    folder = write_curvas(tmp_path)
    write_png(folder / "images" / "10001_7.png", np.zeros((48, 64), np.uint8))
    with pytest.raises(VolumeError, match=r"10001_7.png has 0 masks .* each slice has one mask"):
        curvas_cases(folder)
    for reader in (1, 2):
        write_png(folder / f"masks_rater{reader}" / "10001_7.png", organs())
    with pytest.raises(VolumeError, match=r"10001_7.png has 2 masks"):
        curvas_cases(folder)


def test_the_real_slices_are_found(shared_data):
    cases = curvas_cases(shared_data / "multi_organ_curvas")
    assert len(cases) == 57 and {case.patient for case in cases} == set(SPLIT)

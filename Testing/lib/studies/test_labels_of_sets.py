"""Masks of sets that are known to mean something else by a label than right and left."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from SAMLungSegLib.training.data.cases import study_cases


@pytest.mark.parametrize(("name", "left_of_device"), [("cxr_v7_covid", 0), ("cxr_other", 2)])
def test_a_device_in_masks_of_v7_is_no_left_lung(tmp_path, name, left_of_device):
    for part in ("images", "masks"):
        (tmp_path / name / part).mkdir(parents=True)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 4:12] = mask[8:24, 20:28] = 1
    mask[2:4, 20:24] = 2
    Image.fromarray(np.full((32, 32), 90, np.uint8)).save(tmp_path / name / "images" / "a.png")
    Image.fromarray(mask).save(tmp_path / name / "masks" / "a.png")
    (case,) = study_cases(tmp_path / name)
    _, (labels_hw,) = case.read()
    assert labels_hw[3, 22] == left_of_device
    if name == "cxr_v7_covid":
        assert labels_hw[16, 8] == 1
        assert labels_hw[16, 24] == 2

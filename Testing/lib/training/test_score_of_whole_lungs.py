"""The scores of the card for sets whose masks hold whole lungs, split by patient, with places that nobody knows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.training.card import card_markdown
from SAMLungSegLib.training.data.splits import split_in_set, split_of
from SAMLungSegLib.training.scores import score

SET = "cxr_v7_covid"
LUNG = np.zeros((80, 100), bool)
LUNG[20:60, 10:40] = LUNG[20:60, 60:90] = True  # 2400 pixels
DEVICE = np.zeros_like(LUNG)
DEVICE[20:40, 60:90] = True  # 600 of them
CARD = {"name": "x", "parameters": 1e6, "size_bytes": 2e6, "sha256": "0", "data": [], "recipe": {}}


class UpperHalves(PromptableModel):
    """Of whole lungs the upper halves without a prompt, all by a box or clicks; nothing of visible ones."""

    name, device = "halves", torch.device("cpu")
    capabilities = Capabilities(needs_prompt=False, extents=("visible", "whole"))

    def __init__(self):
        self.given = []

    def encode(self, views):
        return [Embedding((), ModelView.of(one).grey_hw.shape) for one in views]

    def decode(self, embedding, prompts):
        self.given.append(prompts)
        mask = LUNG & (prompts.extent == "whole")
        if prompts.box is not None:
            left, _, right, _ = prompts.box.xyxy
            mask[:, : 50 if left + right > 100 else 0] = False
            mask[:, 50 if left + right <= 100 else 100 :] = False
        elif not prompts.points:
            mask[40:] = False
        logits = np.where(mask, 5.0, -5.0).astype(np.float32)
        return Prediction(logits, 1.0, logits)


def patients_of_part(part, count):
    names = (f"p{number}" for number in range(200))
    return [name for name in names if split_of(f"{SET}:{name}") == part][:count]


@pytest.fixture
def data(tmp_path):
    """Two images of one patient of the validation part, one of the test part; half of one lung under a device."""
    (validation,), (test,) = patients_of_part("validation", 1), patients_of_part("test", 1)
    patients = {"a.png": validation, "b.png": validation, "c.png": test}
    for kind, array in (("images", LUNG * np.uint8(200)), ("masks", LUNG + DEVICE.astype(np.uint8))):
        (tmp_path / SET / kind).mkdir(parents=True)
        for name in patients:
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / SET / kind / name))
    rows = [f"{SET},{name},{patient}" for name, patient in patients.items()]
    (tmp_path / "manifest_more.csv").write_text("\n".join(["set,name,patient", *rows]), encoding="utf-8")
    return tmp_path


def test_whole_lungs_have_a_row_that_says_so_and_devices_count_nowhere(data):
    (row,) = score(UpperHalves(), data, "validation")
    assert (row["set"], row["extent"], row["images"]) == (SET, "whole", 2)
    assert row["dice_mean"] == row["dice_min"] == pytest.approx(2 * 600 / (1800 + 600))
    assert row["jaccard_mean"] == pytest.approx(600 / 1800)
    assert row["box_dice_mean"] == row["clicks_dice_mean"] == 1


def test_every_prompt_is_about_whole_lungs_and_clicks_come_with_the_models_own_prediction(data):
    model = UpperHalves()
    score(model, data, "test")
    assert {one.extent for one in model.given if one.points or one.box} == {"whole"}
    clicked = [one for one in model.given if one.points]
    own = LUNG.copy()
    own[40:] = False
    assert clicked and all(np.array_equal(one.mask.logits() > 0, own) for one in clicked)
    assert not any(DEVICE[int(y), int(x)] for one in clicked for x, y in one.points_xy())


def test_a_model_without_whole_lungs_has_no_row_of_them(data):
    model = UpperHalves()
    model.capabilities = replace(model.capabilities, extents=("visible",))
    assert score(model, data, "validation") == []


def test_what_no_image_has_is_none_and_a_dash_on_the_card(data):
    (row,) = score(UpperHalves(), data, "test")
    assert row["images"] == 1 and row["dice_sd"] is None
    assert "NaN" not in json.dumps(row)
    assert f"| {SET} | test | whole | 1 | 0.5000 | - | 0.5000 | 0.3333 | 1.0000 | 1.0000 |" in card_markdown(
        CARD | {"scores": [row]}
    )


def test_rows_of_earlier_cards_are_of_visible_lungs(data):
    (row,) = score(UpperHalves(), data, "validation")
    del row["extent"]
    assert f"| {SET} | validation | visible | 2 |" in card_markdown(CARD | {"scores": [row]})


def test_the_card_says_that_whole_lungs_were_split_by_patient():
    sets = [{"set": name, "used": "u", "terms": "t"} for name in ("cxr_montgomery", SET, "phantom_ct")]
    page = " ".join(card_markdown(CARD | {"scores": [], "data": sets}).split())
    assert f"by a hash of their names (of {SET}: of their patients' names)" in page
    assert "test. phantom_ct are training data only" in page


def test_images_of_a_patient_are_in_one_part():
    (validation,), (test,) = patients_of_part("validation", 1), patients_of_part("test", 1)
    assert {split_in_set(SET, name, validation) for name in "abcdefghij"} == {"validation"}
    assert {split_in_set(SET, name, test) for name in "abcdefghij"} == {"test"}
    assert split_in_set("cxr_shenzhen", "a", test) == split_of("a")
    assert split_in_set("phantom_ct", "a", test) == "train"

"""The scores of the card, with a model whose predictions are known."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.training.card import card_markdown
from SAMLungSegLib.training.data.splits import split_of
from SAMLungSegLib.training.scores import score


class RememberedTruth(PromptableModel):
    """Knows the truth: gives the right lung's half only, unless a box or a click asks for more."""

    name, device = "oracle", torch.device("cpu")
    capabilities = Capabilities(needs_prompt=False)

    def __init__(self, truth: np.ndarray) -> None:
        self.truth = truth

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        return [Embedding((), image.shape) for image in slices]

    def decode(self, embedding, prompts):
        half = np.zeros(embedding.size_hw, bool)
        half[:, : half.shape[1] // 2] = True
        if prompts.box is not None:
            left, _, right, _ = prompts.box.xyxy
            middle = (left + right) / 2
            shown = half if middle < half.shape[1] / 2 else ~half
        else:
            shown = half if not prompts.points else np.ones_like(half)
        logits = np.where(self.truth & shown, 5.0, -5.0).astype(np.float32)
        return Prediction(logits, 1.0, logits)


@pytest.fixture
def held_out_set(tmp_path):
    truth = np.zeros((80, 100), bool)
    truth[20:60, 10:40] = truth[20:60, 60:90] = True
    names = [name for name in (f"case_{number}" for number in range(200)) if split_of(name) == "validation"][:4]
    for kind, array in (("images", truth * np.uint8(200)), ("masks", truth * np.uint8(255))):
        (tmp_path / "cxr_shenzhen" / kind).mkdir(parents=True)
        for name in names:
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "cxr_shenzhen" / kind / f"{name}.png"))
    return tmp_path, truth


def test_scores_are_those_of_half_the_lungs_then_of_all_when_prompted(held_out_set):
    folder, truth = held_out_set
    (row,) = score(RememberedTruth(truth), folder, "validation")
    assert (row["set"], row["images"]) == ("cxr_shenzhen", 4)
    assert row["dice_mean"] == pytest.approx(2 / 3)
    assert row["jaccard_mean"] == pytest.approx(1 / 2)
    assert row["dice_sd"] == pytest.approx(0)
    assert row["box_dice_mean"] == 1
    assert row["clicks_dice_mean"] == 1


def test_a_split_without_images_has_no_row(held_out_set):
    folder, truth = held_out_set
    assert score(RememberedTruth(truth), folder, "test") == []


def test_the_card_shows_every_score(held_out_set):
    folder, truth = held_out_set
    scores = score(RememberedTruth(truth), folder, "validation")
    card = {
        "name": "x",
        "parameters": 1e6,
        "size_bytes": 2e6,
        "sha256": "0",
        "licence": "l",
        "intended_use": "u",
        "limits": ["none seen"],
        "data": [],
        "recipe": {"epochs": 1},
        "scores": scores,
    }
    text = card_markdown(card)
    assert "| cxr_shenzhen | validation | visible | 4 | 0.6667 | 0.0000 | 0.6667 | 0.5000 | 1.0000 | 1.0000 |" in text
    assert "- none seen" in text

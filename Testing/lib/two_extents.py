"""A made X-ray, and a model that finds visible lung fields and whole lungs on it, each where it is dark enough."""

from __future__ import annotations

import numpy as np
import torch

from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.structures import LUNGS, Extent
from SAMLungSegLib.volume import Volume

SIZE_HW = (60, 80)
RIGHT_FIELD, LEFT_FIELD = np.s_[10:45, 10:30], np.s_[10:45, 50:70]
HEART = np.s_[25:45, 34:50]  # beside the left field; columns 34 to 39 are right of the middle
BODY_GREY, HEART_GREY, FIELD_GREY = 230, 130, 20
BELOW: dict[Extent, int] = {"visible": 90, "whole": 180}  # grey levels of lung


def body_grey() -> np.ndarray:
    """Uint8 (60, 80): bright, with a black and a white pixel, so that grey levels are taken as they are."""
    grey_hw = np.full(SIZE_HW, BODY_GREY, np.uint8)
    grey_hw[0, 0], grey_hw[0, -1] = 0, 255
    return grey_hw


def chest_grey() -> np.ndarray:
    """Uint8 (60, 80): dark fields, a heart of middle grey, a bright body."""
    grey_hw = body_grey()
    grey_hw[RIGHT_FIELD] = grey_hw[LEFT_FIELD] = FIELD_GREY
    grey_hw[HEART] = HEART_GREY
    return grey_hw


def fields() -> np.ndarray:
    """Uint8 (60, 80): 1 right, 2 left visible field."""
    labels_hw = np.zeros(SIZE_HW, np.uint8)
    labels_hw[RIGHT_FIELD], labels_hw[LEFT_FIELD] = 1, 2
    return labels_hw


def fields_and_hidden() -> np.ndarray:
    """Likewise, with 3 and 4 where the heart hides right and left lung."""
    labels_hw = fields()
    labels_hw[25:45, 34:40], labels_hw[25:45, 40:50] = 3, 4
    return labels_hw


def xray(grey_hw: np.ndarray) -> Volume:
    return Volume(grey_hw[np.newaxis], np.diag([-1.0, -1, 1, 1]), "chest", modality_hint="XRAY")


class TwoExtents(PromptableModel):
    """Tells sides by the middle of the image; says how often it encoded, and with which prompts it was used."""

    device = torch.device("cpu")

    def __init__(self, extents: tuple[Extent, ...] = ("visible", "whole"), *, needs_prompt: bool = False) -> None:
        self.name = "two-extents"
        self.capabilities = Capabilities(needs_prompt=needs_prompt, structures=LUNGS, extents=extents, window="lung")
        self.encoded = 0
        self.prompts: list[PromptSet] = []

    def encode(self, views):
        self.encoded += len(views)
        slices = [ModelView.of(view).grey_hw for view in views]
        return [Embedding((one,), one.shape) for one in slices]

    def mask(self, grey_hw: np.ndarray, extent: Extent) -> np.ndarray:
        return grey_hw < BELOW[extent]

    def decode(self, embedding, prompts):
        self.check_prompts(prompts, embedding.size_hw)
        self.prompts.append(prompts)
        grey_hw = embedding.features[0]
        logits = np.where(self.mask(grey_hw, prompts.extent), 5, -5).astype(np.float32)
        is_left = np.broadcast_to(np.arange(grey_hw.shape[1]) >= grey_hw.shape[1] / 2, grey_hw.shape)
        sides = {"right_lung": np.where(is_left, -5, 5), "left_lung": np.where(is_left, 5, -5)}
        return Prediction(logits, {"visible": 0.9, "whole": 0.8}[prompts.extent], logits, sides)

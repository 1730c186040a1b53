"""Which slices of a volume a model is shown, and with which objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.pipeline.prompting import PromptPlan
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.types import ObjectPrompt
from SAMLungSegLib.prompts.volume import PlacedPrompts
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

SIZE_NHW = (8, 20, 40)
POINT, BOX = PointPrompt((5, 6)), BoxPrompt((2, 2, 9, 9))


class Prompted(PromptableModel):
    name, device = "prompted", torch.device("cpu")

    def __init__(self, prompts: tuple[str, ...] = ("points", "box"), *, needs_prompt: bool = True) -> None:
        self.capabilities = Capabilities(prompts, needs_prompt=needs_prompt)

    def encode(self, views):
        raise NotImplementedError

    def decode(self, embedding, prompts):
        raise NotImplementedError


def coarse() -> np.ndarray:
    """Both lungs in slice 0, the left one in slice 1, none in the others."""
    labels = np.zeros(SIZE_NHW, np.uint8)
    labels[0, 4:16, 4:14] = RIGHT_LUNG
    labels[:2, 4:16, 26:36] = LEFT_LUNG
    return labels


def test_each_third_slice_the_last_one_and_those_with_prompts_are_seen():
    plan = PromptPlan(Prompted(), {4: PlacedPrompts([POINT])}, SIZE_NHW, coarse())
    assert plan.slices_to_see(3) == [0, 3, 4, 6, 7]


def test_slices_without_prompts_of_the_user_get_those_of_the_coarse_lungs():
    plan = PromptPlan(Prompted(), {1: PlacedPrompts([POINT])}, SIZE_NHW, coarse())
    assert [one.label for one in plan.of_slice(0)] == [RIGHT_LUNG, LEFT_LUNG]
    assert plan.of_slice(1) == [ObjectPrompt(PromptSet((POINT,)))]
    assert plan.of_slice(2) == []


def test_slices_outside_every_box_stay_empty_even_for_a_model_that_needs_no_prompt():
    plan = PromptPlan(Prompted(needs_prompt=False), {1: PlacedPrompts(boxes=[BOX])}, SIZE_NHW)
    assert plan.of_slice(1) == [ObjectPrompt(PromptSet((), BOX))]
    assert plan.of_slice(2) == []


def test_without_boxes_a_model_that_needs_no_prompt_sees_every_slice():
    plan = PromptPlan(Prompted(needs_prompt=False), {1: PlacedPrompts([POINT])}, SIZE_NHW)
    assert plan.of_slice(2) == [ObjectPrompt(PromptSet())]


def test_a_prompt_that_the_model_does_not_accept_is_refused_before_anything_is_predicted():
    with pytest.raises(PromptError):
        PromptPlan(Prompted(("box",)), {1: PlacedPrompts([POINT])}, SIZE_NHW, coarse())

"""Each method in a ViT-B of random weights: one training step on the CPU moves what it names, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything import sam_model_registry
from tiny_sams import relative_error, with_random_positions
from tuning_sets import chest

from SAMLungSegLib.adaptation import ObjectExample, ObjectSlice, method_from
from SAMLungSegLib.adapters import adapter_class, adapter_names
from SAMLungSegLib.adapters.base import adapter_state, remove_adapter
from SAMLungSegLib.adapters.place import PlaceInVolume, SmallVolume
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.training.adapters import AdapterConfig, AdapterTask, PromptedSlice, fit_adapters
from SAMLungSegLib.training.trainer import Trainer

INPUT_SIZE = 128  # 8 x 8 tokens; at 1024 a step takes half a minute


@pytest.fixture(scope="module")
def model() -> SamModel:
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"](checkpoint=None)
    return SamModel(with_random_positions(sam), name="vit_b", input_size=INPUT_SIZE)


@pytest.fixture
def adapted(model, request):
    torch.manual_seed(1)
    adapter_class(request.param)().inject(model.network)
    yield model
    remove_adapter(model.network)


@pytest.mark.slow
@pytest.mark.parametrize("adapted", adapter_names(), indirect=True)
def test_one_step_moves_the_named_parameters_alone_and_both_ways_agree(adapted, monkeypatch):
    monkeypatch.setattr(Trainer, "save", lambda self: None)  # hundreds of MB
    monkeypatch.setattr(AdapterTask, "fingerprint", "")  # of as many
    grey, mask = chest(0)
    before = {name: value.clone() for name, value in adapted.network.state_dict().items()}
    place = PlaceInVolume(SmallVolume(lambda: [grey] * 3), 1, 3)
    slices = [PromptedSlice(grey, PromptSet((PointPrompt((22.0, 48.0)),)), mask, place=place)]
    fit_adapters(adapted, slices, AdapterConfig(steps=1, batch=1, learning_rate=1e-2))
    after = adapted.network.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and moved <= adapter_state(adapted.network).keys()
    with torch.no_grad():
        [fast], [own] = adapted.encode([slices[0].view]), adapted.encode_batch([slices[0].view])
    assert relative_error(fast.features[0].numpy(), own.features[0].numpy()) <= 1e-5


@pytest.mark.slow
def test_one_step_of_three_slices_moves_what_it_names(model):
    """Last, for the model is one of three slices afterwards."""
    torch.manual_seed(1)
    method = method_from("slide-sam:learning_rate=1e-2")
    slide = method.model_for(model)
    trained = method.prepare(slide, ("chest",))
    grey, mask = chest(0)
    stack = np.stack([chest(1)[0], grey, chest(2)[0]])
    one = ObjectSlice("chest", 0, "set", "p", grey, mask.astype(np.uint8), stack, np.stack([mask] * 3).astype(np.uint8))
    [group] = method.parameters(slide, trained, 0)
    optimizer = method.optimizer([{"params": group["params"], "lr": method.learning_rate}])
    for parameter in group["params"]:
        parameter.requires_grad_(True)
    before = {name: value.clone() for name, value in slide.network.state_dict().items()}
    method.loss(slide, [ObjectExample(one, 1)], np.random.default_rng(0), 0).backward()
    optimizer.step()
    named = {id(parameter) for parameter in group["params"]}
    state = slide.network.state_dict(keep_vars=True)
    moved = {name for name, value in state.items() if not torch.equal(value, before[name])}
    assert moved and all(id(state[name]) in named for name in moved)
    with torch.no_grad():
        [fast], [own] = slide.encode([one.view]), slide.encode_batch([one.view])
    assert relative_error(fast.features[0].numpy(), own.features[0].numpy()) <= 1e-5

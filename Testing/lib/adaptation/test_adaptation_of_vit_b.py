"""Each method that is no adapter in a ViT-B of random weights: one training step moves what it names, nothing else."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from adaptation_sets import ORGANS, shape_data
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from tiny_sams import with_random_positions

from SAMLungSegLib.adaptation import AdaptConfig, method_from, method_names
from SAMLungSegLib.adaptation.run import encoded
from SAMLungSegLib.adaptation.task import AdaptationTask
from SAMLungSegLib.adapters import adapter_names
from SAMLungSegLib.models.sam.model import SamModel

INPUT_SIZE = 128  # 8 x 8 tokens; at 1024 a step takes half a minute


@pytest.fixture(scope="module")
def vit_b() -> Sam:
    torch.manual_seed(0)
    return with_random_positions(sam_model_registry["vit_b"](checkpoint=None))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*method_names()} - {*adapter_names()}))  # these: adapters/test_vit_b_steps.py
def test_one_step_of_vit_b_moves_what_the_method_names_alone(name, vit_b, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    method = method_from(name)
    model = method.model_for(SamModel(deepcopy(vit_b), name="sam-vit-b", input_size=INPUT_SIZE))
    trained = method.prepare(model, ORGANS)
    data = shape_data(method.slices_per_input, training=1)
    data = replace(data, validation=data.validation[:1], held_out=())  # each slice is a run of the encoder
    data = data if method.encodes else encoded(model, data)
    task = AdaptationTask(model, method, trained, data, AdaptConfig(steps=1, batch=1, checkpointing=True))
    model.recompute_activations(method.encodes)
    versions = {key: value._version for key, value in model.network.state_dict(keep_vars=True).items()}
    optimizer = task.optimizer(0)
    named = {id(one) for group in optimizer.param_groups for one in group["params"]}
    (batch,) = task.batches(0)
    loss = task.loss(task.predict(batch), batch)
    loss.backward()
    optimizer.step()
    after = model.network.state_dict(keep_vars=True)
    moved = {key for key, value in after.items() if value._version != versions[key]}
    assert torch.isfinite(loss) and moved and all(id(after[key]) in named for key in moved)

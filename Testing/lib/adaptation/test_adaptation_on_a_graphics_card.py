"""Every method of adaptation on a graphics card, in mixed precision: the numbers of the processor, within rounding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from adaptation_sets import ORGANS, keen_sam, shape_data, tiny_model, write_shapes
from tiny_sams import relative_error
from torch import nn
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adaptation import AdaptConfig, AdaptOptions, adapt, method_from, method_names
from SAMLungSegLib.adaptation.run import encoded
from SAMLungSegLib.adaptation.task import AdaptationTask
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.prompts import BoxPrompt, PromptSet
from SAMLungSegLib.studies.adapters.memory import step_megabytes
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings, autocast

CARD = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card here"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache", keen_sam)
    monkeypatch.setattr("monai.networks.nets.VNet", lambda **_: nn.Conv3d(1, 1, 1))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def task_of(name: str, device: str, input_size: int = 128, **config) -> AdaptationTask:
    method = replace(method_from(name), learning_rate=1e-3)
    torch.manual_seed(0)
    learner = method.model_for(tiny_model(device=device, input_size=input_size))
    torch.manual_seed(0)
    trained = method.prepare(learner, ORGANS)
    data = shape_data(method.slices_per_input)
    data = data if method.encodes else encoded(learner, data)
    return AdaptationTask(learner, method, trained, data, AdaptConfig(**{"steps": 4, **config}))


def loss_of(task: AdaptationTask, *, mixed: bool) -> torch.Tensor:
    task.optimizer(0)
    batch = next(iter(task.batches(0)))
    with autocast(task.device, mixed_precision=mixed):
        predictions = task.predict(batch)
    return task.loss(predictions, batch)


def gradient_of(task: AdaptationTask, *, mixed: bool) -> tuple[float, np.ndarray]:
    loss = loss_of(task, mixed=mixed)
    loss.backward()
    named = [one for _, one in sorted(task.network.named_parameters()) if one.grad is not None]
    return float(loss.detach()), torch.cat([one.grad.flatten().cpu() for one in named]).numpy()


@pytest.mark.parametrize("name", method_names())
def test_loss_and_gradients_are_those_of_the_processor(name):
    expected, its_gradient = gradient_of(task_of(name, "cpu"), mixed=False)
    loss, gradient = gradient_of(task_of(name, CARD), mixed=False)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert relative_error(gradient, its_gradient) <= 1e-2


@pytest.mark.parametrize("name", [one for one in method_names() if method_from(one).encodes])
def test_mixed_precision_comes_close_and_keeps_weights_in_single_precision(name):
    expected, its_gradient = gradient_of(task_of(name, "cpu"), mixed=False)
    task = task_of(name, CARD)
    loss, gradient = gradient_of(task, mixed=True)
    assert loss == pytest.approx(expected, rel=3e-2)
    alike = gradient @ its_gradient / (np.linalg.norm(gradient) * np.linalg.norm(its_gradient))
    assert alike >= 0.95
    assert {one.dtype for one in task.network.parameters()} == {torch.float32}
    assert {one.device.type for one in task.model.network.parameters()} == {CARD}


@pytest.mark.parametrize("name", ["decoder", "full", "lora", "med-sa"])
def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(name, tmp_path):
    found = []
    for stops in (False, True):
        path = tmp_path / str(stops) / "adaptation.pt"
        settings = TrainerSettings(4, "last", mixed_precision=method_from(name).encodes)
        if stops:
            Trainer(task_of(name, CARD), replace(settings, epochs=2), path).run()
        found.append(Trainer(task_of(name, CARD), settings, path).run())
    losses = [[row["loss"] for row in one.history] for one in found]
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=2e-2)


@pytest.mark.parametrize("name", ["decoder", "lora", "full", "segment-any-bone"])
def test_what_was_adapted_on_a_card_predicts_the_same_on_a_processor(name, tmp_path):
    folder, base = write_shapes(tmp_path / "shapes"), BaseCheckpoint("sam-vit-b")
    options = AdaptOptions(AdaptConfig(steps=60, batch=4))
    method = replace(method_from(name), learning_rate=5e-3)
    model = base.load(CARD, 128)
    result = adapt(model, base, folder / "shapes.csv", tmp_path / "out", method, options)
    assert result.weights is not None and result.verdict.after > result.verdict.before
    grey, prompts = shape_data().held_out[0].grey_hw, PromptSet(box=BoxPrompt((10.0, 10.0, 50.0, 50.0)))
    masks = []
    for device in (CARD, "cpu"):
        again = load_model("sam-vit-b", weights=result.weights, device=device, input_size=128)
        masks.append(again.decode(again.encode([grey])[0], prompts).logits > 0)
    assert masks[0].any() and dice(*masks) >= 0.99


def test_the_memory_of_a_step_is_less_in_mixed_precision_and_less_again_where_activations_are_computed_again():
    found = []
    for mixed, again in ((False, False), (True, False), (True, True)):
        task = task_of("full", CARD, input_size=256, batch=32)
        task.model.recompute_activations(again)
        torch.cuda.empty_cache()
        found.append(step_megabytes(task.model.network, lambda task=task, mixed=mixed: loss_of(task, mixed=mixed)))
    assert found[0] > found[1] > found[2]

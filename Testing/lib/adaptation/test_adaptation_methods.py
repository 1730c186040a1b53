"""The contract of every method of adaptation: what it moves, that it learns, and that its weights come back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from adaptation_sets import ORGANS, keen_sam, shape_data, tiny_model
from tiny_sams import relative_error
from torch import nn
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adaptation import AdaptConfig, method_from, method_names
from SAMLungSegLib.adaptation.run import encoded
from SAMLungSegLib.adaptation.task import AdaptationTask, fixed_prompts
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings

SMALLER = {"clicksam": "clicksam:batch=2"}  # for speed


def task_of(name: str, **config) -> AdaptationTask:
    method = method_from(SMALLER.get(name, name))
    method = replace(method, learning_rate=1e-2 if method.measures == "dice" else 3e-3)
    model = tiny_model()
    torch.manual_seed(0)
    learner = method.model_for(model)
    trained = method.prepare(learner, ORGANS)
    data = shape_data(method.slices_per_input)
    if not method.encodes:
        data = encoded(learner, data)
    return AdaptationTask(learner, method, trained, data, AdaptConfig(**{"steps": 4, **config}))


def run(task: AdaptationTask, folder) -> list[dict[str, float]]:
    settings = TrainerSettings(task.config.epochs, "last")
    return Trainer(task, settings, folder / "adaptation.pt").run().history


def mask_of(task: AdaptationTask, model: TrainableModel) -> np.ndarray:
    """Of the first held-out object."""
    one = task.data.held_out[0]
    (embedding,) = model.encode([one.view])
    prompts = fixed_prompts(one.examples()[0], task.method.kinds(model)[0])
    return task.method.predict(model, embedding, one, prompts)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache", keen_sam)
    monkeypatch.setattr("monai.networks.nets.VNet", lambda **_: nn.Conv3d(1, 1, 1))  # 182 MB in each checkpoint


@pytest.mark.parametrize("name", method_names())
def test_a_method_predicts_as_the_base_model_before_it_is_trained(name):
    task, base = task_of(name), tiny_model()
    one = task.data.held_out[0]
    reference = task.method.model_for(base)
    (expected,), (got) = reference.encode([one.view]), task.model.encode([one.view])[0]
    assert relative_error(got.features[0].numpy(), expected.features[0].numpy()) <= 1e-6
    for kind in task.method.kinds(task.model):
        prompts = fixed_prompts(one.examples()[0], kind)
        logits = task.model.decode(got, prompts).logits
        assert relative_error(logits, reference.decode(expected, prompts).logits) <= 1e-6
        assert (task.method.predict(task.model, got, one, prompts) == (logits > 0)).all()


@pytest.mark.parametrize("name", method_names())
def test_a_method_moves_what_it_names_and_nothing_else_and_its_loss_falls(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "save", lambda self: None)  # nothing goes on from it
    task = task_of(name, steps=20, batch=2 if method_from(name).measures == "dice" else 8)
    before = {key: value.clone() for key, value in task.model.network.state_dict().items()}
    named = {id(one) for group in task.method.parameters(task.model, task.network, 0) for one in group["params"]}
    history = run(task, tmp_path)
    after = task.model.network.state_dict(keep_vars=True)
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert moved and all(id(after[key]) in named for key in moved)
    losses = [row["loss"] for row in history]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize("name", method_names())
def test_a_training_that_was_stopped_goes_on_with_the_same_numbers(name, tmp_path, monkeypatch):
    whole = run(task_of(name), tmp_path / "whole")
    original = Trainer.save

    def save_and_stop(self):
        original(self)
        if self.epochs_done == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "save", save_and_stop)
        run(task_of(name), tmp_path / "stopped")
    resumed = run(task_of(name), tmp_path / "stopped")
    for one, other in zip(whole, resumed, strict=True):
        del one["seconds"], other["seconds"]
        assert one == other


@pytest.mark.parametrize("name", method_names())
def test_the_weights_of_a_method_are_loaded_by_any_command_and_predict_the_same(name, tmp_path):
    task = task_of(name, steps=1)
    run(task, tmp_path)
    base, target = BaseCheckpoint("sam-vit-b"), tmp_path / "mine.safetensors"
    assert task.method.export(target, task.model, base, {"adaptation": {"method": name}}) == target
    loaded = load_model("sam-vit-b", weights=target, device="cpu", input_size=128)
    assert (mask_of(task, loaded) == mask_of(task, task.model)).all()
    if task.method.measures == "dice":
        untrained = task_of(name)
        assert (mask_of(task, loaded) != mask_of(untrained, untrained.model)).any()
    card = json.loads(target.with_suffix(".json").read_text())
    assert card["base"] == "sam-vit-b" and card["adaptation"] == {"method": name}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("telepathy", "no method 'telepathy'; choose one of .*decoder, full, "),
        ("lora:rank=a", 'lora: rank is "a", expected a value like 4'),
        ("lora:rank=0", "LoRA of rank 0 is not possible"),
        ("decoder:rank=4", "'decoder' has no setting 'rank'; it has learning_rate, weight_decay, prompts"),
    ],
)
def test_what_is_no_method_is_refused_with_those_there_are(text, message):
    with pytest.raises(SettingsError, match=message):
        method_from(text)


def test_settings_of_a_method_are_given_behind_its_name():
    method = method_from("lora:rank=8,targets=q+k,with_decoder=true,prompts=box,learning_rate=1")
    assert (method.rank, method.targets, method.with_decoder, method.prompts) == (8, ("q", "k"), True, ("box",))
    assert method.learning_rate == 1.0 and method.parts == ("adapters", "mask_decoder")

"""Adapters trained on slices and masks: the loss falls, nothing else changes, and both ways agree afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_sams import relative_error, tiny_sam
from tuning_sets import chest

from SAMLungSegLib.adapters.base import adapter_parameters, adapter_state
from SAMLungSegLib.adapters.lora import Lora
from SAMLungSegLib.errors import ModelError, SettingsError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.prompts.reference import tight_box
from SAMLungSegLib.training.adapters import AdapterConfig, PromptedSlice, fit_adapters
from SAMLungSegLib.training.trainer import Trainer


def slices(count: int, *, boxes: bool = False) -> list[PromptedSlice]:
    found = []
    for seed in range(count):
        grey, mask = chest(seed)
        prompts = PromptSet(box=tight_box(mask)) if boxes else PromptSet((PointPrompt((22.0, 48.0)),))
        found.append(PromptedSlice(grey, prompts, mask))
    return found


def adapted_model(kind=SamModel, **options) -> SamModel:
    """With a decoder of which the embedding decides more than in one of small random weights."""
    sam = tiny_sam()
    for one in sam.mask_decoder.output_hypernetworks_mlps.parameters():
        one.data *= 4
    model = kind(sam, name="tiny", **options)
    torch.manual_seed(1)
    Lora(rank=4, alpha=32.0).inject(model.network)
    return model


def both_ways(model: SamModel) -> tuple[np.ndarray, np.ndarray]:
    """The embedding of a slice by the fast way and with gradients."""
    grey = chest(7)[0]
    [fast] = model.encode([grey])
    [own] = model.encode_batch([grey])
    assert fast.size_hw == own.size_hw == grey.shape
    return fast.features[0].numpy(), own.features[0].detach().numpy()


@pytest.mark.parametrize("options", [{}, {"input_size": 128}], ids=["256", "128"])
def test_the_loss_falls_only_adapters_change_and_both_ways_agree(options):
    model = adapted_model(**options)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    first_fast, first_own = both_ways(model)
    assert relative_error(first_fast, first_own) <= 1e-5
    losses = fit_adapters(model, slices(1), AdapterConfig(steps=12, batch=1, learning_rate=1e-2))
    assert losses[-1] < 0.85 * losses[0]
    after = model.network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == set(adapter_state(model.network))
    fast, own = both_ways(model)
    assert relative_error(fast, own) <= 1e-5
    assert relative_error(fast, first_fast) > 0.01


def test_medsam_is_trained_with_boxes():
    model = adapted_model(MedSamModel)
    losses = fit_adapters(model, slices(1, boxes=True), AdapterConfig(steps=10, batch=1, learning_rate=1e-2))
    assert losses[-1] < 0.9 * losses[0]


def test_the_mask_decoder_learns_too_if_wished():
    model = adapted_model()
    before = model.network.mask_decoder.iou_token.weight.clone()
    fit_adapters(model, slices(2), AdapterConfig(steps=2, with_decoder=True))
    assert not torch.equal(model.network.mask_decoder.iou_token.weight, before)
    assert torch.equal(model.network.image_encoder.neck[0].weight, tiny_sam().image_encoder.neck[0].weight)


def test_the_same_seed_gives_the_same_adapters():
    states = []
    for _ in range(2):
        model = adapted_model()
        fit_adapters(model, slices(3), AdapterConfig(steps=3, seed=5))
        states.append(adapter_state(model.network))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_training_that_was_stopped_goes_on_with_the_same_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("SAMLungSegLib.training.adapters.EPOCH_STEPS", 2)
    config, models = AdapterConfig(steps=5), [adapted_model() for _ in range(3)]
    whole = fit_adapters(models[0], slices(3), config, tmp_path / "whole")
    original = Trainer.save

    def save_and_stop(self):
        original(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "save", save_and_stop)
        fit_adapters(models[1], slices(3), config, tmp_path / "stopped")
    rest = fit_adapters(models[2], slices(3), config, tmp_path / "stopped")
    assert len(whole) == 5 and rest == whole[2:]
    states = [adapter_state(models[number].network) for number in (0, 2)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_training_leaves_nothing_that_gathers_gradients():
    model = adapted_model()
    fit_adapters(model, slices(1), AdapterConfig(steps=1))
    assert not any(one.requires_grad or one.grad is not None for one in model.network.parameters())
    assert all(one.is_leaf for one in adapter_parameters(model.network))


def test_the_fingerprint_covers_adapters_their_training_and_their_settings():
    model = SamModel(tiny_sam(), name="tiny")
    seen = [model.fingerprint]
    torch.manual_seed(1)
    Lora(alpha=4.0).inject(model.network)
    seen.append(model.fingerprint)
    fit_adapters(model, slices(1), AdapterConfig(steps=1))
    seen.append(model.fingerprint)
    other = SamModel(tiny_sam(), name="tiny")
    Lora(alpha=8.0).inject(other.network)
    other.network.load_state_dict(model.network.state_dict())
    seen.append(other.fingerprint)
    assert len(set(seen)) == 4
    assert model.fingerprint == seen[2]


@pytest.mark.parametrize(("given", "steps"), [(0, 3), (2, 0)])
def test_a_training_of_nothing_is_refused(given, steps):
    with pytest.raises(SettingsError, match=f"{steps} steps of 2 of {given} slices are no training"):
        fit_adapters(adapted_model(), slices(given), AdapterConfig(steps=steps))


def test_a_model_without_adapters_is_refused():
    model = load_model(device="cpu", engine="torch")
    with pytest.raises(ModelError, match="has no adapters"):
        fit_adapters(SamModel(tiny_sam(), name="tiny"), slices(1), AdapterConfig(steps=1))
    with pytest.raises(ModelError, match="CompactNet has no points for adapters"):
        fit_adapters(model, slices(1), AdapterConfig(steps=1))
    with pytest.raises(ModelError, match="no part 'adapters'"):
        model.part("adapters")
    with pytest.raises(ModelError, match="encoder of lung-compact is not trained here"):
        TrainableModel.encode_batch(model, [chest(0)[0]])  # of a family that trains no encoder

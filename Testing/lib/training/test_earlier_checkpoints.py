"""Checkpoints that earlier versions left go on with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_sams import tiny_sam
from tuning_sets import chest

from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.tuned import PromptRecipe
from SAMLungSegLib.studies.fine_tune.unet import UNetConfig, train_unet
from SAMLungSegLib.training import PromptPolicy, TuningConfig, tune_decoder
from SAMLungSegLib.training.data.examples import Example, encode_examples
from SAMLungSegLib.training.trainer import Trainer


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path / "cache"))


def examples(count, first_seed=0):
    made = (chest(first_seed + number, (64, 64)) for number in range(count))
    return [
        Example(f"{first_seed + number}", 0, grey, mask.astype(np.uint8)) for number, (grey, mask) in enumerate(made)
    ]


def stopped_after_an_epoch(monkeypatch, train):
    original = Trainer.save

    def save_and_stop(self):
        original(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train()


def epochs_trained(monkeypatch):
    numbers, original = [], Trainer.train_epoch
    monkeypatch.setattr(Trainer, "train_epoch", lambda self, epoch: numbers.append(epoch) or original(self, epoch))
    return numbers


@pytest.mark.parametrize("patience", [0, 2])
def test_a_tuning_of_an_earlier_version_goes_on(tmp_path, monkeypatch, patience):
    model = SamModel(tiny_sam(), name="sam")
    encoded = encode_examples(model, examples(4))
    config = TuningConfig(epochs=2, learning_rate=1e-3, patience=patience)

    def tune(folder):
        return tune_decoder(model, encoded[:2], encoded[2:], PromptPolicy(PromptRecipe("box")), config, folder)

    whole = tune(tmp_path / "whole")
    stopped_after_an_epoch(monkeypatch, lambda: tune(tmp_path / "old"))
    path = tmp_path / "old" / "tuning.pt"
    saved = torch.load(path, weights_only=True)
    state = {name: saved[name] for name in ("fingerprint", "optimizer", "history")}
    torch.save({**state, "decoder": saved["net"], "kept": saved["net"], "kept_epoch": 0}, path)
    numbers = epochs_trained(monkeypatch)
    resumed = tune(tmp_path / "old")
    assert numbers == [1] and (resumed.history, resumed.epoch) == (whole.history, whole.epoch)
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.state.items())


def test_a_unet_of_an_earlier_version_goes_on(tmp_path, monkeypatch):
    config = UNetConfig(epochs=2, batch=2, channels=(4, 8))
    training, validation = examples(4), examples(2, first_seed=30)
    whole = train_unet(training, validation, config, tmp_path / "whole")
    stopped_after_an_epoch(monkeypatch, lambda: train_unet(training, validation, config, tmp_path / "old"))
    path = tmp_path / "old" / "unet.pt"
    saved = torch.load(path, weights_only=True)
    state = {name: saved[name] for name in ("fingerprint", "net", "optimizer", "kept")}
    torch.save({**state, "history": [row["dice"] for row in saved["history"]]}, path)
    numbers = epochs_trained(monkeypatch)
    resumed = train_unet(training, validation, config, tmp_path / "old")
    assert numbers == [1]
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())

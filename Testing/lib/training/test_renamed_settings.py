"""Settings that had other names once: files and options are read as before, and runs that were begun go on."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging

import numpy as np
import pytest

from SAMLungSegLib.cli import tune as tune_command
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.training import Phase, RecipeError, TrainingConfig, TuningConfig, read_config
from SAMLungSegLib.training.compact import CompactTask
from SAMLungSegLib.training.decoder import decisive_settings
from SAMLungSegLib.training.renamed import in_earlier_names

EARLIER = """
averaging = 0.9
decoder_share = 0.3
asked = 0.4
corrected = 0.5

[shares]
cxr_shenzhen = 0.7

[[phases]]
epochs = 3
"""


def read(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path)


def test_a_recipe_with_earlier_names_is_read_with_a_note(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        config = read(tmp_path, EARLIER)
    assert config == TrainingConfig(
        ema_decay=0.9,
        decoder_lr_scale=0.3,
        prompt_prob=0.4,
        correction_prob=0.5,
        sampling_weights={"cxr_shenzhen": 0.7},
        phases=(Phase(3),),
    )
    (record,) = caplog.records
    assert "mine.toml" in record.getMessage() and "asked is prompt_prob" in record.getMessage()


def test_a_recipe_with_todays_names_has_no_note(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path, "prompt_prob = 0.4\n[[phases]]\nepochs = 3").prompt_prob == 0.4
    assert not caplog.records


def test_a_setting_given_by_both_names_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="do not exist: asked"):
        read(tmp_path, "prompt_prob = 0.4\nasked = 0.4\n[[phases]]\nepochs = 3")


@pytest.mark.parametrize(("given", "loss"), [("correct", "sigmoid"), ("paper", "raw_logits"), ("sigmoid", "sigmoid")])
def test_a_loss_is_known_by_both_names(given, loss):
    parser = argparse.ArgumentParser()
    tune_command.add_tuning_choices(parser, epochs="1", patience="1")
    assert parser.parse_args(["--loss", given]).loss == loss


def test_a_run_that_an_earlier_version_began_is_the_same_training(tmp_path):
    pack = tmp_path / "pack.npz"
    np.savez(pack, images=np.zeros((1, 320, 320), np.int16))
    task = CompactTask(pack, tmp_path, TrainingConfig(sampling_weights={"mine": 1.0}), CompactNet())
    settings = {
        "phases": [{"epochs": 48, "side": 320, "augmentation": "strong", "frozen_norm": False}],
        "shares": {"mine": 1.0},
        "held_out_sets": [],
        "epoch_images": 600,
        "batch": 8,
        "learning_rate": 2e-3,
        "decoder_share": 0.25,
        "weight_decay": 0.02,
        "averaging": 0.998,
        "asked": 0.8,
        "corrected": 0.6,
        "iou_epochs": 0,
        "phantoms": 60,
        "seed": 0,
    }
    text = json.dumps([settings, hashlib.sha256(pack.read_bytes()).hexdigest()], sort_keys=True)
    assert task.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_a_tuning_that_an_earlier_version_began_is_the_same_training():
    assert decisive_settings(TuningConfig()) == {
        "epochs": 100,
        "batch": 2,
        "learning_rate": 1e-5,
        "weight_decay": 0.0,
        "loss": "correct",
        "patience": 10,
        "seed": 0,
    }
    assert in_earlier_names({"loss": "raw_logits"}) == {"loss": "paper"}

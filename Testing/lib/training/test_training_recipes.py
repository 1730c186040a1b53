"""Recipes of training: what they say, and what is refused."""

from __future__ import annotations

import pandas as pd
import pytest

from SAMLungSegLib.training import Phase, RecipeError, TrainingConfig, read_config, recipe_names
from SAMLungSegLib.training.figures import add_to_history

RECIPE = """
name = "mine"
learning_rate = 1
held_out_sets = ["cxr_montgomery"]

[sampling_weights]
cxr_shenzhen = 0.7
ct_kmader = 0.3

[[phases]]
epochs = 3
side = 160

[[phases]]
epochs = 2
augmentation = "mild"
frozen_norm = true
"""


def recipe(tmp_path, text=RECIPE):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_says_everything_and_the_rest_is_the_default(tmp_path):
    config = read_config(recipe(tmp_path))
    assert config == TrainingConfig(
        name="mine",
        learning_rate=1,
        held_out_sets=("cxr_montgomery",),
        sampling_weights={"cxr_shenzhen": 0.7, "ct_kmader": 0.3},
        phases=(Phase(3, side=160), Phase(2, augmentation="mild", frozen_norm=True)),
    )
    assert config.epochs == 5
    assert [config.phase(epoch).side for epoch in range(6)] == [160, 160, 160, 320, 320, 320]


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_that_come_along_can_be_read(name):
    config = read_config(name)
    assert config.epochs >= 1 or (config.start and config.whole_epochs and config.corrector_epochs)
    assert not set(config.held_out_sets) & set(config.sampling_weights)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine"', "nmae = 1", "do not exist: nmae"),
        ("learning_rate = 1", 'learning_rate = "fast"', "learning_rate is 'fast', expected a value like 0.002"),
        ("epochs = 3", "", "a phase has no epochs"),
        ("epochs = 3", "epochs = 0", "expected 1 to"),
        ("side = 160", "side = 100", "side is 100, expected one of 160, 320"),
        ('"mild"', '"wild"', "augmentation is 'wild'"),
        ("[[phases]]", "[[phases", "is not TOML"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(tmp_path, old, new, message):
    with pytest.raises(RecipeError, match=message.replace("[", r"\[")):
        read_config(recipe(tmp_path, RECIPE.replace(old, new)))


def test_a_recipe_without_phases_and_one_that_is_not_there_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="has no"):
        read_config(recipe(tmp_path, "seed = 1"))
    with pytest.raises(RecipeError, match=r"There is no recipe nothing; .* smoke"):
        read_config("nothing")


def test_an_epoch_that_is_done_again_replaces_its_row(tmp_path):
    for epoch, loss in ((0, 0.5), (1, 0.4), (1, 0.3)):
        add_to_history(tmp_path, {"epoch": epoch, "loss": loss, "cxr_montgomery": 0.9})
    assert pd.read_csv(tmp_path / "history.csv")["loss"].tolist() == [0.5, 0.3]
    assert (tmp_path / "history.png").stat().st_size > 1000

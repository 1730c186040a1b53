"""Training of lung-compact: recipes, the packed data set, augmentation, simulated prompts, the loop, the export."""

from SAMLungSegLib.training.config import Phase, RecipeError, TrainingConfig, read_config, recipe_names
from SAMLungSegLib.training.data import data_facts, pack
from SAMLungSegLib.training.export import export, trained_network
from SAMLungSegLib.training.loop import train
from SAMLungSegLib.training.score import score

__all__ = [
    "Phase",
    "RecipeError",
    "TrainingConfig",
    "data_facts",
    "export",
    "pack",
    "read_config",
    "recipe_names",
    "score",
    "train",
    "trained_network",
]

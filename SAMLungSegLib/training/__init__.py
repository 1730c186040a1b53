"""Training of lung-compact: the packed data set, augmentation, simulated prompts, the loop, the export."""

from SAMLungSegLib.training.data import data_facts, pack
from SAMLungSegLib.training.export import export, trained_network
from SAMLungSegLib.training.loop import TrainingConfig, train
from SAMLungSegLib.training.score import score

__all__ = ["TrainingConfig", "data_facts", "export", "pack", "score", "train", "trained_network"]

"""Tuning of mask decoders on frozen embeddings, with a verdict on images that were held out."""

from SAMLungSegLib.tuning.examples import paired_cases
from SAMLungSegLib.tuning.export import Base
from SAMLungSegLib.tuning.gate import TuneOptions, TuneResult, check_target, seen_note, tune
from SAMLungSegLib.tuning.loop import TuningConfig, tune_decoder
from SAMLungSegLib.tuning.prompting import Prompter, recipe_of_training

__all__ = [
    "Base",
    "Prompter",
    "TuneOptions",
    "TuneResult",
    "TuningConfig",
    "check_target",
    "paired_cases",
    "recipe_of_training",
    "seen_note",
    "tune",
    "tune_decoder",
]

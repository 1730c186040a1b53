"""Prompts of a slice: their types, prompts found automatically, prompts simulated from a reference."""

from SAMLungSegLib.prompts.automatic import automatic_prompts
from SAMLungSegLib.prompts.types import BoxPrompt, MaskPrompt, PointPrompt, PromptSet

__all__ = ["BoxPrompt", "MaskPrompt", "PointPrompt", "PromptSet", "automatic_prompts"]

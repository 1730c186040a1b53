"""Prompts of a slice: their types, prompts found automatically, prompts simulated from a reference."""

from SAMLungSegLib.prompts.automatic import automatic_prompts
from SAMLungSegLib.prompts.types import EXTENTS, BoxPrompt, Extent, MaskPrompt, PointPrompt, PromptSet

__all__ = ["EXTENTS", "BoxPrompt", "Extent", "MaskPrompt", "PointPrompt", "PromptSet", "automatic_prompts"]

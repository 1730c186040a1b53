"""Carrying corrections of some slices to the others."""

from SAMLungSegLib.interaction.propagation.result import End, Propagation, Propagator, Reach
from SAMLungSegLib.interaction.propagation.run import propagate

__all__ = ["End", "Propagation", "Propagator", "Reach", "propagate"]

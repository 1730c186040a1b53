"""What a decoder is asked while it is tuned: boxes from the reference, points from the mean image, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.tuned import PROMPT_KINDS, PromptKind, PromptRecipe
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.prompts.reference import mean_image_points, outward_box
from SAMLungSegLib.tuning.examples import GRID, Example

JITTER_PX = 20.0


@dataclass(frozen=True)
class Prompter:
    """Asks about both lungs together as a recipe says.

    Attributes:
        recipe: kind of prompts, and the mean points.
        jitter_px: each side of the reference's box is moved outwards by up to so many pixels, drawn uniformly, where
            the slice's longest side has 256.
    Source: Carvalho and Almeida (2024).
    """

    recipe: PromptRecipe
    jitter_px: float = JITTER_PX

    def __post_init__(self) -> None:
        check_jitter(self.jitter_px)

    def draw(self, example: Example, rng: np.random.Generator) -> PromptSet:
        """Prompts for one example."""
        size_hw = example.labels_hw.shape
        if not self.recipe.needs_box:
            return self.recipe.prompts(size_hw)
        return self.recipe.prompts(size_hw, outward_box(example.lung_hw, rng, self.jitter_px * max(size_hw) / GRID))

    def fixed(self, example: Example) -> PromptSet:
        """The same prompts for an example every time, drawn by its name: for measuring."""
        seed = hashlib.sha256(f"{example.name} {example.number}".encode()).digest()
        return self.draw(example, np.random.default_rng([*seed[:8]]))


def check_jitter(jitter_px: float) -> None:
    """Refuse a jitter that is no length.

    Raises:
        PromptError: it is negative or not finite.
    """
    if not 0 <= jitter_px < inf:
        raise PromptError(f"A jitter of {jitter_px:g} pixels is not possible; give 0 or more, 20 is usual.")


def check_kind(model: PromptableModel, kind: str) -> None:
    """Refuse a kind of prompts that there is not or that a model cannot answer.

    Raises:
        PromptError: with the kinds that are possible.
    """
    possible = PROMPT_KINDS if model.capabilities.accepts("points") else ("box",)
    if kind not in possible:
        raise PromptError(f"Model {model.name} cannot be tuned to prompts '{kind}'; choose {', '.join(possible)}.")


def recipe_of_training(kind: PromptKind, training: Sequence[Example], per_lung: int = 1) -> PromptRecipe:
    """The recipe of a kind; its mean points come from the masks of the training images and from no others.

    Args:
        kind: of the prompts.
        training: examples that are trained on.
        per_lung: mean points in each lung.
    Raises:
        PromptError: the masks have no two lungs in common.
    """
    if kind not in ("points", "both"):
        return PromptRecipe(kind)
    masks = np.stack([_on_grid(example.lung_hw) for example in training])
    points = [point.xy for point in mean_image_points(masks, per_lung)]
    return PromptRecipe(kind, tuple(((x + 0.5) / GRID, (y + 0.5) / GRID) for x, y in points))


def _on_grid(mask: np.ndarray) -> np.ndarray:
    """A mask stretched to 256 x 256 pixels, the nearest ones."""
    rows, columns = (((np.arange(GRID) + 0.5) * length / GRID).astype(int) for length in mask.shape)
    return mask[np.ix_(rows, columns)]

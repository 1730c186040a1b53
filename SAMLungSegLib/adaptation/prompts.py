"""The kinds of prompts of an object that models learn with and are judged by, drawn from its mask."""

from __future__ import annotations

import numpy as np

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.prompts.reference import enlarged_box, random_points, tight_box
from SAMLungSegLib.prompts.simulated import distance_transform_peak

PROMPT_KINDS = ("centre", "point", "points", "box", "larger-box")
BOXES = ("box", "larger-box")
FEW_POINTS = 3
LARGER_BY_PX = 5.0  # on each side


def prompts_of(mask_hw: np.ndarray, kind: str, rng: np.random.Generator) -> PromptSet:
    """Prompts of one object.

    'centre' is the point deepest inside (peak of the distance transform), 'point' one random point, 'points' three,
    'box' the tight box, 'larger-box' that with 5 pixels more on each side (Zhang, multi-organ segmentation by SAM).

    Args:
        mask_hw: bool (H, W), not empty.
        kind: of `PROMPT_KINDS`.
        rng: of random points.
    Raises:
        PromptError: the mask is empty.
        SettingsError: there is no such kind.
    """
    if kind == "centre":
        return PromptSet((PointPrompt(distance_transform_peak(mask_hw)),))
    if kind in ("point", "points"):
        return PromptSet(random_points(mask_hw, rng, 1 if kind == "point" else FEW_POINTS))
    if kind == "box":
        return PromptSet(box=tight_box(mask_hw))
    if kind == "larger-box":
        return PromptSet(box=enlarged_box(mask_hw, 2 * LARGER_BY_PX))
    raise SettingsError(f"There is no kind of prompts '{kind}'; choose of {', '.join(PROMPT_KINDS)}.")


def accepted_kinds(model: PromptableModel, kinds: tuple[str, ...] = PROMPT_KINDS) -> tuple[str, ...]:
    """Of some kinds those that a model accepts.

    Raises:
        SettingsError: there is no such kind, or the model accepts none of them.
    """
    unknown = [kind for kind in kinds if kind not in PROMPT_KINDS]
    accepted = tuple(one for one in kinds if model.capabilities.accepts("box" if one in BOXES else "points"))
    if unknown or not accepted:
        possible = ", ".join(one for one in PROMPT_KINDS if one in accepted_kinds(model)) if kinds else "none"
        raise SettingsError(
            f"Model {model.name} is not prompted by {', '.join(unknown or kinds)}; choose of {possible}."
        )
    return accepted

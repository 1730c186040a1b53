"""What a model predicts from prompts computed from the reference of a slice, and how good that is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.prompts.reference import BOX, Mode, gutierrez2024_prompt_steps
from SAMLungSegLib.prompts.simulated import corrective_click


def slice_prompts(model: PromptableModel, labels_hw: np.ndarray, mode: Mode, name: str) -> dict[str, PromptSet]:
    """`gutierrez2024_prompt_steps`; for a model that takes boxes only, the box alone as the last step.

    Args:
        name: of the slice; it seeds what is drawn at random, so that the slice has the same prompts whenever it is
            predicted.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    steps = gutierrez2024_prompt_steps(labels_hw, mode, np.random.default_rng(seed))
    return steps if model.capabilities.accepts("points") else {BOX: PromptSet(box=steps[BOX].box)}


def predicted_mask(model: PromptableModel, embedding: Embedding, prompts: PromptSet) -> np.ndarray:
    """The model's mask of what is prompted, bool (H, W), as it is: nothing is cleaned."""
    return model.decode(embedding, prompts).logits > 0


def scores(reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Jaccard and Dice of two bool masks (H, W)."""
    return {"jaccard": float(jaccard(reference, prediction)), "dice": float(dice(reference, prediction))}


def with_more_negatives(
    model: PromptableModel, embedding: Embedding, prompts: PromptSet, reference: np.ndarray, most: int
) -> Iterator[tuple[PromptSet, np.ndarray]]:
    """Prompts and predictions as negative points are added, each in the middle of the largest region wrongly taken.

    A point that changed nothing is not given again: the next one keeps away from it.

    Args:
        reference: bool (H, W).
        most: points to add; fewer where nothing is wrongly taken any more.
    Returns:
        The given prompts with their prediction first.
    """
    prediction = predicted_mask(model, embedding, prompts)
    yield prompts, prediction
    for _ in range(most):
        wrongly_taken = prediction & ~reference
        for point in prompts.points:
            wrongly_taken[int(point.xy[1]), int(point.xy[0])] = False
        click = corrective_click(wrongly_taken, np.zeros_like(wrongly_taken))
        if click is None:
            return
        prompts = replace(prompts, points=(*prompts.points, PointPrompt(click[0], positive=False)))
        prediction = predicted_mask(model, embedding, prompts)
        yield prompts, prediction

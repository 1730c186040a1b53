"""Prompts and one encoded slice in, labels of that slice out.

A model is given one or several object prompts: the user's, or automatic ones where the user gave none. Everything here
is in pixels of the slice as displayed, the patient's right at the left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.postprocess import split_sides
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet, automatic_prompts


@dataclass(frozen=True)
class ObjectPrompt:
    """The prompts of one object in one slice.

    Attributes:
        prompts: of one object, or of both lungs where empty.
        label: that the object gets; None to take it from the prediction.
        corrects: whether the prompts correct the model's own prediction without a prompt.
    """

    prompts: PromptSet
    label: int | None = None
    corrects: bool = False


@dataclass(frozen=True, eq=False)
class SlicePrediction:
    """Lungs of one slice.

    Attributes:
        labels_hw: uint8 (H, W), 1 = patient's right lung, 2 = left lung.
        score: predicted IoU, the lowest of all objects; NaN where there was none.
    """

    labels_hw: np.ndarray
    score: float


def object_prompts(
    model: PromptableModel,
    points: Sequence[PointPrompt],
    boxes: Sequence[BoxPrompt],
    coarse: Callable[[], np.ndarray],
) -> list[ObjectPrompt]:
    """The user's prompts on one slice, or automatic ones where there are none and the model needs some.

    Args:
        model: that will predict.
        points, boxes: the user's.
        coarse: makes a coarse labelmap (H, W) of the slice; called only where it is needed.
    """
    return prompted_objects(model, points, boxes) or automatic_objects(model, coarse())


def prompted_objects(
    model: PromptableModel, points: Sequence[PointPrompt] = (), boxes: Sequence[BoxPrompt] = ()
) -> list[ObjectPrompt]:
    """A user's prompts on one slice, object by object.

    Each box shows the object that it surrounds, with the points in it. Points alone correct the prediction of a model
    that needs no prompt, and show one object to any other.

    Returns:
        The objects; none without prompts, unless the model needs none.
    """
    if boxes:
        return [ObjectPrompt(prompts) for prompts in _per_object(points, boxes)]
    if not model.capabilities.needs_prompt:
        return [ObjectPrompt(PromptSet(tuple(points)), corrects=bool(points))]
    return [ObjectPrompt(PromptSet(tuple(points)))] if points else []


def automatic_objects(model: PromptableModel, coarse_hw: np.ndarray) -> list[ObjectPrompt]:
    """Prompts of each lung that a coarse labelmap (H, W) of the slice shows, or of both together.

    The latter is for models that were tuned with such prompts.
    """
    together = model.template_prompts(coarse_hw)
    if together is not None:
        return [ObjectPrompt(together)]
    prompts = automatic_prompts(coarse_hw)
    if not model.capabilities.accepts("points"):
        prompts = {side: PromptSet(box=one.box) for side, one in prompts.items()}
    return [ObjectPrompt(one, side) for side, one in prompts.items()]


def predict_slice(
    model: PromptableModel, embedding: Embedding, objects: Sequence[ObjectPrompt], threshold: float
) -> SlicePrediction:
    """Labels of an encoded slice.

    Args:
        model: the one that encoded the slice.
        embedding: of the slice.
        objects: where two masks overlap, the earlier one wins.
        threshold: probability above which a pixel is lung, in (0, 1).
    Raises:
        PromptError: a prompt that the model does not accept, or outside the slice.
        ModelError: a logit is no number.
    """
    cut = float(np.log(threshold / (1 - threshold)))
    labels_hw = np.zeros(embedding.size_hw, np.uint8)
    scores = []
    for one in objects:
        prompts = _with_own_mask(model, embedding, one.prompts) if one.corrects else one.prompts
        prediction = model.decode(embedding, prompts)
        if np.isnan(prediction.logits).any():
            raise ModelError(f"{model.name} predicts what are no numbers; its weights are damaged, give others.")
        labels_hw = np.where(labels_hw == 0, _labels(model, prediction, cut, one.label), labels_hw)
        scores.append(prediction.score)
    return SlicePrediction(labels_hw, min(scores, default=float("nan")))


def _per_object(points: Sequence[PointPrompt], boxes: Sequence[BoxPrompt]) -> list[PromptSet]:
    """One prompt set per box with the points in it; positive points outside every box make one more object."""
    sets = [PromptSet(tuple(p for p in points if box.contains(p)), box) for box in boxes]
    outside = [p for p in points if not any(box.contains(p) for box in boxes)]
    if any(p.positive for p in outside):
        sets.append(PromptSet(tuple(outside)))
    return sets


def _with_own_mask(model: PromptableModel, embedding: Embedding, prompts: PromptSet) -> PromptSet:
    """Points as corrections: the unprompted prediction says which object, the points correct it."""
    return PromptSet(prompts.points, mask=MaskPrompt(model.decode(embedding, PromptSet()).logits))


def _labels(model: PromptableModel, prediction: Prediction, cut: float, label: int | None) -> np.ndarray:
    mask = prediction.logits > cut
    if label is not None:
        return np.where(mask, label, 0).astype(np.uint8)
    structures = model.capabilities.structures
    if structures is None or not prediction.structure_logits:
        return split_sides(mask)
    logits = np.stack([prediction.structure_logits[key] for key in structures.keys])
    return np.where(mask, logits.argmax(axis=0) + 1, 0).astype(np.uint8)  # the first of equals

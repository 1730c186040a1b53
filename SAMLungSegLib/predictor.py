"""Prompts and one encoded slice in, labels of that slice out.

A slice is asked one or several questions: the user's, or automatic ones where the user gave none. Everything here is in
pixels of the slice as displayed, the patient's right at the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.postprocess import LEFT_LUNG, RIGHT_LUNG, split_sides
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet, automatic_prompts


@dataclass(frozen=True)
class Question:
    """What a model is asked about one slice.

    Attributes:
        prompts: of one object, or of both lungs where empty.
        side: the label that the answer gets; None to tell it from the answer.
        corrects: whether the prompts mend the model's own unprompted answer.
    """

    prompts: PromptSet
    side: int | None = None
    corrects: bool = False


@dataclass(frozen=True, eq=False)
class SliceAnswer:
    """Lungs of one slice.

    Attributes:
        labels_hw: uint8 (H, W), 1 = patient's right lung, 2 = left lung.
        score: predicted IoU, the lowest of all questions; NaN where nothing was asked.
    """

    labels_hw: np.ndarray
    score: float


def prompted_questions(
    model: PromptableModel, points: Sequence[PointPrompt] = (), boxes: Sequence[BoxPrompt] = ()
) -> list[Question]:
    """What a user's prompts on one slice ask.

    Each box asks about the object that it surrounds, with the points in it. Points alone correct the answer of a model
    that needs no prompt, and show one object to any other.

    Returns:
        The questions; none without prompts, unless the model answers without.
    """
    if boxes:
        return [Question(prompts) for prompts in _per_object(points, boxes)]
    if model.answers_without_prompt:
        return [Question(PromptSet(tuple(points)), corrects=bool(points))]
    return [Question(PromptSet(tuple(points)))] if points else []


def automatic_questions(model: PromptableModel, rough_hw: np.ndarray) -> list[Question]:
    """One question for each lung that a rough labelmap (H, W) of the slice shows, or one about both.

    The latter is for models that were tuned to be asked so.
    """
    about_both = model.prompts_about_both(rough_hw)
    if about_both is not None:
        return [Question(about_both)]
    prompts = automatic_prompts(rough_hw)
    if not model.accepts_points:
        prompts = {side: PromptSet(box=one.box) for side, one in prompts.items()}
    return [Question(one, side) for side, one in prompts.items()]


def answer_slice(
    model: PromptableModel, embedding: Embedding, questions: Sequence[Question], threshold: float
) -> SliceAnswer:
    """Ask a model about an encoded slice.

    Args:
        model: the one that encoded the slice.
        embedding: of the slice.
        questions: where two answers overlap, the earlier one wins.
        threshold: probability above which a pixel is lung, in (0, 1).
    Raises:
        PromptError: a prompt that the model does not accept, or outside the slice.
        ModelError: its answer is no number somewhere.
    """
    cut = float(np.log(threshold / (1 - threshold)))
    labels_hw = np.zeros(embedding.size_hw, np.uint8)
    scores = []
    for question in questions:
        prompts = _with_own_mask(model, embedding, question.prompts) if question.corrects else question.prompts
        prediction = model.decode(embedding, prompts)
        if np.isnan(prediction.logits).any():
            raise ModelError(f"{model.name} gives answers that are no numbers; its weights are damaged, give others.")
        labels_hw = np.where(labels_hw == 0, _labels(prediction, cut, question.side), labels_hw)
        scores.append(prediction.score)
    return SliceAnswer(labels_hw, min(scores, default=float("nan")))


def _per_object(points: Sequence[PointPrompt], boxes: Sequence[BoxPrompt]) -> list[PromptSet]:
    """One prompt set per box with the points in it; positive points outside every box make one more object."""
    sets = [PromptSet(tuple(p for p in points if _is_inside(p, box)), box) for box in boxes]
    outside = [p for p in points if not any(_is_inside(p, box) for box in boxes)]
    if any(p.positive for p in outside):
        sets.append(PromptSet(tuple(outside)))
    return sets


def _is_inside(point: PointPrompt, box: BoxPrompt) -> bool:
    (x, y), (left, top, right, bottom) = point.xy, box.xyxy
    return left <= x <= right and top <= y <= bottom


def _with_own_mask(model: PromptableModel, embedding: Embedding, prompts: PromptSet) -> PromptSet:
    """Points as corrections: the unprompted answer says which object, the points mend it."""
    return PromptSet(prompts.points, mask=MaskPrompt(model.decode(embedding, PromptSet()).logits))


def _labels(prediction: Prediction, cut: float, side: int | None) -> np.ndarray:
    mask = prediction.logits > cut
    if side is not None:
        return np.where(mask, side, 0).astype(np.uint8)
    if prediction.side_logits is None:
        return split_sides(mask)
    right, left = prediction.side_logits
    return np.where(mask, np.where(right >= left, RIGHT_LUNG, LEFT_LUNG), 0).astype(np.uint8)

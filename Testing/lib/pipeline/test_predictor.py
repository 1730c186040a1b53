"""Questions about one slice and how their answers become labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.pipeline.predict import predict_slice
from SAMLungSegLib.pipeline.prompting import automatic_objects, prompted_objects
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.types import ObjectPrompt
from SAMLungSegLib.structures import LUNGS

SIZE_HW = (8, 12)
EMBEDDING = Embedding((), SIZE_HW)
LEFT_BOX, RIGHT_BOX = BoxPrompt((0, 0, 4, 7)), BoxPrompt((6, 0, 11, 7))


class Scripted(PromptableModel):
    """Gives the predictions of a list in turn and keeps what it was asked."""

    name, device = "scripted", torch.device("cpu")

    def __init__(self, *predictions: Prediction, unprompted: bool = False, accepts_points: bool = True) -> None:
        prompts = ("points", "box", "mask") if accepts_points else ("box", "mask")
        self.capabilities = Capabilities(prompts, needs_prompt=not unprompted, structures=LUNGS)
        self.predictions, self.asked = list(predictions), []

    def encode(self, views):
        raise NotImplementedError

    def decode(self, embedding, prompts):
        self.check_prompts(prompts, embedding.size_hw)
        self.asked.append(prompts)
        return self.predictions[len(self.asked) - 1]


def prediction(
    columns: slice, *, logit: float = 3.0, score: float = 0.9, sides: np.ndarray | None = None
) -> Prediction:
    """`logit` in some columns, -3 elsewhere."""
    logits = np.full(SIZE_HW, -3.0, np.float32)
    logits[:, columns] = logit
    return Prediction(logits, score, logits, {} if sides is None else dict(zip(LUNGS.keys, sides, strict=True)))


# ---- what is asked


def test_each_box_is_one_object_with_the_points_in_it():
    inside, outside = PointPrompt((2, 2)), PointPrompt((5, 5))
    questions = prompted_objects(Scripted(), [inside, outside], [LEFT_BOX, RIGHT_BOX])
    assert [question.prompts for question in questions] == [
        PromptSet((inside,), LEFT_BOX),
        PromptSet((), RIGHT_BOX),
        PromptSet((outside,)),
    ]
    assert not any(question.corrects for question in questions)


def test_points_correct_what_a_box_or_they_themselves_show_to_a_model_that_needs_no_prompt():
    inside, outside = PointPrompt((2, 2)), PointPrompt((5, 5))
    one, other, third = prompted_objects(Scripted(unprompted=True), [inside, outside], [LEFT_BOX, RIGHT_BOX])
    assert (one.corrects, one.first) == ("shown", PromptSet(box=LEFT_BOX))
    assert other.corrects is None
    assert (third.corrects, third.first) == ("shown", PromptSet((outside,)))


def test_negative_points_outside_every_box_are_no_object():
    questions = prompted_objects(Scripted(), [PointPrompt((5, 5), positive=False)], [LEFT_BOX])
    assert [question.prompts for question in questions] == [PromptSet((), LEFT_BOX)]


def test_points_alone_correct_a_model_that_answers_without_and_show_an_object_to_others():
    points = [PointPrompt((2, 2)), PointPrompt((3, 3), positive=False)]
    assert prompted_objects(Scripted(unprompted=True), points) == [
        ObjectPrompt(PromptSet(tuple(points)), corrects="unprompted")
    ]
    assert prompted_objects(Scripted(), points) == [ObjectPrompt(PromptSet(tuple(points)))]


def test_without_prompts_only_a_model_that_answers_without_is_asked():
    assert prompted_objects(Scripted(unprompted=True)) == [ObjectPrompt(PromptSet())]
    assert prompted_objects(Scripted()) == []


def test_automatic_questions_are_one_for_each_lung_with_its_side():
    rough = np.zeros((60, 80), np.uint8)
    rough[10:50, 5:30], rough[10:50, 50:75] = 1, 2
    questions = automatic_objects(Scripted(), rough)
    assert [question.label for question in questions] == [1, 2]
    assert questions[0].prompts.box.xyxy == (4.5, 9.5, 29.5, 49.5)
    assert all(question.prompts.points for question in questions)
    with_boxes_only = automatic_objects(Scripted(accepts_points=False), rough)
    assert [question.prompts for question in with_boxes_only] == [PromptSet(box=q.prompts.box) for q in questions]
    assert automatic_objects(Scripted(), np.zeros_like(rough)) == []


# ---- what is answered


def test_where_answers_overlap_the_earlier_wins_and_the_lowest_score_counts():
    model = Scripted(prediction(np.s_[0:6], score=0.8), prediction(np.s_[4:9], score=0.6))
    questions = [ObjectPrompt(PromptSet(box=LEFT_BOX), 1), ObjectPrompt(PromptSet(box=RIGHT_BOX), 2)]
    answer = predict_slice(model, EMBEDDING, questions, 0.5)
    assert answer.labels_hw.dtype == np.uint8
    assert answer.labels_hw.tolist() == [[1] * 6 + [2] * 3 + [0] * 3] * 8
    assert answer.score == 0.6


def test_nothing_asked_is_no_lung_and_no_score():
    answer = predict_slice(Scripted(), EMBEDDING, [], 0.5)
    assert answer.labels_hw.shape == SIZE_HW
    assert not answer.labels_hw.any()
    assert np.isnan(answer.score)


@pytest.mark.parametrize(("threshold", "is_lung"), [(0.5, True), (0.59, True), (0.61, False)])
def test_the_threshold_is_a_probability(threshold, is_lung):
    model = Scripted(prediction(np.s_[0:6], logit=0.4055))  # a probability of 0.6
    answer = predict_slice(model, EMBEDDING, [ObjectPrompt(PromptSet(box=LEFT_BOX), 1)], threshold)
    assert answer.labels_hw.any() == is_lung


def test_the_sides_come_from_the_model_where_it_tells_them():
    sides = np.zeros((2, *SIZE_HW), np.float32)
    sides[0, :, :9], sides[1, :, 9:] = 1, 1
    model = Scripted(prediction(np.s_[0:11], sides=sides), unprompted=True)
    answer = predict_slice(model, EMBEDDING, [ObjectPrompt(PromptSet())], 0.5)
    assert answer.labels_hw.tolist() == [[1] * 9 + [2] * 2 + [0]] * 8


def test_the_sides_come_from_the_place_where_the_model_does_not_tell_them():
    both = prediction(np.s_[0:3])
    both.logits[:, 8:] = 3
    answer = predict_slice(Scripted(both), EMBEDDING, [ObjectPrompt(PromptSet(box=LEFT_BOX))], 0.5)
    assert answer.labels_hw.tolist() == [[1] * 3 + [0] * 5 + [2] * 4] * 8


def test_a_correction_starts_from_the_models_own_answer():
    own, mended = prediction(np.s_[0:6]), prediction(np.s_[0:4])
    model = Scripted(own, mended, unprompted=True)
    point = PointPrompt((5, 5), positive=False)
    answer = predict_slice(model, EMBEDDING, [ObjectPrompt(PromptSet((point,)), 1, corrects="unprompted")], 0.5)
    unprompted, correction = model.asked
    assert unprompted.is_empty
    assert correction.points == (point,)
    assert correction.mask.array is own.logits
    assert answer.labels_hw.tolist() == [[1] * 4 + [0] * 8] * 8


def test_a_prompt_outside_the_slice_is_refused():
    with pytest.raises(PromptError, match="outside the slice of 12 x 8"):
        predict_slice(Scripted(), EMBEDDING, [ObjectPrompt(PromptSet((PointPrompt((12, 3)),)))], 0.5)

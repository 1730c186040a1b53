"""Masks of X-rays that hold different extents of the lungs, compared; what the files say is noted."""

from __future__ import annotations

import numpy as np
import pytest
from small_lungs import row
from two_extents import fields, fields_and_hidden, xray

from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.structures import HIDDEN_LUNGS
from SAMLungSegLib.volume.extents import with_extent


def mask(extent, labels_hw=None):
    if labels_hw is None:
        labels_hw = fields_and_hidden()
        labels_hw = {"both": labels_hw, "whole": np.where(labels_hw > 2, labels_hw - 2, labels_hw)}.get(
            extent, fields()
        )
    return with_extent(xray(labels_hw), extent)


def dice(result, structure="left lung"):
    return row(result.per_volume, structure=structure)["dice"]


def about_extent(result):
    return [note for note in result.notes if "fields" in note or "whole" in note]


@pytest.mark.parametrize("extent", ["visible", "whole", None])
def test_masks_of_one_extent_are_compared_without_a_word(extent):
    result = evaluate(mask(extent), mask(extent))
    assert dice(result) == 1 and about_extent(result) == []


def test_another_extent_of_the_reference_is_said_once():
    result = evaluate(mask("whole"), mask("visible"))
    assert about_extent(result) == [
        "The prediction is of whole lungs, the reference of visible lung fields: what lies behind heart and diaphragm "
        "counts as a difference."
    ]
    assert dice(result) == pytest.approx(2 * 700 / (700 + 900))  # the heart hides 20 x 10 pixels of the left lung


@pytest.mark.parametrize(
    ("prediction", "reference", "note"),
    [
        ("whole", None, "The prediction is of whole lungs on an X-ray; the reference does not say"),
        ("visible", None, "The prediction is of visible lung fields on an X-ray; the reference does not say"),
        (None, "whole", "The reference is of whole lungs on an X-ray; the prediction does not say"),
    ],
)
def test_an_extent_that_one_does_not_say_is_noted_once(prediction, reference, note):
    (said,) = about_extent(evaluate(mask(prediction), mask(reference)))
    assert said.startswith(note)


def test_of_both_the_fields_count_unless_the_reference_is_of_whole_lungs():
    for reference in ("visible", None):
        result = evaluate(mask("both"), mask(reference))
        assert dice(result) == 1
        assert "The prediction holds visible lung fields and hidden parts: the fields count" in result.notes[0]
    result = evaluate(mask("both"), mask("whole"))
    assert dice(result) == 1
    assert about_extent(result) == ["The prediction holds visible lung fields and hidden parts: both count."]


def test_hidden_parts_can_be_compared_alone():
    predicted = fields_and_hidden()
    predicted[25:35, 40:50] = 0  # half of what is hidden of the left lung
    result = evaluate(mask("both", predicted), mask("both"), label_set=HIDDEN_LUNGS)
    assert dice(result, "left hidden lung") == pytest.approx(2 * 100 / (100 + 200))
    assert dice(result, "right hidden lung") == 1


def test_labels_that_were_named_are_taken_as_they_are():
    labels = {"right": (3,), "left": (4,)}
    result = evaluate(mask("both"), mask("both"), prediction_labels=labels, reference_labels=labels)
    assert dice(result) == 1 and about_extent(result) == []
    assert row(result.per_volume, structure="left lung")["reference_voxels"] == 200

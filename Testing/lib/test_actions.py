"""Which actions made labels: what each leaves of those before it, and how it is written down."""

from __future__ import annotations

import json

import numpy as np
import pytest

from SAMLungSegLib.actions import Action, Actions
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.options import Options
from SAMLungSegLib.provenance import Provenance
from SAMLungSegLib.volume import reformat_volume

OBLIQUE = np.array([[0.8, 0, -1.8, 10], [0, -0.5, 0, -20], [0.6, 0, 2.4, 5], [0, 0, 0, 1.0]])  # 1, 0.5, 3 mm


def made(threshold: float) -> Provenance:
    matrix = tuple(map(tuple, OBLIQUE.tolist()))
    return Provenance(
        "", None, "0" * 64, matrix, ModelChoice(), {"lung-compact": "1"}, "cpu", Options(threshold=threshold)
    )


def cut(k: int):
    """The slice K = k of 6 x 8 x 10 voxels."""
    point = OBLIQUE @ [4, 3, k, 1]
    return reformat_volume((6, 8, 10), OBLIQUE, normal_ras=tuple(OBLIQUE[:3, 2] / 3), point_ras=tuple(point[:3]))


def thresholds(actions: Actions) -> list[float]:
    return [one["options"]["threshold"] for one in actions.records]


def test_one_action_on_a_volume_is_its_provenance_record():
    text = Actions(is_complete=False).then(Action(made(0.4))).to_json()
    assert text == made(0.4).to_json()
    assert Actions.from_json(text).to_json() == text


def test_slices_are_added_and_come_back_from_their_text():
    first = Actions().then(Action(made(0.3))).then(Action(made(0.4), cut(2))).then(Action(made(0.5), cut(3)))
    again = Actions.from_json(first.to_json())
    assert again == Actions.from_json(again.to_json()) and thresholds(again) == [0.3, 0.4, 0.5]
    place = again.records[1]["slice"]
    corner = np.array(place["xy_to_ijk"]) @ [0, 0, 1]
    assert corner[2] == 2 and place["size_hw"] == [8, 10]
    last = np.array(place["xy_to_ijk"]) @ [9, 7, 1]
    assert sorted((corner[0], last[0])) == [0, 9] and sorted((corner[1], last[1])) == [0, 7]


@pytest.mark.parametrize(
    ("action", "left"),
    [
        (Action(made(0.6), cut(2)), [0.3, 0.5, 0.6]),
        (Action(made(0.6), cut(2), is_whole=False), [0.3, 0.4, 0.5, 0.6]),
        (Action(made(0.6), cut(2), kept=7), [0.3, 0.4, 0.5, 0.6]),
        (Action(made(0.6)), [0.6]),
        (Action(made(0.6), kept=1), [0.3, 0.4, 0.5, 0.6]),
        (Action(made(0.6), is_whole=False), [0.3, 0.4, 0.5, 0.6]),
    ],
)
def test_only_what_was_written_over_as_a_whole_goes(action, left):
    before = Actions().then(Action(made(0.3))).then(Action(made(0.4), cut(2))).then(Action(made(0.5), cut(3)))
    assert thresholds(before.then(action)) == left


@pytest.mark.parametrize(
    "text", [None, "", "{", '{"schema": "of another"}', "[]", '{"schema": "samlungseg-actions/1"}']
)
def test_what_cannot_be_read_is_not_known(text):
    assert Actions.from_json(text) == Actions(is_complete=False)
    later = Actions.from_json(text).then(Action(made(0.5), cut(1)))
    assert json.loads(later.to_json())["is_complete"] is False


def test_an_action_that_is_not_known_is_said():
    unknown = Actions().then(Action(made(0.4), cut(2))).then(Action(None, cut(3)))
    assert json.loads(unknown.to_json())["is_complete"] is False and thresholds(unknown) == [0.4]
    assert unknown.then(Action(None)).to_json() is None

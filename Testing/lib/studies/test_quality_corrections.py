"""What clicks and masks do to a prediction: measured by hand, with models that obey, are deaf, forget or do harm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.prompts.simulated_users import clicksam_user
from SAMLungSegLib.studies.quality.corrections import clicks_table, corrected, corrections_table
from SAMLungSegLib.studies.quality.references import ReferenceSlice

SIZE = (10, 10)
LUNG = np.zeros(SIZE, bool)
LUNG[:, :4] = True
OWN = np.zeros(SIZE, bool)
OWN[:, :3] = True  # 30 of 40 pixels; what is missed is one pixel wide, so that clicks go down it row by row
DICE = 60 / 70


class Clicked(PromptableModel):
    """Predicts three of the lung's four columns, and what `change` makes of them by the clicks."""

    name, device = "clicked", torch.device("cpu")
    capabilities = Capabilities(needs_prompt=False, extents=("visible", "whole"))

    def __init__(self, change, follows_masks=True):
        self.change, self.follows_masks = change, follows_masks
        self.given = []

    def encode(self, views):
        return [Embedding((), SIZE) for _ in views]

    def decode(self, embedding, prompts):
        self.given.append(prompts)
        mask = OWN.copy()
        if prompts.points:
            self.change(mask, prompts.points)
        elif prompts.mask is not None and self.follows_masks:
            mask = prompts.mask.logits() > 0
        logits = np.where(mask, 5.0, -5.0).astype(np.float32)
        return Prediction(logits, 1.0, logits)


def obey(mask, points):
    for point in points:
        mask[int(point.xy[1]), int(point.xy[0])] = point.positive


def forget(mask, points):
    obey(mask, points[-1:])


def do_harm(mask, points):
    mask[:, 9] = True


def be_deaf(mask, points):
    pass


def reference(ignored=None):
    ignored = np.zeros(SIZE, bool) if ignored is None else ignored
    return ReferenceSlice("set", "image", "XRAY", np.zeros(SIZE, np.uint8), LUNG & ~ignored, ignored)


def measured(model, ignored=None, extent="visible", **user):
    return corrected(model, model.encode([None])[0], reference(ignored), extent, **user)


def test_a_model_that_obeys_gains_a_pixel_by_each_click_and_loses_nothing_by_neutral_ones():
    after = measured(Clicked(obey))
    assert after.dice == pytest.approx([2 * (30 + clicks) / (70 + clicks) for clicks in range(11)])
    assert after.figures == pytest.approx(
        {
            "first_obeyed": 1,
            "all_of_3_obeyed": 1,
            "gain_1_click": 62 / 71 - DICE,
            "gain_3_clicks": 66 / 73 - DICE,
            "worse_after_1": 0,
            "change_3_neutral": 0,
            "mask_followed": 1,
        }
    )


def test_a_deaf_model_obeys_and_follows_nothing():
    after = measured(Clicked(be_deaf, follows_masks=False))
    assert after.dice == pytest.approx([DICE] * 11)
    assert after.figures == pytest.approx(dict.fromkeys(after.figures, 0))


def test_a_model_that_heeds_the_last_click_only_obeys_the_first_but_not_all_three():
    figures = measured(Clicked(forget)).figures
    assert (figures["first_obeyed"], figures["all_of_3_obeyed"]) == (1, 0)
    assert figures["gain_1_click"] == figures["gain_3_clicks"] == pytest.approx(62 / 71 - DICE)


def test_harm_is_counted_of_clicks_on_errors_and_of_neutral_ones():
    figures = measured(Clicked(do_harm)).figures
    assert figures["worse_after_1"] == 1
    assert figures["gain_1_click"] == figures["change_3_neutral"] == pytest.approx(60 / 80 - DICE)


def test_every_click_is_given_with_all_before_it_and_the_models_own_prediction():
    model = Clicked(obey)
    measured(model, extent="whole")
    assert {one.extent for one in model.given} == {"whole"}
    with_points = [one for one in model.given if one.points]
    assert [len(one.points) for one in with_points] == [*range(1, 11), 3]
    assert all(np.array_equal(one.mask.logits() > 0, OWN) for one in with_points)
    assert [point.xy for point in with_points[2].points] == [(3, 0), (3, 1), (3, 2)]


def test_another_user_clicks_all_over_what_is_right_and_missed_and_begins_anew_with_each_round():
    model = Clicked(obey)
    after = measured(model, user=clicksam_user)
    # at a side of 256, the 30 right pixels are 19661: int(1 + 2 * 1.294) = 3 clicks; the 10 missed are 6554: 2 clicks
    first = next(one.points for one in model.given if one.points)
    assert [bool(OWN[int(y), int(x)]) for x, y in (one.xy for one in first)] == [True] * 3 + [False] * 2
    assert all(one.positive for one in first)
    assert after.dice[1] == pytest.approx(64 / 72)
    assert max(len(one.points) for one in model.given) <= 30


def test_neutral_clicks_are_two_positive_ones_and_a_negative_one_where_the_prediction_is_right():
    model = Clicked(obey)
    measured(model)
    (neutral,) = [one for one in model.given if len(one.points) == 3 and not one.points[1].positive]
    assert [point.positive for point in neutral.points] == [True, False, True]
    assert all(OWN[int(y), int(x)] == LUNG[int(y), int(x)] == p.positive for p in neutral.points for x, y in [p.xy])


def test_a_prediction_without_error_needs_no_click_and_has_nothing_to_follow():
    ignored = np.zeros(SIZE, bool)
    ignored[:, 3] = True  # all that is missed
    after = measured(Clicked(do_harm, follows_masks=False), ignored)
    assert after.dice == (1,) * 11
    figures = after.figures
    assert figures["first_obeyed"] == figures["all_of_3_obeyed"] == figures["mask_followed"] == 1
    assert figures["gain_3_clicks"] == 0


def test_nothing_is_clicked_or_counted_where_nobody_knows():
    ignored = np.zeros(SIZE, bool)
    ignored[:8, 3] = True  # two of the missed pixels are known
    ignored[:, 9] = True
    model = Clicked(do_harm)
    after = measured(model, ignored)
    assert after.dice == pytest.approx([60 / 62] * 11), "the harm lies where nobody knows"
    assert {point.xy for one in model.given if len(one.points) == 10 for point in one.points} == {(3, 8)}


def test_corrections_are_averaged_over_bad_and_good_predictions_and_the_worst_tenth():
    rows = [("a", 0.90, 0.0, 0.04), ("b", 0.95, 1.0, 0.02), ("c", 0.955, 1.0, -0.01)]
    corrections = pd.DataFrame(rows, columns=["image", "dice", "first_obeyed", "gain_3_clicks"]).assign(subset="set")
    table = corrections_table(corrections).set_index("predictions")
    assert table["images"].to_dict() == {"all": 3, "Dice below 0.955": 2, "Dice from 0.955": 1, "bottom decile": 1}
    assert table["dice"].tolist() == pytest.approx([0.935, 0.925, 0.955, 0.9])
    assert table["first_obeyed"].tolist() == pytest.approx([2 / 3, 0.5, 1.0, 0.0])
    assert table["gain_3_clicks"].tolist() == pytest.approx([0.05 / 3, 0.03, -0.01, 0.04])


def test_a_set_without_bad_predictions_has_no_row_of_them():
    corrections = pd.DataFrame({"subset": "set", "image": ["a"], "dice": [0.99], "first_obeyed": [1.0]})
    assert corrections_table(corrections)["predictions"].tolist() == ["all", "Dice from 0.955", "bottom decile"]


def test_clicks_are_followed_on_the_images_that_were_worst_before_any():
    rows = [("a", 0, 0.5), ("a", 1, 0.8), ("b", 0, 0.9), ("b", 1, 0.7)]
    clicks = pd.DataFrame(rows, columns=["image", "clicks", "dice"]).assign(subset="set")
    table = clicks_table(clicks).set_index("clicks")
    assert table["dice_mean"].tolist() == pytest.approx([0.7, 0.75])
    assert table["dice_worst_tenth"].tolist() == [0.5, 0.8], "image a, although b is worse after the click"

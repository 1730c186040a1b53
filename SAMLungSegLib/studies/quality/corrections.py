"""What clicks and masks do to a prediction: whether they are obeyed, what they gain, and what they leave alone.

Clicks are given as users' are: together with the model's own prediction without a prompt, as the mask that they
correct. A simulated user makes one click a step, or a round of them; 'click' in the names below is a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.prompts import MaskPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.simulated import random_point
from SAMLungSegLib.prompts.simulated_users import SimulatedUser, largest_error_user
from SAMLungSegLib.structures import Extent
from SAMLungSegLib.studies.quality.references import ReferenceSlice
from SAMLungSegLib.training.scores import clicked_masks

CLICKS, SOME_CLICKS = 10, 3
BAD_DICE = 0.955
WORSE = 0.01  # loss of Dice that counts
WORST_SHARE = 0.1
NEUTRAL_CLICKS = (True, False, True)
ALL, BAD, GOOD, WORST = "all", f"Dice below {BAD_DICE}", f"Dice from {BAD_DICE}", "bottom decile"


@dataclass(frozen=True)
class Corrected:
    """What was measured of one slice.

    Attributes:
        dice: after 0, 1, ... 10 clicks; where nothing is wrong any more, as before.
        figures: the measures of `corrections_table`, of this slice.
    """

    dice: tuple[float, ...]
    figures: dict[str, float]


def corrected(
    model: PromptableModel,
    embedding: Embedding,
    reference: ReferenceSlice,
    extent: Extent,
    user: SimulatedUser = largest_error_user,
) -> Corrected:
    """Correct a model's own prediction.

    Args:
        embedding: of the slice.
        extent: of the lungs on X-rays.
        user: who clicks; by default each time in the middle of the largest error left.
    Raises:
        PromptError: the model does not accept points with a mask, or predicts no such extent.
    """
    own = model.decode(embedding, PromptSet(extent=extent)).logits
    known = ~reference.ignored_hw
    steps = [*clicked_masks(model, embedding, own, reference.lung_hw, known, extent, CLICKS, user)]
    scores = [reference.dice(mask) for _, mask in steps]
    obeyed = [all(mask[_pixel(point)] == point.positive for point in points) for points, mask in steps]
    neutral = PromptSet(_neutral_points(own > 0, reference), mask=MaskPrompt(own), extent=extent)
    first, third = scores[1] - scores[0], scores[SOME_CLICKS] - scores[0]
    figures = {
        "first_obeyed": float(obeyed[1]),
        "all_of_3_obeyed": float(obeyed[SOME_CLICKS]),
        "gain_1_click": first,
        "gain_3_clicks": third,
        "worse_after_1": float(first < -WORSE),
        "change_3_neutral": reference.dice(model.decode(embedding, neutral).logits > 0) - scores[0],
        "mask_followed": _followed(model, embedding, own > 0, reference, extent),
    }
    return Corrected(tuple(scores), figures)


def _pixel(point: PointPrompt) -> tuple[int, int]:
    x, y = point.xy
    return round(y), round(x)


def _neutral_points(own: np.ndarray, reference: ReferenceSlice) -> tuple[PointPrompt, ...]:
    """Two positive ones and a negative one where the prediction is right, the same whenever the slice is measured."""
    rng = np.random.default_rng(0)
    right = (own == reference.lung_hw) & ~reference.ignored_hw
    places = ((right & (reference.lung_hw == positive), positive) for positive in NEUTRAL_CLICKS)
    return tuple(PointPrompt(random_point(place, rng), positive) for place, positive in places if place.any())


def _followed(
    model: PromptableModel, embedding: Embedding, own: np.ndarray, reference: ReferenceSlice, extent: Extent
) -> float:
    """Share of the wrong pixels that become right where the reference is given as a mask; 1 where none is wrong."""
    wrong = reference.wrong_in(own)
    if not wrong.any():
        return 1.0
    given = PromptSet(mask=MaskPrompt(reference.lung_hw), extent=extent)
    mask = model.decode(embedding, given).logits > 0
    return float(np.mean((mask == reference.lung_hw)[wrong]))


def clicks_table(clicks: pd.DataFrame) -> pd.DataFrame:
    """Per subset and number of clicks: mean Dice of all images, and of the bottom decile without a click."""
    rows = []
    for subset, group in clicks.groupby("subset"):
        wide = group.pivot(index="image", columns="clicks", values="dice")
        worst = wide.loc[_worst(wide[0])]
        for count in wide.columns:
            rows.append(
                {
                    "subset": subset,
                    "clicks": count,
                    "dice_mean": wide[count].mean(),
                    "dice_worst_tenth": worst[count].mean(),
                }
            )
    return pd.DataFrame(rows)


def corrections_table(corrections: pd.DataFrame) -> pd.DataFrame:
    """Means by subset: of all slices, of those of low Dice without a click, of the others, of the bottom decile.

    Args:
        corrections: columns subset, image, dice (without a click) and those of `Corrected.figures`.
    Returns:
        Columns subset, predictions, images, and of these: Dice without a click; share whose first click has the label
        that it says; share with all of three clicks obeyed after the third; gain of Dice after one and three clicks;
        share made worse by more than 0.01 by the first; change of Dice after three clicks on what is right; mean share
        of wrong pixels that follow the reference given as a mask.
    """
    rows = []
    for subset, group in corrections.groupby("subset"):
        is_bad = group["dice"] < BAD_DICE
        worst = group.loc[_worst(group["dice"])]
        parts = {ALL: group, BAD: group[is_bad], GOOD: group[~is_bad], WORST: worst}
        for name, part in parts.items():
            if len(part):
                means = part.drop(columns=["subset", "image"]).mean()
                rows.append({"subset": subset, "predictions": name, "images": len(part), **means})
    return pd.DataFrame(rows)


def _worst(dice: pd.Series) -> pd.Index:
    return dice.nsmallest(max(1, round(WORST_SHARE * len(dice)))).index

"""How good a model is that predicts without a prompt: accuracy, clicks, its own estimate, corrupted images.

Measured on images that it has not learned from, through the pipeline that users run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.prompts import MaskPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.simulated import corrective_click
from SAMLungSegLib.studies.quality.corruptions import CORRUPTIONS
from SAMLungSegLib.training.data.cases import StudyCase, Windowing
from SAMLungSegLib.volume import Volume

CLICKS = 10
WORST_SHARE = 0.1
FLAGS = (0.80, 0.85, 0.90, 0.93)  # predicted IoU below which a slice is flagged
POOR_DICE = 0.93
DISPLAYED = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Quality:
    """What was measured; each table has the columns `subset` and `image`, an image being a slice.

    Attributes:
        images: dice, jaccard and predicted_iou without a prompt.
        clicks: clicks (0 to 10), dice.
        corrupted: corruption, dice, loss against the same image as it was.
    """

    images: pd.DataFrame
    clicks: pd.DataFrame
    corrupted: pd.DataFrame


def measure_quality(
    cases: Sequence[StudyCase],
    model: PromptableModel,
    *,
    progress: Callable[[Sequence[StudyCase]], Sequence[StudyCase]] = lambda cases: cases,
) -> Quality:
    """Measure a model on cases; slices without lung are left out.

    Args:
        cases: see `study_cases`; none that the model has learned from.
        model: that predicts without a prompt.
        progress: wraps the cases as they are gone through, such as tqdm.
    """
    images, clicks, corrupted = [], [], []
    for case in progress(cases):
        modality, slices = _slices(case)
        for name, grey, lung in slices:
            place = {"subset": case.subset, "image": name}
            first = _segmented(model, grey, lung, modality)
            images.append(place | first)
            clicks += [place | row for row in _clicked(model, grey, lung)]
            for corruption in CORRUPTIONS:
                if modality in corruption.modalities:
                    rng = np.random.default_rng(zlib.crc32(f"{name}/{corruption.name}".encode()))
                    found = _segmented(model, *corruption.change(grey, lung, rng), modality)["dice"]
                    loss = first["dice"] - found
                    corrupted.append(place | {"corruption": corruption.name, "dice": found, "loss": loss})
    return Quality(pd.DataFrame(images), pd.DataFrame(clicks), pd.DataFrame(corrupted))


def _slices(case: StudyCase) -> tuple[Modality, Iterator[tuple[str, np.ndarray, np.ndarray]]]:
    greys, labels = case.read(Windowing())
    modality = case.modality or "CT"
    names = [case.name] if len(greys) == 1 else [f"{case.name}/{number}" for number in range(len(greys))]
    return modality, ((name, g, one > 0) for name, g, one in zip(names, greys, labels, strict=True) if one.any())


def _segmented(model: PromptableModel, grey: np.ndarray, lung: np.ndarray, modality: Modality) -> dict[str, float]:
    volume = Volume(grey[None], DISPLAYED, "slice", modality)
    result = segment_volume(volume, model, Options(modality=modality))
    found = result.labelmap_kji[0] > 0
    return {"dice": dice(lung, found), "jaccard": jaccard(lung, found), "predicted_iou": float(result.scores[0])}


def _clicked(model: PromptableModel, grey: np.ndarray, lung: np.ndarray) -> Iterator[dict[str, float]]:
    """Dice after 0 to 10 clicks in the middle of the largest error left, the prediction before given as a mask."""
    embedding: Embedding = model.encode([grey])[0]
    points: tuple[PointPrompt, ...] = ()
    logits = model.decode(embedding, PromptSet()).logits
    for clicks in range(CLICKS + 1):
        yield {"clicks": clicks, "dice": dice(lung, logits > 0)}
        click = corrective_click(logits > 0, lung)
        if click is not None and clicks < CLICKS:
            points = (*points, PointPrompt(*click))
            logits = model.decode(embedding, PromptSet(points, mask=MaskPrompt(logits))).logits


def accuracy_table(images: pd.DataFrame) -> pd.DataFrame:
    """Per subset: images, mean, SD, bottom decile and lowest Dice, mean Jaccard."""
    rows = []
    for subset, group in images.groupby("subset"):
        values = group["dice"]
        rows.append(
            {
                "subset": subset,
                "images": len(group),
                "dice_mean": values.mean(),
                "dice_sd": values.std(ddof=1),
                "dice_worst_tenth": bottom_decile(values.to_numpy()),
                "dice_min": values.min(),
                "jaccard_mean": group["jaccard"].mean(),
            }
        )
    return pd.DataFrame(rows)


def bottom_decile(values: np.ndarray) -> float:
    """Mean of the lowest tenth, of one value at least."""
    count = max(1, round(WORST_SHARE * len(values)))
    return float(np.sort(values)[:count].mean())


def clicks_table(clicks: pd.DataFrame) -> pd.DataFrame:
    """Per subset and number of clicks: mean Dice of all images, and of the tenth that was worst without a click."""
    rows = []
    for subset, group in clicks.groupby("subset"):
        wide = group.pivot(index="image", columns="clicks", values="dice")
        worst = wide.loc[wide[0].nsmallest(max(1, round(WORST_SHARE * len(wide)))).index]
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


def calibration_table(images: pd.DataFrame) -> pd.DataFrame:
    """What a flag for predicted IoU below a threshold finds.

    Returns:
        One row for each threshold of `FLAGS`: flagged images, mean Dice of flagged and of other images, and the
        fraction of poor predictions (Dice below 0.93) that are flagged.
    """
    rows = []
    poor = images["dice"] < POOR_DICE
    for threshold in FLAGS:
        flagged = images["predicted_iou"] < threshold
        rows.append(
            {
                "predicted IoU below": threshold,
                "flagged": int(flagged.sum()),
                "dice_flagged": images.loc[flagged, "dice"].mean(),
                "dice_others": images.loc[~flagged, "dice"].mean(),
                "poor_found": (flagged & poor).sum() / poor.sum() if poor.any() else np.nan,
            }
        )
    return pd.DataFrame(rows)


def rank_correlation(images: pd.DataFrame) -> float:
    """Spearman's between predicted and true IoU."""
    return float(spearmanr(images["predicted_iou"], images["jaccard"]).statistic)


def corrupted_table(corrupted: pd.DataFrame) -> pd.DataFrame:
    """Mean loss of Dice by corruption (rows, in the order of `CORRUPTIONS`) and subset (columns)."""
    table = corrupted.pivot_table(index="corruption", columns="subset", values="loss", aggfunc="mean")
    order = [corruption.name for corruption in CORRUPTIONS if corruption.name in table.index]
    return table.loc[order].reset_index()

"""How good a model is that predicts without a prompt: accuracy, corrections, its own estimate, corrupted images.

Measured on images that it has not learned from, through the pipeline that users run.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.prompts.simulated_users import DEFAULT_USER, simulated_user
from SAMLungSegLib.structures import Extent
from SAMLungSegLib.studies.quality.corrections import WORST_SHARE, corrected
from SAMLungSegLib.studies.quality.corruptions import CORRUPTIONS, Corruption, Pair
from SAMLungSegLib.studies.quality.references import ReferenceSlice, reference_slices
from SAMLungSegLib.training.data.cases import StudyCase
from SAMLungSegLib.volume import Volume
from SAMLungSegLib.volume.telling import many_images

FLAGS = (0.80, 0.85, 0.90, 0.93)  # predicted IoU below which a slice is flagged
POOR_DICE = 0.93
DISPLAYED = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Quality:
    """What was measured; each table has the columns `subset` and `image`, an image being a slice.

    Attributes:
        extent: of the lungs on X-rays that were predicted, and that the references hold.
        images: extent, dice, jaccard and predicted_iou without a prompt.
        clicks: clicks (0 to 10), or a user's rounds of them, dice.
        corrections: dice without a click, and what `corrections.corrected` says of clicks and masks.
        corrupted: corruption, dice, loss against the same image as it was.
        user: who clicked, one of `SIMULATED_USERS`.
    """

    extent: Extent
    images: pd.DataFrame
    clicks: pd.DataFrame
    corrections: pd.DataFrame
    corrupted: pd.DataFrame
    user: str = DEFAULT_USER


@many_images("measuring")
def measure_quality(
    cases: Sequence[StudyCase],
    model: PromptableModel,
    *,
    extent: Extent = "visible",
    user: str = DEFAULT_USER,
    progress: Callable[[Sequence[StudyCase]], Sequence[StudyCase]] = lambda cases: cases,
) -> Quality:
    """Measure a model on cases; slices without lung are left out.

    Args:
        cases: see `study_cases`; none that the model has learned from, and whose masks are of `extent`, see
            `references.drawing_extent`.
        model: that predicts without a prompt.
        extent: of the lungs on X-rays; a CT is not measured for whole lungs.
        user: who clicks, one of `SIMULATED_USERS`.
        progress: wraps the cases as they are gone through, such as tqdm.
    Raises:
        PromptError: the model does not predict this extent.
        SettingsError: no such user.
        VolumeError: there is no slice to measure on, or an image cannot be read.
    """
    model.check_extent(extent)
    clicking = simulated_user(user)
    images, clicks, corrections, corrupted = [], [], [], []
    for case in progress(cases):
        for one in reference_slices(case):
            if extent == "whole" and one.modality == "CT":
                continue
            place = {"subset": one.subset, "image": one.name}
            first = _segmented(model, one, extent)
            images.append(place | {"extent": extent} | first)
            after = corrected(model, model.encode([one.grey_hw])[0], one, extent, clicking)
            clicks += [place | {"clicks": count, "dice": value} for count, value in enumerate(after.dice)]
            corrections.append(place | {"dice": after.dice[0]} | after.figures)
            for corruption in CORRUPTIONS:
                if one.modality in corruption.modalities:
                    found = _segmented(model, _corrupted(corruption, one), extent)["dice"]
                    loss = first["dice"] - found
                    corrupted.append(place | {"corruption": corruption.name, "dice": found, "loss": loss})
    if not images:
        raise VolumeError(f"None of the {len(cases)} images has a slice with lung in its reference; give others.")
    return Quality(extent, *map(pd.DataFrame, (images, clicks, corrections, corrupted)), user)


def _segmented(model: PromptableModel, reference: ReferenceSlice, extent: Extent) -> dict[str, float]:
    volume = Volume(reference.grey_hw[None], DISPLAYED, "slice", reference.modality)
    result = segment_volume(volume, model, Options(modality=reference.modality, extent=extent))
    found = result.labelmap_kji[0] > 0
    scores = {"dice": reference.dice(found), "jaccard": reference.jaccard(found)}
    return scores | {"predicted_iou": float(result.scores[0])}


def _corrupted(corruption: Corruption, reference: ReferenceSlice) -> ReferenceSlice:
    """What is ignored moves with the image as lung does."""

    def changed(mask: np.ndarray) -> Pair:
        rng = np.random.default_rng(zlib.crc32(f"{reference.name}/{corruption.name}".encode()))
        return corruption.change(reference.grey_hw, mask, rng)

    grey, lung = changed(reference.lung_hw)
    return replace(reference, grey_hw=grey, lung_hw=lung, ignored_hw=changed(reference.ignored_hw)[1])


def accuracy_table(images: pd.DataFrame) -> pd.DataFrame:
    """Per subset and extent: images, mean, SD, bottom decile and lowest Dice, mean Jaccard."""
    rows = []
    for (subset, extent), group in images.groupby(["subset", "extent"]):
        values = group["dice"]
        rows.append(
            {
                "subset": subset,
                "extent": extent,
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

"""How good a model is on images that it never saw: scores for cards, and comparisons before and after a tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap, wilcoxon
from tqdm import tqdm

from SAMLungSegLib.intensity import to_grey
from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.pipeline.predict import predict_slice
from SAMLungSegLib.pipeline.prompting import automatic_objects, prompted_objects
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.simulated import jittered_box
from SAMLungSegLib.prompts.simulated_users import SimulatedUser, largest_error_user
from SAMLungSegLib.prompts.types import Click
from SAMLungSegLib.structures import LUNGS, Extent
from SAMLungSegLib.training.data.examples import EncodedExample, Example
from SAMLungSegLib.training.data.packs import UNKNOWN, LabelledSlice, paired_examples
from SAMLungSegLib.training.data.splits import SPLIT_SETS, WHOLE_SETS, split_in_set
from SAMLungSegLib.training.prompt_policies import PromptPolicy
from SAMLungSegLib.volume import Volume
from SAMLungSegLib.volume.telling import many_images

CLICKS = 3
BOX_JITTER_PX = 10.0
EVEN = 0.5
CONFIDENCE = 0.95
FEWEST_SURE = 6  # pairs; of fewer, Wilcoxon's p is never below 5 %


def score(model: PromptableModel, data: Path, split: str) -> list[dict[str, Any]]:
    """One row per image set, at the images' own size; `extent` says which lungs its masks hold.

    Without a prompt: Dice and Jaccard of both lungs through the pipeline that users run. With prompts: mean Dice of
    single lungs selected by a box with up to 10 pixels of jitter, and of both lungs after three clicks, each in the
    middle of the largest error left, given together with the prediction without a prompt. What the masks leave open
    counts nowhere. A figure is None where no image has it, such as the SD of one image.

    Args:
        model: any model that needs no prompt; sets of an extent that it does not predict have no row.
        data: folder of the image sets.
        split: 'validation' or 'test'.
    """
    rows = []
    for set_name in (*SPLIT_SETS, *WHOLE_SETS):
        extent = "whole" if set_name in WHOLE_SETS else "visible"
        if extent in model.capabilities.extents:
            measured = measured_of_split(data, set_name, split, partial(_measured, model))
            if measured:
                facts = {"set": set_name, "split": split, "extent": extent, "images": len(measured)}
                rows.append(facts | _summary(pd.DataFrame(measured)))
    return rows


def measured_of_split(
    data: Path, set_name: str, split: str, measure: Callable[[LabelledSlice], dict[str, float]]
) -> list[dict[str, float]]:
    """What is measured of each image of a public set that belongs to a part.

    Args:
        data: folder of the image sets.
        set_name: folder of one.
        split: 'validation' or 'test'.
        measure: what to measure of an image.
    """
    doing = f"{set_name} {split}"
    with many_images(doing):
        every = tqdm(paired_examples(data / set_name), desc=f"reading {set_name}", unit=" images", disable=None)
        examples = [one for one in every if split_in_set(set_name, one.name, one.patient) == split]
        return [measure(one) for one in tqdm(examples, desc=doing, disable=None)]


def _summary(measured: pd.DataFrame) -> dict[str, float | None]:
    figures = {
        "dice_mean": measured["dice"].mean(),
        "dice_sd": measured["dice"].std(ddof=1),
        "dice_min": measured["dice"].min(),
        "jaccard_mean": measured["jaccard"].mean(),
        "box_dice_mean": measured["box"].mean(),
        "clicks_dice_mean": measured["clicks"].mean(),
    }
    return {name: None if np.isnan(value) else float(value) for name, value in figures.items()}


def _measured(model: PromptableModel, example: LabelledSlice) -> dict[str, float]:
    volume = Volume(example.image[None], np.diag([-1.0, -1.0, 1.0, 1.0]), example.name, example.modality)
    prediction = segment_volume(volume, model, Options(extent=example.extent)).labelmap_kji[0] > 0
    truth, known = np.isin(example.labelmap, LUNGS.labels), example.labelmap != UNKNOWN
    embedding = model.encode([to_grey(example.image, example.modality)])[0]
    return {
        "dice": dice(truth, prediction & known),
        "jaccard": jaccard(truth, prediction & known),
        "box": _box_dice(model, embedding, example),
        "clicks": _clicks_dice(model, embedding, truth, known, example.extent),
    }


def _box_dice(model: PromptableModel, embedding: Embedding, example: LabelledSlice) -> float:
    """Mean over the lungs of the Dice of what a box around a lung selects; NaN where sides are unknown."""
    if not example.sides_known:
        return np.nan
    scores = []
    for side in LUNGS.labels:
        lung = example.labelmap == side
        box = BoxPrompt(jittered_box(lung, np.random.default_rng(side), BOX_JITTER_PX))
        found = model.decode(embedding, PromptSet(box=box, extent=example.extent)).logits > 0
        scores.append(dice(lung, found & (example.labelmap != UNKNOWN)))
    return float(np.mean(scores))


def _clicks_dice(
    model: PromptableModel, embedding: Embedding, truth: np.ndarray, known: np.ndarray, extent: Extent
) -> float:
    own = model.decode(embedding, PromptSet(extent=extent)).logits
    *_, (_, mask) = clicked_masks(model, embedding, own, truth, known, extent, CLICKS)
    return dice(truth, mask & known)


def clicked_masks(
    model: PromptableModel,
    embedding: Embedding,
    own: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    extent: Extent,
    steps: int,
    user: SimulatedUser = largest_error_user,
) -> Iterator[tuple[tuple[PointPrompt, ...], np.ndarray]]:
    """The points and the mask, bool (H, W), after each number of a user's steps from 0 to `steps`.

    Points are given as users' are: with the model's own prediction as the mask that they correct. Where nothing is
    wrong any more, there are no more.

    Args:
        embedding: of the slice.
        own: float (H, W), logits that the model predicts without a prompt.
        truth, known: bool (H, W), the reference and where it says something.
        extent: of the lungs on X-rays.
        user: who clicks; by default once a step, in the middle of the largest error left.
    """
    clicks: tuple[Click, ...] = ()
    mask = own > 0
    yield (), mask
    for _ in range(steps):
        before, clicks = clicks, user(mask & known, truth, clicks)
        points = tuple(PointPrompt(*click) for click in clicks)
        if clicks != before:
            mask = model.decode(embedding, PromptSet(points, mask=MaskPrompt(own), extent=extent)).logits > 0
        yield points, mask


# ---- of the tuning of decoders


def prompted_masks(
    model: TrainableModel, encoded: Sequence[EncodedExample], policy: PromptPolicy, threshold: float = EVEN
) -> list[np.ndarray]:
    """Both lungs, bool (H, W), of every slice as predicted with its fixed prompts."""
    logit = float(np.log(threshold / (1 - threshold)))
    masks = []
    with model.threads(), torch.inference_mode():
        for one in encoded:
            low_res, _ = model.decode_batch([one.embedding(model.device)], [policy.fixed(one.example)])
            logits = model.to_slice(low_res[:, :1].cpu().numpy(), one.example.grey_hw.shape)[0, 0]
            masks.append(logits > logit)
    return masks


def unprompted_masks(model: PromptableModel, encoded: Sequence[EncodedExample]) -> list[np.ndarray]:
    """Both lungs, bool (H, W), of every slice as users get them without a prompt.

    Where a model needs prompts, the lungs are found roughly by lung-compact, as in X-rays.
    """
    guide = load_model() if model.capabilities.needs_prompt else None
    masks = []
    for one in tqdm(encoded, desc="measuring", unit="slice", leave=False, disable=None):
        objects = prompted_objects(model) if guide is None else []
        objects = objects or automatic_objects(model, _rough(guide, one.example))
        prediction = predict_slice(model, one.embedding(model.device), objects, EVEN)
        masks.append(prediction.labels_hw > 0)
    return masks


def _rough(guide: PromptableModel, example: Example) -> np.ndarray:
    return predict_slice(guide, guide.encode([example.grey_hw])[0], prompted_objects(guide), EVEN).labels_hw


def scores_table(encoded: Sequence[EncodedExample], masks: Sequence[np.ndarray]) -> pd.DataFrame:
    """Columns image, slice, dice, jaccard."""
    rows = [
        {
            "image": one.example.name,
            "slice": one.example.number,
            "dice": dice(one.example.lung_hw, mask),
            "jaccard": jaccard(one.example.lung_hw, mask),
        }
        for one, mask in zip(encoded, masks, strict=True)
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Comparison:
    """Dice before and after on the same images.

    Attributes:
        before, after: means over images.
        difference: their mean difference.
        low, high: 95 % interval of it, by percentiles of a bootstrap over images.
        p_value: of Wilcoxon's signed-rank test, two-sided; 1 where nothing changed.
        images: number of pairs.
    """

    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float
    images: int

    @property
    def is_better(self) -> bool:
        """Whether Dice improved on average."""
        return self.difference > 0

    @property
    def is_certain(self) -> bool:
        """Whether chance is an unlikely reason: the interval is above 0, and the test's p below 5 %.

        With fewer than `FEWEST_SURE` images the test cannot be so sure.
        """
        return self.low > 0 and self.p_value < 1 - CONFIDENCE

    def to_text(self, unit: str = "images", what: str = "Dice") -> str:
        """One line for people; `unit` is what the pairs are of, `what` was measured."""
        sure = "sure" if self.is_certain else "may be chance" if self.is_better else "no improvement"
        if self.is_better and self.images < FEWEST_SURE:
            sure += f", fewer than {FEWEST_SURE} are never sure"
        interval = f"95 % interval {self.low:+.4f} to {self.high:+.4f}, Wilcoxon p = {self.p_value:.3g}; "
        return (
            f"{what} on {self.images} held-out {unit} {self.before:.4f} before, {self.after:.4f} after, difference "
            f"{self.difference:+.4f} ({interval if self.images > 1 else 'one has no interval; '}{sure})"
        )


def compared(before: pd.Series, after: pd.Series) -> Comparison:
    """Paired comparison of the Dice of images; both series have one value for each image, in the same order."""
    differences = np.asarray(after, float) - np.asarray(before, float)
    low, high = mean_interval(differences)
    p_value = float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0
    mean = float(differences.mean())
    return Comparison(float(np.mean(before)), float(np.mean(after)), mean, low, high, p_value, len(differences))


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of (N,) values, by percentiles of a bootstrap."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    resampled = bootstrap(
        (values,), np.mean, confidence_level=CONFIDENCE, method="percentile", random_state=np.random.default_rng(0)
    )
    return float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)

"""Scores for the card: held-out images without a prompt, with a box around each lung, and after corrective clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from SAMLungSegLib.intensity import to_grey
from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.simulated import corrective_click, jittered_box
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.training.data import SPLIT_SETS, Example, paired_examples, split_of
from SAMLungSegLib.volume import Volume

CLICKS = 3
BOX_JITTER_PX = 10.0


def score(model: PromptableModel, data: Path, split: str) -> list[dict[str, Any]]:
    """One row per image set, at the images' own size.

    Without a prompt: Dice and Jaccard of both lungs through the pipeline that users run. With prompts: mean Dice of
    single lungs asked for by a box with up to 10 pixels of jitter, and of both lungs after three clicks, each in the
    middle of the largest error left.

    Args:
        model: any model that answers without a prompt.
        data: folder of the image sets.
        split: 'validation' or 'test'.
    """
    rows = []
    for set_name in SPLIT_SETS:
        examples = [example for example in paired_examples(data / set_name) if split_of(example.name) == split]
        if examples:
            measured = [_measured(model, example) for example in tqdm(examples, desc=f"{set_name} {split}")]
            rows.append({"set": set_name, "split": split, "images": len(examples), **_summary(measured)})
    return rows


def _summary(measured: list[dict[str, float]]) -> dict[str, float]:
    columns = {name: np.array([one[name] for one in measured]) for name in measured[0]}
    return {
        "dice_mean": float(columns["dice"].mean()),
        "dice_sd": float(columns["dice"].std(ddof=1)),
        "dice_min": float(columns["dice"].min()),
        "jaccard_mean": float(columns["jaccard"].mean()),
        "box_dice_mean": float(np.nanmean(columns["box"])),
        "clicks_dice_mean": float(columns["clicks"].mean()),
    }


def _measured(model: PromptableModel, example: Example) -> dict[str, float]:
    volume = Volume(example.image[None], np.diag([-1.0, -1.0, 1.0, 1.0]), example.name, example.modality)
    answer = segment_volume(volume, model, Options()).labelmap_kji[0] > 0
    truth = example.labelmap > 0
    embedding = model.encode([to_grey(example.image, example.modality)])[0]
    return {
        "dice": dice(truth, answer),
        "jaccard": jaccard(truth, answer),
        "box": _box_dice(model, embedding, example),
        "clicks": _clicks_dice(model, embedding, truth),
    }


def _box_dice(model: PromptableModel, embedding: Embedding, example: Example) -> float:
    """Mean over the lungs of the Dice of what a box around a lung selects; NaN where sides are unknown."""
    if not example.sides_known:
        return np.nan
    scores = []
    for side in (RIGHT_LUNG, LEFT_LUNG):
        lung = example.labelmap == side
        box = BoxPrompt(jittered_box(lung, np.random.default_rng(side), BOX_JITTER_PX))
        scores.append(dice(lung, model.decode(embedding, PromptSet(box=box)).logits > 0))
    return float(np.mean(scores))


def _clicks_dice(model: PromptableModel, embedding: Embedding, truth: np.ndarray) -> float:
    points: tuple[PointPrompt, ...] = ()
    logits = model.decode(embedding, PromptSet()).logits
    for _ in range(CLICKS):
        click = corrective_click(logits > 0, truth)
        if click is None:
            break
        points = (*points, PointPrompt(*click))
        logits = model.decode(embedding, PromptSet(points, mask=MaskPrompt(logits))).logits
    return dice(truth, logits > 0)

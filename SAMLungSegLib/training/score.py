"""Scores for the card: the images of one split through the pipeline that users run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.training.data import SPLIT_SETS, Example, paired_examples, split_of
from SAMLungSegLib.volume import Volume


def score(model: PromptableModel, data: Path, split: str) -> list[dict[str, Any]]:
    """One row per image set: Dice and Jaccard of both lungs without a prompt, at the images' own size.

    Args:
        model: any model that answers without a prompt.
        data: folder of the image sets.
        split: 'validation' or 'test'.
    """
    rows = []
    for set_name in SPLIT_SETS:
        examples = [example for example in paired_examples(data / set_name) if split_of(example.name) == split]
        if not examples:
            continue
        overlaps = np.array([_overlap(model, example) for example in tqdm(examples, desc=f"{set_name} {split}")])
        dices, jaccards = overlaps.T
        rows.append(
            {
                "set": set_name,
                "split": split,
                "images": len(examples),
                "dice_mean": float(dices.mean()),
                "dice_sd": float(dices.std(ddof=1)),
                "dice_min": float(dices.min()),
                "jaccard_mean": float(jaccards.mean()),
            }
        )
    return rows


def _overlap(model: PromptableModel, example: Example) -> tuple[float, float]:
    volume = Volume(example.image[None], np.diag([-1.0, -1.0, 1.0, 1.0]), example.name, example.modality)
    answer = segment_volume(volume, model, Options()).labelmap_kji[0] > 0
    truth = example.labelmap > 0
    return dice(truth, answer), jaccard(truth, answer)

"""From the training of a SAM to files that anybody can use: weights, their scores by kind of prompts, their card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from segment_anything.modeling import Sam
from torch import Tensor

from SAMLungSegLib.files import writable_folder, write_together
from SAMLungSegLib.intensity import to_grey
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.simulated import distance_transform_peak, jittered_box, random_point
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.training.card import markdown_list, markdown_paragraph, markdown_rows
from SAMLungSegLib.training.config import TrainingConfig
from SAMLungSegLib.training.data.packs import UNKNOWN, LabelledSlice
from SAMLungSegLib.training.data.splits import SPLIT_SETS
from SAMLungSegLib.training.promptable_prompts import KINDS, MANY
from SAMLungSegLib.training.scores import BOX_JITTER_PX, mean_interval, measured_of_split

TERMS = "research use only: some of the images allow no more"
INTENDED_USE = (
    "Trials of adapters, of prompts and of training on few images, and tests, where ViT-B is too slow or not to be "
    "had. It knows lungs on axial CT slices and frontal chest X-rays and nothing else; lung-compact finds these "
    "better. Not a medical device."
)
LIMITS = (
    "Its logits have 64 x 64 cells, four pixels of its frame each: borders are coarser than those of a SAM at 1024.",
    "It learned from few images in one short run: prompts about anything but lungs mean little to it before it is "
    "adapted.",
    "Masks of X-rays are lung fields, without what lies behind the heart and below the dome of the diaphragm.",
)


def halved_sam(sam: Sam) -> Sam:
    """The network with its weights rounded to float16, as its file holds them; changed in place, still float32."""
    sam.load_state_dict({name: _halved(value).to(value.dtype) for name, value in sam.state_dict().items()})
    return sam.eval()


def _halved(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def sam_model(sam: Sam, config: TrainingConfig) -> SamModel:
    """The network as users get it."""
    spec = model_spec(config.model)
    return SamModel(sam, name=spec.name, capabilities=spec.capabilities)


def score_prompts(model: SamModel, data: Path, split: str) -> list[dict[str, Any]]:
    """Dice at the images' own size by set and kind of prompts, a row each, with the 95 % interval of the mean.

    'none' is both lungs without a prompt. Others select a single lung, and count as the mean over an image's lungs: a
    'point' in its middle, three 'points' anywhere in it, a 'box' with up to 10 pixels of jitter.

    Args:
        model: a SAM that learned by a recipe.
        data: folder of the image sets.
        split: 'validation' or 'test'.
    """
    rows = []
    for set_name in SPLIT_SETS:
        measured = pd.DataFrame(measured_of_split(data, set_name, split, partial(dice_by_kind, model)))
        rows += [
            {"set": set_name, "split": split, "prompt": kind, "images": len(values), **_summary(values.to_numpy())}
            for kind in KINDS
            if len(values := measured[kind].dropna() if kind in measured else ())
        ]
    return rows


def _summary(values: np.ndarray) -> dict[str, float]:
    low, high = mean_interval(values)
    return {"dice_mean": float(values.mean()), "low": low, "high": high, "dice_min": float(values.min())}


def dice_by_kind(model: SamModel, example: LabelledSlice) -> dict[str, float]:
    """Of one slice; NaN where prompts need a lung and the sides are unknown."""
    (embedding,) = model.encode([to_grey(example.image, example.modality)])
    known = example.labelmap != UNKNOWN

    @torch.inference_mode()
    def found(prompts: PromptSet) -> np.ndarray:
        low_res, _ = model.decode_batch([embedding], [prompts])
        return (model.to_slice(low_res.cpu().numpy(), embedding.size_hw)[0, 0] > 0) & known

    scores: dict[str, list[float]] = {kind: [] for kind in KINDS}
    scores["none"].append(dice(np.isin(example.labelmap, LUNGS.labels), found(PromptSet())))
    for kind, lung, prompts in _single_lungs(example):
        scores[kind].append(dice(lung, found(prompts)))
    return {kind: float(np.mean(values)) if values else np.nan for kind, values in scores.items()}


def _single_lungs(example: LabelledSlice) -> Iterator[tuple[str, np.ndarray, PromptSet]]:
    for side in LUNGS.labels if example.sides_known else ():
        lung, rng = example.labelmap == side, np.random.default_rng(side)
        if lung.any():
            yield "point", lung, PromptSet((PointPrompt(distance_transform_peak(lung)),))
            yield "points", lung, PromptSet(tuple(PointPrompt(random_point(lung, rng)) for _ in range(MANY)))
            yield "box", lung, PromptSet(box=BoxPrompt(jittered_box(lung, rng, BOX_JITTER_PX)))


def export_sam(sam: Sam, folder: Path, config: TrainingConfig, facts: Mapping[str, Any]) -> Path:
    """Write the weights `<name>.safetensors` in float16 and their card, `.json` for programs and `.md` for people.

    Args:
        sam: the trained network.
        folder: where to write.
        config: the recipe, for the card.
        facts: what else the card says: `data` and `scores`.
    Returns:
        Path of the weights.
    """
    writable_folder(folder)
    content = save({name: _halved(value).contiguous() for name, value in sam.state_dict().items()})
    weights = folder / f"{config.name}.safetensors"
    card = {
        "name": config.name,
        "model": config.model,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "parameters": sum(parameter.numel() for parameter in sam.parameters()),
        "input_size": int(sam.image_encoder.img_size),
        "licence": TERMS,
        "intended_use": INTENDED_USE,
        "limits": list(LIMITS),
        "held_out_sets": list(config.held_out_sets),
        "recipe": asdict(config),
        **facts,
    }
    texts = {".json": json.dumps(card, indent=2) + "\n", ".md": sam_markdown(card)}
    write_together({weights: content} | {weights.with_suffix(end): text.encode() for end, text in texts.items()})
    return weights


def sam_markdown(card: Mapping[str, Any]) -> str:
    """The card for people, of that for programs."""
    summary = (
        f"A small SAM, {card['parameters'] / 1e6:.1f} million parameters, for frames of {card['input_size']} pixels: "
        "segment_anything's own image encoder, prompt encoder and mask decoder, narrower. "
        f"{card['size_bytes'] / 1e6:.1f} MB, float16, SHA-256 `{card['sha256']}`."
    )
    basis = (
        "Dice at the images' own size on images that nothing was learned from or chosen by: both lungs without a "
        "prompt, and single lungs by a point in the middle, by three points anywhere, and by a box with up to "
        f"{BOX_JITTER_PX:g} pixels of jitter. In brackets the 95 % interval of the mean, by a bootstrap over images."
    )
    return f"""# {card["name"]}

{markdown_paragraph(summary)}

**Terms**: {card["licence"]}.

{markdown_paragraph(card["intended_use"])}

## Data

| set | used | terms |
|---|---|---|
{markdown_rows([row["set"], row["used"], row["terms"]] for row in card["data"])}

## Scores

{markdown_paragraph(basis)}

| set | split | prompt | images | Dice | min |
|---|---|---|---:|---:|---:|
{markdown_rows(_cells(row) for row in card["scores"])}

## Limits

{markdown_list(card["limits"])}

## How to repeat

```
samlungseg train {card["recipe"]["name"]} DATA -o OUT
```
"""


def _cells(row: Mapping[str, Any]) -> list[str]:
    interval = f"{row['dice_mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return [row["set"], row["split"], row["prompt"], str(row["images"]), interval, f"{row['dice_min']:.3f}"]

"""From a training to files that anybody can use: weights and their card, of whole networks and of decoders alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from SAMLungSegLib.files import writable_folder, write_together
from SAMLungSegLib.models.adapted import save_adapter
from SAMLungSegLib.models.checkpoints import copy_beside, file_sha256
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.compact.network import INPUT_SIZE, CompactNet
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.models.tuned import PromptRecipe, TunedCard
from SAMLungSegLib.training.config import TrainingConfig
from SAMLungSegLib.training.trainer import State

DECODER_PREFIX = "mask_decoder."
TRAINED_SCHEMA = "samlungseg-trained/1"


def trained_network(folder: Path) -> CompactNet:
    """The network with the averaged weights of a run's last checkpoint, as it will ship (rounded to float16)."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["averaged"]
    net = CompactNet()
    net.load_state_dict({name: _halved(value).to(value.dtype) for name, value in state.items()})
    return net.eval()


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


def export_network(net: CompactNet, folder: Path, config: TrainingConfig, facts: dict[str, Any]) -> Path:
    """Write the weights `<name>.safetensors` and their card, `.json` for programs and `.md` for people.

    Args:
        net: the trained network.
        folder: where to write.
        config: the recipe, for the card.
        facts: what else the card says: `data`, `scores` and, where a run departed from the recipe, `notes`.
    Returns:
        Path of the weights.
    """
    writable_folder(folder)
    content = save({name: _halved(value).contiguous() for name, value in net.state_dict().items()})
    card = {
        "name": config.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        **PURPOSE,
        "held_out_sets": list(config.held_out_sets),
        "recipe": asdict(config),
        **facts,
    }
    weights = folder / f"{config.name}.safetensors"
    texts = {".json": json.dumps(card, indent=2) + "\n", ".md": card_markdown(card)}
    write_together({weights: content} | {weights.with_suffix(end): text.encode() for end, text in texts.items()})
    return weights


SCORES = ("dice_mean", "dice_sd", "dice_min", "jaccard_mean", "box_dice_mean", "clicks_dice_mean")
PURPOSE = {
    "licence": "CC BY-NC-SA 4.0, research use only: some of the training data allow no more",
    "intended_use": (
        "Right and left lung on axial chest CT slices and frontal chest X-rays of adults, in research. Not a medical "
        "device; not for diagnosis or treatment."
    ),
    "limits": [
        "Trained on few images: two X-ray sets from two hospitals' tuberculosis programmes, CT slices mostly from the "
        "middle of the chest, one whole chest CT.",
        "Children, lateral X-rays, pneumonectomy and massive effusion were hardly or never seen.",
        "X-ray masks follow the sets' readers: the part of the lung behind the heart and below the diaphragm's dome is "
        "not lung there. A seventh of the Shenzhen masks hold the lung behind the heart all the same; there the model "
        "agrees with most readers, not with those. A few tuberculosis masks cover aerated lung only.",
        "On X-rays the lower part of a lung that is white all over, by effusion or pneumonia, is often left out or "
        "drawn with a ragged border.",
        "Sides are learned from position: the image must be in radiological display orientation, which the pipeline "
        "takes care of where the file says how the patient lies.",
        f"Slices are seen one by one at {INPUT_SIZE} x {INPUT_SIZE} pixels; borders are as sharp as that allows.",
        "Painted consolidations in training make it take soft tissue inside the lung for lung: most consolidations, "
        "and now and then a piece of an effusion or of the liver's dome. The outer border of large consolidations is "
        "ragged.",
        "Clicks choose a lung and move the border near them; five do most of what clicks can do.",
        "Its predicted IoU is right to 0.01 on average and ranks predictions; it does not know what readers disagree "
        "about.",
        "Failures to look at: `samlungseg study quality` draws the six worst predictions on images of yours.",
    ],
}


def card_markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    limits = "\n".join(f"- {limit}" for limit in card["limits"])
    data = "\n".join(f"| {row['set']} | {row['used']} | {row['terms']} |" for row in card["data"])
    scores = "\n".join(
        f"| {row['set']} | {row['split']} | {row['images']} | {' | '.join(f'{row[name]:.4f}' for name in SCORES)} |"
        for row in card["scores"]
    )
    notes = "".join(f"\n{note}\n" for note in card.get("notes", []))
    recipe = "\n".join(f"| {name} | {value} |" for name, value in card["recipe"].items())
    return f"""# {card["name"]}

A promptable network of {card["parameters"] / 1e6:.1f} million parameters for right and left lung on CT slices and chest
X-rays. {card["size_bytes"] / 1e6:.1f} MB, float16, SHA-256 `{card["sha256"]}`.

**Licence**: {card["licence"]}.

**Intended use**: {card["intended_use"]}

## Limits

{limits}

## Scores

Both lungs together, no prompt, at the images' full size, through the same pipeline that users run. The last two columns
are mean Dice with prompts: of single lungs selected by a box with up to 10 pixels of jitter, and of both lungs after
three clicks, each in the middle of the largest error left. The images were split by a hash of their names; nothing was
learned from the test part or chosen by it, and it is scored once for each version of the weights.

| set | split | images | Dice mean | SD | min | Jaccard mean | one box | three clicks |
|---|---|---|---|---|---|---|---|---|
{scores}

## Data

| set | used | terms |
|---|---|---|
{data}

## Recipe

Made by `samlungseg train`, see docs/model.md. A convolutional pyramid encoder with SAM's prompt encoder and mask
decoder, encoder skips in the decoder's upscaling. Each batch is encoded once and predicted without a prompt, with
points or a box, and after a corrective click. Cross entropy and soft Dice, AdamW, one cosine cycle, averaged weights.

| setting | value |
|---|---|
{recipe}
{notes}"""


# ---- decoders


def export_decoder(
    target: Path,
    base: BaseCheckpoint,
    model: TrainableModel,
    state: State,
    recipe: PromptRecipe,
    threshold: float,
    facts: Mapping[str, Any],
) -> Path:
    """Write a tuned decoder and its card, and copies of the base's weights and card where these are the user's own.

    Args:
        target: .safetensors file; the card lies beside it as .json.
        base: what the decoder belongs on top of.
        model: as loaded from `base`.
        state: weights of the mask decoder.
        recipe: of the prompts that it was tuned with.
        threshold: chosen on the validation part.
        facts: what else the card says: data, images, windowing, training, scores.
    Returns:
        `target`.
    """
    writable_folder(target.parent)
    content = save({f"{DECODER_PREFIX}{name}": value.contiguous() for name, value in state.items()})
    card = TunedCard(
        base=base.name,
        base_sha256=file_sha256(base.path),
        base_file=base.path.name,
        weights_sha256=hashlib.sha256(content).hexdigest(),
        input_size=model.input_size,
        recipe=recipe,
        threshold=threshold,
    )
    if base.weights is not None:
        for file in (base.weights, base.weights.with_suffix(".json")):
            copy_beside(file, target)
    text = json.dumps({**card.to_fields(), **facts}, indent=2) + "\n"
    write_together({target: content, target.with_suffix(".json"): text.encode()})
    return target


def export_trained(
    target: Path, base: BaseCheckpoint, model: TrainableModel, parts: Sequence[str], facts: Mapping[str, Any]
) -> Path:
    """Write all weights of a network of which parts were trained, or its adapters alone, and their card.

    Args:
        target: .safetensors file; the card lies beside it as .json.
        base: what was trained.
        model: with the trained weights.
        parts: that were trained.
        facts: what else the card says, as of `export_decoder`.
    Returns:
        `target`.
    """
    if "adapters" in parts:
        return save_adapter(target, model, base_weights=base.weights, facts=facts)
    writable_folder(target.parent)
    state = model.network.state_dict()
    content = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    card = {
        "schema": TRAINED_SCHEMA,
        "base": base.name,
        "base_sha256": file_sha256(base.path),
        "base_file": base.path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "trained": list(parts),
        "input_size": model.input_size,
        **facts,
    }
    if base.weights is not None:
        copy_beside(base.weights.with_suffix(".json"), target)
    write_together({target: content, target.with_suffix(".json"): (json.dumps(card, indent=2) + "\n").encode()})
    return target

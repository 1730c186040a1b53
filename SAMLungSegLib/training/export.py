"""From a training to files that anybody can use: weights and their card, of whole networks and of decoders alone."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from SAMLungSegLib.documents import DocumentError, read_json
from SAMLungSegLib.files import writable_folder, write_bytes, write_together
from SAMLungSegLib.models.adapted import save_adapter
from SAMLungSegLib.models.checkpoints import copy_beside, file_sha256
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.models.tuned import PromptRecipe, TunedCard
from SAMLungSegLib.training.card import MEASURED, TEXTS, card_markdown
from SAMLungSegLib.training.compact import without_unlearned
from SAMLungSegLib.training.config import TrainingConfig
from SAMLungSegLib.training.trainer import State

logger = logging.getLogger(__name__)

DECODER_PREFIX = "mask_decoder."
TRAINED_SCHEMA = "samlungseg-trained/1"


def trained_network(folder: Path, config: TrainingConfig) -> CompactNet:
    """The network with the averaged weights of a run's last checkpoint, as it will ship (rounded to float16).

    Args:
        folder: of the run.
        config: its recipe.
    """
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["averaged"]
    net = CompactNet()
    net.load_state_dict({name: _halved(value).to(value.dtype) for name, value in state.items()}, strict=False)
    return without_unlearned(net, config).eval()


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value


def export_network(net: CompactNet, folder: Path, config: TrainingConfig, facts: dict[str, Any]) -> Path:
    """Write the weights `<name>.safetensors` and their card, `.json` for programs and `.md` for people.

    Args:
        net: the trained network.
        folder: where to write.
        config: the recipe, for the card.
        facts: what else the card says: `data`, `scores`, and any of `card.TEXTS`, such as `notes` where a run departed
            from the recipe. Texts that people have written into a card that lies there stay, but for those that are
            true of other weights only; where something goes, the earlier card is kept as `.earlier`.
    Returns:
        Path of the weights.
    """
    writable_folder(folder)
    content = save({name: _halved(value).contiguous() for name, value in net.state_dict().items()})
    weights = folder / f"{config.name}.safetensors"
    sha256 = hashlib.sha256(content).hexdigest()
    card = {
        "name": config.name,
        "sha256": sha256,
        "size_bytes": len(content),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        **TEXTS,
        **_kept_texts(weights, sha256),
        "held_out_sets": list(config.held_out_sets),
        "recipe": asdict(config),
        **facts,
    }
    texts = {".json": json.dumps(card, indent=2) + "\n", ".md": card_markdown(card)}
    write_together({weights: content} | {weights.with_suffix(end): text.encode() for end, text in texts.items()})
    return weights


def _kept_texts(weights: Path, sha256: str) -> dict[str, Any]:
    """What people have written into the card that lies beside weights; where some of it goes, copies are left."""
    page, path = weights.with_suffix(".md"), weights.with_suffix(".json")
    card = _card_at(path)
    written = {name: card[name] for name, text in TEXTS.items() if isinstance(card.get(name), type(text))}
    kept = {name: text for name, text in written.items() if name not in MEASURED or card.get("sha256") == sha256}
    goes = any(written[name] != TEXTS[name] for name in written.keys() - kept.keys())
    if goes or (page.is_file() and page.read_text(encoding="utf-8", errors="replace") != _page_of(card)):
        logger.warning("%s has texts that the new card does not have; the earlier card is kept as .earlier.", page)
        for one in filter(Path.is_file, (page, path)):
            write_bytes(one.read_bytes(), one.with_name(f"{one.name}.earlier"))
    return kept


def _card_at(path: Path) -> dict[str, Any]:
    """Empty where there is none, or none that can be read."""
    try:
        card = read_json(path)
    except (DocumentError, OSError):
        return {}
    return card if isinstance(card, dict) else {}


def _page_of(card: dict[str, Any]) -> str | None:
    """The card for people as an export made it; None of a card that none has made."""
    try:
        return card_markdown(card)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


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

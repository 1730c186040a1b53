"""Trained adapters as files: saved with a card, taken by `load_model(weights=...)`, and merged to plain weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import adapter_in, adapter_state, merge_adapter
from SAMLungSegLib.documents import read_json
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.files import writable_folder, write_together
from SAMLungSegLib.models import load_model, model_spec
from SAMLungSegLib.models.checkpoints import checkpoint_path, copy_beside, file_sha256
from SAMLungSegLib.models.extensions.base import extension_of
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.models.tuned import AdapterChoice, ExtensionChoice, PromptRecipe, TunedCard, TunedModel, read_card

MERGED_SCHEMA = "samlungseg-merged/1"
ADAPTERS, EXTENSION = "adapters", "extension"
_OF_ADAPTERS_ALONE = ("adapter", "weights_sha256", "trained")


def save_adapter(
    target: Path,
    model: TrainableModel,
    *,
    base_weights: Path | None = None,
    with_decoder: bool = False,
    recipe: PromptRecipe | None = None,
    threshold: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model's adapters and their card, which `load_model(model.name, weights=target)` takes.

    Args:
        target: .safetensors file; the card lies beside it as .json.
        model: with adapters.
        base_weights: the user's whole weights that it was loaded from, of which a copy is put beside `target`; None
            for the registry's.
        with_decoder: whether the mask decoder was trained too and belongs into the file.
        recipe: prompts where none are given, with their threshold; None to leave both as the base has them.
        threshold: probability above which a pixel is lung.
        facts: what else the card says: data, images, training, scores.
    Returns:
        `target`.
    Raises:
        ModelError: the model has no adapters, or only one of recipe and threshold is given.
        OutputError: the files cannot be written.
    """
    adapter_in(model.network)  # refuses a model that has none
    return save_delta(
        target,
        model,
        ("adapters", "mask_decoder") if with_decoder else ("adapters",),
        base_weights=base_weights,
        recipe=recipe,
        threshold=threshold,
        facts=facts,
    )


def save_delta(
    target: Path,
    model: TrainableModel,
    parts: Sequence[str],
    *,
    base_weights: Path | None = None,
    recipe: PromptRecipe | None = None,
    threshold: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write parts of a model's network and their card, which `load_model(model.name, weights=target)` takes.

    Args:
        target: .safetensors file; the card lies beside it as .json.
        model: with the trained weights.
        parts: of 'mask_decoder', 'prompt_encoder', 'adapters', 'extension', or 'image_encoder' for all weights there
            are; the model's adapters and its extension must be among them, for the card names both.
        base_weights, recipe, threshold, facts: as of `save_adapter`.
    Returns:
        `target`.
    Raises:
        ModelError: the model has no such part, or only one of recipe and threshold is given.
        OutputError: the files cannot be written.
    """
    if (recipe is None) != (threshold is None):
        raise ModelError("A recipe and a threshold belong together; give both or none.")
    network, state = model.network, {}
    for part in parts:
        if part == "image_encoder":
            state |= {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        else:
            state |= adapter_state(network) if part == ADAPTERS else _state_of(model.part(part), part)
    adapter = adapter_in(network) if ADAPTERS in parts else None
    extension = extension_of(model) if EXTENSION in parts else None
    base = base_weights or checkpoint_path(model_spec(model.name))
    content = save(state)
    card = TunedCard(
        base=model.name,
        base_sha256=file_sha256(base),
        base_file=base.name,
        weights_sha256=sha256(content).hexdigest(),
        input_size=model.input_size,
        recipe=recipe,
        threshold=threshold,
        adapter=adapter and AdapterChoice(adapter.name, adapter.settings),
        extension=extension and ExtensionChoice(extension.name, extension.settings),
    )
    writable_folder(target.parent)
    if base_weights is not None:
        for file in (base_weights, base_weights.with_suffix(".json")):
            copy_beside(file, target)
    _write(target, content, {**card.to_fields(), "trained": "+".join(sorted(parts)), **(facts or {})})
    return target


def _state_of(part: nn.Module, name: str) -> dict[str, Tensor]:
    return {f"{name}.{key}": value.detach().cpu().contiguous() for key, value in part.state_dict().items()}


def save_merged(delta: Path, target: Path) -> Path:
    """Write plain weights of the whole network that do what the base does with the adapters of a file.

    Any program that reads weights of that network can use them. Their card tells what they were made of; a threshold
    and prompts are in it for the reader, and are not applied when the weights are loaded.

    Args:
        delta: as written by `save_adapter`, with its card and base.
        target: .safetensors file; the card lies beside it as .json.
    Returns:
        `target`.
    Raises:
        ModelError: `delta` holds no adapters, cannot be loaded or cannot be merged.
        OutputError: the files cannot be written.
    """
    card = read_card(delta)
    if card is None or card.adapter is None:
        raise ModelError(
            f"{delta} has no card of adapters beside it; give weights of adapters, which alone are merged."
        )
    if target.suffix.lower() != ".safetensors":
        raise ModelError(f"Merged weights cannot be written to {target}; give a name that ends with .safetensors.")
    if target.resolve() == delta.resolve():
        raise ModelError(f"Merged weights would take the place of the adapters {delta}; give another name.")
    model = load_model(card.base, weights=delta, device="cpu")
    network = (model.model if isinstance(model, TunedModel) else model).network
    merge_adapter(network)
    content = save({name: value.contiguous() for name, value in network.state_dict().items()})
    told = {key: value for key, value in read_json(delta.with_suffix(".json")).items() if key not in _OF_ADAPTERS_ALONE}
    merged = {"schema": MERGED_SCHEMA, "merged": {"method": card.adapter.method, "file": delta.name}}
    writable_folder(target.parent)
    _write(target, content, told | merged)
    return target


def _write(target: Path, content: bytes, card: Mapping[str, Any]) -> None:
    text = json.dumps(card, indent=2) + "\n"
    write_together({target: content, target.with_suffix(".json"): text.encode()})

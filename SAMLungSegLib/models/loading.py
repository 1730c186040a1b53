"""From a row of the registry to a model that predicts: networks built, weights put in, device chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from segment_anything import sam_model_registry
from torch import Tensor, nn

from SAMLungSegLib.adapters import adapter_from
from SAMLungSegLib.adapters.base import PREFIX as ADAPTERS
from SAMLungSegLib.adapters.base import load_adapter_state
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.checkpoints import apply_weights, checkpoint_path, file_sha256, load_state_dict, verify
from SAMLungSegLib.models.compact.model import CompactModel
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.registry import ModelSpec
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel, available_device
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.models.tuned import AdapterChoice, TunedCard, TunedModel
from SAMLungSegLib.prompts import BoxPrompt, PromptSet

State = Mapping[str, Tensor]
FAMILIES: dict[str, type[PromptableModel]] = {"compact": CompactModel, "sam": SamModel, "medsam": MedSamModel}


def _sam_network(architecture: str) -> nn.Module:
    return sam_model_registry[architecture](checkpoint=None)


NETWORKS: dict[str, Callable[[str], nn.Module]] = {  # by family; of the architecture called so
    "compact": lambda _architecture: CompactNet(),
    "sam": _sam_network,
    "medsam": _sam_network,
}


def chosen_device(device: str) -> torch.device:
    """The device called `device`; 'auto' takes CUDA, then MPS, then the CPU.

    Raises:
        ModelError: the device is not on this machine.
    """
    if device != "auto":
        return available_device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def registry_state(spec: ModelSpec) -> State:
    """The registry's own weights of `spec`, from disk only.

    Raises:
        ModelError: they are absent or their hash is wrong.
    """
    status = verify(spec)
    remedy = f"run 'samlungseg models fetch {spec.name}'"
    if status == "absent":
        raise ModelError(f"The weights of {spec.name} are not on this machine; {remedy}.")
    if status == "wrong hash":
        raise ModelError(f"The weights {checkpoint_path(spec)} are damaged; {remedy}.")
    return load_state_dict(checkpoint_path(spec))


def build(
    spec: ModelSpec,
    registry: Callable[[], State],
    own: State | None,
    *,
    what: str,
    device: torch.device,
    input_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> PromptableModel:
    """The model of `spec` with the registry's weights, or the user's `own` in their place or on top of them.

    Args:
        registry: reads the registry's weights; called only where `own` does not hold everything.
        what: what messages call `own`.
        input_size: as in `SamModel`; the network's own if None.
        dtype: as in `SamModel`; float32 if None.
    Raises:
        ModelError: weights do not fit, or the model has no such options.
    """
    if own is not None and any(key.startswith(ADAPTERS) for key in own):
        raise ModelError(
            f"The weights {what} are of adapters, and their card is not beside them; get both files again (the card "
            "has the same name, with .json)."
        )
    options = _encoder_options(spec, input_size=input_size, dtype=dtype)
    net = NETWORKS[spec.family](spec.architecture)
    if own is None or is_decoder(own):
        apply_weights(net, registry(), what=spec.name)
    if own is not None:
        apply_weights(net, own, what=what)
    model = FAMILIES[spec.family](net, name=spec.name, device=device, capabilities=spec.capabilities, **options)
    if own is not None:
        check_predictions(model, what)
    return model


def is_decoder(state: State) -> bool:
    """Whether weights lack an image encoder, so that they belong on top of others."""
    return not any(key.startswith("image_encoder.") and not key.startswith(ADAPTERS) for key in state)


def check_predictions(model: PromptableModel, what: str) -> None:
    """Refuse weights with which a model gives no numbers.

    SAM's encoder is left out, which takes seconds.

    Args:
        model: that has the weights.
        what: messages call them.
    Raises:
        ModelError: nothing could be found with these weights.
    """
    side = 64
    prompts = PromptSet() if not model.capabilities.needs_prompt else PromptSet(box=BoxPrompt((8.0, 8.0, 40.0, 48.0)))
    if isinstance(model, SamModel):
        encoder = model.network.prompt_encoder
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(encoder.embed_dim, *encoder.image_embedding_size, generator=generator)
        embedding = Embedding((features.to(model.device),), (side, side))
    else:
        ramp = np.add.outer(np.arange(side), np.arange(side))
        embedding = model.encode([ramp.astype(np.uint8)])[0]
    logits = model.decode(embedding, prompts).logits
    if not np.isfinite(logits).all():
        raise ModelError(f"With the weights {what}, {model.name} predicts nothing sensible; give others.")


def build_tuned(
    spec: ModelSpec,
    card: TunedCard,
    tuned: State,
    weights: Path,
    *,
    input_size: int | None = None,
    **options: Any,
) -> PromptableModel:
    """The model of `spec` with a tuned decoder, adapters or both, and the threshold and the prompts of the card.

    Args:
        card: of the tuned weights.
        tuned: the weights.
        weights: their file; the base's weights are looked for beside it where they are not those of the registry.
        input_size: None to take the one that was tuned with.
        **options: as of `build`.
    Raises:
        ModelError: as `build`, or the card belongs to other weights, another base, or another input size.
    """
    if file_sha256(weights) != card.weights_sha256:
        raise ModelError(
            f"The card {weights.with_suffix('.json')} belongs to other weights than {weights}; get both files again."
        )
    if card.base != spec.name:
        raise ModelError(
            f"The {card.kind} {weights} was tuned for {card.base}, not for {spec.name}; choose that model."
        )
    if input_size not in (None, card.input_size):
        raise ModelError(
            f"The {card.kind} {weights} was tuned at input size {card.input_size}, not {input_size}; leave it out."
        )
    base = _tuned_base(spec, card, weights)
    own = {key: value for key, value in tuned.items() if card.adapter is None or not key.startswith(ADAPTERS)}
    model = build(spec, base, own or None, input_size=card.input_size, **options)
    if card.adapter is not None:
        _adapt(model, card.adapter, tuned, what=str(weights))
    return model if card.recipe is None else TunedModel(model, card.recipe, card.threshold)


def _adapt(model: TrainableModel, choice: AdapterChoice, state: State, *, what: str) -> None:
    """Inject the adapter of a card and load its weights."""
    adapter_from(choice.method, choice.settings).inject(model.network)
    load_adapter_state(model.network, state, what=what)


def _tuned_base(spec: ModelSpec, card: TunedCard, weights: Path) -> Callable[[], State]:
    """Reads the weights that others were tuned on top of: the registry's, or those beside them."""
    own_registry = checkpoint_path(spec)
    registry_sha256 = spec.sha256 or (file_sha256(own_registry) if own_registry.is_file() else None)
    if registry_sha256 == card.base_sha256:
        return lambda: registry_state(spec)
    beside = weights.with_name(card.base_file)
    if beside.is_file() and file_sha256(beside) == card.base_sha256:
        return lambda: load_state_dict(beside)
    raise ModelError(
        f"The {card.kind} {weights} was tuned on top of weights of {card.base} with the SHA-256 "
        f"{card.base_sha256[:12]}, not those of this program; put them beside it as {beside.name}, or tune again."
    )


def _encoder_options(spec: ModelSpec, **options: Any) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    if given and spec.family == "compact":
        raise ModelError(f"Model {spec.name} has no {' or '.join(given)} to choose; leave that out or choose a SAM.")
    return given

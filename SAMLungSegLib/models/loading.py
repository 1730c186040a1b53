"""From a row of the registry to a model that predicts: weights read and checked, whatever runs the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from SAMLungSegLib.adapters.registry import PREFIX as ADAPTERS
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.checkpoints import State, checkpoint_path, file_sha256, verify
from SAMLungSegLib.models.engines import Engine
from SAMLungSegLib.models.extensions.base import PREFIX as EXTENSION
from SAMLungSegLib.models.registry import ModelSpec
from SAMLungSegLib.models.terms import before_use
from SAMLungSegLib.models.tuned import AdapterChoice, ExtensionChoice, TunedCard, TunedModel
from SAMLungSegLib.prompts import BoxPrompt, PromptSet

if TYPE_CHECKING:
    import torch

PROBE_HW = (64, 64)


class Loader(Protocol):
    """What an engine's module has: `torch_loading` or `compact.onnx_loading`."""

    def read(self, path: Path) -> State:
        """Weights of a file, by name. Raises ModelError for what holds none."""

    def chosen_device(self, device: str) -> Any:
        """The device called `device`; 'auto' takes the fastest. Raises ModelError if it is not on this machine."""

    def model(self, spec: ModelSpec, layers: Sequence[tuple[str, State]], device: Any, **options: Any) -> Any:
        """A model of that family; `layers` are what weights are called in messages, and these, each on the others.

        Raises:
            ModelError: weights do not fit.
        """

    def adapt(self, model: Any, choice: AdapterChoice, state: State, *, what: str) -> None:
        """Put the adapter of a card into a model, with its weights. Raises ModelError if they do not fit."""

    def extend(self, model: Any, choice: ExtensionChoice, state: State, *, what: str) -> Any:
        """The model with the extension of a card and its weights. Raises ModelError if they do not fit."""

    def probe(self, model: Any) -> Embedding:
        """An embedding of a slice of `PROBE_HW` to try weights with, quickly made."""


def loader_of(engine: Engine) -> Loader:
    """The module that loads models for an engine."""
    module = "compact.onnx_loading" if engine == "onnx" else "torch_loading"
    return cast(Loader, import_module(f"SAMLungSegLib.models.{module}"))


def registry_state(loader: Loader, spec: ModelSpec) -> State:
    """The registry's own weights of `spec`, from disk only.

    Raises:
        ModelError: they are absent or their hash is wrong.
        LicenceError: they are bundled, and a program that asks for consent has none.
    """
    before_use(spec)
    status = verify(spec)
    if status == "absent":
        raise ModelError(f"The weights of {spec.name} are not on this machine; {spec.remedy}.")
    if status == "wrong hash":
        raise ModelError(f"The weights {checkpoint_path(spec)} are damaged; {spec.remedy}.")
    return loader.read(checkpoint_path(spec))


def build(
    loader: Loader,
    spec: ModelSpec,
    registry: Callable[[], State],
    own: State | None,
    *,
    what: str,
    device: Any,
    input_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> PromptableModel:
    """The model of `spec` with the registry's weights, or the user's `own` in their place or on top of them.

    Args:
        loader: of the engine that runs it.
        registry: reads the registry's weights; called only where `own` does not hold everything.
        what: what messages call `own`.
        device: of the loader's own kind.
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
    layers = [] if own is not None and not is_decoder(own) else [(spec.name, registry())]
    if own is not None:
        layers.append((what, own))
    model = loader.model(spec, layers, device, **options)
    if own is not None:
        check_predictions(model, loader.probe(model), what)
    return model


def is_decoder(state: State) -> bool:
    """Whether weights lack an image encoder, so that they belong on top of others."""
    return not any(key.startswith("image_encoder.") and not key.startswith(ADAPTERS) for key in state)


def check_predictions(model: PromptableModel, embedding: Embedding, what: str) -> None:
    """Refuse weights with which a model gives no numbers.

    Args:
        model: that has the weights.
        embedding: of a slice of `PROBE_HW`.
        what: messages call them.
    Raises:
        ModelError: nothing could be found with these weights.
    """
    prompts = PromptSet() if not model.capabilities.needs_prompt else PromptSet(box=BoxPrompt((8.0, 8.0, 40.0, 48.0)))
    if not np.isfinite(model.decode(embedding, prompts).logits).all():
        raise ModelError(f"With the weights {what}, {model.name} predicts nothing sensible; give others.")


def build_tuned(
    loader: Loader,
    spec: ModelSpec,
    card: TunedCard,
    tuned: State,
    weights: Path,
    *,
    input_size: int | None = None,
    **options: Any,
) -> PromptableModel:
    """The model of `spec` with a tuned decoder, adapters, an extension, and the threshold and prompts of the card.

    Args:
        loader: of the engine that runs it.
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
    base = _tuned_base(loader, spec, card, weights)
    added = [ADAPTERS] * (card.adapter is not None) + [EXTENSION] * (card.extension is not None)
    own = {key: value for key, value in tuned.items() if not key.startswith(tuple(added))}
    model = build(loader, spec, base, own or None, input_size=card.input_size, **options)
    if card.adapter is not None:
        loader.adapt(model, card.adapter, tuned, what=str(weights))
    if card.extension is not None:
        model = loader.extend(model, card.extension, tuned, what=str(weights))
    return model if card.recipe is None or card.threshold is None else TunedModel(model, card.recipe, card.threshold)


def _tuned_base(loader: Loader, spec: ModelSpec, card: TunedCard, weights: Path) -> Callable[[], State]:
    """Reads the weights that others were tuned on top of: the registry's, or those beside them."""
    own_registry = checkpoint_path(spec)
    registry_sha256 = spec.sha256 or (file_sha256(own_registry) if own_registry.is_file() else None)
    if card.base_sha256 in (registry_sha256, *spec.extends_sha256):
        return lambda: registry_state(loader, spec)
    beside = weights.with_name(card.base_file)
    if beside.is_file() and file_sha256(beside) == card.base_sha256:
        return lambda: loader.read(beside)
    raise ModelError(
        f"The {card.kind} {weights} was tuned on top of weights of {card.base} with the SHA-256 "
        f"{card.base_sha256[:12]}, not those of this program; put them beside it as {beside.name}, or tune again."
    )


def _encoder_options(spec: ModelSpec, **options: Any) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value is not None}
    if given and spec.family == "compact":
        raise ModelError(f"Model {spec.name} has no {' or '.join(given)} to choose; leave that out or choose a SAM.")
    return given

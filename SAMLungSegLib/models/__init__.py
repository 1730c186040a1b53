"""The models: a registry of what there is, checkpoints, and one class per family behind one interface."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.models.registry import MODELS, ModelSpec, model_spec

if TYPE_CHECKING:  # torch takes seconds to import, and listing models does not need it
    import torch

    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.models.engines import Engine

logger = logging.getLogger(__name__)

__all__ = ["MODELS", "ModelSpec", "load_model", "model_spec"]


def load_model(
    name: str = "lung-compact",
    *,
    weights: Path | str | None = None,
    device: str = "auto",
    input_size: int | None = None,
    dtype: torch.dtype | None = None,
    engine: Engine | None = None,
) -> PromptableModel:
    """A model of the registry, ready to predict.

    Args:
        name: one of `MODELS`.
        weights: a checkpoint of the user's; a full one replaces the registry's weights, a decoder alone is put on top.
            A tuned decoder brings its threshold and its prompts along, adapters their method, see `models.tuned`.
        device: 'auto' takes CUDA, then Apple's MPS, then the CPU.
        input_size: SAM and MedSAM only: a frame smaller than 1024, such as 512 (5 times faster) or 256 (18 times), at
            the price of detail; see `models.sam.set_input_size`.
        dtype: SAM and MedSAM only: precision of the image encoder, such as torch.bfloat16 on a graphics card.
        engine: 'torch' for a model whose network is to be trained; by default lung-compact runs by ONNX Runtime.
    Raises:
        ModelError: unknown name, weights absent (says how to fetch them) or not fitting, no such device, options that
            the model does not have, or packages are not installed that it needs (says how to install them).
    """
    from SAMLungSegLib.models.choice import ModelChoice, note_origin
    from SAMLungSegLib.models.engines import chosen_engine
    from SAMLungSegLib.models.loading import build, build_tuned, is_decoder, loader_of, registry_state
    from SAMLungSegLib.models.tuned import read_card

    precision = None if dtype is None else str(dtype).removeprefix("torch.")
    choice = ModelChoice(name, None if weights is None else Path(weights), False, input_size, precision)
    spec = model_spec(name)
    engine = engine or chosen_engine(spec, device)
    loader = loader_of(engine)
    own = None if choice.weights is None else loader.read(choice.weights)
    options = {"what": str(weights), "device": loader.chosen_device(device), "input_size": input_size, "dtype": dtype}
    logger.info("Model %s with the weights %s, by %s on %s.", name, choice.path, engine, options["device"])
    card = None if choice.weights is None or own is None else read_card(choice.weights, is_decoder=is_decoder(own))
    if choice.weights is None or own is None or card is None:
        model = build(loader, spec, lambda: registry_state(loader, spec), own, **options)
    else:
        model = build_tuned(loader, spec, card, own, choice.weights, **options)
    note_origin(model, choice)
    return model

"""Models that run by PyTorch: networks built, weights put in, device chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from SAMLungSegLib.adapters import adapter_from
from SAMLungSegLib.adapters.base import load_adapter_state
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.checkpoints import OPTIONAL_PARTS, State, apply_weights
from SAMLungSegLib.models.checkpoints import load_state_dict as read
from SAMLungSegLib.models.compact.model import CompactModel
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.extensions.base import PREFIX, extension_from
from SAMLungSegLib.models.extensions.base import extend as add_extension
from SAMLungSegLib.models.loading import PROBE_HW
from SAMLungSegLib.models.registry import ModelSpec
from SAMLungSegLib.models.sam.architectures import sam_network
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel, available_device
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.models.tuned import AdapterChoice, ExtensionChoice

__all__ = ["FAMILIES", "NETWORKS", "adapt", "chosen_device", "extend", "model", "probe", "read"]

FAMILIES: dict[str, type[PromptableModel]] = {"compact": CompactModel, "sam": SamModel, "medsam": MedSamModel}


NETWORKS: dict[str, Callable[[str], nn.Module]] = {  # by family; of the architecture called so
    "compact": lambda _architecture: CompactNet(),
    "sam": sam_network,
    "medsam": sam_network,
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


def model(
    spec: ModelSpec, layers: Sequence[tuple[str, State]], device: torch.device, **options: Any
) -> PromptableModel:
    """The model of `spec`; see `loading.Loader`.

    Raises:
        ModelError: weights do not fit.
    """
    net = NETWORKS[spec.family](spec.architecture)
    for what, state in layers:
        apply_weights(net, state, what=what)
    given = {key.partition(".")[0] for _, state in layers for key in state}
    for part in OPTIONAL_PARTS:
        if hasattr(net, part) and part not in given:
            setattr(net, part, None)
    return FAMILIES[spec.family](net, name=spec.name, device=device, capabilities=spec.capabilities, **options)


def adapt(model: TrainableModel, choice: AdapterChoice, state: State, *, what: str) -> None:
    """Put the adapter of a card into a model, with its weights.

    Raises:
        ModelError: the model has no place for adapters, or the weights do not fit.
    """
    adapter_from(choice.method, choice.settings).inject(model.network)
    load_adapter_state(model.network, state, what=what)


def extend(model: TrainableModel, choice: ExtensionChoice, state: State, *, what: str) -> TrainableModel:
    """The model with the extension of a card and its weights.

    Raises:
        ModelError: the model cannot have it, or the weights do not fit.
    """
    extended = add_extension(model, extension_from(choice.name, choice.settings))
    own = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    try:
        extended.network.extension.load_state_dict(own)
    except RuntimeError as error:
        raise ModelError(
            f"The weights {what} do not fit the extension '{choice.name}' with {dict(choice.settings)}; get the file "
            "again together with its card, for the same base model."
        ) from error
    return extended


def probe(model: PromptableModel) -> Embedding:
    """An embedding to try weights with; that of a SAM is random, whose encoder takes seconds."""
    if isinstance(model, SamModel):
        encoder = model.network.prompt_encoder
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(encoder.embed_dim, *encoder.image_embedding_size, generator=generator)
        return Embedding((features.to(model.device),), PROBE_HW)
    return model.encode([np.add.outer(*map(np.arange, PROBE_HW)).astype(np.uint8)])[0]

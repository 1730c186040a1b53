"""lung-compact loaded for ONNX Runtime; see `loading.Loader`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding
from SAMLungSegLib.models.checkpoints import State, fitted
from SAMLungSegLib.models.checkpoints import load_arrays as read
from SAMLungSegLib.models.compact.onnx_model import GRAPHS_FILE, CompactOnnxModel
from SAMLungSegLib.models.loading import PROBE_HW
from SAMLungSegLib.models.onnx_graphs import Device, bundled_graphs, chosen_device
from SAMLungSegLib.models.registry import ModelSpec
from SAMLungSegLib.models.tuned import AdapterChoice, ExtensionChoice

__all__ = ["adapt", "chosen_device", "model", "probe", "read"]


def model(spec: ModelSpec, layers: Sequence[tuple[str, State]], device: Device) -> CompactOnnxModel:
    """The model of `spec`.

    Raises:
        ModelError: weights do not fit.
    """
    wanted = bundled_graphs(GRAPHS_FILE).state
    state: dict[str, np.ndarray] = {}
    for what, layer in layers:
        state |= fitted(wanted, layer, network="lung-compact", what=what)
    return CompactOnnxModel(state, name=spec.name, device=device, capabilities=spec.capabilities)


def adapt(model: CompactOnnxModel, choice: AdapterChoice, state: State, *, what: str) -> None:
    """Refuse adapters. Raises ModelError."""
    raise ModelError(
        f"The image encoder of {model.name} has no points for adapters ({choice.method}), so that {what} cannot be of "
        "it; choose the model that they were trained for."
    )


def extend(model: CompactOnnxModel, choice: ExtensionChoice, state: State, *, what: str) -> CompactOnnxModel:
    """Refuse extensions. Raises ModelError."""
    raise ModelError(
        f"{model.name} without PyTorch has no extension '{choice.name}', so that {what} cannot be of it; choose the "
        "model that it was trained for."
    )


def probe(model: CompactOnnxModel) -> Embedding:
    """The embedding of a ramp."""
    return model.encode([np.add.outer(*map(np.arange, PROBE_HW)).astype(np.uint8)])[0]

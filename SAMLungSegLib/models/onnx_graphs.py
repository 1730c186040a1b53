"""Networks without PyTorch: graphs in ONNX's format, run by ONNX Runtime with weights that come from elsewhere.

A file of graphs holds what a network computes and no weights: these are put in when a session is made, from the same
.safetensors file that PyTorch reads. So one small file serves the registry's weights, tuned ones and the user's own.
It is a zip archive of `index.json` and one .onnx model for each graph, see `compact.onnx_export`.
"""

from __future__ import annotations

import json
import logging
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.registry import bundled_file

if TYPE_CHECKING:  # a tenth of a second
    from onnxruntime import InferenceSession, SessionOptions

INDEX = "index.json"
PROVIDERS = {  # by kind of device
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "dml": "DmlExecutionProvider",
    "mps": "CoreMLExecutionProvider",
}
_PREFERRED = ("cuda", "dml")  # CoreML is in every build for macOS and computes in half precision: on request only
_ERRORS_ONLY, _FATAL_ONLY = 3, 4

State = Mapping[str, np.ndarray]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """What a session runs on, as PyTorch would call it: `type` is one of `PROVIDERS`; of several cards, which one."""

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


def chosen_device(device: str) -> Device:
    """The device called `device`, such as 'cuda:1'; 'auto' takes CUDA, then DirectML, then the CPU.

    Raises:
        ModelError: ONNX Runtime has no working provider for it here.
    """
    here = _kinds_here()
    if device == "auto":
        return Device(next((kind for kind in _PREFERRED if kind in here), "cpu"))
    kind, _, index = device.partition(":")
    if kind not in here or not (index.isdecimal() or device == kind):
        possible = ", ".join(here)
        raise ModelError(f"Device '{device}' is not available here to ONNX Runtime; choose auto or one of {possible}.")
    return Device(kind, int(index) if index else None)


def _kinds_here() -> list[str]:
    from onnxruntime import get_available_providers

    providers = get_available_providers()
    return [
        kind for kind, provider in PROVIDERS.items() if provider in providers and (kind == "cpu" or works(provider))
    ]


@cache
def works(provider: str) -> bool:
    """Whether a provider that ONNX Runtime was built with finds its libraries and its device: it runs y = x on it."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    try:
        session = InferenceSession(_identity_model(), options, providers=[provider])
    except Exception:  # as below
        return False
    return provider in session.get_providers()


def _identity_model() -> bytes:
    """A ModelProto of one node; numbers of fields as in onnx.proto."""
    floats = _field(2, _field(1, b"\x08\x01"))  # as a TypeProto: a tensor of float32
    node = _field(1, b"x") + _field(2, b"y") + _field(4, b"Identity")
    x, y = (_field(1, name) + floats for name in (b"x", b"y"))
    graph = _field(1, node) + _field(2, b"g") + _field(11, x) + _field(12, y)
    return b"\x08\x08" + _field(7, graph) + _field(8, b"\x10\x0d")  # IR version 8, operators of version 13


class Graphs:
    """A file of graphs.

    Attributes:
        state: arrays of zeros with the names, shapes and types of a state dict of the network.
        facts: what the exported models tell those who use them elsewhere, such as how images are prepared.
    """

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            ModelError: it is no such file, or damaged.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                index = json.loads(archive.read(INDEX))
                self._models = {name: archive.read(f"{name}.onnx") for name in index["weights"]}
            self._weights: dict[str, list[str]] = index["weights"]
            self._dimensions: dict[str, int] = index["dimensions"]
            self.facts: dict[str, Any] = index["facts"]
            self.state = {
                name: np.broadcast_to(np.zeros((), kind), shape) for name, (shape, kind) in index["state"].items()
            }
        except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"The graphs {path} are damaged ({error}); install SAMLungSeg again.") from error

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the graphs."""
        return tuple(self._models)

    def fitting(self, state: State) -> tuple[str, ...]:
        """Names of the graphs all of whose weights there are."""
        return tuple(name for name in self.names if state.keys() >= set(self.weights_of(name)))

    def weights_of(self, name: str) -> list[str]:
        """Names of the weights that a graph needs."""
        return self._weights[name]

    def session(self, name: str, state: State, frame_size: int, device: Device) -> InferenceSession:
        """A session that runs a graph on one core, or on a card.

        Any number of threads may use it at once; each then computes on its own core, and none changes a result.

        Args:
            name: of the graph.
            state: weights of the network, float32; those that the graph needs are copied.
            frame_size: side of the network's frame.
            device: see `chosen_device`.
        Raises:
            ModelError: the weights do not fit, or ONNX Runtime refuses.
        """
        from onnxruntime import InferenceSession

        try:
            options = self._options(name, state, frame_size)
            settings = {} if device.index is None else {"device_id": str(device.index)}
            providers = [(PROVIDERS[device.type], settings)]
            if device.type != "cpu":
                providers.append((PROVIDERS["cpu"], {}))
            return InferenceSession(self._models[name], options, providers=providers)
        except Exception as error:  # ONNX Runtime has a dozen kinds, and no base of them
            raise ModelError(f"ONNX Runtime cannot run the {name} on {device} ({error}).") from error

    def with_weights(self, name: str, state: State, frame_size: int, facts: Mapping[str, Any]) -> bytes:
        """A graph as an ONNX model of its own, with weights in it and `facts` in its metadata.

        Raises:
            ModelError: the weights do not fit, or ONNX Runtime refuses.
        """
        from onnxruntime import GraphOptimizationLevel, InferenceSession

        options = self._options(name, state, frame_size)
        options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC  # no nodes of one machine's alone
        with tempfile.TemporaryDirectory(prefix="SAMLungSeg-") as folder:
            options.optimized_model_filepath = str(Path(folder, f"{name}.onnx"))
            try:
                InferenceSession(self._models[name], options, providers=[PROVIDERS["cpu"]])
                content = Path(options.optimized_model_filepath).read_bytes()
            except Exception as error:  # as above
                raise ModelError(f"ONNX Runtime cannot write the {name} ({error}).") from error
        return content + b"".join(
            _metadata(key, value if isinstance(value, str) else json.dumps(value)) for key, value in facts.items()
        )

    def _options(self, name: str, state: State, frame_size: int) -> SessionOptions:
        from onnxruntime import OrtValue, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        for dimension, divisor in self._dimensions.items():
            options.add_free_dimension_override_by_name(dimension, frame_size // divisor)
        weights = {key: np.ascontiguousarray(state[key], np.float32) for key in self.weights_of(name)}
        options.add_external_initializers(
            list(weights), [OrtValue.ortvalue_from_numpy(one) for one in weights.values()]
        )
        return options


@lru_cache(maxsize=1)
def bundled_graphs(name: str) -> Graphs:
    """The file of graphs that is shipped as `name`.

    Raises:
        ModelError: it is missing or damaged.
    """
    return Graphs(bundled_file(name))


class Sessions:
    """The sessions of a network with its weights, each made when it is first used, by any thread."""

    def __init__(self, graphs: Graphs, state: State, frame_size: int, device: Device) -> None:
        self._arguments = (state, frame_size, device)
        self._graphs = graphs
        self._made: dict[str, InferenceSession] = {}
        self._lock = Lock()

    def run(self, name: str, **inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs of a graph.

        Raises:
            ModelError: as `Graphs.session`.
        """
        with self._lock:
            if name not in self._made:
                self._made[name] = self._graphs.session(name, *self._arguments)
            session = self._made[name]
        return session.run(None, inputs)


def _metadata(key: str, value: str) -> bytes:
    """One entry of `metadata_props` as it may be appended to any ModelProto (field 14, of a key and a value)."""
    pair = b"".join(_field(number, text.encode()) for number, text in ((1, key), (2, value)))
    return _field(14, pair)


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes in Protocol Buffers' wire format; `number` is below 16."""
    size, rest = bytearray(), len(content)
    while rest > 0x7F:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([number << 3 | 2, *size, rest]) + content

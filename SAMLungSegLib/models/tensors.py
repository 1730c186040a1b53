"""Files of weights: read without running code that they may carry, and refused where they hold no sensible weights."""

from __future__ import annotations

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.engines import need_torch

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

SUFFIXES = (".safetensors", ".pth", ".pt")
WRAPPERS = ("model", "state_dict", "model_state_dict")
PREFIXES = ("module.", "sam.", "model.")
LARGEST_VALUE = 1e8  # of weights that somebody trained, none comes near
_NUMPYS_KINDS = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
_MOST_BYTES = 1 << 34
_MOST_PICKLE_BYTES = 1 << 26
_MOST_WRAPPERS = 8


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read weights without ever running code that a file may carry.

    Wrappers ('model', 'state_dict', ...) and prefixes that all keys share ('module.', ...) are taken off; all floats
    become float32.

    Args:
        path: a .safetensors, .pth or .pt file.
    Returns:
        Tensors on the CPU by name.
    Raises:
        ModelError: absent, another kind of file, damaged, not a state dict, values that no weights have (NaN, infinite,
            huge, a negative variance), tensors that are larger than the file, or a pickle that would run code.
    """
    need_torch(f"{path} is read by PyTorch")
    import torch

    def is_plain(value: Tensor) -> bool:
        return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized

    path = Path(path)
    size_bytes = _checked_size(path)
    state = _checked_state(path, size_bytes, _read_tensors(path), torch.is_tensor, is_plain)
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    _check_values(path, {key: value.detach().numpy() for key, value in state.items()})
    return state


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The same as NumPy's arrays; a .safetensors file is read without PyTorch.

    Raises:
        ModelError: as `load_state_dict`, or the file is of another kind and PyTorch is not installed.
    """
    path = Path(path)
    size_bytes = _checked_size(path)
    if path.suffix.lower() != ".safetensors" or not _are_numpys(path):
        return {key: value.numpy() for key, value in load_state_dict(path).items()}
    state = _checked_state(path, size_bytes, _read_arrays(path), lambda one: isinstance(one, np.ndarray))
    state = {key: value.astype(np.float32, copy=False) if _is_float(value) else value for key, value in state.items()}
    _check_values(path, state)
    return state


def _checked_state(
    path: Path,
    size_bytes: int,
    content: Any,
    is_tensor: Callable[[Any], bool],
    is_plain: Callable[[Any], bool] = lambda _tensor: True,
) -> dict[str, Any]:
    """The innermost state dict: nothing but plain tensors with names, which a file of that size can hold."""
    state = _without_prefixes(_unwrapped(content))
    if not state:
        raise ModelError(f"{path} holds no weights; give a state dict (tensors by name).")
    for key, value in state.items():
        kind = "no name" if not isinstance(key, str) else None if is_tensor(value) else f"a {type(value).__name__}"
        if kind is not None:
            raise ModelError(f"{path} is not a state dict: {_short(key)} is {kind}; give a file with tensors by name.")
        if not is_plain(value) or "complex" in str(value.dtype):
            raise ModelError(
                f"{path} holds {_short(key)} as a tensor of another kind (sparse, quantised, complex or without "
                "values); give plain weights."
            )
    if sum(value.nbytes for value in state.values()) > 2 * size_bytes:
        raise ModelError(f"{path} holds tensors that are larger than the file; it is damaged: get it again.")
    return state


def _checked_size(path: Path) -> int:
    """Bytes of a file that may be opened."""
    try:
        is_there, size_bytes = path.is_file(), path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be a weights file ({getattr(error, 'strerror', None) or error}).") from error
    if not is_there:
        kind = ", it is no regular file" if path.exists() else ""
        raise ModelError(f"There are no weights at {path}{kind}; give an existing .safetensors, .pth or .pt file.")
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{path} is not a weights file; give a .safetensors, .pth or .pt file.")
    if size_bytes == 0:
        raise ModelError(f"{path} is empty (0 bytes), it is damaged: get it again.")
    if size_bytes > _MOST_BYTES:
        raise ModelError(f"{path} has more than {_MOST_BYTES >> 30} GB; give a file of weights alone.")
    return size_bytes


def _are_numpys(path: Path) -> bool:
    """Whether NumPy has all kinds of numbers of a .safetensors file; it lacks bfloat16 and the 8-bit ones."""
    from safetensors import safe_open

    with _explained(path), safe_open(path, framework="np") as file:
        return all(file.get_slice(name).get_dtype() in _NUMPYS_KINDS for name in file.keys())  # noqa: SIM118


def _read_arrays(path: Path) -> Any:
    from safetensors.numpy import load_file

    with _explained(path):
        return load_file(path)


def _read_tensors(path: Path) -> Any:
    import torch
    from safetensors.torch import load_file

    with _explained(path):
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _check_zip(path)
        with warnings.catch_warnings():  # what torch warns about either loads or is refused below
            warnings.simplefilter("ignore")
            # only torch's zip format can be mapped into memory; the older one is a bare pickle
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say of a file what is wrong with it."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} was not loaded: it is damaged, or it holds more than weights and could run code; give a plain "
            "state dict or a .safetensors file."
        ) from error
    except Exception as error:  # damaged files make the libraries raise whatever their next line does
        reason = re.split(r"\.\s|\n", str(error) or type(error).__name__)[0][:200]
        raise ModelError(f"{path} cannot be read as weights ({reason}); it is damaged: get it again.") from error


def _check_zip(path: Path) -> None:
    """Refuse what unpacks to more than the file holds: torch stores, it does not compress."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            is_pickle = entry.filename.endswith(".pkl")
            if entry.file_size > entry.compress_size or (is_pickle and entry.file_size > _MOST_PICKLE_BYTES):
                raise ValueError(f"its entry {entry.filename!r} is compressed or too large")


def _is_float(value: np.ndarray) -> bool:
    return value.dtype.kind == "f"


def _check_values(path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Refuse what no training leaves behind."""
    for key, value in state.items():
        if not _is_float(value) or not value.size:
            continue
        lowest, largest = float(value.min()), float(value.max())  # NaN where there is one
        if not math.isfinite(lowest) or not math.isfinite(largest):
            raise ModelError(
                f"The weights {path} hold values that are not finite, such as in {_short(key)}; give others."
            )
        if max(-lowest, largest) > LARGEST_VALUE:
            raise ModelError(
                f"The weights {path} hold values as large as {max(-lowest, largest):.0e}, in {_short(key)}; "
                "give others."
            )
        if key.endswith("running_var") and lowest < 0:
            raise ModelError(f"The weights {path} hold a negative variance, in {_short(key)}; give others.")


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unwrapped(content: Any) -> dict[Any, Any]:
    """The innermost state dict of a training checkpoint; empty if there is none."""
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return dict(content)
        content = inner
    return {}


def _without_prefixes(state: dict[Any, Any]) -> dict[Any, Any]:
    while state:
        prefix = next((p for p in PREFIXES if all(isinstance(key, str) and key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key[len(prefix) :]: value for key, value in state.items()}
    return state

"""What runs a network: ONNX Runtime where the family has graphs for it, else PyTorch; and what is installed of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.registry import ModelSpec, model_spec

Engine = Literal["onnx", "torch"]

Extra = Literal["sam", "train", "completion"]  # of `pip install`

FROM_EXTRAS = ("torch", "torchvision", "segment_anything", "monai", "onnx", "onnxscript")  # packages
WITH_GRAPHS = ("compact",)  # families
_PACKAGES: dict[Engine, tuple[str, ...]] = {"onnx": ("onnxruntime",), "torch": ("torch", "segment_anything")}


def is_installed(engine: Engine) -> bool:
    """Whether an engine's packages are here."""
    return all(find_spec(package) is not None for package in _PACKAGES[engine])


def needs_torch(model: str, weights: Path | str | None = None) -> bool:
    """Whether PyTorch is needed for a model of the registry, or for reading a file of weights.

    Raises:
        ModelError: there is no such model.
    """
    if model_spec(model).family not in WITH_GRAPHS:
        return True
    return bool(weights) and not str(weights).lower().endswith(".safetensors")


def install_command(extra: Extra) -> str:
    """What to type for the packages of an extra, in the environment that runs."""
    return f"pip install 'samlungseg[{extra}]'"


def need_torch(what: str, extra: Extra = "sam") -> None:
    """Refuse what only PyTorch can do where it is not installed.

    Args:
        what: first half of the message, such as 'Model sam-vit-b runs by PyTorch'.
        extra: that brings all that is needed for it.
    Raises:
        ModelError: says how to install it.
    """
    if not is_installed("torch"):
        raise ModelError(f"{what}, which is not installed; run: {install_command(extra)}")


def chosen_engine(spec: ModelSpec, device: str = "auto") -> Engine:
    """What runs a model: ONNX Runtime where it can on that device, otherwise PyTorch.

    Raises:
        ModelError: what the model needs is not installed.
    """
    if spec.family not in WITH_GRAPHS:
        need_torch(f"Model {spec.name} runs by PyTorch")
        return "torch"
    if is_installed("onnx") and (not is_installed("torch") or _has_provider(device)):
        return "onnx"
    if is_installed("torch"):
        return "torch"
    raise ModelError(f"Model {spec.name} runs by ONNX Runtime, which is not installed; run: pip install onnxruntime.")


def _has_provider(device: str) -> bool:
    from SAMLungSegLib.models.onnx_graphs import chosen_device

    try:
        chosen_device(device)
    except ModelError:
        return False
    return True

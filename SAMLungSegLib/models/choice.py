"""Which model predicts: loaded once in each process, and known by the SHA-256 of all weights that decide."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.checkpoints import checkpoint_path, file_sha256, load_state_dict
from SAMLungSegLib.models.engines import Engine, need_torch
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.models.tuned import card_path, read_card

if TYPE_CHECKING:
    from torch import Tensor

    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.models.trainable import TrainableModel

logger = logging.getLogger(__name__)

CHANGED = "changed"  # names the digest of weights that were changed since they were loaded
_AUTOMATIC_PROMPTER = "lung-compact"  # finds the lungs of X-rays for models that need prompts
_PRECISIONS = ("float32", "bfloat16", "float16")
_MOST_LOADED = 2  # models that are kept

_Stamp = tuple[int, int] | None
_State = tuple[tuple[str, int, int], ...]  # name, object and version of each weight


@dataclass(frozen=True)
class ModelChoice:
    """Which model predicts.

    Attributes:
        name: of the registry.
        weights: a checkpoint of the user's for that model.
        keeps_embeddings: whether embeddings are kept on disk, which rounds them.
        input_size: of SAM's frame, see `load_model`.
        dtype: of SAM's image encoder by name, such as 'bfloat16'.
    """

    name: str = "lung-compact"
    weights: Path | None = None
    keeps_embeddings: bool = True
    input_size: int | None = None
    dtype: str | None = None

    @property
    def path(self) -> Path:
        """The file of the weights.

        Raises:
            ModelError: there is no such model.
        """
        return self.weights or checkpoint_path(model_spec(self.name))

    def located(self) -> ModelChoice:
        """The same, with weights that are found from any working folder."""
        return self if self.weights is None else replace(self, weights=self.weights.absolute())

    def load(self, device: str = "auto") -> PromptableModel:
        """The model, loaded once in each process and again when the weights' file or its card changes.

        Any thread may ask; the models that were asked for last are kept, see `forget_models`.

        Raises:
            ModelError: as `load_model`.
        """
        with _loading:
            model = _loaded(self, device, (_stamp(self.weights), _stamp(_beside(self.weights))))
        logger.info("Model %s with the weights %s, on %s.", self.name, self.path, model.device)
        return model

    def weights_sha256(self) -> dict[str, str]:
        """SHA-256 of all weights that decide a prediction, by model name where there are such, the user's as 'own'.

        The card of a tuned decoder decides as well, as 'card'.

        Raises:
            ModelError: there is no such model, or no such file of weights.
        """
        if self.weights is not None and not self.weights.is_file():
            raise ModelError(
                f"There are no weights at {self.weights}; give an existing .safetensors, .pth or .pt file."
            )
        spec = model_spec(self.name)
        names = {self.name, _AUTOMATIC_PROMPTER}
        if spec.is_trained_here and not checkpoint_path(spec).is_file():
            if self.weights is None:
                raise ModelError(f"The weights of {self.name} are not on this machine; {spec.remedy}.")
            names.remove(self.name)
        digests = {name: _registry_sha256(name) for name in sorted(names)}
        own = {"own": self.weights, "card": self.weights and card_path(self.weights)}
        return digests | {role: _sha256(path) for role, path in own.items() if path is not None}


@dataclass(frozen=True)
class BaseCheckpoint:
    """The weights that a decoder is tuned on top of; each loading gives a model of its own, which training may change.

    What such a model predicts later is no longer what its file holds, so that it has no origin (see `origin_of`).

    Attributes:
        name: of the registry.
        weights: of the user's, whole ones, in place of the registry's.
    """

    name: str = "lung-compact"
    weights: Path | None = None

    def load(self, device: str = "auto", input_size: int | None = None) -> TrainableModel:
        """The model.

        Raises:
            ModelError: as `load_model`, or the weights are a mask decoder alone, tuned or not: a decoder is tuned from
                weights that one file holds, so that its card can name them.
        """
        from SAMLungSegLib.models import load_model
        from SAMLungSegLib.models.trainable import trainable

        need_torch("Training runs by PyTorch", "train")
        if self.weights is not None:
            card = read_card(self.weights)
            if card is not None:
                what = "an adaptation" if card.kind == "adaptation" else f"a tuned {card.kind}"
                raise ModelError(f"{self.weights} is {what}; tune from the model that it was tuned from.")
            if not any(name.startswith("image_encoder.") for name in load_state_dict(self.weights)):
                raise ModelError(f"{self.weights} holds no image encoder; give whole weights to tune from.")
        model = load_model(self.name, weights=self.weights, device=device, input_size=input_size, engine="torch")
        del _origins[model]
        return trainable(model)

    @property
    def path(self) -> Path:
        """The file of the weights."""
        return ModelChoice(self.name, self.weights).path

    @property
    def title(self) -> str:
        """For tables: the name, the file where it is the user's, and the start of its SHA-256."""
        file = f" ({self.weights.name})" if self.weights else ""
        return f"{self.name}{file}, SHA-256 {file_sha256(self.path)[:12]}"


# ---- what models were loaded from


@dataclass(frozen=True)
class ModelOrigin:
    """What a loaded model is.

    Attributes:
        choice: it was loaded by; its weights are found from any working folder.
        weights_sha256: of the files when it was loaded, see `ModelChoice.weights_sha256`; and of the weights
            themselves, as 'changed', where these have changed since.
        device: that it runs on, such as 'cuda:0'.
        engine: that runs it, such as 'onnx'.
    """

    choice: ModelChoice
    weights_sha256: Mapping[str, str]
    device: str
    engine: Engine = "torch"


_origins: WeakKeyDictionary[PromptableModel, tuple[ModelOrigin, _State]] = WeakKeyDictionary()


def origin_of(model: PromptableModel) -> ModelOrigin | None:
    """What a model was loaded from; None of one that neither `ModelChoice.load` nor `load_model` has returned.

    A wrapper of the user's may predict something else than the model inside, so that it has no origin either. Weights
    that were changed in place, as by training, are noticed and said, see `ModelOrigin.weights_sha256`.
    """
    try:
        origin, state = _origins[model]
    except (KeyError, TypeError):  # TypeError of a class of the user's whose objects have no hash
        return None
    if _state_of(model) == state:
        return origin
    return replace(origin, weights_sha256={**origin.weights_sha256, CHANGED: _digest_of(model)})


def note_origin(model: PromptableModel, choice: ModelChoice) -> None:
    """Remember what a model was loaded from, as long as there is the model.

    Raises:
        ModelError: as `ModelChoice.weights_sha256`.
    """
    origin = ModelOrigin(choice.located(), choice.weights_sha256(), str(model.device), model.engine)
    _origins[model] = origin, _state_of(model)


def _state_of(model: PromptableModel) -> _State:
    """What changes when a weight is changed in place or replaced; empty of a model without torch."""
    return tuple((name, id(weight), weight._version) for name, weight in _weights_of(model).items())


def _weights_of(model: PromptableModel) -> dict[str, Tensor]:
    from SAMLungSegLib.models.wrapper import ModelWrapper

    while isinstance(model, ModelWrapper):
        model = model.model
    network = getattr(model, "network", None)
    return {} if network is None or not hasattr(network, "state_dict") else network.state_dict(keep_vars=True)


def _digest_of(model: PromptableModel) -> str:
    """SHA-256 of the weights as they are now, by name."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(_weights_of(model).items()):
        values = weight.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ---- models and digests that are kept

_loading = Lock()  # so that threads that ask at once get one model


def forget_models() -> None:
    """Let go of the loaded models; the next `ModelChoice.load` loads anew."""
    with _loading:
        _loaded.cache_clear()


@lru_cache(maxsize=_MOST_LOADED)
def _loaded(choice: ModelChoice, device: str, stamps: tuple[_Stamp, _Stamp]) -> PromptableModel:
    from SAMLungSegLib.models import load_model
    from SAMLungSegLib.models.cached import cached

    if choice.dtype and choice.dtype not in _PRECISIONS:
        raise ModelError(f"'{choice.dtype}' is no precision; give one of {', '.join(_PRECISIONS)}.")
    dtype = None
    if choice.dtype:
        need_torch("Only models that run by PyTorch have a dtype")
        import torch

        dtype = getattr(torch, choice.dtype)
    model = load_model(choice.name, weights=choice.weights, device=device, input_size=choice.input_size, dtype=dtype)
    if choice.keeps_embeddings:
        model = cached(model)
    note_origin(model, choice)
    return model


def _stamp(path: Path | None) -> _Stamp:
    """What changes when a file does."""
    if path is None or not path.is_file():
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _beside(weights: Path | None) -> Path | None:
    """Where the card of weights lies, if they have one."""
    return weights.with_suffix(".json") if weights and weights.name else None


def _registry_sha256(name: str) -> str:
    spec = model_spec(name)
    return spec.sha256 or _sha256(checkpoint_path(spec))


def _sha256(path: Path) -> str:
    return _file_sha256(path, _stamp(path))


@lru_cache(maxsize=4)
def _file_sha256(path: Path, stamp: _Stamp) -> str:
    return file_sha256(path)

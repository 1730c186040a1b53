"""What a method of adaptation is, and which there are.

A method registers itself; a file in `methods` is found without being named anywhere, one elsewhere once it is imported.
Each adapter of `SAMLungSegLib.adapters` is a method by its own name, too.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adaptation.prompts import PROMPT_KINDS, accepted_kinds, prompts_of
from SAMLungSegLib.adaptation.slices import ObjectExample, ObjectSlice
from SAMLungSegLib.errors import ModelError, SettingsError
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.adapted import save_delta
from SAMLungSegLib.models.base import Embedding
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.extensions.base import has_extension
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.named import NamedClasses
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.training.adapters import prompted_loss
from SAMLungSegLib.training.export import export_trained
from SAMLungSegLib.training.parts import parsed_settings

Group = dict[str, Any]
Measure = Literal["dice", "accuracy"]
Kind = TypeVar("Kind", bound=type["Method"])

METHODS: NamedClasses[Method] = NamedClasses("method", f"{__package__}.methods", SettingsError)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A way to adapt a model with its settings: a frozen dataclass whose fields are numbers, texts and tuples of texts.

    A subclass says which parts of the network it trains and keeps; all else has a default. One that puts something into
    the network overrides `prepare` and calls this one at its end.

    Attributes:
        name: that users give.
        title: in a few words.
        source: the paper, or where it comes from.
        chosen_by: what `score` gives, on the validation part.
        measures: what `measure` gives and the verdict is about: Dice, or the accuracy of the organs' names.
        learning_rate: of the optimiser, of groups with scale 1.
        weight_decay: of the optimiser.
        prompts: kinds of prompts that it learns with and is judged by; if empty, all that it can.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    measures: ClassVar[Measure] = "dice"
    chosen_by: ClassVar[str] = "dice"
    smallest_part_voxels: ClassVar[int] = 0  # see `ReadingOptions`
    smallest_part_px: ClassVar[int] = 0
    smallest_share: ClassVar[float] = 0.0

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    prompts: tuple[str, ...] = ()

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """Names of the network's parts that are trained and kept, of `TrainableModel.part`."""

    @property
    def encodes(self) -> bool:
        """Whether embeddings change with it, so that every slice is encoded at every step."""
        return not {"image_encoder", "adapters"}.isdisjoint(self.parts)

    @property
    def slices_per_input(self) -> int:
        """How many neighbouring slices it looks at, the one to segment in the middle; odd."""
        return 1

    @property
    def sees_volume(self) -> bool:
        """Whether it looks at the whole volume that a slice lies in."""
        return False

    @property
    def stages(self) -> int:
        """Into how many stages of equal length the training is divided; a new one begins with a new optimiser."""
        return 1

    def batch_size(self, given: int, stage: int) -> int:
        """Objects that are computed at once in a stage: as given, unless the method has its own."""
        return given

    @property
    def prompt_kinds(self) -> tuple[str, ...]:
        """That it learns with and is judged by, of `PROMPT_KINDS`."""
        return self.prompts or PROMPT_KINDS

    def kinds(self, model: TrainableModel) -> tuple[str, ...]:
        """Of `prompt_kinds` those that a model accepts.

        Raises:
            SettingsError: none.
        """
        return accepted_kinds(model, self.prompt_kinds)

    @property
    def settings(self) -> dict[str, Any]:
        """As a card holds them."""
        return {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()}

    def model_for(self, model: TrainableModel) -> TrainableModel:
        """The model that learns and predicts: the given one, or what an extension makes of it, see `models.extensions`.

        It predicts as the given one until it is trained, but where it sees slices otherwise.

        Raises:
            ModelError: the model cannot be adapted so.
        """
        return model

    def prepare(self, model: TrainableModel, organs: Sequence[str]) -> nn.ModuleDict:
        """Put into the model what the method adds, which predicts as before until it is trained.

        Args:
            model: of `model_for`, changed in place.
            organs: keys of what there is to learn, in the order of their values.
        Returns:
            The parts whose weights are trained and kept, by name. Random numbers are torch's.
        Raises:
            ModelError: the model cannot be adapted so; nothing was changed.
        """
        return nn.ModuleDict({name: model.part(name) for name in self.parts})

    def parameters(self, model: TrainableModel, trained: nn.ModuleDict, stage: int) -> list[Group]:
        """What a stage trains: dicts of 'params', a list, and 'scale' of the learning rate; all else is frozen."""
        return [{"params": [*trained.parameters()], "scale": 1.0}]

    def optimizer(self, groups: list[Group]) -> torch.optim.Optimizer:
        """A new one for groups that have their learning rates; AdamW."""
        return torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay)

    def rate(self, step: int, progress: float) -> float:
        """Factor of the learning rates in a step, from 0, at a part 0..1 of the training (of its time, where given)."""
        return 1.0

    def loss(
        self, model: TrainableModel, examples: Sequence[ObjectExample], rng: np.random.Generator, stage: int
    ) -> Tensor:
        """Of a mini-batch, with gradients: the mean over its objects, each prompted by one kind drawn for all of them.

        Cross-entropy and Dice of the prompted masks, see `training.adapters.prompted_loss`.
        """
        kinds = self.kinds(model)
        kind = kinds[rng.integers(len(kinds))]
        prompts = [prompts_of(one.mask_hw, kind, rng) for one in examples]
        return prompted_loss(model, decoded(model, examples, prompts), [one.mask_hw for one in examples])

    def predict(self, model: TrainableModel, embedding: Embedding, one: ObjectSlice, prompts: PromptSet) -> np.ndarray:
        """The mask, bool (H, W), of an object as users will get it, without gradients.

        Args:
            embedding: of the slice, by `model.encode`.
            one: the slice.
            prompts: of the object.
        """
        return model.decode(embedding, prompts).logits > 0

    def measure(self, model: TrainableModel, embedding: Embedding, example: ObjectExample, prompts: PromptSet) -> float:
        """How well an object is predicted, 0 to 1; see `measures`."""
        return dice(example.mask_hw, self.predict(model, embedding, example.slice, prompts))

    def score(self, model: TrainableModel, embedding: Embedding, example: ObjectExample, prompts: PromptSet) -> float:
        """What the best weights are chosen by, higher is better; see `chosen_by`."""
        return self.measure(model, embedding, example, prompts)

    def export(self, target: Path, model: TrainableModel, base: BaseCheckpoint, facts: Mapping[str, Any]) -> Path:
        """Write what `load_model(name, weights=target)` takes, and its card.

        All weights of the network where the image encoder learned, else the trained parts alone; what was injected or
        extended is named in the card.

        Args:
            target: .safetensors file.
            model: with the trained weights.
            base: what was trained.
            facts: what else the card says.
        """
        if "image_encoder" in self.parts and not has_extension(model):
            return export_trained(target, base, model, self.parts, facts)
        parts = [*self.parts, *(["extension"] if has_extension(model) and "extension" not in self.parts else [])]
        return save_delta(target, model, parts, base_weights=base.weights, facts=facts)


def embeddings(model: TrainableModel, slices: Sequence[ObjectSlice]) -> list[Embedding]:
    """Of some slices: those that were made before where the encoder is frozen, else new ones, with gradients."""
    if all(one.halves for one in slices):
        return [kept_embedding(model, one) for one in slices]
    return model.encode_batch([one.view for one in slices])


def kept_embedding(model: TrainableModel, one: ObjectSlice) -> Embedding:
    """Of a slice that was encoded before, in float32."""
    return Embedding(tuple(half.to(model.device, torch.float32) for half in one.halves), one.grey_hw.shape)


def decoded(model: TrainableModel, examples: Sequence[ObjectExample], prompts: Sequence[PromptSet]) -> Tensor:
    """Logits (B, h, w) of the prompted token, float32, on the decoder's grid, with gradients."""
    encoded = embeddings(model, [one.slice for one in examples])
    return model.decode_batch(encoded, prompts)[0][:, 0].float()


def frame_targets(model: TrainableModel, examples: Sequence[ObjectExample], side: int) -> Tensor:
    """The masks in the network's frame drawn as `side` x `side`, float32 (B, side, side) of 0 and 1; 0 in padding."""
    targets = torch.zeros(len(examples), side, side, device=model.device)
    for target, one in zip(targets, examples, strict=True):
        rows, columns = model.size_in_frame(one.mask_hw.shape, side)
        mask = torch.from_numpy(one.mask_hw.astype(np.float32))[None, None].to(model.device)
        target[:rows, :columns] = F.interpolate(mask, (rows, columns), mode="nearest-exact")[0, 0]
    return targets


# ---- which there are


def register_method(kind: Kind) -> Kind:
    """Make a class of methods known by its `name`: a class decorator.

    Raises:
        SettingsError: another class has that name.
    """
    METHODS.add(kind.name, kind)
    return kind


def method_names() -> tuple[str, ...]:
    """All methods, in alphabetical order."""
    return METHODS.names()


def method_class(name: str) -> type[Method]:
    """The method called `name`.

    Raises:
        SettingsError: there is none; the message lists those there are.
    """
    return METHODS.named(name)


def method_from(text: str) -> Method:
    """The method that users describe, such as 'decoder' or 'lora:rank=8,targets=q+k'.

    Raises:
        SettingsError: no such method, or settings that it does not have or that are not possible.
    """
    name, _, given = text.partition(":")
    kind = method_class(name.strip())
    defaults = {one.name: one.default for one in fields(kind)}
    settings = parsed_settings(given)
    METHODS.check_settings(kind.name, settings)
    for key, value in settings.items():
        settings[key] = _like(defaults[key], value, f"{kind.name}: {key}")
    try:
        return kind(**settings)
    except ModelError as error:
        raise SettingsError(str(error)) from error


def _like(default: Any, value: Any, what: str) -> Any:
    """A value of the kind of a setting's default."""
    if isinstance(default, tuple):
        value = value if isinstance(value, tuple) else (value,)
        is_right = all(type(one) is str for one in value)
    elif isinstance(default, float):
        is_right = type(value) in (int, float)
    else:
        is_right = type(value) is type(default)
    if not is_right:
        raise SettingsError(f"{what} is {json.dumps(value)}, expected a value like {json.dumps(default)}.")
    return float(value) if isinstance(default, float) else value

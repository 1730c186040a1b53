"""The recipe of a training run: a TOML file, one of the user's or one of `training/recipes`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from SAMLungSegLib.documents import DocumentError, is_number, read_toml
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.compact.network import INPUT_SIZE
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegLib.training.augment import STRENGTHS
from SAMLungSegLib.training.renamed import in_todays_names

RECIPES = Path(__file__).parent / "recipes"
_MOST_BYTES = 1 << 20
LIMITS = {
    "epochs": (1, 100_000),
    "epoch_images": (1, 10_000_000),
    "batch": (1, 10_000),
    "learning_rate": (1e-9, 10),
    "decoder_lr_scale": (0, 10),
    "weight_decay": (0, 10),
    "ema_decay": (0, 1),
    "prompt_prob": (0, 1),
    "correction_prob": (0, 1),
    "iou_epochs": (0, 100_000),
    "patience": (0, 100_000),
    "whole_epochs": (0, 100_000),
    "corrector_epochs": (0, 100_000),
    "phantoms": (0, 100_000),
    "seed": (0, 2**32 - 1),
    "threads": (1, 1024),
    "workers": (0, 1024),
}
SIDES = (INPUT_SIZE // 2, INPUT_SIZE)


class RecipeError(SettingsError):
    """A training recipe cannot be read or makes no sense."""


@dataclass(frozen=True)
class Phase:
    """A stretch of a training.

    Attributes:
        epochs: how many.
        side: of the images in pixels; half of the frame costs a quarter of the time and teaches nearly as much.
        augmentation: 'strong', 'mild', 'light' or 'plain', see `training_transforms`.
        frozen_norm: whether batch normalisation keeps its statistics. Batches mix CT and X-rays, so that their own
            statistics differ from those that will be used; borders become exact only without that difference.
    """

    epochs: int
    side: int = INPUT_SIZE
    augmentation: str = "strong"
    frozen_norm: bool = False


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training run.

    Attributes:
        name: what the model is called, and its files.
        model: the registry's, whose network learns: lung-compact, or sam-vit-tiny.
        phases: one after the other; the learning rate follows one cosine over all of them. None where only branches are
            to learn on the weights that it starts from.
        sampling_weights: how often each set is drawn, relative to the others; sets that are not named are not trained
            on.
        held_out_sets: of which no image at all is trained on; all of them may be tested.
        start: file of weights to start from, or 'lung-compact'; empty to start from nothing.
        epoch_images: images per epoch.
        decoder_lr_scale: learning rate of prompt encoder and mask decoder relative to the encoder's; at the encoder's
            own rate the decoder's attention never learns to look at prompts.
        prompt_prob, correction_prob: how often a batch is predicted with prompts, and how often a prediction is
            corrected by a click, and the corrected one again.
        ema_decay: part that the moving average of the weights keeps at each step.
        iou_epochs: epochs at the end in which only the prediction of IoU learns.
        whole_epochs: epochs after these in which only the branch for whole lungs learns.
        corrector_epochs: epochs at the very end in which only the corrector of masks learns.
        phantoms: how many generated chests to add, each as ten CT slices and an X-ray.
        bfloat16: of a SAM, whether it learns in bfloat16 on a processor too, twice as fast where that has AMX.
        threads: of the processor; workers: processes that prepare batches.
    """

    name: str = "lung-compact"
    model: str = "lung-compact"
    phases: tuple[Phase, ...] = (Phase(48),)
    sampling_weights: dict[str, float] = field(default_factory=dict)
    held_out_sets: tuple[str, ...] = ()
    start: str = ""
    epoch_images: int = 600
    batch: int = 8
    learning_rate: float = 2e-3
    decoder_lr_scale: float = 0.25
    weight_decay: float = 0.02
    ema_decay: float = 0.998
    prompt_prob: float = 0.8
    correction_prob: float = 0.6
    iou_epochs: int = 0
    whole_epochs: int = 0
    corrector_epochs: int = 0
    phantoms: int = 60
    seed: int = 0
    bfloat16: bool = False
    threads: int = 2
    workers: int = 1

    @property
    def epochs(self) -> int:
        """In all phases, without those for the IoU alone."""
        return sum(phase.epochs for phase in self.phases)

    def phase(self, epoch: int) -> Phase:
        """The phase that an epoch belongs to; the last one beyond the end."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase
            epoch -= phase.epochs
        return self.phases[-1] if self.phases else Phase(1)


def read_config(recipe: str | Path) -> TrainingConfig:
    """The recipe in a TOML file.

    Args:
        recipe: path of a file, or the name of one of `recipe_names`.
    Raises:
        RecipeError: no such recipe, not TOML, unknown settings or values of another kind.
    """
    path = Path(recipe)
    if not os.path.isfile(path):
        path = RECIPES / f"{recipe}.toml"
    if not os.path.isfile(path):
        known = ", ".join(recipe_names())
        raise RecipeError(f"There is no recipe {recipe}; give the path of a .toml file or one of {known}.")
    try:
        settings = read_toml(path, most_bytes=_MOST_BYTES)
    except DocumentError as error:
        raise RecipeError(f"{error}; give a recipe in TOML, see docs/model.md for an example.") from error
    given = settings.pop("phases", [])
    if not isinstance(given, list) or not all(isinstance(phase, dict) for phase in given):
        raise RecipeError(f"{path}: phases is no list of tables; write each as [[phases]].")
    phases = tuple(_made(Phase, phase, f"{path}, [[phases]]") for phase in given)
    if not (phases or settings.get("start")):
        raise RecipeError(f"{path} has no [[phases]]; give at least one, with its number of epochs.")
    for phase in phases:
        _check_phase(phase, path)
    settings = in_todays_names(settings, str(path))
    if "held_out_sets" in settings:
        settings["held_out_sets"] = _names(settings["held_out_sets"], path)
    config = _made(TrainingConfig, {**settings, "phases": phases}, str(path))
    _check_name(config.name, path)
    _check_model(config.model, path)
    _check_sampling_weights(config.sampling_weights, path)
    return config


def recipe_names() -> list[str]:
    """The recipes that come with the library."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def _made(kind: type, settings: dict[str, Any], where: str) -> Any:
    expected = {item.name: item for item in fields(kind)}
    unknown = sorted(set(settings) - set(expected))
    if unknown:
        raise RecipeError(
            f"{where} has settings that do not exist: {', '.join(unknown)}; known: {', '.join(expected)}."
        )
    if kind is Phase and "epochs" not in settings:
        raise RecipeError(f"{where}: a phase has no epochs; say how many.")
    defaults = kind(epochs=1) if kind is Phase else kind()
    for name, value in settings.items():
        default = getattr(defaults, name)
        is_number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
        if not (is_number or type(value) is type(default)):
            raise RecipeError(f"{where}: {name} is {_shown(value)}, expected a value like {default!r}.")
    check_limits(settings, where, RecipeError)
    return kind(**settings)


def check_limits(settings: Mapping[str, Any], where: str, error: type[SettingsError] = SettingsError) -> None:
    """Refuse numbers that no training can have, see `LIMITS`.

    Args:
        settings: by name; of numbers, where they are in `LIMITS`.
        where: they stand, for the message.
        error: that is raised.
    """
    for name in settings.keys() & LIMITS.keys():
        lowest, highest = LIMITS[name]
        if not lowest <= settings[name] <= highest:
            raise error(f"{where}: {name} is {_shown(settings[name])}, expected {lowest} to {highest}.")


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**50 else "a number of more than 50 digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _names(given: object, path: Path) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise RecipeError(f"{path}: held_out_sets is {_shown(given)}, expected a list of names.")
    return tuple(given)


def _check_name(name: str, path: Path) -> None:
    if not re.fullmatch(r"[\w.+-][\w.+ -]{0,99}", name) or not name.strip("."):
        raise RecipeError(f"{path}: name is {_shown(name)}, expected one that files can have.")


def _check_model(name: str, path: Path) -> None:
    trained = [spec.name for spec in MODELS.values() if spec.taught is not None]
    if name not in trained:
        raise RecipeError(f"{path}: model is {_shown(name)}, expected one of {', '.join(trained)}.")


def _check_sampling_weights(weights: dict[str, object], path: Path) -> None:
    for name, weight in weights.items():
        if not is_number(weight) or weight < 0:
            raise RecipeError(f"{path}: the weight of {name} is {_shown(weight)}, expected a number from 0 on.")


def _check_phase(phase: Phase, path: Path) -> None:
    if phase.side not in SIDES:
        raise RecipeError(f"{path}: side is {phase.side}, expected one of {', '.join(map(str, SIDES))}.")
    if phase.augmentation not in STRENGTHS:
        raise RecipeError(
            f"{path}: augmentation is {phase.augmentation!r}, expected one of {', '.join(map(repr, STRENGTHS))}."
        )

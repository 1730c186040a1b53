"""How the fine-tuning study is made, and which images each of its folds uses for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.tuned import PromptKind
from SAMLungSegLib.studies.fine_tune.unet import UNetConfig
from SAMLungSegLib.training.decoder import TuningConfig
from SAMLungSegLib.training.prompt_policies import JITTER_PX, check_jitter

FEWEST_FOLDS = 3


@dataclass(frozen=True)
class FineTuneSettings:
    """How the study is made.

    Attributes:
        base: the model that is tuned.
        device: 'auto', 'cpu', 'cuda', 'mps'.
        input_size: of SAM's frame; None for its own.
        kinds: of prompts.
        folds: test = fold i, validation = the next one, training = all others.
        changes: fields of the tuning's `TuningConfig` that differ from `default_config` of the model.
        points_per_lung: mean points.
        jitter_px: of boxes.
        window: of CT, see `Windowing.parse`.
        modality: of all images; None to tell it for each.
        limit: at most so many images of each set, the first by name.
        tune_only: sets that are tuned on for the cross-set table and not tested, so that the base may know them.
        grid: whether learning rates and weight decays are compared, on the first fold.
        unet: the baseline; None to leave it out.
        include_training_images: whether a base model may have learned from the images.
    """

    base: BaseCheckpoint = field(default_factory=BaseCheckpoint)
    device: str = "auto"
    input_size: int | None = None
    kinds: tuple[PromptKind, ...] = ("box", "points", "both")
    folds: int = 5
    changes: Mapping[str, Any] = field(default_factory=dict)
    points_per_lung: int = 1
    jitter_px: float = JITTER_PX
    window: str = "auto"
    modality: Modality | None = None
    limit: int | None = None
    tune_only: tuple[str, ...] = ()
    grid: bool = False
    unet: UNetConfig | None = field(default_factory=UNetConfig)
    include_training_images: bool = False

    def __post_init__(self) -> None:
        check_jitter(self.jitter_px)
        if self.folds < FEWEST_FOLDS:
            raise SettingsError(
                f"{self.folds} folds are too few to train, validate and test; give {FEWEST_FOLDS} or more."
            )
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise SettingsError(
                f"The kinds of prompts {', '.join(self.kinds) or 'none'} are not different ones; name each once."
            )
        if self.limit is not None and self.limit < 1:
            raise SettingsError(f"A limit of {self.limit} images leaves none; give 1 or more.")


def default_config(model: PromptableModel) -> TuningConfig:
    """The paper's recipe for SAM: 100 epochs, the last one kept.

    lung-compact knows lungs already and is near its best after few epochs: at most 30, and 6 without a better
    validation Dice end it.
    """
    rate = model.capabilities.learning_rate
    if not model.capabilities.needs_prompt:
        return TuningConfig(epochs=30, patience=6, learning_rate=rate)
    return TuningConfig(epochs=100, patience=0, learning_rate=rate)


def tested_sets(names: Sequence[str], settings: FineTuneSettings) -> list[str]:
    """The sets that results are given for, of all that there are.

    Raises:
        SettingsError: `tune_only` names a set that is not there, or leaves none to test.
    """
    unknown = [name for name in settings.tune_only if name not in names]
    if unknown:
        raise SettingsError(f"There is no set {', '.join(unknown)} to tune on; the data has {', '.join(names)}.")
    tested = [name for name in names if name not in settings.tune_only]
    if not tested:
        raise SettingsError(f"All sets ({', '.join(names)}) are only tuned on, so that none is tested; leave one out.")
    return tested


def cross_kind(kinds: Sequence[PromptKind]) -> PromptKind:
    """What the cross-set table, the grid and the comparison with the U-Net are made with: points, as in the paper."""
    return "points" if "points" in kinds else kinds[0]

"""The multi-organ study (Zhang): organs by five kinds of prompts before and after tuning, and how well they are named.

Its pieces are folders in `runs`, see `studies.pieces`: the same command goes on after a stop, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from SAMLungSegLib.adaptation.method import Method
from SAMLungSegLib.adaptation.methods.organ_token import OrganToken
from SAMLungSegLib.adaptation.prompts import PROMPT_KINDS, accepted_kinds
from SAMLungSegLib.adaptation.run import encoded, judged, train
from SAMLungSegLib.adaptation.slices import AdaptationData, ReadingOptions, all_examples
from SAMLungSegLib.adaptation.task import AdaptationTask, AdaptConfig, embedding_of, fixed_prompts
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.evaluation.classification import Confusion
from SAMLungSegLib.files import as_output_error
from SAMLungSegLib.models.cached import cached
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.studies.multi_organ.tuning import OrganTuning, OrganTuningTask, with_variants
from SAMLungSegLib.studies.objects import study_facts, study_objects
from SAMLungSegLib.studies.pieces import piece, pieces_folder
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings, copied, with_state

CHECKPOINT_NAME = "checkpoint.pt"
NAMING = AdaptConfig(steps=1000, batch=8)


@dataclass(frozen=True)
class MultiOrganSettings:
    """How the study is made.

    Attributes:
        base: the model.
        device: 'auto', 'cpu', 'cuda', 'mps'.
        input_size: of SAM's frame; None for its own.
        kinds: of prompts.
        reading: of the slices.
        tuning: of the decoder, once for each kind of prompts; None to leave it out.
        naming: training of the class token; None to leave it out.
        organ_token: the method that it is trained by.
    Raises:
        SettingsError: kinds that there are not.
    """

    base: BaseCheckpoint = field(default_factory=lambda: BaseCheckpoint("sam-vit-b"))
    device: str = "auto"
    input_size: int | None = None
    kinds: tuple[str, ...] = PROMPT_KINDS
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    tuning: OrganTuning | None = field(default_factory=OrganTuning)
    naming: AdaptConfig | None = NAMING
    organ_token: Method = field(default_factory=OrganToken)

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in PROMPT_KINDS]
        if unknown or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise SettingsError(
                f"The kinds of prompts {', '.join(self.kinds) or 'none'} are not different ones of "
                f"{', '.join(PROMPT_KINDS)}; name each once."
            )


@dataclass(frozen=True, eq=False)
class MultiOrganResult:
    """The study's numbers.

    Attributes:
        settings: that it was made with.
        data: its slices.
        model: the base.
        zero_shot: one row for each held-out object and kind of prompts: image, slice, patient, organ, prompt, dice,
            jaccard.
        tuned: the same of the tuned decoders, and `tuned_with`, the kind that each learned with.
        histories: of the tunings, by kind.
        named: one row for each held-out object and kind of prompts: image, slice, patient, organ, prompt, predicted,
            probability (of the organ that it is); empty where naming was left out.
        naming_history: of the class token.
        most_frequent: the organ with most objects in the training part, which a guess would name.
        seconds: by piece.
    """

    settings: MultiOrganSettings
    data: AdaptationData
    model: TrainableModel
    zero_shot: pd.DataFrame
    tuned: pd.DataFrame
    histories: Mapping[str, list[dict[str, float]]]
    named: pd.DataFrame
    naming_history: list[dict[str, float]]
    most_frequent: str

    def confusion(self, kind: str | None = None) -> Confusion:
        """Of the organs with one kind of prompts, or with all of them."""
        rows = self.named if kind is None else self.named[self.named["prompt"] == kind]
        return Confusion.of(self.data.organs, list(rows["organ"]), list(rows["predicted"]))


def run_multi_organ(
    data: Path, output: Path, settings: MultiOrganSettings | None = None, *, overwrite: bool = False
) -> MultiOrganResult:
    """Make the study, or what is missing of it.

    Args:
        data: a manifest, a folder, or CURVAS's, see `study_objects`.
        output: where the pieces lie, in `runs`.
        settings: how.
        overwrite: delete all pieces first.
    Raises:
        VolumeError, GeometryError, IntensityError: as `adaptation.read_data`.
        SettingsError: the model accepts no such prompts.
        ModelError: the model cannot be loaded or tuned.
    """
    settings = settings or MultiOrganSettings()
    model = settings.base.load(settings.device, settings.input_size)
    settings = replace(settings, kinds=accepted_kinds(model, settings.kinds))
    objects = study_objects(data, settings.reading)
    folder = pieces_folder(output, overwrite=overwrite)
    study = _Study(settings, objects, model, folder)
    zero_shot = study.zero_shot()
    tuned = {kind: study.tuned(kind) for kind in (settings.kinds if settings.tuning else ())}
    naming = study.naming() if settings.naming else {"rows": [], "history": []}
    tables = [pd.DataFrame(one["rows"]).assign(tuned_with=kind) for kind, one in tuned.items()]
    counts = pd.Series([objects.organs[one.organ - 1] for one in all_examples(objects.training)]).value_counts()
    return MultiOrganResult(
        settings,
        objects,
        model,
        pd.DataFrame(zero_shot["rows"]),
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(),
        {kind: one["history"] for kind, one in tuned.items()},
        pd.DataFrame(naming["rows"]),
        naming["history"],
        str(counts.index[0]),
    )


class _Study:
    """Makes the pieces."""

    def __init__(self, settings: MultiOrganSettings, data: AdaptationData, model: TrainableModel, folder: Path) -> None:
        self.settings, self.data, self.model, self.folder = settings, data, model, folder
        self.encoder = cached(model)
        self._encoded: AdaptationData | None = None
        self.facts = study_facts(settings.base, model, data, settings.reading, settings.kinds)

    def zero_shot(self) -> dict[str, Any]:
        """The base on the held-out part."""
        return piece(self.folder / "zero_shot", self.facts, lambda: {"rows": self._judged()})

    def _judged(self) -> list[dict[str, Any]]:
        def predict(embedding: Any, _one: Any, prompts: Any) -> Any:
            return self.model.decode(embedding, prompts).logits > 0

        table = judged(self.encoder, self.model, self._encoded or self.data, self.settings.kinds, predict)
        return table.to_dict("records")

    def tuned(self, kind: str) -> dict[str, Any]:
        """A decoder tuned with one kind of prompts, on the held-out part with all of them."""
        folder = self.folder / "tuned" / kind
        facts = {**self.facts, "tuned_with": kind, "tuning": asdict(self.settings.tuning)}
        return piece(folder, facts, lambda: self._tune(folder, kind))

    def _tune(self, folder: Path, kind: str) -> dict[str, Any]:
        self._encoded = self._encoded or with_variants(self.encoder, self.data, self.settings.tuning)
        task = OrganTuningTask(self.model, self._encoded, kind, self.settings.tuning)
        with self.model.threads(), with_state(task.network, copied(task.network.state_dict())):
            trainer = Trainer(
                task, TrainerSettings(self.settings.tuning.epochs), folder / CHECKPOINT_NAME, title=f"tuning, {kind}"
            )
            try:
                trained = trainer.run()
            finally:
                self.model.network.requires_grad_(False)
            with with_state(task.network, trained.state):
                rows = self._judged()
        with as_output_error(folder):
            (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        return {"rows": rows, "history": trained.history, "epoch": trained.epoch}

    def naming(self) -> dict[str, Any]:
        """The class token, on the held-out part with all kinds of prompts."""
        method, config = self.settings.organ_token, self.settings.naming
        folder = self.folder / "naming"
        facts = {**self.facts, "method": method.settings, "config": asdict(config)}
        return piece(folder, facts, lambda: self._name(folder))

    def _name(self, folder: Path) -> dict[str, Any]:
        method, config = self.settings.organ_token, self.settings.naming
        base = self.settings.base.load(self.settings.device, self.settings.input_size)
        torch.manual_seed(config.seed)
        model = method.model_for(base)
        part = method.prepare(model, self.data.organs)
        data = encoded(model, self.data)
        task = AdaptationTask(model, method, part, data, config)
        run = train(task, folder)
        with with_state(task.network, run.state), torch.inference_mode():
            rows = [
                row
                for one in data.held_out
                for example in one.examples()
                for row in self._names(model, embedding_of(model, model, one), example)
            ]
        return {"rows": rows, "history": run.history, "epoch": run.epoch}

    def _names(self, model: TrainableModel, embedding: Any, example: Any) -> list[dict[str, Any]]:
        one, organ, rows = example.slice, self.data.organs[example.organ - 1], []
        for kind in self.settings.kinds:
            prediction = model.decode(embedding, fixed_prompts(example, kind))
            rows.append(
                {
                    "image": one.image,
                    "slice": one.number,
                    "patient": one.patient,
                    "organ": organ,
                    "prompt": kind,
                    "predicted": prediction.organ,
                    "probability": prediction.organ_probabilities[organ],
                }
            )
        return rows

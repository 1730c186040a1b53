"""The study of adaptations: each method on the same slices, for the same number of steps and for the same time.

Its pieces are folders in `runs`, see `studies.pieces`: the same command goes on after a stop, with the same numbers.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from SAMLungSegLib.adaptation.method import Method, method_class, method_from, method_names
from SAMLungSegLib.adaptation.prompts import PROMPT_KINDS, accepted_kinds
from SAMLungSegLib.adaptation.run import AdaptOptions, adapt, encoded, judged, reading_for
from SAMLungSegLib.adaptation.slices import AdaptationData, ReadingOptions
from SAMLungSegLib.adaptation.task import AdaptationTask, AdaptConfig
from SAMLungSegLib.errors import SAMLungSegError, SettingsError
from SAMLungSegLib.files import as_output_error
from SAMLungSegLib.models.cached import cached
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.studies.adapters.memory import step_megabytes
from SAMLungSegLib.studies.adapters.unet import OrganUNetTask, unet_rows
from SAMLungSegLib.studies.fine_tune.unet import UNetConfig
from SAMLungSegLib.studies.objects import study_facts, study_objects
from SAMLungSegLib.studies.pieces import piece, pieces_folder
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings, autocast

UNET, UNTRAINED = "U-Net", "untrained"
STEPS, TIME = "equal steps", "equal time"

logger = logging.getLogger(__name__)


def default_methods(data: AdaptationData) -> tuple[str, ...]:
    """All that there are, but those that leave masks as they are; on single slices, with `slices=1` where it is set."""
    names = []
    for name in method_names():
        kind = method_class(name)
        if kind.measures == "dice":
            is_set = "slices" in {one.name for one in fields(kind)} and not has_depth(data)
            names.append(f"{name}:slices=1" if is_set else name)
    return tuple(names)


@dataclass(frozen=True)
class AdaptersSettings:
    """How the study is made.

    Attributes:
        base: the model that is adapted.
        device: 'auto', 'cpu', 'cuda', 'mps'.
        input_size: of SAM's frame; None for its own.
        methods: as `method_from` reads them; all if empty.
        steps: of each method; None to leave this comparison out.
        minutes: of each method; None to leave this comparison out.
        batch: slices whose gradients are computed at once.
        accumulate: batches in a step.
        seed: of all draws.
        kinds: of prompts that methods learn with and are judged by, as far as each accepts them.
        reading: of the slices.
        unet: the baseline; None to leave it out.
    Raises:
        SettingsError: there is no such method, one that changes no masks, or neither steps nor minutes.
    """

    base: BaseCheckpoint = field(default_factory=lambda: BaseCheckpoint("sam-vit-b"))
    device: str = "auto"
    input_size: int | None = None
    methods: tuple[str, ...] = ()
    steps: int | None = 500
    minutes: float | None = None
    batch: int = 2
    accumulate: int = 1
    seed: int = 0
    kinds: tuple[str, ...] = PROMPT_KINDS
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    unet: UNetConfig | None = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise SettingsError("Methods are compared at equal steps or in equal time; give one of both at least.")
        _ = self.lengths
        for text in self.methods:
            if method_from(text).measures != "dice":
                raise SettingsError(
                    f"The method '{text}' leaves masks as they are, and methods are compared by Dice; leave it out, "
                    "or see 'samlungseg study multi-organ'."
                )

    @property
    def lengths(self) -> dict[str, AdaptConfig]:
        """The trainings, by what is equal."""
        usual = {"batch": self.batch, "accumulate": self.accumulate, "seed": self.seed}
        found = {}
        if self.steps is not None:
            found[STEPS] = AdaptConfig(steps=self.steps, **usual)
        if self.minutes is not None:
            found[TIME] = AdaptConfig(minutes=self.minutes, **usual)
        return found


@dataclass(frozen=True, eq=False)
class AdaptersResult:
    """The study's numbers.

    Attributes:
        settings: that it was made with.
        data: its slices, as methods of one slice see them.
        model: the base.
        methods: one row for each training: budget, method, parameters, share (of all weights of its network), MB (of a
            step), seconds (a step), steps, minutes, validation Dice.
        objects: one row for each held-out object, training and kind of prompts: budget, method, image, slice, patient,
            organ, prompt, dice; those of the model as it was have the method 'untrained' and no budget, those of the
            U-Net no prompt.
        not_run: reason by method.
    """

    settings: AdaptersSettings
    data: AdaptationData
    model: TrainableModel
    methods: pd.DataFrame
    objects: pd.DataFrame
    not_run: dict[str, str]


def run_adapters(data: Path, output: Path, settings: AdaptersSettings, *, overwrite: bool = False) -> AdaptersResult:
    """Make the study, or what is missing of it.

    Args:
        data: a manifest, a folder, or CURVAS's, see `study_objects`.
        output: where the pieces lie, in `runs`; what a method gained by is exported there, for `--weights`.
        settings: how.
        overwrite: delete all pieces first.
    Raises:
        VolumeError, GeometryError, IntensityError: as `adaptation.read_data`.
        SettingsError: the model accepts no such prompts.
        ModelError: the model cannot be loaded.
    """
    model = settings.base.load(settings.device, settings.input_size)
    settings = replace(settings, kinds=accepted_kinds(model, settings.kinds))
    objects = study_objects(data, settings.reading)
    folder = pieces_folder(output, overwrite=overwrite)
    study = _Study(settings, data, objects, model, folder)
    rows, tables, not_run = [], [pd.DataFrame(study.untrained()["rows"]).assign(method=UNTRAINED, budget="")], {}
    for budget, config in settings.lengths.items():
        for text in settings.methods or default_methods(objects):
            try:
                made = study.adapted(text, budget, config)
            except SAMLungSegError as error:
                logger.warning("%s was not run: %s", text, error)
                not_run[text] = str(error)
                continue
            rows.append({"budget": budget, "method": text, **made["facts"]})
            tables.append(pd.DataFrame(made["rows"]).assign(method=text, budget=budget))
        if settings.unet is not None:
            made = study.unet(budget, config)
            rows.append({"budget": budget, "method": UNET, **made["facts"]})
            tables.append(pd.DataFrame(made["rows"]).assign(method=UNET, budget=budget, prompt="none"))
    return AdaptersResult(settings, objects, model, pd.DataFrame(rows), pd.concat(tables, ignore_index=True), not_run)


class _Study:
    """Makes the pieces."""

    def __init__(
        self, settings: AdaptersSettings, source: Path, data: AdaptationData, model: TrainableModel, folder: Path
    ) -> None:
        self.settings, self.source, self.data, self.model, self.folder = settings, source, data, model, folder
        self.facts = study_facts(settings.base, model, data, settings.reading, settings.kinds)
        self._read = {reading_for(method_from("decoder"), settings.reading): data}

    def untrained(self) -> dict[str, Any]:
        """The base on the held-out part."""

        def make() -> dict[str, Any]:
            def predict(embedding: Any, _one: Any, prompts: Any) -> Any:
                return self.model.decode(embedding, prompts).logits > 0

            table = judged(cached(self.model), self.model, self.data, self.settings.kinds, predict)
            return {"rows": table.to_dict("records")}

        return piece(self.folder / UNTRAINED, self.facts, make)

    def adapted(self, text: str, budget: str, config: AdaptConfig) -> dict[str, Any]:
        """A method, trained and judged.

        Raises:
            SAMLungSegError: it cannot be, on this model or these slices.
        """
        method = method_from(text)
        kinds = tuple(kind for kind in method.kinds(self.model) if kind in self.settings.kinds)
        method = replace(method, prompts=kinds) if kinds else method
        if method.slices_per_input > 1 and not has_depth(self.data):
            raise SettingsError(
                f"It looks at {method.slices_per_input} neighbouring slices, and these images are single slices."
            )
        folder = self.folder / budget.replace(" ", "_") / re.sub(r"[^\w.-]", "-", text)
        facts = {**self.facts, "method": [method.name, method.settings], "config": asdict(config)}
        return piece(folder, facts, lambda: self._adapt(folder, method, config))

    def _adapt(self, folder: Path, method: Method, config: AdaptConfig) -> dict[str, Any]:
        data = self._data_for(method)
        megabytes, weights = self._cost(method, data, config)
        base = self.settings.base
        for stale in folder.glob("*.safetensors"):  # of other settings
            with as_output_error(stale):
                stale.unlink()
        model = base.load(self.settings.device, self.settings.input_size)
        result = adapt(model, base, data, folder, method, AdaptOptions(config), reading=self.settings.reading)
        history = result.history
        facts = {
            "parameters": result.parameters,
            "share": result.parameters / weights,
            "MB": megabytes,
            **_pace(history.to_dict("records")),
        }
        rows = result.table.drop(columns=[name for name in result.table if name.endswith("_before")])
        rows = rows.rename(columns={"dice_after": "dice", "jaccard_after": "jaccard"})
        with as_output_error(folder):
            shutil.rmtree(folder / "run", ignore_errors=True)
        return {"facts": facts, "rows": rows.to_dict("records"), "history": history.to_dict("records")}

    def _data_for(self, method: Method) -> AdaptationData:
        reading = reading_for(method, self.settings.reading)
        if reading not in self._read:
            self._read[reading] = study_objects(self.source, reading)
        return self._read[reading]

    def _cost(self, method: Method, data: AdaptationData, config: AdaptConfig) -> tuple[float, int]:
        """Megabytes of a step, on a model of its own, and how many weights the network has then."""
        torch.manual_seed(config.seed)
        model = method.model_for(self.settings.base.load(self.settings.device, self.settings.input_size))
        trained = method.prepare(model, data.organs)
        few = replace(data, training=data.training[: config.batch], validation=data.validation[:1])
        few = replace(few, held_out=few.held_out[:1])
        task = AdaptationTask(model, method, trained, few if method.encodes else encoded(model, few), config)
        task.optimizer(0)
        batch = task.pieces(next(iter(task.batches(0))))[0]

        def loss() -> Tensor:
            with autocast(task.device, mixed_precision=method.encodes):
                return task.predict(batch)

        network = model.network
        return step_megabytes(network, loss), sum(one.numel() for one in network.parameters())

    def unet(self, budget: str, config: AdaptConfig) -> dict[str, Any]:
        """The baseline."""
        folder = self.folder / budget.replace(" ", "_") / "unet"
        facts = {**self.facts, "unet": asdict(self.settings.unet), "config": asdict(config)}
        return piece(folder, facts, lambda: self._unet(folder, config))

    def _unet(self, folder: Path, config: AdaptConfig) -> dict[str, Any]:
        task = OrganUNetTask(self.data, self.settings.unet, config, self.model.device)
        trainer = Trainer(task, TrainerSettings(config.epochs), folder / "unet.pt", title=UNET)
        trained = trainer.run()
        task.network.load_state_dict(trained.state)
        rows = unet_rows(task, self.data.held_out)
        count = sum(one.numel() for one in task.network.parameters())
        task.network.train()
        batch = next(iter(task.batches(0)))[: config.batch]
        megabytes = step_megabytes(task.network, lambda: task.loss(task.predict(batch), batch))
        with as_output_error(folder):
            (folder / "unet.pt").unlink(missing_ok=True)
        facts = {"parameters": count, "share": 1.0, "MB": megabytes, **_pace(trained.history)}
        return {"facts": facts, "rows": rows, "history": trained.history}


def _pace(history: Sequence[dict[str, float]]) -> dict[str, float]:
    seconds, steps = (sum(row[name] for row in history) for name in ("seconds", "steps"))
    return {
        "seconds": seconds / steps,
        "steps": int(steps),
        "minutes": seconds / 60,
        "validation Dice": max(row["dice"] for row in history),
    }


def has_depth(data: AdaptationData) -> bool:
    """Whether any image has several slices."""
    slices = (*data.training, *data.validation, *data.held_out)
    return len({(one.subset, one.image) for one in slices}) < len(slices)

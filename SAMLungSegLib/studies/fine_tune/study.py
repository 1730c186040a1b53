"""The fine-tuning study: a mask decoder tuned and tested over the folds of a set, for each kind of prompts.

Every piece of the study is a folder with a result.json that says what it was made with. A run that stopped takes the
pieces that are there, goes on inside the one that is not finished, and gives the same numbers; settings that changed
make only those pieces anew that they concern.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file, save

from SAMLungSegLib.files import as_output_error, check_written, writable_folder, write_bytes
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.checkpoints import file_sha256
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.models.tuned import PromptKind, PromptRecipe
from SAMLungSegLib.studies.fine_tune.settings import FineTuneSettings, cross_kind, default_config, tested_sets
from SAMLungSegLib.studies.fine_tune.unet import CHECKPOINT_NAME as UNET_CHECKPOINT_NAME
from SAMLungSegLib.studies.fine_tune.unet import train_unet, unet_masks
from SAMLungSegLib.studies.pieces import piece
from SAMLungSegLib.training.data.cases import StudyCase, Windowing, data_sha256, first_of_each, study_cases
from SAMLungSegLib.training.data.examples import GRID, EncodedExample, encode_examples, read_examples
from SAMLungSegLib.training.data.leakage import SeenImages, check_unseen, seen_images
from SAMLungSegLib.training.data.splits import Split, fold_splits
from SAMLungSegLib.training.decoder import CHECKPOINT_NAME, TuningConfig, decisive_settings, tune_decoder, with_decoder
from SAMLungSegLib.training.prompt_policies import PromptPolicy, check_kind, recipe_of_training
from SAMLungSegLib.training.scores import prompted_masks, scores_table

DECODER_NAME, RUNS = "decoder.safetensors", "runs"
LEARNING_RATES, WEIGHT_DECAYS = (1e-5, 1e-4, 1e-3), (0.0, 0.1, 1e-3)


@dataclass(frozen=True, eq=False)
class StudySet:
    """One set of images, encoded.

    Attributes:
        name: of the set.
        encoded: its slices at 256 x 256.
        splits: of its images, one for each fold.
        sha256: of the images and masks.
    """

    name: str
    encoded: Sequence[EncodedExample]
    splits: Sequence[Split]
    sha256: str

    def part(self, names: Iterable[str]) -> list[EncodedExample]:
        """The slices of these images."""
        wanted = set(names)
        return [one for one in self.encoded if one.example.name in wanted]


@dataclass(frozen=True, eq=False)
class Tuned:
    """A decoder that a fold left.

    Attributes:
        folder: with its weights.
        recipe: with mean points of the fold's training images.
        threshold: chosen on the fold's validation images.
        result: what else is known, see `_tuned_fold`.
    """

    folder: Path
    recipe: PromptRecipe
    threshold: float
    result: Mapping[str, Any]

    def state(self) -> Mapping[str, Any]:
        """Its weights.

        Raises:
            OutputError: they have vanished since the fold was tuned.
        """
        check_written([self.folder / DECODER_NAME])
        return load_file(self.folder / DECODER_NAME)


@dataclass(frozen=True, eq=False)
class FineTuneResult:
    """The study's numbers and what is needed to draw its pictures.

    Attributes:
        settings: that it was made with.
        config: of the tuning.
        model: the base, as loaded.
        sets: that were tested, by name.
        tune_only_sets: that were only tuned on, by name.
        tuned: by set, kind and fold.
        scores: one row for each test slice: set, prompt, fold, image, slice, and Dice and Jaccard before and after.
        unet: the same of the U-Net, with `dice` and `jaccard`; empty where it was left out.
        cross: one row for each slice of another set: tuned_on, tested_on, fold, image, slice, dice, jaccard.
        grid: set, learning_rate, weight_decay, epochs, dice on validation; empty where it was left out.
        seen: what the base learned from.
    """

    settings: FineTuneSettings
    config: TuningConfig
    model: PromptableModel
    sets: Mapping[str, StudySet]
    tune_only_sets: Mapping[str, StudySet]
    tuned: Mapping[tuple[str, PromptKind, int], Tuned]
    scores: pd.DataFrame
    unet: pd.DataFrame
    cross: pd.DataFrame
    grid: pd.DataFrame
    seen: SeenImages


def run_fine_tune(data: Path, output: Path, settings: FineTuneSettings, *, overwrite: bool = False) -> FineTuneResult:
    """Make the study, or what is missing of it.

    Args:
        data: one set (a folder with images/ and masks/) or a folder of sets.
        output: where the pieces lie, in `runs`.
        settings: how.
        overwrite: delete all pieces first.
    Raises:
        VolumeError: no images, or too few of them for the folds.
        ModelError: the base has learned from some of the images to be tested, or cannot be loaded.
        SettingsError: kinds of prompts that the model does not accept, or no set to test.
    """
    cases = first_of_each(study_cases(data, settings.modality), settings.limit)
    by_set = {name: [case for case in cases if case.subset == name] for name in sorted({c.subset for c in cases})}
    tested = tested_sets(list(by_set), settings)
    seen = seen_images(settings.base.name, settings.base.weights)
    if not settings.include_training_images:
        check_unseen([case for name in tested for case in by_set[name]], seen)
    splits = {name: fold_splits([case.name for case in some], settings.folds) for name, some in by_set.items()}
    model = settings.base.load(settings.device, settings.input_size)
    for kind in settings.kinds:
        check_kind(model, kind)
    config = replace(default_config(model), **settings.changes)
    folder = writable_folder(output) / RUNS
    if overwrite and folder.is_dir():
        with as_output_error(folder):
            shutil.rmtree(folder)
    sets = {name: _study_set(name, some, splits[name], model, settings) for name, some in by_set.items()}
    study = _Study(settings, config, model, sets, tested, folder)
    tuned = study.tuned_folds()
    return FineTuneResult(
        settings,
        config,
        model,
        {name: sets[name] for name in tested},
        {name: data for name, data in sets.items() if name not in tested},
        tuned,
        scores=_joined(({"set": key[0], "prompt": key[1], "fold": key[2]}, one.result) for key, one in tuned.items()),
        unet=_joined(study.unet_folds()),
        cross=_joined(study.cross_sets()),
        grid=pd.DataFrame(study.grid_rows()),
        seen=seen,
    )


def _study_set(
    name: str, cases: Sequence[StudyCase], splits: Sequence[Split], model: PromptableModel, settings: FineTuneSettings
) -> StudySet:
    windowing = Windowing.parse(settings.window, model_spec(settings.base.name).capabilities)
    examples = read_examples(cases, windowing, side=GRID)
    return StudySet(name, encode_examples(model, examples), splits, data_sha256(cases))


class _Study:
    """Makes the pieces."""

    def __init__(
        self,
        settings: FineTuneSettings,
        config: TuningConfig,
        model: PromptableModel,
        sets: Mapping[str, StudySet],
        tested: Sequence[str],
        folder: Path,
    ) -> None:
        self.settings, self.config, self.model, self.folder = settings, config, model, folder
        self.sets, self.tested = sets, tested
        self.base_facts = {
            "base": settings.base.name,
            "base_sha256": file_sha256(settings.base.path),
            "input_size": settings.input_size,
            "window": settings.window,
            "folds": settings.folds,
        }

    def tuned_folds(self) -> dict[tuple[str, PromptKind, int], Tuned]:
        """A decoder for each tested set, kind of prompts and fold."""
        keys = product(self.tested, self.settings.kinds, range(self.settings.folds))
        return {key: self._tuned(*key) for key in keys}

    def _tuned(self, name: str, kind: PromptKind, fold: int) -> Tuned:
        folder = self.folder / name / kind / f"fold_{fold + 1}"
        title = f"{name}, {kind}, fold {fold + 1} of {self.settings.folds}"
        result = self._tuned_piece(folder, name, kind, fold, self.config, title)
        recipe = PromptRecipe(kind, tuple(tuple(xy) for xy in result["mean_points"]))
        return Tuned(folder, recipe, result["threshold"], result)

    def _tuned_piece(
        self, folder: Path, name: str, kind: PromptKind, fold: int, config: TuningConfig, title: str
    ) -> dict[str, Any]:
        facts = {
            **self.base_facts,
            "data_sha256": self.sets[name].sha256,
            "kind": kind,
            "fold": fold,
            "points_per_lung": self.settings.points_per_lung,
            "jitter_px": self.settings.jitter_px,
            "config": decisive_settings(config),
        }
        return piece(folder, facts, lambda: self._tune_fold(folder, name, kind, fold, config, title))

    def _tune_fold(
        self, folder: Path, name: str, kind: PromptKind, fold: int, config: TuningConfig, title: str
    ) -> dict[str, Any]:
        """Tune on one fold's training images, choose by its validation images, test on its test images."""
        started, data = time.monotonic(), self.sets[name]
        split = data.splits[fold]
        training, validation, test = (data.part(names) for names in vars(split).values())
        recipe = recipe_of_training(kind, [one.example for one in training], self.settings.points_per_lung)
        policy = PromptPolicy(recipe, self.settings.jitter_px)
        tuned = tune_decoder(self.model, training, validation, policy, config, folder, title=title)
        before = scores_table(test, prompted_masks(self.model, test, policy))
        with with_decoder(self.model, tuned.state):
            after = scores_table(test, prompted_masks(self.model, test, policy, tuned.threshold))
        content = save({key: value.contiguous() for key, value in tuned.state.items()})
        write_bytes(content, folder / DECODER_NAME)
        with as_output_error(folder):
            (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        return {
            "split": asdict(split),
            "mean_points": recipe.mean_points,
            "threshold": tuned.threshold,
            "epoch": tuned.epoch,
            "history": tuned.history,
            "seconds": round(time.monotonic() - started, 1),
            "rows": before.merge(after, on=["image", "slice"], suffixes=("_before", "_after")).to_dict("records"),
        }

    def unet_folds(self) -> Iterable[tuple[dict[str, Any], Mapping[str, Any]]]:
        """The baseline on the same folds."""
        if self.settings.unet is None:
            return
        for name, fold in product(self.tested, range(self.settings.folds)):
            folder = self.folder / name / "unet" / f"fold_{fold + 1}"
            facts = {
                "data_sha256": self.sets[name].sha256,
                "window": self.settings.window,
                "folds": self.settings.folds,
                "fold": fold,
                "config": asdict(self.settings.unet),
            }
            yield (
                {"set": name, "fold": fold},
                piece(folder, facts, lambda f=folder, n=name, i=fold: self._unet(f, n, i)),
            )

    def _unet(self, folder: Path, name: str, fold: int) -> dict[str, Any]:
        started, data = time.monotonic(), self.sets[name]
        parts = [data.part(names) for names in vars(data.splits[fold]).values()]
        training, validation, test = ([one.example for one in part] for part in parts)
        title = f"{name}, U-Net, fold {fold + 1} of {self.settings.folds}"
        net = train_unet(training, validation, self.settings.unet, folder, device=self.model.device, title=title)
        table = scores_table(parts[2], unet_masks(net, test))
        with as_output_error(folder):
            (folder / UNET_CHECKPOINT_NAME).unlink(missing_ok=True)
        return {"seconds": round(time.monotonic() - started, 1), "rows": table.to_dict("records")}

    def cross_sets(self) -> Iterable[tuple[dict[str, Any], Mapping[str, Any]]]:
        """Every fold's decoder of one set on all images of another, with the first set's points and threshold."""
        kind = cross_kind(self.settings.kinds)
        pairs = [(first, second) for first, second in permutations(self.sets, 2) if second in self.tested]
        for (first, second), fold in product(pairs, range(self.settings.folds)):
            decoder = self._tuned(first, kind, fold)
            folder = self.folder / first / kind / f"fold_{fold + 1}" / f"on_{second}"
            facts = {
                "decoder_sha256": file_sha256(decoder.folder / DECODER_NAME),
                "threshold": decoder.threshold,
                "data_sha256": self.sets[second].sha256,
                "jitter_px": self.settings.jitter_px,
                "window": self.settings.window,
            }
            row = {"tuned_on": first, "tested_on": second, "prompt": kind, "fold": fold}
            yield row, piece(folder, facts, lambda d=decoder, s=second: self._cross(d, s))

    def _cross(self, decoder: Tuned, name: str) -> dict[str, Any]:
        encoded = self.sets[name].encoded
        with with_decoder(self.model, decoder.state()):
            policy = PromptPolicy(decoder.recipe, self.settings.jitter_px)
            masks = prompted_masks(self.model, encoded, policy, decoder.threshold)
        return {"rows": scores_table(encoded, masks).to_dict("records")}

    def grid_rows(self) -> list[dict[str, Any]]:
        """Validation Dice of every learning rate and weight decay, on the first fold of each set."""
        rows = []
        kind = cross_kind(self.settings.kinds)
        for name, rate, decay in product(self.tested if self.settings.grid else (), LEARNING_RATES, WEIGHT_DECAYS):
            config = replace(self.config, learning_rate=rate, weight_decay=decay)
            folder = self.folder / name / "grid" / f"rate_{rate:g}_decay_{decay:g}"
            title = f"{name}, {kind}, learning rate {rate:g}, weight decay {decay:g}"
            result = self._tuned_piece(folder, name, kind, 0, config, title)
            kept = result["history"][result["epoch"]]
            best = max(value for column, value in kept.items() if column.startswith("dice_"))
            row = {"set": name, "prompt": kind, "learning rate": rate, "weight decay": decay}
            rows.append({**row, "epochs": len(result["history"]), "dice": best})
        return rows


def _joined(pieces: Iterable[tuple[dict[str, Any], Mapping[str, Any]]]) -> pd.DataFrame:
    """The rows of all results, each with the columns of its piece."""
    rows = [{**columns, **row} for columns, result in pieces for row in result["rows"]]
    table = pd.DataFrame(rows)
    return table.assign(fold=table["fold"] + 1) if len(table) else table

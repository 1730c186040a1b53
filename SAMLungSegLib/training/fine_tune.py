"""Tuning on a few images of the user's: adopted only where images that it never saw are segmented better."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from SAMLungSegLib.errors import OutputError, SettingsError
from SAMLungSegLib.files import cannot_write, check_written, real_path, write_csv, write_text
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.tuned import PromptKind, PromptRecipe, TunedModel
from SAMLungSegLib.training.data.cases import StudyCase, Windowing, data_sha256
from SAMLungSegLib.training.data.examples import SLICES_EACH, EncodedExample, encode_examples, read_examples
from SAMLungSegLib.training.data.leakage import seen_images
from SAMLungSegLib.training.data.splits import Split, split_cases
from SAMLungSegLib.training.decoder import TunedDecoder, TuningConfig, tune_decoder, with_decoder
from SAMLungSegLib.training.export import export_decoder
from SAMLungSegLib.training.figures import before_and_after, learning_curve
from SAMLungSegLib.training.prompt_policies import JITTER_PX, PromptPolicy, check_jitter, check_kind, recipe_of_training
from SAMLungSegLib.training.scores import Comparison, compared, prompted_masks, scores_table, unprompted_masks
from SAMLungSegLib.training.trainer import Watch


@dataclass(frozen=True)
class TuneOptions:
    """How `tune` is made.

    Attributes:
        kind: of prompts, see `PromptRecipe`.
        config: of the training.
        points_per_lung: mean points in each lung.
        jitter_px: of boxes, see `PromptPolicy`.
        windowing: how slices become 8-bit.
        slices_each: of a volume, at most so many slices are used.
        terms: on which the images may be used, for the card.
    """

    kind: PromptKind
    config: TuningConfig
    points_per_lung: int = 1
    jitter_px: float = JITTER_PX
    windowing: Windowing = field(default_factory=Windowing)
    slices_each: int = SLICES_EACH
    terms: str = "not stated"

    def __post_init__(self) -> None:
        check_jitter(self.jitter_px)
        if self.slices_each < 1:
            raise SettingsError(f"{self.slices_each} slices of each volume leave nothing to learn; give 1 or more.")


@dataclass(frozen=True, eq=False)
class TuneResult:
    """How a tuning ended.

    Attributes:
        weights: the adopted decoder; None where it was not better.
        comparison: of Dice on the held-out images, as users get them without a prompt.
        prompted: the same with prompts from the reference; None for kinds that need no reference.
        table: Dice and Jaccard of each held-out image before and after.
        threshold: chosen on the validation part.
    """

    weights: Path | None
    comparison: Comparison
    prompted: Comparison | None
    table: pd.DataFrame
    threshold: float


def usual_kind(model: PromptableModel) -> PromptKind:
    """Of prompts to tune a model with: none where it needs none, else points, else boxes."""
    if not model.capabilities.needs_prompt:
        return "none"
    return "points" if model.capabilities.accepts("points") else "box"


def tune(
    model: PromptableModel,
    base: BaseCheckpoint,
    cases: Sequence[StudyCase],
    folder: Path,
    options: TuneOptions,
    watch: Watch | None = None,
) -> TuneResult:
    """Tune a model's mask decoder and export it if it is better on images that were held out.

    Writes into `folder`: `<model>-tuned.safetensors` with its card where it was adopted; `held_out.csv`, `history.csv`,
    `comparison.png` and `learning_curve.png` in any case. The run itself lies in `run` and is continued from there.

    Args:
        model: as loaded from `base`.
        base: what is tuned.
        cases: images with masks.
        folder: where to write.
        options: see there.
        watch: told of each epoch, and may stop the tuning.
    Raises:
        CancelledError: the watch said so.
        VolumeError: too few images, an empty mask, a file that cannot be read.
        GeometryError: a mask on another grid than its image.
        SettingsError: a kind of prompts that the model does not accept.
        PromptError: masks without two lungs in common.
    """
    check_kind(model, options.kind)
    split = split_cases(cases)
    examples = read_examples(cases, options.windowing, slices_each=options.slices_each)
    recipe = recipe_of_training(
        options.kind, [one for one in examples if one.name in split.training], options.points_per_lung
    )
    watch = watch or Watch()
    encoded = encode_examples(model, examples, watch.check)
    training, validation, held_out = (
        [one for one in encoded if one.example.name in names]
        for names in (split.training, split.validation, split.held_out)
    )
    policy = PromptPolicy(recipe, options.jitter_px)
    tuned = tune_decoder(model, training, validation, policy, options.config, folder / "run", watch=watch)
    table, comparison = _unprompted_comparison(model, tuned, recipe, held_out)
    prompted = _prompted_comparison(model, tuned, policy, held_out)
    written = write_tables(folder, tuned, table, comparison)
    weights = None
    if comparison.is_better:
        facts = card_facts(base, cases, split, options, tuned, {"unprompted": comparison, "prompted": prompted})
        target = target_path(folder, base)
        weights = export_decoder(target, base, model, tuned.state, recipe, tuned.threshold, facts)
        written += [weights, weights.with_suffix(".json")]
    check_written(written)
    return TuneResult(weights, comparison, prompted, table, tuned.threshold)


def seen_note(base: BaseCheckpoint, cases: Sequence[StudyCase]) -> str | None:
    """A warning where the base model has learned from images that it is tuned on; None otherwise.

    Raises:
        ModelError: the card of the base cannot be read.
    """
    seen = seen_images(base.name, base.weights)
    count = sum(seen.include(case) for case in cases)
    if not count:
        return None
    return (
        f"{seen.model} has learned from {count} of the {len(cases)} images: its Dice before tuning is better than on "
        "new ones."
    )


def target_path(folder: Path, base: BaseCheckpoint, label: str = "tuned") -> Path:
    """The file of weights that are adopted."""
    return folder / f"{base.name}-{label}.safetensors"


def check_target(folder: Path, base: BaseCheckpoint, *, overwrite: bool, label: str = "tuned") -> None:
    """Refuse to replace weights that were adopted earlier, unless wished; what is there stays until others are adopted.

    Raises:
        OutputError: there are such, a folder has their name, or they are what is to be trained.
    """
    target = target_path(folder, base, label)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already; add --overwrite to replace it, or use another folder.")
    for path in (target, target.with_suffix(".json")):
        if path.is_dir():
            raise cannot_write(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if base.weights is not None and real_path(base.weights) == real_path(target):
        raise OutputError(f"{target} is what is to be trained, and would be replaced by it; use another folder.")


def not_adopted(why: str, target: Path) -> str:
    """A line for people: no weights were written, and those of an earlier run, where there are such, stay."""
    earlier = f" {target} is of an earlier run." if target.exists() else ""
    return f"Not adopted: {why}. No weights were written.{earlier}"


def _unprompted_comparison(
    model: PromptableModel, tuned: TunedDecoder, recipe: PromptRecipe, held_out: Sequence[EncodedExample]
) -> tuple[pd.DataFrame, Comparison]:
    before = per_image(held_out, unprompted_masks(model, held_out))
    with with_decoder(model, tuned.state):
        masks = unprompted_masks(TunedModel(model, recipe, tuned.threshold), held_out)
    table = before.merge(per_image(held_out, masks), on="image", suffixes=("_before", "_after")).reset_index()
    return table, compared(table["dice_before"], table["dice_after"])


def _prompted_comparison(
    model: PromptableModel, tuned: TunedDecoder, policy: PromptPolicy, held_out: Sequence[EncodedExample]
) -> Comparison | None:
    if not policy.recipe.needs_box:
        return None
    before = per_image(held_out, prompted_masks(model, held_out, policy))
    with with_decoder(model, tuned.state):
        after = per_image(held_out, prompted_masks(model, held_out, policy, tuned.threshold))
    return compared(before["dice"], after["dice"])


def per_image(encoded: Sequence[EncodedExample], masks: Sequence) -> pd.DataFrame:
    """Means over the slices of each image."""
    return scores_table(encoded, masks).groupby("image", sort=True)[["dice", "jaccard"]].mean()


def write_tables(
    folder: Path, tuned: TunedDecoder, table: pd.DataFrame, comparison: Comparison, *, title: str = "Decoder tuning"
) -> list[Path]:
    """Write the history and the held-out images, as tables and pictures; the files."""
    history = pd.DataFrame(tuned.history)
    tables = [write_csv(history, folder / "history.csv"), write_csv(table, folder / "held_out.csv")]
    learning_curve(folder / "learning_curve.png", history, kept=tuned.epoch, title=title)
    before_and_after(
        folder / "comparison.png",
        list(table["image"]),
        table["dice_before"],
        table["dice_after"],
        title=f"mean {comparison.before:.4f} before, {comparison.after:.4f} after tuning",
    )
    facts = write_text(json.dumps(asdict(comparison), indent=2) + "\n", folder / "comparison.json")
    return [*tables, facts, folder / "learning_curve.png", folder / "comparison.png"]


def data_facts(
    base: BaseCheckpoint, cases: Sequence[StudyCase], split: Split, windowing: Windowing, terms: str
) -> dict[str, Any]:
    """What a card says of the images that were learned from, and how they were seen."""
    window = windowing.window
    by_set: dict[str, list[StudyCase]] = {}
    for case in cases:
        by_set.setdefault(case.subset, []).append(case)
    return {
        "data": [
            {
                "name": name,
                "sha256": data_sha256(some),
                "images": len(some),
                "terms": terms,
                "seen_by_base": seen_note(base, some),
            }
            for name, some in by_set.items()
        ],
        "images": asdict(split),
        "windowing": {"level": window.level, "width": window.width, "stretched": windowing.stretched},
    }


def card_facts(
    base: BaseCheckpoint,
    cases: Sequence[StudyCase],
    split: Split,
    options: TuneOptions,
    tuned: TunedDecoder,
    comparisons: dict[str, Comparison | None],
) -> dict:
    """What the card says beyond what loading has to know."""
    return {
        **data_facts(base, cases, split, options.windowing, options.terms),
        "training": {**asdict(options.config), "jitter_px": options.jitter_px, "epoch_kept": tuned.epoch + 1},
        "validation_dice": {f"{threshold:.2f}": score for threshold, score in tuned.threshold_dice.items()},
        "held_out": {name: asdict(one) for name, one in comparisons.items() if one is not None},
    }

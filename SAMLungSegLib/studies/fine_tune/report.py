"""The report of a fine-tuning study, with the paper's figures beside ours."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from SAMLungSegLib.evaluation.figures import shortened
from SAMLungSegLib.files import writable_folder
from SAMLungSegLib.studies.figures import PromptedSlice, prompt_sheet
from SAMLungSegLib.studies.fine_tune.figures import before_and_after_bars, learning_curves, threshold_curves
from SAMLungSegLib.studies.fine_tune.settings import cross_kind
from SAMLungSegLib.studies.fine_tune.study import FineTuneResult
from SAMLungSegLib.studies.fine_tune.tables import best_and_worst, fold_statistics, history_table, threshold_table
from SAMLungSegLib.studies.published import (
    FINE_TUNE_AFTER,
    FINE_TUNE_BEFORE,
    FINE_TUNE_CROSS_SET,
    FINE_TUNE_THRESHOLDS,
    FINE_TUNE_UNET,
    PublishedTable,
)
from SAMLungSegLib.studies.report import Part, Picture, Table, write_study_report
from SAMLungSegLib.training.decoder import with_decoder
from SAMLungSegLib.training.prompt_policies import PromptPolicy
from SAMLungSegLib.training.scores import prompted_masks

PICTURES = "figures"
_SCORES = {"dice": "F1", "jaccard": "IoU"}


def write_fine_tune_report(result: FineTuneResult, folder: Path) -> list[Path]:
    """Write report.html, report.md, the tables as CSV and the figures as PNG.

    Returns:
        Paths of the files.
    """
    note = basis(result)
    thresholds = threshold_table(result.tuned)
    pictures = writable_folder(folder / PICTURES)
    parts: list[Part] = [
        *_introduction(result),
        Table("before", "Before tuning", _beside(prompt_statistics(result, "before"), FINE_TUNE_BEFORE), note),
        Table("after", "After tuning", _beside(prompt_statistics(result, "after"), FINE_TUNE_AFTER), note),
        *_bars(result, pictures, note),
        Table("thresholds", "Validation F1 by threshold", _beside(_titled(thresholds), FINE_TUNE_THRESHOLDS), note),
        *_pictures_of_sets(result, thresholds, pictures, note),
        *_grid(result, note),
        *_cross(result, note),
        *_unet(result, note),
        Table("folds", "Folds", _folds(result), note, rows_shown=60),
        Table("per_slice", "Test slices", result.scores, note, rows_shown=20),
        Table("history", "Learning curves", history_table(result.tuned), note, rows_shown=10),
    ]
    return write_study_report(folder, "Fine-tuning study", parts)


def basis(result: FineTuneResult) -> str:
    """What every table rests on: the base model, the training, what the base had seen before."""
    settings, config = result.settings, result.config
    most = f"up to {config.epochs} epochs, patience {config.patience}" if config.patience else f"{config.epochs} epochs"
    text = (
        f"Base model {settings.base.title}; {settings.folds} folds; Adam, learning rate {config.learning_rate:g}, "
        f"weight decay {config.weight_decay:g}, batches of {config.batch}, {most}, loss '{config.loss}'."
    )
    if not result.seen.is_known:
        return f"{text} No card tells what the base learned from."
    if settings.include_training_images:
        return f"{text} The base may have learned from some of these images."
    text = f"{text} By its card, the base has not seen the images that were tested."
    if result.tune_only_sets:
        text += f" Only tuned on, for the cross-set table: {', '.join(result.tune_only_sets)}."
    return text


def prompt_statistics(result: FineTuneResult, state: str) -> pd.DataFrame:
    """Mean and SD over folds of F1 and IoU on the test parts, 'before' or 'after' tuning: set and prompt by row."""
    return fold_statistics(
        result.scores, ["set", "prompt"], {f"{name}_{state}": title for name, title in _SCORES.items()}
    )


def _introduction(result: FineTuneResult) -> list[str]:
    sizes = "; ".join(
        f"{name}: {len({one.example.name for one in data.encoded})} images, {len(data.encoded)} slices"
        for name, data in (result.sets | result.tune_only_sets).items()
    )
    minutes = sum(one.result["seconds"] for one in result.tuned.values()) / 60
    return [
        f"{sizes}. Slices are drawn at 256 x 256 pixels; both lungs are one object. For each fold i the test part is "
        "fold i, the validation part the next one, the training part all others. Only the mask decoder is trained, on "
        "embeddings that are computed once. Mean points come from the training part's masks, the epoch (where there is "
        f"patience) and the threshold from the validation part. Tuning took {minutes:.1f} minutes. For research only.",
        f"The study follows {FINE_TUNE_AFTER.source.split(',')[0]}: rows called 'published' are theirs, with a SAM "
        "that was not trained on chests and on all images of the two public sets. F1 is Dice, IoU is Jaccard.",
    ]


def _beside(ours: pd.DataFrame, published: PublishedTable) -> pd.DataFrame:
    """Our rows, then the published ones."""
    theirs = published.frame()
    theirs = theirs.assign(**{theirs.columns[0]: "published: " + theirs.iloc[:, 0]})
    return pd.concat([_titled(ours), theirs], ignore_index=True)


def _titled(table: pd.DataFrame) -> pd.DataFrame:
    """Headings as in the published tables."""
    headings = {"tuned_on": "Tuned on", "tested_on": "Tested on"}
    return table.rename(columns={name: headings.get(name, name) for name in table}).rename(
        columns=lambda name: name.capitalize() if name in ("set", "prompt", "threshold", "fold") else name
    )


def _bars(result: FineTuneResult, folder: Path, note: str) -> list[Picture]:
    columns = {f"dice_{state}": f"F1 {state}" for state in ("before", "after")}
    table = fold_statistics(result.scores, ["set", "prompt"], columns)
    baseline = _unet_statistics(result)
    pictures = []
    for name in result.sets:
        path = folder / f"{name}_before_and_after.png"
        found = baseline[baseline["set"] == name] if len(baseline) else baseline
        unet = found.iloc[0] if len(found) else None
        before_and_after_bars(path, table[table["set"] == name].reset_index(drop=True), unet, title=name)
        pictures.append(Picture(path, f"{name}: before and after tuning", note))
    return pictures


def _pictures_of_sets(result: FineTuneResult, thresholds: pd.DataFrame, folder: Path, note: str) -> list[Picture]:
    history, pictures = history_table(result.tuned), []
    for name in result.sets:
        curves, lines = folder / f"{name}_learning_curves.png", folder / f"{name}_thresholds.png"
        learning_curves(curves, history[history["set"] == name], title=name)
        threshold_curves(lines, thresholds[thresholds["set"] == name], result.settings.kinds, title=name)
        pictures += [
            Picture(curves, f"{name}: learning curves", note),
            Picture(lines, f"{name}: validation F1 by threshold", note),
            _masks(result, name, folder / f"{name}_best_and_worst.png", note),
        ]
    return pictures


def _masks(result: FineTuneResult, name: str, path: Path, note: str) -> Picture:
    """The best and the worst test slice of each kind of prompts."""
    panels = []
    for kind in result.settings.kinds:
        scores = result.scores[(result.scores["set"] == name) & (result.scores["prompt"] == kind)]
        panels += [
            _panel(result, row, f"{kind}, {title}")
            for title, row in zip(("best", "worst"), best_and_worst(scores), strict=True)
        ]
    prompt_sheet(path, panels, columns=2, title=name)
    return Picture(path, f"{name}: best and worst masks after tuning", note)


def _panel(result: FineTuneResult, row: pd.Series, title: str) -> PromptedSlice:
    tuned = result.tuned[row["set"], row["prompt"], row["fold"] - 1]
    encoded = result.sets[row["set"]].part([row["image"]])
    one = next(each for each in encoded if each.example.number == row["slice"])
    policy = PromptPolicy(tuned.recipe, result.settings.jitter_px)
    with with_decoder(result.model, tuned.state()):
        (mask,) = prompted_masks(result.model, [one], policy, tuned.threshold)
    heading = f"{title}: {shortened(row['image'])}, F1 {row['dice_after']:.3f}"
    return PromptedSlice(heading, one.example.grey_hw, one.example.lung_hw, mask, policy.fixed(one.example))


def _grid(result: FineTuneResult, note: str) -> list[Table]:
    if result.grid.empty:
        return []
    frame = _titled(result.grid).rename(columns={"dice": "validation F1"}).drop(columns="Prompt")
    title = f"Learning rate and weight decay, first fold ({cross_kind(result.settings.kinds)})"
    return [Table("grid", title, frame, f"{note} Rates vary as the rows say.", 6)]


def _cross(result: FineTuneResult, note: str) -> list[Table]:
    theirs = FINE_TUNE_CROSS_SET.frame().rename(columns={"F1": "F1 mean", "IoU": "IoU mean"})
    theirs = theirs.assign(**{"Tuned on": "published: " + theirs["Tuned on"]})
    if result.cross.empty:
        return [Table("cross_set_published", "Published: tuned on one set, tested on another", theirs)]
    kind = cross_kind(result.settings.kinds)
    own = result.scores[result.scores["prompt"] == kind].assign(tuned_on=lambda table: table["set"])
    own = own.rename(columns={"set": "tested_on", "dice_after": "dice", "jaccard_after": "jaccard"})
    ours = fold_statistics(pd.concat([own, result.cross]), ["tuned_on", "tested_on"], _SCORES)
    title = f"Tuned on one set, tested on another ({kind})"
    return [Table("cross_set", title, pd.concat([_titled(ours), theirs], ignore_index=True), note)]


def _unet(result: FineTuneResult, note: str) -> list[Table]:
    theirs = FINE_TUNE_UNET.frame().rename(columns=lambda name: name.replace("SAM", "Tuned"))
    theirs = theirs.assign(Set="published: " + theirs["Set"])
    if result.unet.empty:
        return [Table("unet_published", "Published: tuned decoder beside a U-Net", theirs)]
    kind = cross_kind(result.settings.kinds)
    tuned = prompt_statistics(result, "after")
    tuned = tuned[tuned["prompt"] == kind][["set", "F1 mean", "F1 SD"]]
    tuned = tuned.rename(columns={"F1 mean": "Tuned F1 mean", "F1 SD": "Tuned F1 SD"})
    ours = tuned.merge(_unet_statistics(result), on="set")
    ours = ours.rename(columns={"F1 mean": "U-Net F1 mean", "F1 SD": "U-Net F1 SD"})
    ours = ours[["set", *theirs.columns[1:]]]
    config = result.settings.unet
    about = f"U-Net: MONAI, {config.channels} channels, residual units, {config.epochs} epochs, on the same folds."
    frame = pd.concat([_titled(ours), theirs], ignore_index=True)
    return [Table("unet", f"Tuned decoder ({kind}) beside a U-Net", frame, f"{note} {about}")]


def _unet_statistics(result: FineTuneResult) -> pd.DataFrame:
    return fold_statistics(result.unet, ["set"], _SCORES) if len(result.unet) else result.unet


def _folds(result: FineTuneResult) -> pd.DataFrame:
    """One row for each tuning."""
    means = result.scores.groupby(["set", "prompt", "fold"], sort=False)
    means = means[[f"{name}_{state}" for state in ("before", "after") for name in _SCORES]].mean().reset_index()
    facts = [
        {
            "epochs": len(one.result["history"]),
            "kept": one.result["epoch"] + 1,
            "threshold": one.threshold,
            "seconds": one.result["seconds"],
        }
        for one in result.tuned.values()
    ]
    return pd.concat([means, pd.DataFrame(facts)], axis=1)

"""The report of the multi-organ study, with the published figures and their marks beside ours."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from SAMLungSegLib.adaptation.slices import all_examples
from SAMLungSegLib.adaptation.task import fixed_prompts
from SAMLungSegLib.evaluation.classification import Confusion
from SAMLungSegLib.evaluation.classification_figures import confusion_plot
from SAMLungSegLib.evaluation.figures import shortened
from SAMLungSegLib.files import writable_folder
from SAMLungSegLib.models.cached import cached
from SAMLungSegLib.studies.figures import PromptedSlice, prompt_sheet
from SAMLungSegLib.studies.multi_organ.study import MultiOrganResult
from SAMLungSegLib.studies.object_figures import curves_plot, interval_plot
from SAMLungSegLib.studies.objects import INTERVALS, about, judged_on, mean_dice
from SAMLungSegLib.studies.published import (
    MULTI_ORGAN_ACCURACY,
    MULTI_ORGAN_DICE,
    MULTI_ORGAN_FORMULA,
    MULTI_ORGAN_ONE_EXPERIMENT,
    MULTI_ORGAN_OTHERS,
    MULTI_ORGAN_ZERO_SHOT,
    ZHANG,
)
from SAMLungSegLib.studies.report import Part, Picture, Table, write_study_report

PICTURES = "figures"
NOT_RUN = "not run"
ZERO_SHOT, TUNED = "zero-shot", "tuned"


def write_multi_organ_report(result: MultiOrganResult, folder: Path) -> list[Path]:
    """Write report.html, report.md, the tables as CSV and the figures as PNG.

    Returns:
        Paths of the files.
    """
    note = basis(result)
    pictures = writable_folder(folder / PICTURES)
    parts: list[Part] = [
        *_introduction(result),
        Table("dice", "Dice by prompt, before and after tuning", dice_table(result), note),
        Table("dice_published", "Published: mean Dice over organs", MULTI_ORGAN_DICE.frame(), _published_note()),
        Table("others_published", "Published: models that need no prompt", MULTI_ORGAN_OTHERS.frame(), ZHANG),
        _dice_picture(result, pictures, note),
        Table("zero_shot_organs", "Zero-shot Dice by organ", by_organ(result.zero_shot), note, 3),
        Table("zero_shot_published", "Published: zero-shot Dice by organ", MULTI_ORGAN_ZERO_SHOT.frame(), ZHANG, 3),
        *_tuned(result, pictures, note),
        *_naming(result, pictures, note),
        _worst(result, pictures, note),
        Table("zero_shot_objects", "Objects, zero-shot", result.zero_shot, note, rows_shown=20),
    ]
    return write_study_report(folder, "Multi-organ study", parts)


def basis(result: MultiOrganResult) -> str:
    """What every table rests on."""
    settings, tuning = result.settings, result.settings.tuning
    text = f"Base model {settings.base.title}, frame {result.model.input_size}; {judged_on(settings.base, result.data)}"
    if tuning is not None:
        text += (
            f" Tuned decoders: {tuning.epochs} epochs of SGD, rate {tuning.learning_rate:g}, momentum "
            f"{tuning.momentum:g}, Dice loss, gradients of {tuning.accumulate} objects, {tuning.variants} changed "
            "copies of each slice."
        )
    return text


def dice_table(result: MultiOrganResult) -> pd.DataFrame:
    """Mean Dice over objects with its interval by patient, of the base and of decoders tested as they were tuned."""
    before = mean_dice(result.zero_shot, ["prompt"]).assign(state=ZERO_SHOT)
    tables = [before]
    if len(result.tuned):
        own = result.tuned[result.tuned["tuned_with"] == result.tuned["prompt"]]
        tables.append(mean_dice(own, ["prompt"]).assign(state=TUNED))
    columns = ["state", "prompt", "objects", "patients", "Dice", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns]


def by_organ(objects: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice of each organ by prompt, and their mean over organs, each organ counting alike."""
    table = objects.pivot_table(index="organ", columns="prompt", values="dice", sort=False)
    table = table[list(dict.fromkeys(objects["prompt"]))]
    table.loc["mean over organs"] = table.mean()
    counts = objects[objects["prompt"] == objects["prompt"].iloc[0]].groupby("organ", sort=False).size()
    table.insert(0, "objects", [*(int(counts[organ]) for organ in table.index[:-1]), int(counts.sum())])
    return table.reset_index().rename_axis(columns=None)


def accuracy_table(confusion: Confusion) -> pd.DataFrame:
    """Accuracy of each organ, their mean weighted by predictions, and the plain mean of organs."""
    counts = confusion.counts.sum(axis=1)
    rows = [
        *zip(confusion.classes, counts.tolist(), confusion.per_class.tolist(), strict=True),
        ("weighted mean", int(counts.sum()), confusion.accuracy),
        ("macro mean", int(counts.sum()), confusion.macro_accuracy),
    ]
    return pd.DataFrame(rows, columns=["organ", "predictions", "accuracy"])


def _introduction(result: MultiOrganResult) -> list[str]:
    return [
        f"{about(result.data)} The tables are about the held-out part. For research only.",
        f"The study follows {ZHANG}: each organ of each slice is prompted by its mask's deepest point (centre), one "
        "random pixel, three, its tight box, or that with 5 pixels more on each side, so that all figures are those of "
        "an oracle that knows where the organ is. Tables called 'published' are that report's, on other images and "
        "with SAM ViT-H at 1024 pixels: they say which way things go, not how models compare. "
        f"{INTERVALS}.",
        MULTI_ORGAN_FORMULA,
        "Decoders are tuned one for each kind of prompts, on stored embeddings. Changed copies of slices are encoded, "
        "too: flips, right angles, shifts of the greys, with the report's probabilities. Loss and gradients are means "
        "over objects; the epoch with the best validation Dice is kept.",
    ]


def _published_note() -> str:
    return f"{MULTI_ORGAN_DICE.source}. {MULTI_ORGAN_ONE_EXPERIMENT}"


def _dice_picture(result: MultiOrganResult, folder: Path, note: str) -> Picture:
    path = folder / "dice.png"
    interval_plot(path, dice_table(result), rows="prompt", groups="state", title="Dice by prompt")
    return Picture(path, "Dice by prompt, before and after tuning", note)


def _tuned(result: MultiOrganResult, folder: Path, note: str) -> list[Part]:
    if not len(result.tuned):
        return [f"Tuning of decoders: {NOT_RUN}."]
    own = result.tuned[result.tuned["tuned_with"] == result.tuned["prompt"]]
    crossed = result.tuned.pivot_table(index="tuned_with", columns="prompt", values="dice", sort=False)
    kinds = list(result.settings.kinds)
    crossed = crossed.loc[kinds, kinds].reset_index().rename_axis(columns=None)
    path = folder / "tuning.png"
    curves = [(kind, [row["dice"] for row in rows]) for kind, rows in result.histories.items()]
    curves_plot(path, curves, title="Tuning of the decoder", what="validation Dice")
    return [
        Table("tuned_organs", "Dice by organ after tuning", by_organ(own), note, 3),
        Table(
            "tuned_with",
            "Tuned with one kind of prompts, tested with another",
            crossed,
            f"{note} In the published experiment all kinds of points were tuned and validated with the centre; a row "
            "of this table says what that does.",
            3,
        ),
        Picture(path, "Tuning of the decoder", note),
        Table("tuned_objects", "Objects, after tuning", result.tuned, note, rows_shown=20),
    ]


def _naming(result: MultiOrganResult, folder: Path, note: str) -> list[Part]:
    theirs = MULTI_ORGAN_ACCURACY
    published = Table("accuracy_published", "Published: accuracy by organ", theirs.frame(), theirs.source)
    if not len(result.named):
        return [f"The class token: {NOT_RUN}.", published]
    config, method = result.settings.naming, result.settings.organ_token
    length = f"{config.steps} steps" if config.steps else f"{config.minutes:g} minutes"
    guess = (result.named["organ"] == result.most_frequent).mean()
    about_token = (
        f"{note} Class token and head: {length} of {config.batch * config.accumulate} objects, AdamW, rate "
        f"{method.learning_rate:g}, on all kinds of prompts; masks stay those of the base. Who always says "
        f"'{result.most_frequent}', the most frequent organ of the training part, is right in {guess:.3f}."
    )
    parts: list[Part] = []
    summary = []
    for kind in (None, *result.settings.kinds):
        confusion = result.confusion(kind)
        summary.append((kind or "all", confusion.accuracy, confusion.macro_accuracy))
    columns = ["prompt", "weighted mean", "macro mean"]
    parts.append(Table("accuracy", "Accuracy by prompt", pd.DataFrame(summary, columns=columns), about_token, 3))
    both = result.confusion().occurring
    path = folder / "confusion.png"
    confusion_plot(path, both, title="all prompts")
    return [
        *parts,
        Table("accuracy_organs", "Accuracy by organ, all prompts", accuracy_table(both), about_token, 3),
        published,
        Table("confusion", "Confusion, counts (rows are true)", _matrix(both.classes, both.counts), about_token),
        Table("confusion_shares", "Confusion, shares of rows", _matrix(both.classes, both.shares), about_token, 3),
        Picture(path, "Confusion of organs", about_token),
        Table("named_objects", "Objects, as named", result.named, about_token, rows_shown=20),
    ]


def _matrix(names: tuple[str, ...], values: object) -> pd.DataFrame:
    return pd.DataFrame(values, columns=list(names)).set_axis(list(names)).rename_axis("organ").reset_index()


def _worst(result: MultiOrganResult, folder: Path, note: str) -> Picture:
    """The best and the worst held-out object of each kind of prompts, zero-shot."""
    examples = {
        (one.slice.image, one.slice.number, result.data.organs[one.organ - 1]): one
        for one in all_examples(result.data.held_out)
    }
    encoder, panels = cached(result.model), []
    for kind in result.settings.kinds:
        rows = result.zero_shot[result.zero_shot["prompt"] == kind]
        for name, place in (("best", rows["dice"].idxmax()), ("worst", rows["dice"].idxmin())):
            row = rows.loc[place]
            one = examples[row["image"], row["slice"], row["organ"]]
            prompts = fixed_prompts(one, kind)
            mask = result.model.decode(encoder.encode([one.slice.view])[0], prompts).logits > 0
            title = f"{kind}, {name}: {row['organ']}, {shortened(row['image'], 16)}, Dice {row['dice']:.3f}"
            panels.append(PromptedSlice(title, one.slice.grey_hw, one.mask_hw, mask, prompts))
    path = folder / "best_and_worst.png"
    prompt_sheet(path, panels, columns=2, title="zero-shot")
    return Picture(path, "Best and worst objects by prompt, zero-shot", note)

"""The report of the study of adaptations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from SAMLungSegLib.adaptation.method import method_from
from SAMLungSegLib.files import writable_folder
from SAMLungSegLib.studies.adapters.study import STEPS, UNET, UNTRAINED, AdaptersResult
from SAMLungSegLib.studies.object_figures import interval_plot
from SAMLungSegLib.studies.objects import INTERVALS, about, judged_on, mean_dice
from SAMLungSegLib.studies.published import ADAPTATIONS
from SAMLungSegLib.studies.report import Part, Picture, Table, write_study_report

PICTURES = "figures"
MEAN = "mean of its prompts"
REFERENCES = (UNTRAINED, "decoder")  # that every method is set against
_PAIRED_BY = ["image", "slice", "patient", "organ", "prompt"]


def write_adapters_report(result: AdaptersResult, folder: Path) -> list[Path]:
    """Write report.html, report.md, the tables as CSV and the figures as PNG.

    Returns:
        Paths of the files.
    """
    note = basis(result)
    pictures = writable_folder(folder / PICTURES)
    parts: list[Part] = [
        *_introduction(result),
        Table("methods", "Methods: what they cost", costs(result), note, 3),
        Table("dice", "Dice by method and prompt", dice_by_prompt(result), note, 3),
        Table(
            "differences", "Differences in Dice, on the same objects and prompts", differences(result.objects), note, 4
        ),
        *_pictures(result, pictures, note),
        Table("dice_intervals", "Dice with intervals", interval_table(result), note, 3, 60),
        Table("dice_organs", "Dice by method and organ, all prompts that a method takes", _by_organ(result), note, 3),
        Table("sources", "Where the methods come from", _sources(result), ""),
        Table("published", ADAPTATIONS.title, ADAPTATIONS.frame(), ADAPTATIONS.source),
        *_not_run(result),
        Table("objects", "Held-out objects", result.objects, note, rows_shown=20),
    ]
    return write_study_report(folder, "Adaptations of SAM, compared", parts)


def basis(result: AdaptersResult) -> str:
    """What every table rests on."""
    settings = result.settings
    lengths = [f"{settings.steps} steps"] if settings.steps is not None else []
    lengths += [f"{settings.minutes:g} minutes"] if settings.minutes is not None else []
    return (
        f"Base model {settings.base.title}, frame {result.model.input_size}, on {result.model.device}; "
        f"{' and '.join(lengths)} each, {settings.batch * settings.accumulate} slices in a step, seed {settings.seed}; "
        f"{judged_on(settings.base, result.data)}"
    )


def costs(result: AdaptersResult) -> pd.DataFrame:
    """Trained weights, memory and time of each training, and its validation Dice."""
    table = result.methods.rename(
        columns={
            "parameters": "trained weights",
            "share": "of all [%]",
            "MB": "memory of a step [MB]",
            "seconds": "seconds a step",
        }
    )
    table["of all [%]"] *= 100
    return table


def interval_table(result: AdaptersResult) -> pd.DataFrame:
    """Mean Dice over objects with its interval by patient: budget, method, prompt."""
    return mean_dice(result.objects, ["budget", "method", "prompt"])


def dice_by_prompt(result: AdaptersResult) -> pd.DataFrame:
    """Mean Dice with its interval as text, a row for each training and a column for each kind of prompts."""
    table = interval_table(result)
    texts = [
        f"{row.Dice:.3f} ({row.low:.3f}-{row.high:.3f})" if row.patients > 1 else f"{row.Dice:.3f}"
        for row in table.itertuples()
    ]
    table = table.assign(text=texts)
    kinds = list(dict.fromkeys(table["prompt"]))
    wide = table.pivot_table(index=["budget", "method"], columns="prompt", values="text", aggfunc="first", sort=False)
    mean = result.objects.groupby(["budget", "method"], sort=False)["dice"].mean()
    return wide[kinds].fillna("-").assign(**{MEAN: mean}).reset_index().rename_axis(columns=None)


def differences(objects: pd.DataFrame) -> pd.DataFrame:
    """How much better a method is than the base and than the decoder alone, on the objects and prompts of both.

    Args:
        objects: of an `AdaptersResult`.
    Returns:
        Columns budget, method, than, objects, patients, difference, low, high: the mean of the paired differences with
        its interval, see `mean_dice`. What has no such pairs, as the U-Net, which takes no prompt, has no row.
    """
    pairs = []
    for (budget, method), rows in objects[objects["method"] != UNTRAINED].groupby(["budget", "method"], sort=False):
        for reference in REFERENCES:
            others = objects[(objects["method"] == reference) & objects["budget"].isin(["", budget])]
            if reference != method:
                both = rows.merge(others[[*_PAIRED_BY, "dice"]], on=_PAIRED_BY, suffixes=("", "_reference"))
                pairs.append(both.assign(than=reference, dice=both["dice"] - both["dice_reference"]))
    found = pd.concat(pairs) if pairs else objects.iloc[:0].assign(than="")
    return mean_dice(found, ["budget", "method", "than"]).rename(columns={"Dice": "difference"})


def _by_organ(result: AdaptersResult) -> pd.DataFrame:
    table = result.objects.pivot_table(index=["budget", "method"], columns="organ", values="dice", sort=False)
    return table.reset_index().rename_axis(columns=None)


def _introduction(result: AdaptersResult) -> list[str]:
    return [
        f"{about(result.data)} For research only.",
        "Each method starts from the same weights, draws the same slices, and keeps the weights with the best "
        "validation Dice. All but the U-Net are prompted by the mask of what they shall find, so that their figures "
        f"are those of an oracle; '{UNTRAINED}' is the base with the same prompts. {INTERVALS}. Whether two methods "
        "differ is said by the interval of their difference, not by whether their own intervals overlap. Means over "
        "prompts, and the validation Dice, are over those that a method takes, and compare only with means over the "
        "same.",
        "Memory of a step is what is kept for it: weights, gradients and moments of Adam of what is trained, and "
        "activations; on a graphics card the peak that was measured, in mixed precision where the encoder learns. "
        "Seconds a step are those of this machine, other work on it included.",
    ]


def _pictures(result: AdaptersResult, folder: Path, note: str) -> list[Picture]:
    table, pictures = interval_table(result), []
    for budget in dict.fromkeys(result.methods["budget"]):
        path = folder / f"dice_{budget.replace(' ', '_')}.png"
        some = table[table["budget"].isin(["", budget])]
        interval_plot(path, some, rows="method", groups="prompt", title=f"Held-out Dice, {budget}")
        pictures.append(Picture(path, f"Held-out Dice, {budget}", note))
    return pictures


def _sources(result: AdaptersResult) -> pd.DataFrame:
    budget = STEPS if STEPS in result.settings.lengths else next(iter(result.settings.lengths))
    texts = [text for text in result.methods[result.methods["budget"] == budget]["method"] if text != UNET]
    methods = [(text, method_from(text)) for text in texts]
    rows = [(text, one.title, f"{one.learning_rate:g}", one.source) for text, one in methods]
    return pd.DataFrame(rows, columns=["method", "what it trains", "learning rate", "source"])


def _not_run(result: AdaptersResult) -> list[Table]:
    if not result.not_run:
        return []
    frame = pd.DataFrame(result.not_run.items(), columns=["method", "not run, because"])
    return [Table("not_run", "Methods that were not run", frame)]

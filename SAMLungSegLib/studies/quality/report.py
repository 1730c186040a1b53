"""The report on a model's quality: tables, curves, scatter plots, lowest scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from SAMLungSegLib.evaluation.figures import save_figure
from SAMLungSegLib.files import writable_folder
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.studies.figures import PromptedSlice, prompt_sheet
from SAMLungSegLib.studies.predictions import predicted_mask
from SAMLungSegLib.studies.quality.corrections import (
    BAD_DICE,
    SOME_CLICKS,
    WORSE,
    clicks_table,
    corrections_table,
)
from SAMLungSegLib.studies.quality.references import reference_slices
from SAMLungSegLib.studies.quality.study import (
    Quality,
    accuracy_table,
    calibration_table,
    corrupted_table,
    rank_correlation,
)
from SAMLungSegLib.studies.report import Part, Picture, Table, write_study_report
from SAMLungSegLib.training.data.cases import StudyCase

PICTURES = "figures"
WORST_SHOWN = 6
CLICKS_NOTES = {
    "largest-error": "Each click in the middle of the largest error left, with all before it",
    "clicksam": "Each 'click' is a round of ClickSAM's, ten at most in what is right, in what is wrongly taken and in "
    "what is missed, which take the place of those before",
}
CORRECTIONS_NOTE = (
    f"Obeyed: the clicked pixel has the label that the click says; all of {SOME_CLICKS}: after the third. Worse: share "
    f"of images that lose more than {WORSE} of Dice by the first click. Neutral: change of Dice by two positive clicks "
    "and a negative one on pixels that are right, drawn at random. Mask followed: share of the wrong pixels that "
    "become right where the reference is given as a mask."
)


def write_quality_report(
    quality: Quality, folder: Path, *, basis: str, cases: Sequence[StudyCase], model: PromptableModel
) -> list[Path]:
    """Write report.html, report.md, the tables as CSV and the figures as PNG; the worst images are predicted again.

    Args:
        quality: what was measured.
        folder: to write into.
        basis: which model, which images and what their masks hold, below each table.
        cases: that were measured.
        model: that was measured.
    Returns:
        Paths of the files.
    """
    pictures = writable_folder(folder / PICTURES)
    parts: list[Part] = [
        "Predictions without a prompt, through the whole pipeline, unless clicks are mentioned. For research only.",
        Table("accuracy", "Without a prompt", accuracy_table(quality.images), basis),
        Table(
            "clicks",
            "After corrective clicks",
            clicks_table(quality.clicks),
            f"{CLICKS_NOTES[quality.user]}, given with the prediction without a click as a mask. Bottom decile: the "
            f"images with the lowest Dice without a click. {basis}",
        ),
        Picture(_clicks_figure(quality.clicks, pictures / "clicks.png"), "Dice over clicks"),
        Table(
            "corrections",
            "What clicks and masks do",
            corrections_table(quality.corrections),
            f"By the Dice of the prediction without a click. {CORRECTIONS_NOTE} {basis}",
        ),
        Picture(
            _corrections_figure(quality, pictures / "corrections.png"),
            "Dice before and after clicks",
            f"One point an image, above the line where clicks help; dotted: {BAD_DICE}. {basis}",
        ),
        Table(
            "calibration",
            "Predicted overlap as a flag",
            calibration_table(quality.images),
            f"Poor: Dice below 0.93. Rank correlation of predicted with true IoU: "
            f"{rank_correlation(quality.images):.2f}. {basis}",
            3,
        ),
        Picture(_calibration_figure(quality.images, pictures / "calibration.png"), "Predicted and true overlap"),
        Table(
            "robustness",
            "Loss of Dice on corrupted images",
            corrupted_table(quality.corrupted),
            f"Mean over the images of Dice as they are minus Dice as corrupted. {basis}",
            3,
        ),
        Picture(_worst_figure(quality, cases, model, pictures / "worst.png"), "Lowest scores"),
        Table("images", "Images", quality.images, basis, rows_shown=30),
        Table("corrections_images", "Clicks and masks on each image", quality.corrections, basis, rows_shown=30),
    ]
    return write_study_report(folder, "Quality of a model", parts)


def _clicks_figure(clicks: pd.DataFrame, path: Path) -> Path:
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for subset, rows in clicks_table(clicks).groupby("subset"):
        (line,) = axes.plot(rows["clicks"], rows["dice_mean"], marker="o", label=f"{subset}, all")
        axes.plot(
            rows["clicks"], rows["dice_worst_tenth"], "--", color=line.get_color(), label=f"{subset}, bottom decile"
        )
    axes.set(xlabel="corrective clicks", ylabel="Dice")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)
    return path


def _corrections_figure(quality: Quality, path: Path) -> Path:
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    all_axes = figure.subplots(1, 2, sharex=True, sharey=True)
    wide = quality.clicks.pivot(index=["subset", "image"], columns="clicks", values="dice")
    lowest = min(float(wide[[0, 1, SOME_CLICKS]].min().min()), BAD_DICE) - 0.01
    for axes, clicks in zip(all_axes, (1, SOME_CLICKS), strict=True):
        for subset, rows in wide.groupby(level="subset"):
            axes.scatter(rows[0], rows[clicks], s=14, alpha=0.7, label=str(subset))
        axes.plot([lowest, 1], [lowest, 1], color="grey", linewidth=0.8)
        axes.axvline(BAD_DICE, color="grey", linewidth=0.8, linestyle=":")
        after = "after 1 click" if clicks == 1 else f"after {clicks} clicks"
        axes.set(xlabel="Dice without a click", ylabel=f"Dice {after}", xlim=(lowest, 1), ylim=(lowest, 1))
    all_axes[0].legend(fontsize="small")
    save_figure(figure, path)
    return path


def _calibration_figure(images: pd.DataFrame, path: Path) -> Path:
    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for subset, rows in images.groupby("subset"):
        axes.scatter(rows["predicted_iou"], rows["jaccard"], s=14, alpha=0.7, label=str(subset))
    lowest = min(images["predicted_iou"].min(), images["jaccard"].min(), 0.9) - 0.02
    axes.plot([lowest, 1], [lowest, 1], color="grey", linewidth=0.8)
    axes.set(xlabel="predicted IoU", ylabel="true IoU", xlim=(lowest, 1), ylim=(lowest, 1))
    axes.legend(fontsize="small")
    save_figure(figure, path)
    return path


def _worst_figure(quality: Quality, cases: Sequence[StudyCase], model: PromptableModel, path: Path) -> Path:
    by_name = {case.name: case for case in cases}
    panels = []
    for row in quality.images.nsmallest(WORST_SHOWN, "dice").itertuples():
        case = by_name[row.image.partition("/")[0]]
        one = next(one for one in reference_slices(case) if one.name == row.image)
        found = predicted_mask(model, model.encode([one.grey_hw])[0], PromptSet(extent=quality.extent))
        title = f"{row.image}: Dice {row.dice:.3f}, predicted IoU {row.predicted_iou:.2f}"
        panels.append(PromptedSlice(title, one.grey_hw, one.lung_hw, found & ~one.ignored_hw, PromptSet()))
    prompt_sheet(path, panels, columns=3)
    return path

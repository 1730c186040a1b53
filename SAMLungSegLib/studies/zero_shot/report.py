"""The report of a zero-shot study, with the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from SAMLungSegLib.evaluation.figures import box_plot, shortened
from SAMLungSegLib.files import writable_folder
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.prompts.reference import BOX
from SAMLungSegLib.studies.figures import PromptedSlice, prompt_sheet
from SAMLungSegLib.studies.predictions import predicted_mask, scores, slice_prompts, with_more_negatives
from SAMLungSegLib.studies.published import (
    ZERO_SHOT_NEGATIVES,
    ZERO_SHOT_STATE_OF_THE_ART,
    ZERO_SHOT_TABLE_1,
    ZERO_SHOT_VOLUME_MEANS,
    PublishedTable,
)
from SAMLungSegLib.studies.report import Part, Picture, Table, write_study_report
from SAMLungSegLib.studies.zero_shot.statistics import (
    METRICS,
    groups_of,
    slice_statistics,
    step_statistics,
    volume_mean_statistics,
    volume_table,
)
from SAMLungSegLib.studies.zero_shot.study import ZeroShotResult

PICTURES = "figures"
MOST_SUBSETS_DRAWN = 4


def write_zero_shot_report(result: ZeroShotResult, folder: Path) -> list[Path]:
    """Write report.html, report.md, the tables as CSV and the figures as PNG; the slices shown are predicted again.

    Returns:
        Paths of the files.
    """
    note, pictures = basis(result), _Pictures(result, writable_folder(folder / PICTURES))
    parts: list[Part] = [
        *_introduction(result),
        Table("summary", "Over all slices", _beside(slice_statistics(result.per_slice), ZERO_SHOT_TABLE_1), note, 2),
        Table(
            "summary_volumes",
            "Over images: of each one's mean",
            _beside(volume_mean_statistics(result.per_slice), ZERO_SHOT_VOLUME_MEANS),
            f"{note} SD within: mean over images of the standard deviation over their slices.",
            2,
        ),
        Table("published_models", "Published: models trained for the task", ZERO_SHOT_STATE_OF_THE_ART.frame(), "", 2),
        pictures.boxes(note),
        pictures.best_and_worst(note),
        *_ablation(result, pictures, note),
        *_negatives(result, pictures, note),
        Table("per_volume", "Images", volume_table(result.per_slice), note, rows_shown=50),
        Table("per_slice", "Slices", result.per_slice, note, rows_shown=20),
    ]
    return write_study_report(folder, "Zero-shot study", parts)


def basis(result: ZeroShotResult) -> str:
    """What every table rests on: the model, the prompts, how images were seen, what the model had seen before."""
    settings = result.settings
    weights = result.weights_sha256.get("own") or result.weights_sha256[settings.model.name]
    own = f" with {settings.model.weights.name}" if settings.model.weights else ""
    prompts = f"algorithm 1 ({settings.mode} negative) from the reference"
    text = f"Model {settings.model.name}{own} (SHA-256 {weights[:12]}); prompts: {prompts}."
    if settings.include_training_images:
        included = sum(result.seen.include(case) for case in result.cases.values())
        text += f" {included} of {len(result.cases)} images are such that the model has learned from."
    return text


def _introduction(result: ZeroShotResult) -> list[str]:
    per_slice, windowing = result.per_slice, result.settings.windowing
    empty = int(per_slice["empty"].sum())
    stretched = ", each slice stretched to its own lowest and highest value" if windowing.stretched else ""
    lines = [
        f"{len(result.cases)} images with {len(per_slice)} slices; {empty} slices have no lung in the reference and "
        f"are left out. CT window: level {windowing.window.level:g}, width {windowing.window.width:g}{stretched}; "
        "X-rays as they are. Each slice is predicted once, for both lungs together; the prediction is not cleaned. "
        "For research only.",
        f"The study follows {ZERO_SHOT_TABLE_1.source.split(',')[0]}: rows and tables called 'published' are theirs, "
        "on their images, with SAM ViT-L.",
        _about_seen(result),
    ]
    if result.failed:
        failures = "; ".join(f"{name}: {reason}" for name, reason in result.failed.items())
        lines.append(f"{len(result.failed)} images could not be used. {failures}")
    return lines


def _about_seen(result: ZeroShotResult) -> str:
    name = result.seen.model
    if not result.seen.is_known:
        return f"No card tells what {name} learned from, so that nobody checked whether it has seen these images."
    if result.settings.include_training_images:
        return f"Images that {name} has learned from were requested and are included."
    return f"{result.left_out} images that {name} has learned from, by its card, are left out."


def _beside(ours: pd.DataFrame, published: PublishedTable) -> pd.DataFrame:
    """Our rows, then the published ones."""
    theirs = published.frame()
    return pd.concat(
        [
            ours.assign(Images="ours: " + ours["Images"]),
            theirs.assign(Images="published: " + theirs["Images"]),
        ],
        ignore_index=True,
    )


def _ablation(result: ZeroShotResult, pictures: _Pictures, note: str) -> list[Part]:
    if result.ablation.empty:
        return ["The steps of algorithm 1 were not compared: the model takes boxes only, or no slice was chosen."]
    slices = len(result.ablation) // result.ablation["step"].nunique()
    return [
        Table(
            "ablation", f"The four steps of algorithm 1 on {slices} slices", step_statistics(result.ablation), note, 2
        ),
        Table("ablation_slices", "The four steps on each slice", result.ablation, note, rows_shown=8),
        *pictures.ablation(note),
    ]


def _negatives(result: ZeroShotResult, pictures: _Pictures, note: str) -> list[Part]:
    if not result.settings.negatives or not pictures.model.capabilities.accepts("points"):
        return []
    frame, picture = pictures.negatives(note)
    title = "More negative points where most is wrongly taken"
    published = ZERO_SHOT_NEGATIVES
    return [
        Table("negatives", title, frame, note, 2),
        picture,
        Table("published_negatives", f"Published: {published.title.lower()}", published.frame(), published.source, 2),
    ]


class _Pictures:
    """Draws slices again by asking the model again."""

    def __init__(self, result: ZeroShotResult, folder: Path) -> None:
        self.result, self.folder = result, folder
        self.model: PromptableModel = result.settings.model.load(result.settings.device)
        self._read = lru_cache(1)(self._read_case)
        self._cached = lru_cache(16)(self._encode)
        self._measured = result.per_slice[~result.per_slice["empty"]]

    def boxes(self, note: str) -> Picture:
        table = pd.concat(
            [group.assign(subset=name) for name, group in groups_of(self.result.per_slice).items()], ignore_index=True
        )
        path = self.folder / "box_plot.png"
        box_plot(path, table, by="subset", metrics=METRICS, title="Slices with lung, by subset")
        return Picture(path, "Quartiles by subset", note)

    def best_and_worst(self, note: str) -> Picture:
        panels = []
        for _, group in list(self._measured.groupby("subset", sort=False))[:MOST_SUBSETS_DRAWN]:
            for kind, index in (("best", group["dice"].idxmax()), ("worst", group["dice"].idxmin())):
                panels.append(self._panel(group.loc[index], kind, BOX))
        path = self.folder / "best_and_worst.png"
        prompt_sheet(path, panels)
        return Picture(path, "Best and worst slices", note)

    def ablation(self, note: str) -> list[Picture]:
        ablation = self.result.ablation
        plot, example = self.folder / "ablation.png", self.folder / "ablation_example.png"
        box_plot(plot, ablation.assign(empty=False), by="step", metrics=METRICS, title="Steps of algorithm 1")
        wide = ablation.pivot(index=["volume", "slice"], columns="step", values="dice")
        first, *_, last = ablation["step"].unique()
        volume, number = (wide[last] - wide[first]).idxmax()
        row = self._measured.query("volume == @volume and slice == @number").iloc[0]
        prompt_sheet(example, [self._panel(row, step, step) for step in ablation["step"].unique()])
        return [
            Picture(plot, "Steps of algorithm 1", note),
            Picture(example, f"The slice that gains most: {volume}, slice {number}", note),
        ]

    def negatives(self, note: str) -> tuple[pd.DataFrame, Picture]:
        row = _most_wrongly_taken(self._measured)
        grey, labels, embedding, steps = self._cached(row["volume"], row["slice"])
        reference = labels > 0
        most = self.result.settings.negatives
        predictions = list(with_more_negatives(self.model, embedding, steps[BOX], reference, most))
        values = [scores(reference, prediction) for _, prediction in predictions]
        frame = pd.DataFrame(
            {"Negatives added": added, **{f"{name.capitalize()} [%]": 100 * one[name] for name in METRICS}}
            for added, one in enumerate(values)
        )
        best = int(np.argmax([one["dice"] for one in values]))
        shown = dict.fromkeys((0, min(1, len(predictions) - 1), best, len(predictions) - 1))
        panels = [
            PromptedSlice(_titled(_added(added), values[added]), grey, reference, prediction, prompts)
            for added in shown
            for prompts, prediction in [predictions[added]]
        ]
        path = self.folder / "negatives.png"
        prompt_sheet(path, panels, columns=len(panels))
        return frame, Picture(path, f"More negative points: {row['volume']}, slice {row['slice']}", note)

    def _panel(self, row: pd.Series, title: str, step: str) -> PromptedSlice:
        grey, labels, embedding, steps = self._cached(row["volume"], row["slice"])
        prediction, reference = predicted_mask(self.model, embedding, steps[step]), labels > 0
        heading = f"{title}: {shortened(self.result.cases[row['volume']].name, 40)}"
        if self._has_slices(row["volume"]):
            heading += f", slice {row['slice']}"
        return PromptedSlice(_titled(heading, scores(reference, prediction)), grey, reference, prediction, steps[step])

    def _has_slices(self, volume: str) -> bool:
        return (self.result.per_slice["volume"] == volume).sum() > 1

    def _read_case(self, volume: str) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        return self.result.cases[volume].read(self.result.settings.windowing)

    def _encode(self, volume: str, number: int) -> tuple[np.ndarray, np.ndarray, Embedding, dict[str, PromptSet]]:
        greys, labels = self._read(volume)
        embedding = self.model.encode([greys[number]])[0]
        steps = slice_prompts(self.model, labels[number], self.result.settings.mode, f"{volume}/{number}")
        return greys[number], labels[number], embedding, steps


def _added(negatives: int) -> str:
    return f"{negatives} negatives added" if negatives != 1 else "1 negative added"


def _titled(heading: str, values: dict[str, float]) -> str:
    return f"{heading}\nJaccard {values['jaccard']:.3f}, Dice {values['dice']:.3f}"


def _most_wrongly_taken(measured: pd.DataFrame) -> pd.Series:
    """The worst slice where more is wrongly taken than missed; the worst of all where there is none such."""
    too_large = measured[measured["prediction_voxels"] > measured["reference_voxels"]]
    candidates = measured if too_large.empty else too_large
    return candidates.loc[candidates["dice"].idxmin()]

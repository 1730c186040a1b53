"""The history of a run as a table and its curves, and Dice of every image before and after a tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from SAMLungSegLib.evaluation.figures import METRIC_COLOURS, save_figure
from SAMLungSegLib.files import write_csv

_DPI = 150


def learning_curve(
    path: Path, history: pd.DataFrame, *, kept: int, title: str = "", loss: str = "DiceFocal loss", score: str = "dice"
) -> None:
    """Write training and validation loss and the validation Dice over epochs; a line at the epoch that was kept.

    Args:
        path: picture to write.
        history: as of `TunedDecoder`; or with one column `score`, and without a loss on the validation part.
        kept: number of the epoch.
        title: text above the plot.
        loss: what it is called.
        score: column of the validation's score, where there is none for each threshold.
    """
    figure = Figure(figsize=(6.4, 5.2), dpi=_DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    epochs = history["epoch"] + 1
    above.plot(epochs, history["loss"], color=METRIC_COLOURS[0], label="training")
    if "validation_loss" in history:
        above.plot(epochs, history["validation_loss"], color=METRIC_COLOURS[1], label="validation")
    above.set_ylabel(loss)
    columns = [name for name in history if name.startswith("dice_")]
    scores = history[columns].max(axis=1) if columns else history[score]
    label = "validation, best threshold" if columns else "validation"
    below.plot(epochs, scores, color=METRIC_COLOURS[2], label=label)
    below.set_ylabel(score.capitalize())
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (above, below):
        axes.axvline(kept + 1, color="#888888", linewidth=0.8, linestyle="--", label="kept epoch")
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)


def before_and_after(
    path: Path,
    names: Sequence[str],
    before: pd.Series,
    after: pd.Series,
    *,
    title: str = "",
    what: str = "both lungs, held-out images",
    score: str = "dice",
) -> None:
    """Write the score of every image before and after tuning, joined by a line: green where it rose.

    Args:
        path: picture to write.
        names: of the images.
        before, after: their scores, in the same order.
        title: text above the plot.
        what: the score is of.
        score: what it is.
    """
    order = np.argsort(np.asarray(before))
    figure = Figure(figsize=(6.4, max(2.6, 1.4 + 0.22 * len(order))), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for place, index in enumerate(order):
        first, last = np.asarray(before)[index], np.asarray(after)[index]
        axes.plot([first, last], [place, place], color=METRIC_COLOURS[2] if last >= first else "#D55E00", linewidth=1.6)
    axes.plot(np.asarray(before)[order], range(len(order)), "o", color="#888888", markersize=4.5, label="before")
    axes.plot(np.asarray(after)[order], range(len(order)), "o", color=METRIC_COLOURS[0], markersize=4.5, label="after")
    axes.set_yticks(range(len(order)), [str(names[index])[:28] for index in order], fontsize=8)
    axes.set_xlabel(f"{score.capitalize()} of {what}")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    axes.set_title(title, fontsize=10)
    save_figure(figure, path)


def add_to_history(folder: Path, row: dict[str, Any]) -> None:
    """Add the row of an epoch to `history.csv`, replacing one of a run that was interrupted, and draw `history.png`."""
    path = folder / "history.csv"
    earlier = pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=list(row))
    kept = earlier[earlier["epoch"] < row["epoch"]]
    history = pd.DataFrame([*kept.to_dict("records"), row])
    write_csv(history, path)
    _history_curves(history, folder / "history.png")


def _history_curves(history: pd.DataFrame, path: Path) -> None:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    loss, scores = figure.subplots(1, 2)
    loss.plot(history["epoch"], history["loss"], color="black")
    loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
    for name in history.columns.drop(["epoch", "loss"]):
        scores.plot(history["epoch"], history[name], label=name)
    scores.set(xlabel="epoch", ylabel="Dice, validation, no prompt")
    if scores.get_legend_handles_labels()[0]:
        scores.legend(fontsize="small")
    save_figure(figure, path)

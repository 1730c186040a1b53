"""Pictures of a tuning: learning curve, and Dice of every image before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from SAMLungSegLib.evaluation.figures import METRIC_COLOURS, save_figure

_DPI = 150


def learning_curve(path: Path, history: pd.DataFrame, *, kept: int, title: str = "") -> None:
    """Write training and validation loss and the validation Dice over epochs; a line at the epoch that was kept.

    Args:
        path: picture to write.
        history: as of `TunedDecoder`.
        kept: number of the epoch.
        title: text above the plot.
    """
    figure = Figure(figsize=(6.4, 5.2), dpi=_DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    epochs = history["epoch"] + 1
    above.plot(epochs, history["loss"], color=METRIC_COLOURS[0], label="training")
    above.plot(epochs, history["validation_loss"], color=METRIC_COLOURS[1], label="validation")
    above.set_ylabel("DiceFocal loss")
    columns = [name for name in history if name.startswith("dice_")]
    below.plot(epochs, history[columns].max(axis=1), color=METRIC_COLOURS[2], label="validation, best threshold")
    below.set_ylabel("Dice")
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (above, below):
        axes.axvline(kept + 1, color="#888888", linewidth=0.8, linestyle="--", label="kept epoch")
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)


def before_and_after(path: Path, names: Sequence[str], before: pd.Series, after: pd.Series, *, title: str = "") -> None:
    """Write the Dice of every image before and after tuning, joined by a line: green where it rose.

    Args:
        path: picture to write.
        names: of the images.
        before, after: Dice, in the same order.
        title: text above the plot.
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
    axes.set_xlabel("Dice of both lungs, held-out images")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    axes.set_title(title, fontsize=10)
    save_figure(figure, path)

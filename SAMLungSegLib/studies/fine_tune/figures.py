"""Pictures of the fine-tuning study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from SAMLungSegLib.evaluation.figures import METRIC_COLOURS, save_figure

_DPI = 150
_BEFORE_COLOUR = "#BBBBBB"


def learning_curves(path: Path, history: pd.DataFrame, *, title: str = "") -> None:
    """Write training and validation loss of each kind of prompts: every fold thin, their mean thick.

    The mean ends with the fold that stopped first: beyond it would jump as folds leave it.

    Args:
        path: picture to write.
        history: of one set; columns prompt, fold, epoch, loss, validation_loss.
        title: text above the plot.
    """
    kinds = list(history["prompt"].unique())
    figure = Figure(figsize=(3.9 * len(kinds) + 0.6, 3.4), dpi=_DPI, layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        rows = history[history["prompt"] == kind]
        for column, colour, name in (("loss", 0, "training"), ("validation_loss", 1, "validation")):
            for _, fold in rows.groupby("fold"):
                axes.plot(fold["epoch"] + 1, fold[column], color=METRIC_COLOURS[colour], linewidth=0.6, alpha=0.5)
            mean = rows.pivot(index="epoch", columns="fold", values=column).dropna().mean(axis=1)
            axes.plot(mean.index + 1, mean, color=METRIC_COLOURS[colour], linewidth=2, label=name)
        axes.set_title(str(kind), fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axes)
    panels[0].set_ylabel("DiceFocal loss")
    panels[-1].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)


def threshold_curves(path: Path, thresholds: pd.DataFrame, kinds: Sequence[str], *, title: str = "") -> None:
    """Write the validation Dice by threshold, one line for each kind of prompts.

    Args:
        path: picture to write.
        thresholds: of one set; column threshold, and one for each kind.
        kinds: of prompts.
        title: text above the plot.
    """
    figure = Figure(figsize=(5.2, 3.6), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for index, kind in enumerate(kinds):
        axes.plot(thresholds["threshold"], thresholds[kind], "o-", color=METRIC_COLOURS[index % 4], label=kind)
    axes.set_xlabel("threshold on the probability")
    axes.set_ylabel("validation F1 (Dice)")
    axes.legend(frameon=False, fontsize=9)
    axes.set_title(title, fontsize=11)
    _tidy(axes)
    save_figure(figure, path)


def before_and_after_bars(path: Path, table: pd.DataFrame, unet: pd.Series | None, *, title: str = "") -> None:
    """Write the test F1 of each kind of prompts before and after tuning with the SD over folds, and the U-Net's.

    Args:
        path: picture to write.
        table: of one set; columns prompt, and mean and SD of 'F1 before' and 'F1 after'.
        unet: 'F1 mean' and 'F1 SD' of the U-Net, if it was trained.
        title: text above the plot.
    """
    figure = Figure(figsize=(1.6 + 1.5 * (len(table) + (unet is not None)), 3.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    bars = {"capsize": 3, "width": 0.36, "edgecolor": "#333333", "linewidth": 0.8}
    for offset, state, colour in ((-0.19, "before", _BEFORE_COLOUR), (0.19, "after", METRIC_COLOURS[2])):
        places = [place + offset for place in range(len(table))]
        heights, deviations = table[f"F1 {state} mean"], table[f"F1 {state} SD"]
        axes.bar(places, heights, yerr=deviations, color=colour, label=f"{state} tuning", **bars)
    labels = list(table["prompt"])
    if unet is not None:
        axes.bar([len(table)], [unet["F1 mean"]], yerr=[unet["F1 SD"]], color=METRIC_COLOURS[0], **bars)
        labels.append("U-Net")
    axes.set_xticks(range(len(labels)), labels)
    lowest = float((table["F1 before mean"] - table["F1 before SD"]).min())
    axes.set_ylim(max(0.0, lowest - 0.05), 1.0)
    axes.set_ylabel("test F1 (Dice), mean and SD over folds")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    axes.set_title(title, fontsize=11)
    _tidy(axes)
    save_figure(figure, path)


def _tidy(axes: Axes) -> None:
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

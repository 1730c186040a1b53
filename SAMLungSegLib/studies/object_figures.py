"""Means with their intervals, side by side: a picture of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from SAMLungSegLib.evaluation.figures import METRIC_COLOURS, save_figure

_DPI = 150
_MARKERS = "osD^vP"
_COLOURS = (*METRIC_COLOURS, "#D55E00", "#666666")
_ROW_INCHES = 0.36
_GROUP_HEIGHT = 0.76  # of a row


def interval_plot(
    path: Path, table: pd.DataFrame, *, rows: str, groups: str, title: str = "", what: str = "Dice"
) -> None:
    """Write a plot of means: a line for each of `rows`, on it a point with its interval for each of `groups`.

    Args:
        path: picture to write.
        table: columns `rows`, `groups`, Dice, low, high; the last two may be NaN.
        rows: column whose values are written at the left, from above in their order.
        groups: column whose values the legend names.
        title: text above the plot.
        what: of the axis.
    """
    names, kinds = list(dict.fromkeys(table[rows])), list(dict.fromkeys(table[groups]))
    height = _ROW_INCHES * len(names) * max(1.0, 0.35 * len(kinds)) + 1.6
    figure = Figure(figsize=(8.0, height), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    offsets = (np.arange(len(kinds)) + 0.5) / len(kinds) * _GROUP_HEIGHT - _GROUP_HEIGHT / 2
    for number, (kind, offset) in enumerate(zip(kinds, offsets, strict=True)):
        some = table[table[groups] == kind]
        places = [names.index(name) + offset for name in some[rows]]
        means = some["Dice"].to_numpy()
        errors = np.abs(some[["low", "high"]].to_numpy().T - means)  # NaN draws none
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        axes.errorbar(means, places, xerr=errors, fmt=marker, color=colour, markersize=5, capsize=2.5, label=str(kind))
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(f"{what}, mean and 95 % interval")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=min(5, len(kinds)), frameon=False, fontsize=9)
    axes.set_title(title, fontsize=11)
    save_figure(figure, path)


def curves_plot(path: Path, curves: Sequence[tuple[str, Sequence[float]]], *, title: str = "", what: str) -> None:
    """Write curves over epochs, one for each name."""
    figure = Figure(figsize=(6.4, 3.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1.5, marker=".", label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(what)
    axes.grid(color="#DDDDDD", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    axes.set_title(title, fontsize=11)
    save_figure(figure, path)

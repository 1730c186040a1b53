"""The picture of a confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from SAMLungSegLib.evaluation.classification import Confusion
from SAMLungSegLib.evaluation.figures import save_figure

_DPI = 150
_CELL_INCHES, _MARGIN_INCHES = 0.62, 2.2
_DARK = 0.5  # share from which on text on a cell is white


def confusion_plot(path: str | Path, confusion: Confusion, *, title: str = "") -> None:
    """Draw a confusion matrix: the colour is the share of the row, the text that share and the count.

    Args:
        path: picture to write.
        confusion: what was counted.
        title: text above the picture.
    """
    side = _CELL_INCHES * len(confusion.classes) + _MARGIN_INCHES
    figure = Figure(figsize=(side + 0.8, side), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = np.nan_to_num(confusion.shares)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    numbers = range(len(confusion.classes))
    axes.set_xticks(numbers, confusion.classes, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(numbers, confusion.classes, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(confusion.counts):
        if count:
            colour = "white" if shares[row, column] > _DARK else "black"
            text = f"{shares[row, column]:.2f}\n{count}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set_title(title, fontsize=11)
    save_figure(figure, path)

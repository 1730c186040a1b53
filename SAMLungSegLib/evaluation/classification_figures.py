"""The picture of a confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from SAMLungSegLib.evaluation.classification import Confusion
from SAMLungSegLib.evaluation.figures import save_figure

_DPI = 150
_CELL_INCHES, _MARGIN_INCHES, _MOST_INCHES = 0.62, 2.2, 14.0
_MOST_NUMBERED = 25  # classes, beyond which numbers do not fit into the cells
_DARK = 0.5  # share from which on text on a cell is white


def confusion_plot(path: str | Path, confusion: Confusion, *, title: str = "") -> None:
    """Draw a confusion matrix: the colour is the share of the row, the text that share and the count.

    Text is left out where there are many classes.

    Args:
        path: picture to write.
        confusion: what was counted.
        title: text above the picture.
    """
    side = min(_CELL_INCHES * len(confusion.classes), _MOST_INCHES) + _MARGIN_INCHES
    figure = Figure(figsize=(side + 0.8, side), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    shares = np.nan_to_num(confusion.shares)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    numbers, is_numbered = range(len(confusion.classes)), len(confusion.classes) <= _MOST_NUMBERED
    size, turn = (8, 40) if is_numbered else (5, 90)
    axes.set_xticks(numbers, confusion.classes, rotation=turn, ha="right" if is_numbered else "center", fontsize=size)
    axes.set_yticks(numbers, confusion.classes, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(confusion.counts):
        if count and is_numbered:
            colour = "white" if shares[row, column] > _DARK else "black"
            text = f"{shares[row, column]:.2f}\n{count}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set_title(title, fontsize=11)
    save_figure(figure, path)

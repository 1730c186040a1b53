"""Pictures of masks on slices, and box plots. Uses matplotlib's objects only: no pyplot, no global state, no window.

Slices are in radiological display orientation: the patient's right is on the left of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.evaluation.files import replacing
from SAMLungSegLib.evaluation.measure import ComparedSlice
from SAMLungSegLib.evaluation.tables import metric_title

# Okabe and Ito's palette, told apart with any common kind of colour vision (Okabe and Ito 2008).
LUNG_COLOURS = {1: ("right lung", "#56B4E9"), 2: ("left lung", "#E69F00"), 3: ("lung", "#009E73")}
REFERENCE_COLOUR, PREDICTION_COLOUR = "#F0E442", "#56B4E9"
FALSE_POSITIVE_COLOUR, FALSE_NEGATIVE_COLOUR = "#D55E00", "#0072B2"
METRIC_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7")

_DPI = 150
_PANEL_INCHES = 2.7
_LEGEND = {"frameon": False, "fontsize": 10, "handlelength": 1.4, "handletextpad": 0.5, "columnspacing": 1.5}
_LEGEND_INCHES = 5.6  # width of the widest legend
_CROWDED = 6
_OUTLINE_PIXELS = 512


def draw_overlay(
    target: Axes | str | Path,
    image_hw: np.ndarray | None,
    labelmap_hw: np.ndarray,
    reference_hw: np.ndarray | None = None,
    *,
    title: str = "",
    aspect: float = 1.0,
) -> None:
    """Draw a labelmap over a slice: outlines of the lungs, or a comparison with a reference.

    Args:
        target: axes to draw into, or the path of a picture to write.
        image_hw: uint8 (H, W) grey; None leaves the background dark.
        labelmap_hw: integer (H, W): 1 right lung, 2 left lung, any other positive value lung of either side.
        reference_hw: integer (H, W), nonzero inside. With it, sides are not distinguished: both outlines are drawn,
            false positives and false negatives are tinted.
        title: text above the picture.
        aspect: height of a pixel divided by its width.
    Raises:
        GeometryError: the arrays have different shapes.
    """
    _check_shapes(image_hw, labelmap_hw, reference_hw)
    if isinstance(target, Axes):
        _draw(target, image_hw, labelmap_hw, reference_hw, title, aspect)
        return
    legend = _lung_legend(labelmap_hw) if reference_hw is None else comparison_legend()
    figure, (axes,) = panel_grid(1, 1, legend)
    _draw(axes, image_hw, labelmap_hw, reference_hw, title, aspect)
    save_figure(figure, target)


def overlay_sheet(
    path: str | Path,
    image_nhw: np.ndarray,
    labelmap_nhw: np.ndarray,
    *,
    count: int = 8,
    columns: int = 4,
    title: str = "",
    aspect: float = 1.0,
) -> None:
    """Write a contact sheet: evenly spaced slices of a volume with the outlines of right and left lung.

    Args:
        path: picture to write.
        image_nhw: uint8 (N, H, W), slices in display orientation from inferior to superior.
        labelmap_nhw: integer (N, H, W): 1 right lung, 2 left lung.
        count: number of slices, spread over those that have lung (over all, where none has).
        columns: pictures in a row.
        title: text above the sheet.
        aspect: height of a pixel divided by its width.
    Raises:
        GeometryError: the arrays have different shapes.
    """
    _check_shapes(image_nhw, labelmap_nhw)
    with_lung = np.flatnonzero(labelmap_nhw.any(axis=(1, 2)))
    first, last = (with_lung[0], with_lung[-1]) if with_lung.size else (0, len(labelmap_nhw) - 1)
    numbers = np.unique(np.linspace(first, last, count + 2).round().astype(int)[1:-1])
    figure, panels = panel_grid(len(numbers), columns, _lung_legend(labelmap_nhw[numbers]), title)
    for axes, number in zip(panels, numbers, strict=True):
        heading = f"slice {number}" if len(labelmap_nhw) > 1 else ""
        _draw(axes, image_nhw[number], labelmap_nhw[number], None, heading, aspect)
    save_figure(figure, path)


def comparison_sheet(path: str | Path, slices: Sequence[ComparedSlice], *, columns: int = 3, title: str = "") -> None:
    """Write a sheet of slices with reference and prediction, zoomed to where either is; scores in the titles."""
    figure, panels = panel_grid(len(slices), columns, comparison_legend(), title, panel_inches=3.2)
    for axes, one in zip(panels, slices, strict=True):
        scores = ", ".join(f"{metric_title(name)} {value:.3f}" for name, value in one.scores.items())
        heading = f"{shortened(one.volume)}, slice {one.number}\n{scores}"
        _draw(axes, one.image_hw, one.prediction_hw, one.reference_hw, heading, one.aspect)
        _zoom(axes, (one.prediction_hw > 0) | (one.reference_hw > 0), one.aspect)
    save_figure(figure, path)


def box_plot(
    path: str | Path,
    table: pd.DataFrame,
    *,
    by: str = "structure",
    metrics: Sequence[str] = ("dice", "jaccard"),
    title: str = "",
) -> None:
    """Write a box plot of an evaluation table: boxes from the first to the third quartile, the median as a line.

    Whiskers reach the last value within 1.5 box lengths; values beyond them are drawn one by one.

    Args:
        path: picture to write.
        table: per-slice or per-volume table of an evaluation.
        by: column that makes the groups; 'volume' gives one group for each volume.
        metrics: columns to draw side by side in each group.
        title: text above the plot.
    """
    present = [name for name in metrics if name in table]
    measured = table[~table["empty"].astype(bool)]
    groups = list(dict.fromkeys(table[by]))
    crowded = len(groups) > _CROWDED
    width = 1.5 + (0.5 if crowded else 1.4) * len(groups)
    figure = Figure(figsize=(max(4.8, width), 5.0 if crowded else 4.2), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(present):
        values = [measured.loc[measured[by] == group, name] for group in groups]
        offset = 0.34 * (index - (len(present) - 1) / 2)
        _boxes(axes, [v[np.isfinite(v)] for v in values], np.arange(len(groups)) + offset, METRIC_COLOURS[index % 4])
    pattern = "{} ({})" if crowded else "{}\nn = {}"
    labels = [pattern.format(shortened(str(group)), int((measured[by] == group).sum())) for group in groups]
    _finish_box_plot(axes, labels, [metric_title(name) for name in present], title)
    save_figure(figure, path)


def _boxes(axes: Axes, values: Sequence[pd.Series], positions: np.ndarray, colour: str) -> None:
    axes.boxplot(
        values,
        positions=positions,
        widths=0.28,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "edgecolor": "#333333", "linewidth": 0.9},
        medianprops={"color": "black", "linewidth": 1.6},
        whiskerprops={"color": "#333333", "linewidth": 0.9},
        capprops={"color": "#333333", "linewidth": 0.9},
        flierprops={"marker": "o", "markersize": 2.5, "markerfacecolor": colour, "markeredgewidth": 0, "alpha": 0.6},
    )


def _finish_box_plot(axes: Axes, labels: Sequence[str], names: Sequence[str], title: str) -> None:
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(labels) > _CROWDED else {}
    axes.set_xticks(range(len(labels)), labels, fontsize=10, **slant)
    margin = 1.0 if len(labels) == 1 else 0.6
    axes.set_xlim(-margin, len(labels) - 1 + margin)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("score", fontsize=10)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=11)
    handles = [Patch(facecolor=METRIC_COLOURS[i % 4], edgecolor="#333333", label=name) for i, name in enumerate(names)]
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **_LEGEND)


def _draw(
    axes: Axes,
    image_hw: np.ndarray | None,
    labelmap_hw: np.ndarray,
    reference_hw: np.ndarray | None,
    title: str,
    aspect: float,
) -> None:
    grey = np.full(labelmap_hw.shape, 30, dtype=np.uint8) if image_hw is None else image_hw
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, aspect=aspect)
    if reference_hw is None:
        for value, (_, colour) in LUNG_COLOURS.items():
            _outline(axes, _lung(labelmap_hw, value), colour)
    else:
        predicted, expected = labelmap_hw > 0, reference_hw > 0
        _tint(axes, predicted & ~expected, FALSE_POSITIVE_COLOUR, aspect)
        _tint(axes, expected & ~predicted, FALSE_NEGATIVE_COLOUR, aspect)
        _outline(axes, expected, REFERENCE_COLOUR)
        _outline(axes, predicted, PREDICTION_COLOUR)
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()
    mark = axes.text(0.02, 0.5, "R", transform=axes.transAxes, color="white", fontsize=10, weight="bold", va="center")
    mark.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _lung(labelmap: np.ndarray, value: int) -> np.ndarray:
    return labelmap == value if value < 3 else labelmap > 2


def _outline(axes: Axes, mask: np.ndarray, colour: str) -> None:
    """Contour along the pixels' edges; small images are refined first, for single pixels would become diamonds."""
    if not mask.any():
        return
    factor = max(1, _OUTLINE_PIXELS // max(mask.shape))
    padded = np.pad(mask, 1).repeat(factor, axis=0).repeat(factor, axis=1)
    y, x = ((np.arange(length) + 0.5) / factor - 1.5 for length in padded.shape)
    axes.contour(x, y, padded.astype(float), levels=[0.5], colors=[colour], linewidths=1.1)


def _tint(axes: Axes, mask: np.ndarray, colour: str, aspect: float) -> None:
    rgba = np.zeros((*mask.shape, 4))
    rgba[mask] = (*to_rgb(colour), 0.6)
    axes.imshow(rgba, interpolation="nearest", aspect=aspect)


def _zoom(axes: Axes, mask: np.ndarray, aspect: float) -> None:
    """Show a square (in mm) round the mask, no smaller than half of the slice, so that one sees where one is."""
    if not mask.any():
        return
    scale = np.array([aspect, 1.0])
    size = np.array(mask.shape) * scale
    rows_columns = np.argwhere(mask) * scale
    low, high = rows_columns.min(axis=0), rows_columns.max(axis=0) + scale
    side = min(size.max(), max(size.max() / 2, 1.15 * (high - low).max()))
    start = np.clip((low + high - side) / 2, 0, np.maximum(size - side, 0))
    (top, left), (bottom, right) = start / scale - 0.5, (start + side) / scale - 0.5
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _lung_legend(labelmap: np.ndarray) -> list[Line2D | Patch]:
    return [
        Line2D([], [], color=colour, linewidth=2, label=name)
        for value, (name, colour) in LUNG_COLOURS.items()
        if value < 3 or _lung(labelmap, value).any()
    ]


def comparison_legend() -> list[Line2D | Patch]:
    """What `draw_overlay` draws where there is a reference."""
    return [
        Line2D([], [], color=REFERENCE_COLOUR, linewidth=2, label="reference"),
        Line2D([], [], color=PREDICTION_COLOUR, linewidth=2, label="prediction"),
        Patch(color=FALSE_POSITIVE_COLOUR, label="false positive"),
        Patch(color=FALSE_NEGATIVE_COLOUR, label="false negative"),
    ]


def panel_grid(
    count: int,
    columns: int,
    legend: Sequence[Line2D | Patch],
    title: str = "",
    panel_inches: float = _PANEL_INCHES,
    legend_columns: int | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes in rows of `columns`, and a legend below in `legend_columns` (one row if None)."""
    columns = max(1, min(count, columns))
    rows = max(1, -(-count // columns))
    panel_inches = max(panel_inches, _LEGEND_INCHES / columns)
    legend_columns = legend_columns or len(legend)
    legend_rows = -(-len(legend) // max(1, legend_columns))
    figure = Figure(
        figsize=(panel_inches * columns, (panel_inches + 0.38) * rows + (0.55 if title else 0.25) + 0.25 * legend_rows),
        dpi=_DPI,
        layout="constrained",
    )
    if title:
        figure.suptitle(title, fontsize=12)
    figure.legend(handles=legend, loc="outside lower center", ncols=legend_columns, **_LEGEND)
    return figure, [figure.add_subplot(rows, columns, index + 1) for index in range(count)]


def shortened(name: str, length: int = 28) -> str:
    """A name that fits above a picture."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure; the file appears whole or not at all."""
    path = Path(path)
    FigureCanvasAgg(figure)
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix.lstrip(".") or "png")


def _check_shapes(*arrays: np.ndarray | None) -> None:
    shapes = {array.shape for array in arrays if array is not None}
    if len(shapes) > 1:
        raise GeometryError(f"Image and labelmaps have different shapes {sorted(shapes)}; give arrays of one grid.")

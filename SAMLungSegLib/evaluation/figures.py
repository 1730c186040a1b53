"""Pictures of masks on slices, and box plots. Uses matplotlib's objects only: no pyplot, no global state, no window.

Slices are in radiological display orientation: the patient's right is on the left of the picture.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.evaluation.measure import ComparedSlice
from SAMLungSegLib.evaluation.tables import metric_title
from SAMLungSegLib.files import write_bytes
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt

Prompts = Collection[PointPrompt | BoxPrompt]

# Okabe and Ito's palette, distinct with any common kind of colour vision (Okabe and Ito 2008).
LUNG_COLOURS = {1: ("right lung", "#56B4E9"), 2: ("left lung", "#E69F00"), 3: ("lung", "#009E73")}
REFERENCE_COLOUR, PREDICTION_COLOUR = "#F0E442", "#56B4E9"
FALSE_POSITIVE_COLOUR, FALSE_NEGATIVE_COLOUR = "#D55E00", "#0072B2"
# How a positive point, a negative one and a box are drawn, and what the legend calls them.
POSITIVE_POINT = {"marker": "+", "color": "#009E73", "label": "point on lung"}
NEGATIVE_POINT = {"marker": "_", "color": "#D55E00", "label": "point off lung"}
BOX_COLOUR, BOX_TITLE = "#F0E442", "box"
METRIC_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7")

_DPI = 150
_PANEL_INCHES = 2.7
_LEGEND = {"frameon": False, "fontsize": 10, "handlelength": 1.4, "handletextpad": 0.5, "columnspacing": 1.5}
_LEGEND_INCHES = 5.6  # width of the widest legend
_LEGEND_COLUMNS = 4  # as many as fit below one picture
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
    prompts: Prompts = (),
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
        prompts: points and boxes to draw, in pixels of the slice.
    Raises:
        GeometryError: the arrays have different shapes.
    """
    _check_shapes(image_hw, labelmap_hw, reference_hw)
    if isinstance(target, Axes):
        _draw(target, image_hw, labelmap_hw, reference_hw, title, aspect)
        _draw_prompts(target, prompts)
        return
    legend = lung_legend(labelmap_hw) if reference_hw is None else comparison_legend()
    figure, (axes,) = panel_grid(1, 1, [*legend, *prompt_legend(prompts)], legend_columns=_LEGEND_COLUMNS)
    _draw(axes, image_hw, labelmap_hw, reference_hw, title, aspect)
    _draw_prompts(axes, prompts)
    save_figure(figure, target)


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


def _draw_prompts(axes: Axes, prompts: Prompts) -> None:
    axes.set_autoscale_on(False)
    for one in prompts:
        if isinstance(one, BoxPrompt):
            left, top, right, bottom = one.xyxy
            axes.add_patch(
                Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=BOX_COLOUR, linewidth=1.2)
            )
        else:
            axes.add_line(_point_marker(one.positive, *one.xy))


def _point_marker(is_positive: bool, *xy: float) -> Line2D:
    look = POSITIVE_POINT if is_positive else NEGATIVE_POINT
    x, y = ([place] for place in xy) if xy else ([], [])
    marker = Line2D(x, y, **look, linestyle="none", markersize=9, markeredgewidth=2)
    marker.set_path_effects([withStroke(linewidth=3.5, foreground="white")])
    return marker


def prompt_legend(prompts: Prompts) -> list[Line2D | Patch]:
    """How the prompts of a picture are drawn, each kind once."""
    signs = {one.positive for one in prompts if isinstance(one, PointPrompt)}
    handles = [_point_marker(is_positive) for is_positive in (True, False) if is_positive in signs]
    if any(isinstance(one, BoxPrompt) for one in prompts):
        handles.append(Patch(fill=False, edgecolor=BOX_COLOUR, linewidth=1.5, label=BOX_TITLE))
    return handles


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


def lung_legend(labelmap: np.ndarray, others: str = "lung") -> list[Line2D | Patch]:
    """Right and left lung, and what labels beyond these are called where the labelmap has some."""
    return [
        Line2D([], [], color=colour, linewidth=2, label=name if value < 3 else others)
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
    legend_columns = min(legend_columns or len(legend), len(legend))
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
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # names of files may hold dollar signs
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.lstrip(".") or "png")
    write_bytes(content.getvalue(), path)


def _check_shapes(*arrays: np.ndarray | None) -> None:
    shapes = {array.shape for array in arrays if array is not None}
    if len(shapes) > 1:
        raise GeometryError(f"Image and labelmaps have different shapes {sorted(shapes)}; give arrays of one grid.")

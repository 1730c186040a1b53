"""Pictures of the studies: slices with the prompts that were given, the prediction and the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from SAMLungSegLib.evaluation.figures import comparison_legend, draw_overlay, panel_grid, save_figure
from SAMLungSegLib.prompts import PromptSet

BOX_COLOUR, POSITIVE_COLOUR, NEGATIVE_COLOUR = "#FF9F1C", "#21D07A", "#FF2D2D"
_POINT = {"linestyle": "none", "marker": "o", "markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 1.2}


@dataclass(frozen=True, eq=False)
class PromptedSlice:
    """One panel.

    Attributes:
        title: above the picture.
        grey_hw: uint8 (H, W).
        reference_hw: bool (H, W).
        prediction_hw: bool (H, W).
        prompts: that were given.
    """

    title: str
    grey_hw: np.ndarray
    reference_hw: np.ndarray
    prediction_hw: np.ndarray
    prompts: PromptSet


def prompt_sheet(path: Path, panels: Sequence[PromptedSlice], *, columns: int = 2, title: str = "") -> None:
    """Write slices with the box in orange, positive points in green and negative ones in red."""
    legend = [*comparison_legend(), *_prompt_legend()]
    figure, all_axes = panel_grid(len(panels), columns, legend, title, panel_inches=3.6, legend_columns=4)
    for axes, panel in zip(all_axes, panels, strict=True):
        draw_overlay(axes, panel.grey_hw, panel.prediction_hw, panel.reference_hw, title=panel.title)
        _draw_prompts(axes, panel.prompts)
    save_figure(figure, path)


def _draw_prompts(axes: Axes, prompts: PromptSet) -> None:
    if prompts.box is not None:
        left, top, right, bottom = prompts.box.xyxy  # edges of pixels, whose centres are whole numbers in the picture
        corner = (left - 0.5, top - 0.5)
        axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=BOX_COLOUR, linewidth=1.6))
    for point in prompts.points:
        colour = POSITIVE_COLOUR if point.positive else NEGATIVE_COLOUR
        axes.plot(*point.xy, markerfacecolor=colour, **_POINT)


def _prompt_legend() -> list[Line2D | Patch]:
    return [
        Patch(facecolor="none", edgecolor=BOX_COLOUR, linewidth=1.6, label="box"),
        Line2D([], [], markerfacecolor=POSITIVE_COLOUR, label="positive", **_POINT | {"markeredgecolor": "#333333"}),
        Line2D([], [], markerfacecolor=NEGATIVE_COLOUR, label="negative", **_POINT | {"markeredgecolor": "#333333"}),
    ]

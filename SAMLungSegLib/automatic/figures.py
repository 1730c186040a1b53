"""Pictures of numbered masks on slices, the patient's right on the left of the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy import ndimage
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

from SAMLungSegLib.automatic.whole import VolumeMasks
from SAMLungSegLib.evaluation.figures import save_figure

MOST_SLICES = 8
COLUMNS = 4
MOST_NUMBERS = 30
LEAST_NUMBERED_PX = 100
_GREY = 7
_COLOURS = [colour for index, colour in enumerate(colormaps["tab10"].colors) if index != _GREY]
_ONE_PANEL_INCHES, _PANEL_INCHES = 6.0, 3.2
_DPI = 150


def mask_sheet(found: VolumeMasks, path: Path) -> None:
    """Write a picture of the slices that have masks (of all, where none has), with the masks in colours.

    At most eight slices are drawn, evenly spaced. The thirty largest masks of a slice bear their number, unless smaller
    ones lie on top of nearly all of them.
    """
    places = np.flatnonzero(np.isin(found.slices, found.table["slice"]))
    places = places if places.size else np.arange(len(found.slices))
    spread = np.linspace(0, len(places) - 1, min(len(places), MOST_SLICES)).round().astype(int)
    places = places[spread]
    columns = min(len(places), COLUMNS)
    rows = -(-len(places) // columns)
    inches = _ONE_PANEL_INCHES if len(places) == 1 else _PANEL_INCHES
    figure = Figure(figsize=(inches * columns, (inches + 0.3) * rows), dpi=_DPI, layout="constrained")
    labelmap_nhw = found.plane.to_display(found.labelmap_kji)
    height, width = found.plane.spacing_hw_mm
    for panel, place in enumerate(places, start=1):
        number = found.slices[place]
        axes = figure.add_subplot(rows, columns, panel)
        _draw(axes, found.grey_nhw[place], labelmap_nhw[number], height / width)
        count = int((found.table["slice"] == number).sum())
        name = found.volume.name if found.plane.size_nhw[0] == 1 else f"{found.volume.name}, slice {number}"
        axes.set_title(f"{name}: {count} {'mask' if count == 1 else 'masks'}", fontsize=9)
    save_figure(figure, path)


def _draw(axes: Axes, grey_hw: np.ndarray, labels_hw: np.ndarray, aspect: float) -> None:
    labels_hw = labels_hw.astype(np.int32)
    tinted = label2rgb(labels_hw, grey_hw, _COLOURS, alpha=0.4, bg_label=0)
    tinted[find_boundaries(labels_hw, mode="inner")] *= 0.6
    axes.imshow(tinted, aspect=aspect, interpolation="nearest")
    axes.set_axis_off()
    numbers, visible_px = np.unique(labels_hw[labels_hw > 0], return_counts=True)
    for number in numbers[visible_px >= LEAST_NUMBERED_PX][:MOST_NUMBERS]:
        inside = labels_hw == number
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(np.argmax(depth), depth.shape)
        _write(axes, str(number), (x, y), transform=axes.transData)
    _write(axes, "R", (0.03, 0.5), transform=axes.transAxes, fontsize=10, weight="bold")


def _write(axes: Axes, what: str, place: tuple[float, float], *, fontsize: float = 7, **options: object) -> None:
    text = axes.text(*place, what, color="white", ha="center", va="center", fontsize=fontsize, **options)
    text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])

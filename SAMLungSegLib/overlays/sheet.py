"""One picture of all that there is to judge of a segmentation."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image

from SAMLungSegLib.evaluation.figures import lung_legend, prompt_legend, shortened
from SAMLungSegLib.overlays.painting import paint_outlines, paint_prompts, write_png
from SAMLungSegLib.overlays.sampling import CoarseLungs, box_around
from SAMLungSegLib.overlays.views import View, own_slices, reformats
from SAMLungSegLib.pipeline import Segmentation

logger = logging.getLogger(__name__)

_LEAST_PX, _LEAST_ALONE_PX, _MOST_PX = 384, 768, 2048  # of the longest side of a view
_SIDE_PX_OF_A_LINE = 1000  # an outline is a pixel wide for each
_SIDE_PX_OF_TEXT = 1200  # letters grow with larger ones
_ARM_PX = 6
_COLUMNS, _NARROWEST_PX = 4, 720
_GAP_PX, _ABOVE_PX, _BELOW_PX, _PAD_PX = 6, 36, 40, 6
_BAR_MM, _DPI, _LONGEST_TITLE = 50, 100, 70
_STROKE = [withStroke(linewidth=2.5, foreground="black")]


def write_overlay(segmentation: Segmentation, path: Path | str, *, title: str | None = None) -> Path:
    """Write a PNG in which a result can be judged: slices with the lungs' outlines, and the prompts that were given.

    An image of one slice is shown in its own pixels, up to 2048 along its longer side. Of a volume there are the
    coronal plane through the middle of the lungs, the sagittal one through each, their surface from the front, and
    eight axial slices or more: those with points, up to 60, are among them, and one of each box. All have one scale, in
    which a pixel of an axial slice is at least one of the picture, and the patient's right at the left. An outline is
    the outermost pixels of a lung.

    Args:
        segmentation: what was found in an image.
        path: picture to write.
        title: above it; the image's name by default.
    Raises:
        OutputError: it cannot be written.
    """
    start, path = time.perf_counter(), Path(path)
    px_per_mm, is_volume = _px_per_mm(segmentation), len(segmentation.grey_nhw) > 1
    own = own_slices(segmentation)
    lungs = CoarseLungs.of(segmentation) if is_volume else None
    rows = [[*reformats(segmentation, lungs, 1 / px_per_mm)]] if is_volume else []
    rows += [own[first : first + _COLUMNS] for first in range(0, len(own), _COLUMNS)]
    sheet = _Sheet(rows, px_per_mm, shortened(title or segmentation.volume.name, _LONGEST_TITLE))
    sheet.add_legend(
        [
            *lung_legend(np.concatenate([view.labels_hw for view in own]), "hidden lung"),
            *prompt_legend([one for view in own for one in view.prompts]),
        ]
    )
    if lungs is not None:
        sheet.add_surface(lungs)
    if is_volume and segmentation.volume.has_physical_spacing:
        sheet.add_bar()
    sheet.save(path)
    logger.info("Written: %s, in %.1f s.", path, time.perf_counter() - start)
    return path


def _px_per_mm(segmentation: Segmentation) -> float:
    """One scale for all views: a whole number of pixels for the finest of a slice, fewer where that is too many."""
    plane = segmentation.plane
    finest_mm = min(plane.spacing_hw_mm)
    if len(segmentation.grey_nhw) > 1:
        size_mm, least = box_around(plane).size_mm, _LEAST_PX
    else:
        size_mm, least = np.multiply(plane.size_nhw[1:], plane.spacing_hw_mm), _LEAST_ALONE_PX
    longest_px = float(np.max(size_mm)) / finest_mm
    return (_MOST_PX / longest_px if longest_px > _MOST_PX else max(1, least // longest_px)) / finest_mm


class _Place(NamedTuple):
    """Of something on the sheet, in pixels from its upper left corner."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column beyond it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row beyond it."""
        return self.top + self.height

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def middle(self, height: int, width: int) -> _Place:
        """Where something of that size is in its middle."""
        return _Place(self.left + (self.width - width) // 2, self.top + (self.height - height) // 2, width, height)


class _Sheet:
    """Views in rows on black, pixel by pixel, so that nothing is resampled, and over them a figure with all letters."""

    def __init__(self, rows: Sequence[Sequence[View]], px_per_mm: float, title: str) -> None:
        pictures = [[_painted(view, px_per_mm) for view in row] for row in rows]
        cells = _cells([[picture.shape[:2] for picture in row] for row in pictures])
        self._first, self._beside = cells[0][0], cells[0][len(rows[0]) % len(cells[0])]
        self._px_per_mm, self._size_of_text = px_per_mm, max(1, max(self._first.size_hw) / _SIDE_PX_OF_TEXT)
        self._width = max(_NARROWEST_PX, cells[0][-1].right)
        self._height = cells[-1][0].bottom + _BELOW_PX
        self._pixels = np.zeros((self._height, self._width, 3), np.uint8)
        self._figure = Figure(figsize=(self._width / _DPI, self._height / _DPI), dpi=_DPI, facecolor="none")
        self._write(title, self._width / 2, _ABOVE_PX / 2, "center", "center", fontsize=12)
        for row, drawn, places in zip(rows, pictures, cells, strict=True):
            for view, picture, cell in zip(row, drawn, places, strict=False):
                place = cell.middle(*picture.shape[:2])
                self._pixels[place.top : place.bottom, place.left : place.right] = picture
                self._label(view, place)

    def add_legend(self, handles: Sequence[Line2D | Patch]) -> None:
        """Below the views."""
        self._figure.legend(
            handles=handles,
            loc="lower center",
            ncols=max(1, len(handles)),
            frameon=False,
            labelcolor="white",
            fontsize=10 * self._size_of_text,
        )

    def add_surface(self, lungs: CoarseLungs) -> None:
        """In the first row, beside its views."""
        from SAMLungSegLib.overlays.surface import draw_surface  # half a second, which X-rays need not wait for

        cell = self._beside
        (width, height), bottom = (self._width, self._height), self._height - cell.bottom
        bounds = (cell.left / width, bottom / height, cell.width / width, cell.height / height)
        axes = self._figure.add_axes(bounds, projection="3d")
        draw_surface(axes, lungs)
        self._write("surface from the front", cell.left + _PAD_PX, cell.top + _PAD_PX, "left", "top")

    def add_bar(self) -> None:
        """Of 5 cm, in the first view."""
        cell, length = self._first, _BAR_MM * self._px_per_mm
        left, y = cell.left + 2 * _PAD_PX, cell.bottom - 2 * _PAD_PX
        across = [place / self._width for place in (left, left + length)]
        bar = Line2D(across, [1 - y / self._height] * 2, color="white", linewidth=2, path_effects=_STROKE)
        self._figure.add_artist(bar)
        self._write(f"{_BAR_MM // 10} cm", left + length / 2, y - _PAD_PX, "center", "bottom")

    def save(self, path: Path) -> None:
        """As a PNG: what the figure has, over the views."""
        canvas = FigureCanvasAgg(self._figure)
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba())
        over = drawn[..., 3] > 0
        share = drawn[over][:, 3:] / 255
        self._pixels[over] = np.rint(share * drawn[over][:, :3] + (1 - share) * self._pixels[over])
        write_png(self._pixels, path)

    def _label(self, view: View, place: _Place) -> None:
        x, y = place.left + place.width / 2, place.top + place.height / 2
        self._write(view.title, place.left + _PAD_PX, place.top + _PAD_PX, "left", "top")
        self._write(view.marks.left, place.left + _PAD_PX, y, "left", "center", weight="bold")
        self._write(view.marks.right, place.right - _PAD_PX, y, "right", "center", weight="bold")
        self._write(view.marks.top, x, place.top + _PAD_PX, "center", "top", weight="bold")
        self._write(view.marks.bottom, x, place.bottom - _PAD_PX, "center", "bottom", weight="bold")

    def _write(
        self, text: str, x: float, y: float, ha: str, va: str, *, fontsize: int = 9, weight: str = "normal"
    ) -> None:
        self._figure.text(
            x / self._width,
            1 - y / self._height,
            text,
            ha=ha,
            va=va,
            fontsize=fontsize * self._size_of_text,
            color="white",
            path_effects=_STROKE,
            parse_math=False,  # names of files may hold dollar signs
            weight=weight,
        )


def _cells(sizes_hw: Sequence[Sequence[tuple[int, int]]]) -> list[list[_Place]]:
    """Equally wide places, as many in each row, for pictures of these sizes."""
    columns = _COLUMNS if len(sizes_hw) > 1 else 1
    width = max(size[1] for row in sizes_hw for size in row)
    left = max(0, _NARROWEST_PX - columns * (width + _GAP_PX) + _GAP_PX) // 2
    rows, top = [], _ABOVE_PX
    for row in sizes_hw:
        height = max(size[0] for size in row)
        rows.append([_Place(left + column * (width + _GAP_PX), top, width, height) for column in range(columns)])
        top += height + _GAP_PX
    return rows


def _painted(view: View, px_per_mm: float) -> np.ndarray:
    """Uint8 (H, W, 3), in the sheet's scale: grey between pixels is interpolated, labels are not."""
    size_hw = np.maximum(1, np.rint(np.multiply(view.grey_hw.shape, view.spacing_hw_mm) * px_per_mm)).astype(int)
    size_wh = (int(size_hw[1]), int(size_hw[0]))
    grey = np.asarray(Image.fromarray(view.grey_hw).resize(size_wh, Image.Resampling.BILINEAR))
    labels = np.asarray(Image.fromarray(view.labels_hw).resize(size_wh, Image.Resampling.NEAREST))
    picture = np.repeat(grey[..., None], 3, axis=2)
    line_px = max(1, round(max(size_wh) / _SIDE_PX_OF_A_LINE))
    paint_outlines(picture, labels, line_px)
    paint_prompts(picture, view.prompts, view.grey_hw.shape, _ARM_PX * line_px)
    return picture

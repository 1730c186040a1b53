"""Pictures pixel by pixel: outlines, prompts, files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image
from scipy import ndimage

from SAMLungSegLib.evaluation.figures import BOX_COLOUR, LUNG_COLOURS, NEGATIVE_POINT, POSITIVE_POINT, Prompts
from SAMLungSegLib.files import write_bytes
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt
from SAMLungSegLib.structures import LUNGS_WITH_HIDDEN

_HIDDEN = 3  # of `LUNG_COLOURS`
_QUICKLY = 2  # of PNG's levels of compression: as small as the usual one to a tenth, in a third of the time


def colour_of(label: int) -> tuple[int, int, int]:
    """Red, green and blue of a label's outline, as in all pictures; what is hidden of lungs has one of its own."""
    red, green, blue = (round(part * 255) for part in to_rgb(LUNG_COLOURS[min(label, _HIDDEN)][1]))
    return red, green, blue


def paint_outlines(picture_hwc: np.ndarray, labels_hw: np.ndarray, width_px: int = 1) -> None:
    """Draw the outermost pixels of each label into a picture of the same size, in place."""
    for label in LUNGS_WITH_HIDDEN.labels:
        mask = labels_hw == label
        if mask.any():
            picture_hwc[mask & ~ndimage.binary_erosion(mask, iterations=width_px)] = colour_of(label)


def paint_prompts(picture_hwc: np.ndarray, prompts: Prompts, size_hw: tuple[int, int], arm_px: int) -> None:
    """Draw points, + on lung and - off it, and boxes into a picture, in place.

    Args:
        picture_hwc: uint8 (H, W, 3).
        prompts: in pixels of a slice.
        size_hw: of that slice.
        arm_px: of a point's sign, from its middle, in pixels of the picture.
    """
    height, width = picture_hwc.shape[:2]
    scale_xy = (width / size_hw[1], height / size_hw[0])
    for one in prompts:
        _paint_prompt(picture_hwc, one, scale_xy, arm_px)


def _paint_prompt(
    picture: np.ndarray, prompt: PointPrompt | BoxPrompt, scale_xy: tuple[float, float], arm_px: int
) -> None:
    if isinstance(prompt, BoxPrompt):
        left, top, right, bottom = (int((place + 0.5) * scale_xy[index % 2]) for index, place in enumerate(prompt.xyxy))
        across = ((left, top, right, top), (left, bottom, right, bottom))
        for place in (*across, (left, top, left, bottom), (right, top, right, bottom)):
            _fill(picture, place, BOX_COLOUR)
        return
    x, y = (int((place + 0.5) * scale) for place, scale in zip(prompt.xy, scale_xy, strict=True))
    arms = [(x - arm_px, y, x + arm_px, y), (x, y - arm_px, x, y + arm_px)][: 2 if prompt.positive else 1]
    for margin, colour in ((2, "white"), (1, (POSITIVE_POINT if prompt.positive else NEGATIVE_POINT)["color"])):
        for arm in arms:
            _fill(picture, arm, colour, margin)


def _fill(picture: np.ndarray, place_xyxy: tuple[int, int, int, int], colour: str, margin: int = 0) -> None:
    """Paint a rectangle, its last column and row included, as far as it lies in the picture."""
    left, top, right, bottom = place_xyxy
    rows = slice(max(0, top - margin), max(0, bottom + margin + 1))
    columns = slice(max(0, left - margin), max(0, right + margin + 1))
    picture[rows, columns] = np.round(np.array(to_rgb(colour)) * 255)


def write_png(picture_hwc: np.ndarray, path: Path) -> Path:
    """Write a picture, uint8 (H, W, 3), whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    content = io.BytesIO()
    Image.fromarray(picture_hwc).save(content, "PNG", compress_level=_QUICKLY)
    return write_bytes(content.getvalue(), path)

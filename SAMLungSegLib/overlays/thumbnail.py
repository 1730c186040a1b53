"""A small picture of a segmentation, quickly drawn: for a glance at many."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from SAMLungSegLib.evaluation.figures import Prompts
from SAMLungSegLib.overlays.painting import paint_outlines, paint_prompts, write_png
from SAMLungSegLib.overlays.views import prompts_by_slice, shown_slices
from SAMLungSegLib.pipeline import Segmentation

_TILE = 256
_AXIAL_TILES, _MOST_AXIAL_TILES = 3, 6
_ARM_PX = 4


def write_thumbnail(segmentation: Segmentation, path: Path | str) -> Path:
    """Write a PNG: an X-ray or slice, or three axial slices and the coronal one with most lung, 256 pixels each.

    Prompts are drawn as by `write_overlay`; slices with points take the place of others, up to six. The patient's right
    is at the left.

    Raises:
        OutputError: it cannot be written.
    """
    return write_png(np.concatenate([_tile(*one) for one in _views(segmentation)], axis=1), Path(path))


def _views(segmentation: Segmentation) -> list[tuple[np.ndarray, np.ndarray, tuple[float, float], Prompts]]:
    """Grey slice, its labels, the size of its pixels in mm, and its prompts."""
    grey, labels, plane = segmentation.grey_nhw, segmentation.labelmap_nhw, segmentation.plane
    prompts = prompts_by_slice(segmentation)
    if len(grey) == 1:
        return [(grey[0], labels[0], plane.spacing_hw_mm, prompts.get(0, ()))]
    numbers = shown_slices(labels, _AXIAL_TILES, prompts, most=_MOST_AXIAL_TILES)
    row = int(np.count_nonzero(labels, axis=(0, 2)).argmax()) or grey.shape[1] // 2
    coronal = (grey[::-1, row], labels[::-1, row], (plane.slice_spacing_mm, plane.spacing_hw_mm[1]), ())
    axial = [(grey[number], labels[number], plane.spacing_hw_mm, prompts.get(number, ())) for number in numbers]
    return [*axial, coronal]


def _tile(
    grey_hw: np.ndarray, labels_hw: np.ndarray, spacing_hw_mm: tuple[float, float], prompts: Prompts
) -> np.ndarray:
    """Uint8 (256, 256, 3) with the slice in it as large as fits."""
    size_mm = np.array(grey_hw.shape) * spacing_hw_mm
    height, width = np.maximum(1, (size_mm / size_mm.max() * _TILE).round().astype(int))
    fine = _sampled(grey_hw, (2 * height, 2 * width)).reshape(height, 2, width, 2)
    small = np.repeat(fine.mean(axis=(1, 3)).astype(np.uint8)[..., None], 3, axis=2)
    paint_outlines(small, _sampled(labels_hw, (height, width)))
    paint_prompts(small, prompts, grey_hw.shape, _ARM_PX)
    tile = np.zeros((_TILE, _TILE, 3), np.uint8)
    top, left = (_TILE - height) // 2, (_TILE - width) // 2
    tile[top : top + height, left : left + width] = small
    return tile


def _sampled(array_hw: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The array at another size, by the nearest pixel."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * side / wanted).astype(int)
        for side, wanted in zip(array_hw.shape, size_hw, strict=True)
    )
    return array_hw[rows[:, None], columns]

"""A small picture of a result, drawn in milliseconds: outlines of both lungs on a few slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imsave
from scipy import ndimage

from SAMLungSegLib.evaluation.files import replacing
from SAMLungSegLib.pipeline import Segmentation
from SAMLungSegLib.postprocess import LEFT_LUNG, RIGHT_LUNG

COLOURS = {RIGHT_LUNG: (86, 180, 233), LEFT_LUNG: (230, 159, 0)}  # Okabe and Ito's, as in the overlays of `segment`

_TILE = 256
_AXIAL_TILES = 3
_QUICKLY = 2  # of PNG's levels of compression: as small as the usual one to a tenth, in a third of the time


def draw_thumbnail(segmentation: Segmentation, path: Path) -> None:
    """Write a PNG: an X-ray or slice, or three axial slices and the coronal one with most lung.

    The patient's right is at the left.

    Raises:
        OSError: it cannot be written.
    """
    tiles = [_tile(*one) for one in _views(segmentation)]
    with replacing(path) as partial:
        imsave(partial, np.concatenate(tiles, axis=1), format="png", pil_kwargs={"compress_level": _QUICKLY})


def _views(segmentation: Segmentation) -> list[tuple[np.ndarray, np.ndarray, tuple[float, float]]]:
    """Grey slice, its labels and the size of its pixels in mm."""
    grey, labels = segmentation.grey_nhw, segmentation.labelmap_nhw
    plane = segmentation.plane
    if len(grey) == 1:
        return [(grey[0], labels[0], plane.spacing_hw_mm)]
    with_lung = np.flatnonzero(labels.any(axis=(1, 2)))
    first, last = (with_lung[0], with_lung[-1]) if with_lung.size else (0, len(labels) - 1)
    numbers = np.linspace(first, last, _AXIAL_TILES + 2).round().astype(int)[1:-1]
    row = int(np.count_nonzero(labels, axis=(0, 2)).argmax()) or grey.shape[1] // 2
    coronal = (grey[::-1, row], labels[::-1, row], (plane.slice_spacing_mm, plane.spacing_hw_mm[1]))
    return [*((grey[number], labels[number], plane.spacing_hw_mm) for number in numbers), coronal]


def _tile(grey_hw: np.ndarray, labels_hw: np.ndarray, spacing_hw_mm: tuple[float, float]) -> np.ndarray:
    """Uint8 (256, 256, 3) with the slice in it as large as fits."""
    size_mm = np.array(grey_hw.shape) * spacing_hw_mm
    height, width = np.maximum(1, (size_mm / size_mm.max() * _TILE).round().astype(int))
    fine = _sampled(grey_hw, (2 * height, 2 * width)).reshape(height, 2, width, 2)
    small = np.repeat(fine.mean(axis=(1, 3)).astype(np.uint8)[..., None], 3, axis=2)
    labels = _sampled(labels_hw, (height, width))
    for label, colour in COLOURS.items():
        mask = labels == label
        small[mask & ~ndimage.binary_erosion(mask)] = colour
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

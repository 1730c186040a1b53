"""Lungs on CT without a model, to compare with: by a threshold, and grown from seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from SAMLungSegLib.air import coarse_lungs_ct
from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.intensity import grey_mapping, lung_window_hu
from SAMLungSegLib.masks import box_around
from SAMLungSegLib.structures import LUNGS
from SAMLungSegLib.volume import Volume, axial_plane

_SEEDED_AT = (0.25, 0.5, 0.75)  # of the slices that a lung has
_SEED_MM = 8.0  # radius
_FAR_FROM_LUNG_MM = 10.0
_MARGIN_MM = 20.0
_OTHER = len(LUNGS) + 1
_MOST_VOXELS = 6_000_000  # more are grown on a coarser grid: the time rises with their number
_SMOOTHED_MM = 2.5  # less lets noise stop the growth, and some other region take a lung

Cancelled = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class _Shown:
    """A CT in display orientation.

    Attributes:
        hu: int16 (N, H, W), within the lung window.
        spacing_mm: from slice to slice, row to row, column to column.
        restore: from labels of this shape to the volume's.
    """

    hu: np.ndarray
    spacing_mm: tuple[float, float, float]
    restore: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of(cls, volume: Volume) -> _Shown:
        plane = axial_plane(volume)
        hu = plane.to_display(lung_window_hu(grey_mapping(volume, "CT").apply(volume.array_kji)))
        return cls(hu, (plane.slice_spacing_mm, *plane.spacing_hw_mm), plane.from_display)


def threshold_lungs(volume: Volume, *, cancelled: Cancelled = lambda: False) -> np.ndarray:
    """Lungs by thresholds and their connected components (`air.coarse_lungs_ct`).

    Args:
        volume: a CT.
        cancelled: asked between the steps.
    Returns:
        uint8 (K, J, I), 1 right lung, 2 left lung.
    Raises:
        CancelledError: `cancelled` said so.
    """
    shown = _Shown.of(volume)
    _check(cancelled)
    return np.ascontiguousarray(shown.restore(coarse_lungs_ct(shown.hu, shown.spacing_mm)))


def grown_lungs(volume: Volume, *, cancelled: Cancelled = lambda: False) -> np.ndarray:
    """Lungs grown from seeds that compete with seeds of all else: a watershed of the gradient's magnitude.

    Seeds are placed as a person would paint them, in three slices: a disc in the middle of each lung, found by
    thresholds, and whatever lies well away from both. This is not the GrowCut of Slicer's 'Grow from seeds', whose
    result depends on what is painted. Large volumes are grown on a coarser grid.

    Args, returns and errors as of `threshold_lungs`; nothing is found where thresholds find no two lungs.
    """
    shown = _Shown.of(volume)
    _check(cancelled)
    lungs = coarse_lungs_ct(shown.hu, shown.spacing_mm)
    found = np.zeros(shown.hu.shape, np.uint8)
    if all((lungs == label).any() for label in LUNGS.labels):
        _check(cancelled)
        box = _with_margin(box_around(lungs), shown)
        found[box] = _grown(shown.hu[box], lungs[box], shown.spacing_mm, cancelled)
    return np.ascontiguousarray(shown.restore(found))


def _grown(
    hu: np.ndarray, lungs: np.ndarray, spacing_mm: tuple[float, float, float], cancelled: Cancelled
) -> np.ndarray:
    """uint8, of the shape of `hu`."""
    strides = _strides(hu.shape, spacing_mm)
    steps = tuple(slice(None, None, step) for step in strides)
    coarse_mm = np.multiply(spacing_mm, strides)
    edges = ndimage.gaussian_gradient_magnitude(hu[steps].astype(np.float32), _SMOOTHED_MM / coarse_mm)
    _check(cancelled)
    labels = watershed(edges, _seeds(lungs[steps], coarse_mm))
    _check(cancelled)
    for axis, step in enumerate(strides):
        labels = labels.repeat(step, axis)
    labels = labels[tuple(slice(size) for size in hu.shape)]
    return np.where(labels == _OTHER, 0, labels).astype(np.uint8)


def _seeds(lungs: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Int32: labels of lungs, and `_OTHER`, where seeds are."""
    seeds = np.zeros(lungs.shape, np.int32)
    for label in LUNGS.labels:
        held = np.flatnonzero((lungs == label).any(axis=(1, 2)))
        for number in held[[round(part * (held.size - 1)) for part in _SEEDED_AT]]:
            away_mm = ndimage.distance_transform_edt(lungs[number] == 0, spacing_mm[1:])
            seeds[number][(away_mm > _FAR_FROM_LUNG_MM) & (seeds[number] == 0)] = _OTHER
            inside_mm = ndimage.distance_transform_edt(lungs[number] == label, spacing_mm[1:])
            centre = np.ones(inside_mm.shape, bool)
            centre[np.unravel_index(inside_mm.argmax(), centre.shape)] = False
            disc = ndimage.distance_transform_edt(centre, spacing_mm[1:]) < min(_SEED_MM, inside_mm.max())
            seeds[number][disc] = label
    return seeds


def _strides(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> list[int]:
    """Steps of a grid that is not larger than what is grown in a few seconds, the finest axis coarsened first."""
    strides = [1, 1, 1]
    while np.prod(np.divide(shape, strides)) > _MOST_VOXELS:
        strides[int(np.argmin(np.multiply(spacing_mm, strides)))] += 1
    return strides


def _with_margin(box: tuple[slice, ...], shown: _Shown) -> tuple[slice, ...]:
    margins = [round(_MARGIN_MM / one) for one in shown.spacing_mm]
    return tuple(
        slice(max(part.start - margin, 0), part.stop + margin) for part, margin in zip(box, margins, strict=True)
    )


def _check(cancelled: Cancelled) -> None:
    if cancelled():
        raise CancelledError("The comparison was stopped.")

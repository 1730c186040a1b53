"""How large lungs are, and how dense: ml and mean HU on CT, an area on flat images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np

from SAMLungSegLib.errors import CancelledError, GeometryError
from SAMLungSegLib.hounsfield import CTScale, ct_scale, finite_range
from SAMLungSegLib.modality import Modality, recognise_modality
from SAMLungSegLib.structures import HIDDEN_LUNGS, LUNGS, LUNGS_WITH_HIDDEN
from SAMLungSegLib.volume import Volume

BOTH_LUNGS = "both lungs"
Unit = Literal["ml", "cm2", "px"]
_HIDDEN_LABELS = range(len(LUNGS) + 1, len(LUNGS_WITH_HIDDEN) + 1)


@dataclass(frozen=True)
class LungSize:
    """One lung, or both.

    Attributes:
        name: 'right lung', 'left lung', 'both lungs', or a hidden part.
        voxels: of the labelmap.
        size: in the unit of the `LungSizes`.
        mean_hu: of the image in it; NaN without a voxel and on X-rays.
    """

    name: str
    voxels: int
    size: float
    mean_hu: float


@dataclass(frozen=True)
class LungSizes:
    """The sizes of the lungs in an image.

    Attributes:
        rows: right lung, left lung, both; then what is hidden of each on an X-ray, where the labelmap says it.
        unit: 'ml'; 'cm2' of an image that is one slice; 'px' of one whose pixels are not known in mm.
        modality: given or recognised.
        notes: what was assumed about the image's values; one sentence each.
    """

    rows: tuple[LungSize, ...]
    unit: Unit
    modality: Modality
    notes: tuple[str, ...] = ()


def lung_sizes(
    labelmap_kji: np.ndarray,
    volume: Volume,
    modality: Modality | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> LungSizes:
    """Measure right, left and both lungs.

    A voxel's volume is the determinant of the grid's directions, so that oblique and sheared grids count rightly. On an
    X-ray the area is that on the detector: nothing says how much larger than the patient that is.

    Args:
        labelmap_kji: integer (K, J, I) on the grid of the volume: 1 right, 2 left, 3 and 4 what is hidden of them.
        volume: the image.
        modality: 'CT' or 'XRAY'; None to ask the image.
        cancelled: asked for each slice of the array.
    Raises:
        GeometryError: the labelmap has another shape than the volume.
        CancelledError: `cancelled` said so.
    """
    if labelmap_kji.shape != volume.size_kji:
        raise GeometryError(
            f"The labelmap has shape {labelmap_kji.shape}; expected {volume.size_kji} as {volume.name}."
        )
    modality = modality or recognise_modality(volume).modality
    counts, sums, finite = _totals(labelmap_kji, volume.array_kji if modality == "CT" else None, cancelled)
    scale = _scale_of(volume) if modality == "CT" else CTScale()
    factor, unit = _size_of_voxel(volume)
    parts = [(lung.name, [label]) for label, lung in LUNGS]
    parts.append((BOTH_LUNGS, [label for label, _ in LUNGS]))
    if counts[list(_HIDDEN_LABELS)].any():
        parts += [(one.name, [label]) for label, one in zip(_HIDDEN_LABELS, HIDDEN_LUNGS.structures, strict=True)]
    rows = tuple(_row(name, labels, counts, sums, finite, factor, scale) for name, labels in parts)
    return LungSizes(rows, unit, modality, tuple(filter(None, (scale.note,))))


def _row(
    name: str,
    labels: list[int],
    counts: np.ndarray,
    sums: np.ndarray,
    finite: np.ndarray,
    factor: float,
    scale: CTScale,
) -> LungSize:
    voxels, known = int(counts[labels].sum()), int(finite[labels].sum())
    mean = scale.hu(float(sums[labels].sum()) / known) if known else nan
    return LungSize(name, voxels, voxels * factor, mean)


def _totals(
    labelmap_kji: np.ndarray, values_kji: np.ndarray | None, cancelled: Callable[[], bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By label: voxels, the sum of their finite values, and how many are finite; slice by slice, to save memory."""
    length = len(LUNGS_WITH_HIDDEN) + 1
    counts, sums, finite = np.zeros(length, np.int64), np.zeros(length), np.zeros(length, np.int64)
    for index, labels in enumerate(labelmap_kji):
        if cancelled():
            raise CancelledError("The measurement was stopped.")
        inside = (labels > 0) & (labels < length)
        lungs = labels[inside]
        counts += np.bincount(lungs, minlength=length)
        if values_kji is not None and lungs.size:
            values = values_kji[index][inside].astype(np.float64)
            known = np.isfinite(values)
            sums += np.bincount(lungs[known], weights=values[known], minlength=length)
            finite += np.bincount(lungs[known], minlength=length)
    return counts, sums, finite


def _size_of_voxel(volume: Volume) -> tuple[float, Unit]:
    if not volume.has_physical_spacing:
        return 1.0, "px"
    if 1 not in volume.size_kji:
        return volume.voxel_ml, "ml"
    thin = 2 - volume.size_kji.index(1)  # its column of the matrix
    first, second = (volume.ijk_to_ras[:3, column] for column in range(3) if column != thin)
    return float(np.linalg.norm(np.cross(first, second))) / 100, "cm2"


def _scale_of(volume: Volume) -> CTScale:
    if volume not in _scales:
        _scales[volume] = ct_scale(volume.array_kji, *finite_range(volume.array_kji))
    return _scales[volume]


_scales: WeakKeyDictionary[Volume, CTScale] = WeakKeyDictionary()  # measured at each edit; finding it takes as long

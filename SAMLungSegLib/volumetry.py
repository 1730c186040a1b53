"""The numbers of segmented lungs, by lung and by thirds: how large, how high, how dense; on flat images an area.

What each number means and who defined it is in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import nan
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from SAMLungSegLib.densitometry import Densities, densities_of
from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.hounsfield import CTScale, ct_scale, finite_range
from SAMLungSegLib.intensity import are_windowed
from SAMLungSegLib.modality import Modality, recognise_modality
from SAMLungSegLib.structures import HIDDEN_LUNGS, LUNGS, LUNGS_WITH_HIDDEN
from SAMLungSegLib.thirds import THIRDS, Part, Thirds, thin_axis, thirds_of
from SAMLungSegLib.volume import Volume
from SAMLungSegLib.volume.geometry import A, S, axial_plane

BOTH_LUNGS, BOTH_KEY = "both lungs", "both_lungs"
Unit = Literal["ml", "cm2", "px"]
_HIDDEN_LABELS = LUNGS_WITH_HIDDEN.labels[len(LUNGS) :]
_SIZE_COLUMNS = {"ml": "volume_ml", "cm2": "area_cm2"}
_GREY_NOTE = "It holds grey levels, which do not say the density in HU."


@dataclass(frozen=True)
class LungSize:
    """One lung, or both, or a third of them.

    Attributes:
        name: 'right lung', 'left lung', 'both lungs', or a hidden part.
        key: what tables call it: 'right_lung', 'left_lung', 'both_lungs', or a hidden part.
        part: all of it, or a third of its height.
        voxels: of the labelmap.
        size: in the unit of the `LungSizes`.
        height_mm: from its lowest to its highest point along the patient's axis; NaN without a voxel, of thirds, where
            distances are not known in mm, and of a slice across that axis.
        densities: of the image in it; NaN without a voxel, on X-rays, and of CTs that hold grey levels.
        mass_g: by volume and density; NaN where one is not known.
    """

    name: str
    key: str
    part: Part
    voxels: int
    size: float
    height_mm: float
    densities: Densities
    mass_g: float

    @property
    def mean_hu(self) -> float:
        """Of its densities."""
        return self.densities.mean_hu


@dataclass(frozen=True)
class LungSizes:
    """The sizes of the lungs in an image.

    Attributes:
        rows: right lung, left lung, both; then what is hidden of each on an X-ray, where the labelmap says it.
        thirds: upper, middle and lower third of each row, in this order; none of a slice across the patient's axis.
        unit: 'ml'; 'cm2' of an image that is one slice; 'px' of one whose pixels are not known in mm.
        modality: given or recognised.
        notes: what was assumed about the image's values; one sentence each.
    """

    rows: tuple[LungSize, ...]
    thirds: tuple[LungSize, ...]
    unit: Unit
    modality: Modality
    notes: tuple[str, ...] = ()

    @property
    def both(self) -> LungSize:
        """Both lungs, whole."""
        return self.rows[len(LUNGS)]

    @property
    def right_to_left(self) -> float:
        """Size of the right lung by that of the left; NaN where one has no voxel."""
        right, left = self.rows[0].size, self.rows[1].size
        return right / left if right and left else nan

    def records(self) -> list[dict[str, Any]]:
        """A row for each lung, then for each third; all have the columns of docs/statistics.md, NaN where unknown."""
        return [self._record(row) for row in (*self.rows, *self.thirds)]

    def document(self) -> dict[str, Any]:
        """What a JSON file holds of them: `records` without what is not known, and the notes."""
        rows = [{name: value for name, value in row.items() if value == value} for row in self.records()]
        return {"rows": rows, "notes": list(self.notes)}

    def _record(self, row: LungSize) -> dict[str, Any]:
        sizes = {column: row.size if unit == self.unit else nan for unit, column in _SIZE_COLUMNS.items()}
        has_ratio = row.key == BOTH_KEY and row.part == "whole"
        return {
            "structure": row.key,
            "part": row.part,
            "voxels": row.voxels,
            **sizes,
            "height_mm": row.height_mm,
            **asdict(row.densities),
            "mass_g": row.mass_g,
            "right_to_left": self.right_to_left if has_ratio else nan,
        }


def lung_sizes(
    labelmap_kji: np.ndarray,
    volume: Volume,
    modality: Modality | None = None,
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> LungSizes:
    """Measure right, left and both lungs, and their thirds.

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
    scale = _scale_of(volume) if modality == "CT" else None
    labels = LUNGS_WITH_HIDDEN.labels
    axis = _axis_to_head(volume, modality)
    thirds = thirds_of(labelmap_kji, volume, labels, axis=axis, with_values=scale is not None, cancelled=cancelled)
    measure = _Measure(thirds, scale or CTScale(), *_size_of_voxel(volume))
    structures = _structures(with_hidden=thirds.voxels(_HIDDEN_LABELS, "whole") > 0)
    parts = THIRDS[::-1] if thirds.heights.are_known else ()
    return LungSizes(
        tuple(measure.row(*one) for one in structures),
        tuple(measure.row(*one, part) for one in structures for part in parts),
        measure.unit,
        modality,
        _notes(modality, scale),
    )


def _axis_to_head(volume: Volume, modality: Modality) -> int | None:
    """The axis of RAS; an X-ray that does not say how it lies is as displayed, and an axial slice has none."""
    if thin_axis(volume) is None or not axial_plane(volume).is_axial:
        return S
    return A if modality == "XRAY" else None


def _structures(*, with_hidden: bool) -> list[tuple[str, str, Sequence[int]]]:
    """Name, key and labels of what is measured."""
    found: list[tuple[str, str, Sequence[int]]] = [(lung.name, lung.key, [label]) for label, lung in LUNGS]
    found.append((BOTH_LUNGS, BOTH_KEY, LUNGS.labels))
    if with_hidden:
        hidden = zip(_HIDDEN_LABELS, HIDDEN_LUNGS.structures, strict=True)
        found += [(one.name, one.key, [label]) for label, one in hidden]
    return found


def _notes(modality: Modality, scale: CTScale | None) -> tuple[str, ...]:
    if modality == "XRAY":
        return ()
    note = _GREY_NOTE if scale is None else scale.note
    return (note,) if note else ()


@dataclass(frozen=True)
class _Measure:
    """Makes rows of what was counted; the factor makes sizes in the unit of voxels."""

    thirds: Thirds
    scale: CTScale
    factor: float
    unit: Unit

    def row(self, name: str, key: str, labels: Sequence[int], part: Part = "whole") -> LungSize:
        """Of some labels together, or of that third of each."""
        voxels = self.thirds.voxels(labels, part)
        densities = densities_of(self.thirds.values_of(labels, part), self.scale)
        size, is_in_mm = voxels * self.factor, self.unit != "px"
        height = self.thirds.heights.of(labels) if part == "whole" and is_in_mm else nan
        mass = size * densities.g_per_ml if self.unit == "ml" else nan
        return LungSize(name, key, part, voxels, size, height, densities, mass)


def _size_of_voxel(volume: Volume) -> tuple[float, Unit]:
    if not volume.has_physical_spacing:
        return 1.0, "px"
    if 1 not in volume.size_kji:
        return volume.voxel_ml, "ml"
    first, second = (volume.ijk_to_ras[:3, 2 - axis] for axis in range(3) if axis != thin_axis(volume))
    return float(np.linalg.norm(np.cross(first, second))) / 100, "cm2"


def _scale_of(volume: Volume) -> CTScale | None:
    """What the values of a CT mean; None of grey levels."""
    if volume not in _scales:
        array = volume.array_kji
        low, high = finite_range(array)
        _scales[volume] = None if are_windowed(array, low, high) else ct_scale(array, low, high)
    return _scales[volume]


_scales: WeakKeyDictionary[Volume, CTScale | None] = WeakKeyDictionary()  # measured at each edit; finding it takes long

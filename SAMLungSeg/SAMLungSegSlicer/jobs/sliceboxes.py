"""Boxes that were drawn in one slice say something of this slice only, also when the whole volume is segmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from SAMLungSegLib import Segmentation, VolumeBox
    from SAMLungSegLib.volume import Volume

_ONE_SLICE = 1 + 1e-3  # voxels; a box around a slice reaches half a voxel to either side


@dataclass(frozen=True)
class SortedBoxes:
    """Boxes by what they say of a volume.

    Attributes:
        thick: around lungs in several slices; slices outside all of them stay empty.
        flat: in one slice, each as flat as that; the other slices are found without it.
        otherwise: in one slice of another direction, which say nothing of the slices that a model sees.
    """

    thick: tuple[VolumeBox, ...]
    flat: tuple[VolumeBox, ...]
    otherwise: tuple[VolumeBox, ...]

    @classmethod
    def of(cls, boxes: Sequence[VolumeBox], volume: Volume) -> SortedBoxes:
        """Those of a volume; of one that has a single slice, all count as `thick`."""
        from SAMLungSegLib.volume import axial_plane

        plane = axial_plane(volume)
        if plane.size_nhw[0] == 1:
            return cls(tuple(boxes), (), ())
        sorts: dict[str, list[VolumeBox]] = {"thick": [], "flat": [], "otherwise": []}
        for box in boxes:
            isThin = [abs(a - b) <= _ONE_SLICE for a, b in zip(box.first_ijk, box.last_ijk, strict=True)]
            stacked = 2 - plane.axes[0]
            if not any(isThin):
                sorts["thick"].append(box)
            elif isThin[stacked] and sum(isThin) == 1:
                sorts["flat"].append(_flat(box, stacked))
            else:
                sorts["otherwise"].append(box)
        return cls(*(tuple(one) for one in sorts.values()))


def withFlatBoxes(found: Segmentation, boxed: Segmentation, boxes: Sequence[VolumeBox]) -> Segmentation:
    """What was found without boxes, and inside the boxes what was found with them: by no single set of options."""
    labelmap = found.labelmap_kji.copy()
    for box in boxes:
        where = tuple(_voxels(a, b) for a, b in zip(box.first_ijk, box.last_ijk, strict=True))[::-1]
        labelmap[where] = boxed.labelmap_kji[where]
    return replace(found, labelmap_kji=labelmap, origin=None)


def _flat(box: VolumeBox, axis: int) -> VolumeBox:
    """The box in the one slice that holds its middle."""
    first, last = list(box.first_ijk), list(box.last_ijk)
    first[axis] = last[axis] = float(np.rint((first[axis] + last[axis]) / 2))
    return replace(box, first_ijk=tuple(first), last_ijk=tuple(last))


def _voxels(a: float, b: float) -> slice:
    """Voxels whose centres lie between two ends."""
    low, high = sorted((a, b))
    return slice(max(0, int(np.ceil(low))), int(np.floor(high)) + 1)

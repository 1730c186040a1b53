"""Boxes that were drawn in one slice say something of this slice only, also when the whole volume is segmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from SAMLungSegLib.pipeline import Segmentation
    from SAMLungSegLib.prompts.volume import VolumeBox
    from SAMLungSegLib.volume import Volume

_ONE_SLICE = 1 + 1e-3  # voxels; a box around a slice reaches half a voxel to either side


@dataclass(frozen=True)
class SortedBoxes:
    """Boxes by what they say of a volume.

    Attributes:
        thick: around lungs in several slices; slices outside all of them stay empty.
        flat: in one slice, each as flat as that; the other slices are found without it.
        otherwise: in one slice of another direction, which say nothing of the slices that a volume is segmented by.
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
            is_thin = [_is_thin(box, axis) for axis in range(3)]
            stacked = 2 - plane.axes[0]
            if not any(is_thin):
                sorts["thick"].append(box)
            elif is_thin[stacked] and sum(is_thin) == 1:
                sorts["flat"].append(in_one_slice(box, stacked))
            else:
                sorts["otherwise"].append(box)
        return cls(*(tuple(one) for one in sorts.values()))


def with_flat_boxes(found: Segmentation, boxed: Segmentation, boxes: Sequence[VolumeBox]) -> Segmentation:
    """What was found without boxes, and inside the boxes what was found with them: by no single set of options."""
    labelmap = found.labelmap_kji.copy()
    for box in boxes:
        where = tuple(_voxels(a, b) for a, b in zip(box.first_ijk, box.last_ijk, strict=True))[::-1]
        labelmap[where] = boxed.labelmap_kji[where]
    return replace(found, labelmap_kji=labelmap, origin=None)


def in_one_slice(box: VolumeBox, axis: int) -> VolumeBox:
    """A box that is one voxel thick along an axis of i, j, k in the slice that holds its middle; others as they are."""
    if not _is_thin(box, axis):
        return box
    first, last = list(box.first_ijk), list(box.last_ijk)
    first[axis] = last[axis] = float(np.rint((first[axis] + last[axis]) / 2))
    return replace(box, first_ijk=tuple(first), last_ijk=tuple(last))


def _is_thin(box: VolumeBox, axis: int) -> bool:
    if axis >= len(box.first_ijk):  # of an image with one slice, where i and j are enough
        return False
    return abs(box.first_ijk[axis] - box.last_ijk[axis]) <= _ONE_SLICE


def _voxels(a: float, b: float) -> slice:
    """Voxels whose centres lie between two ends."""
    low, high = sorted((a, b))
    return slice(max(0, int(np.ceil(low))), int(np.floor(high)) + 1)

"""Slices that another hand than the automatic segmentation has changed, and what is kept of them.

What was found automatically is remembered by a digest of each slice in an attribute of the segmentation node, which is
saved with the scene. A slice that is no longer as it was found was painted, or accepted from a preview.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk

from SAMLungSegSlicer import bridge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from SAMLungSegLib import Segmentation
    from SAMLungSegLib.volume import SlicePlane
    from SAMLungSegLib.volume.cut import SliceCut
    from SAMLungSegSlicer.live.prompts import SlicePrompts

_ATTRIBUTE = "SAMLungSeg.automaticSlices"
_MOST_DIGESTS = 10  # of a slice: undo brings earlier automatic ones back
_MOST_WRITTEN = 2  # volumes whose last written lungs are at hand

_written: dict[str, np.ndarray] = {}  # by ID of the segmentation node: the labelmap (K, J, I) as it was written last


@dataclass(frozen=True, eq=False)
class Merged:
    """An automatic result with the edits that are kept.

    Attributes:
        labelmap_kji: uint8, to be written.
        kept: how many slices would look otherwise without that.
        record: what to remember, see `remember`.
    """

    labelmap_kji: np.ndarray
    kept: int
    record: str


@dataclass(frozen=True, eq=False)
class Edits:
    """The lungs of a segmentation before an automatic one is written, and what is known of their origin."""

    before: bridge.StoredLungs
    grid: str
    record: str | None

    @classmethod
    def of(
        cls, segmentationNode: slicer.vtkMRMLSegmentationNode | None, volumeNode: slicer.vtkMRMLVolumeNode
    ) -> Edits | None:
        """Those of a segmentation now; None where there is none."""
        if segmentationNode is None:
            return None
        stored = bridge.storedLungs(segmentationNode, volumeNode)
        return cls(stored, gridKey(volumeNode), segmentationNode.GetAttribute(_ATTRIBUTE))

    def merge(self, result: Segmentation, labels: Sequence[int], keep: bool) -> Merged:
        """Put an automatic result in the place of what is there, without edited slices where they are kept.

        Args:
            result: on the grid of the volume.
            labels: which lungs are written; 1 right, 2 left.
            keep: whether edited slices stay.
        """
        before = self.before.labelmap_kji()
        after = _withWritten(before, result.labelmap_kji, labels)
        known = _digestsIn(self.record, _recordKey(self.grid, result.plane)) or [""] * result.plane.size_nhw[0]
        hasLungs, kept, digests = before.any(), 0, []
        for old, new, digestsBefore in zip(
            result.plane.to_display(before), result.plane.to_display(after), known, strict=True
        ):
            digest, present = _digest(new), _digest(old)
            isEdited = hasLungs and (present not in _split(digestsBefore) if digestsBefore else old.any())
            if keep and isEdited:
                new[...] = old
                kept += digest != present
                digests.append(digestsBefore)
            else:
                digests.append("".join([*_split(digestsBefore), digest][-_MOST_DIGESTS:]))
        return Merged(after, kept, _recordOf(_recordKey(self.grid, result.plane), digests))


def firstRecord(result: Segmentation, grid: str) -> str:
    """What to remember of a result that is written into a new segmentation on the grid of `gridKey`."""
    digests = [_digest(one) for one in result.plane.to_display(result.labelmap_kji)]
    return _recordOf(_recordKey(grid, result.plane), digests)


def remember(segmentationNode: slicer.vtkMRMLSegmentationNode, record: str, labelmap_kji: np.ndarray) -> None:
    """Keep with a segmentation what was found automatically, and what was written."""
    segmentationNode.SetAttribute(_ATTRIBUTE, record)
    _written.pop(segmentationNode.GetID(), None)
    _written[segmentationNode.GetID()] = labelmap_kji
    while len(_written) > _MOST_WRITTEN:
        del _written[next(iter(_written))]


def forgetWritten(segmentationNode: slicer.vtkMRMLSegmentationNode | None = None) -> None:
    """What was written last is no longer there, as after undo; of all segmentations where none is given."""
    if segmentationNode is None:
        _written.clear()
    else:
        _written.pop(segmentationNode.GetID(), None)


def changeableBy(
    prompts: SlicePrompts,
    labels_hw: np.ndarray,
    automatic_hw: np.ndarray | None,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None,
    volumeNode: slicer.vtkMRMLVolumeNode,
) -> np.ndarray | None:
    """The pixels that points may change: not what another hand has changed, except where a point is in it.

    Where it is no longer known what was written, as after undo or in a scene that was opened again, points change what
    they change in the automatic answer.

    Args:
        prompts: of the slice.
        labels_hw: uint8 (H, W), the answer to them.
        automatic_hw: likewise, what is found without prompts; None where that is not known.
        segmentationNode, volumeNode: where the answer goes.
    Returns:
        Bool (H, W); None for all of them.
    """
    cut, written = prompts.cut, _writtenOn(segmentationNode, prompts.cut)
    if written is None and (automatic_hw is None or segmentationNode.GetAttribute(_ATTRIBUTE) is None):
        return None
    present = bridge.readCut(segmentationNode, cut, volumeNode)
    if written is not None:
        painted = present != cut.take(written)
    elif present.any():
        painted = (present != automatic_hw) & (labels_hw == automatic_hw)
    else:
        return None
    return _exceptAt(prompts.points_xy, painted)


def _exceptAt(points_xy: Sequence[tuple[float, ...]], painted: np.ndarray) -> np.ndarray | None:
    """All pixels but the painted ones, whose patches with a point in them are free again; None where that is all."""
    from scipy import ndimage

    patches, _ = ndimage.label(painted, np.ones((3, 3)))
    height, width = painted.shape
    for x, y, *_ in points_xy:
        column, row = round(x), round(y)
        if 0 <= row < height and 0 <= column < width and patches[row, column]:
            painted &= patches != patches[row, column]
    return ~painted if painted.any() else None


def noteWritten(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    cut: SliceCut,
    volumeNode: slicer.vtkMRMLVolumeNode,
    inside_hw: np.ndarray | None,
) -> None:
    """A slice was written: within `inside_hw` (all of it for None) it is as it is now by our hand."""
    if segmentationNode.GetAttribute(_ATTRIBUTE) is None:
        segmentationNode.SetAttribute(_ATTRIBUTE, "{}")  # ours by now, with no slice found automatically
    written = _writtenOn(segmentationNode, cut)
    if written is not None:
        cut.put(bridge.readCut(segmentationNode, cut, volumeNode), written, inside_hw)


def _writtenOn(segmentationNode: slicer.vtkMRMLSegmentationNode | None, cut: SliceCut) -> np.ndarray | None:
    written = None if segmentationNode is None else _written.get(segmentationNode.GetID())
    return written if written is not None and written.shape == tuple(cut.plane.size_kji) else None


def _withWritten(before: np.ndarray, found: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """A labelmap in which the written lungs are the found ones; right where both claim a voxel."""
    after = np.zeros(before.shape, np.uint8)
    for label in (2, 1):
        source = found if label in labels else before
        for target, one in zip(after, source, strict=True):
            target[one == label] = label
    return after


def _digest(labels_hw: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(labels_hw, np.uint8)):08x}"


def _split(digests: str) -> list[str]:
    return [digests[start : start + 8] for start in range(0, len(digests), 8)]


def gridKey(volumeNode: slicer.vtkMRMLVolumeNode) -> str:
    """Of the voxels in the volume's own coordinates: a parent transform moves volume and lungs together."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    place = np.round(slicer.util.arrayFromVTKMatrix(matrix), 3) + 0.0
    return hashlib.sha256(repr((volumeNode.GetImageData().GetDimensions(), place.tolist())).encode()).hexdigest()[:16]


def _recordKey(grid: str, plane: SlicePlane) -> str:
    return f"{grid} {plane.axes} {plane.flips}"


def _recordOf(key: str, digests: Sequence[str]) -> str:
    return json.dumps({"grid": key, "slices": list(digests)})


def _digestsIn(record: str | None, key: str) -> list[str] | None:
    """What a record says of the slices of that grid; None where it says nothing of it or is damaged."""
    try:
        fields = json.loads(record or "null")
        return [str(one) for one in fields["slices"]] if fields["grid"] == key else None
    except (ValueError, TypeError, KeyError):
        return None

"""The segments of a segmentation as they are at a moment: kept small, and put back exactly.

Labelmaps are coded as runs (`SAMLungSegLib.coding`), which takes as long as copying and a fiftieth of the memory. What
has not changed since an earlier state is shared with it: VTK's times of modification tell, which the Segment Editor
sets, as do scripts that write as Slicer documents it. So neither keeping a state nor going back to it takes longer
than the voxels that differ, and edits by other hands in between are part of the states.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import slicer

from SAMLungSegLib.coding import CodedArray
from SAMLungSegSlicer.bridge.grids import imageToWorld, isEmpty, voxelsOf
from SAMLungSegSlicer.bridge.layers import announce, imageOf, withOwnMemory

LABELMAP = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()


@dataclass(frozen=True, eq=False)
class Layer:
    """A labelmap, which segments may share.

    Attributes:
        ids: of the segments.
        stamp: changes when voxels or segments do.
        frame: extent, place and type of its voxels.
        voxels: label values; None where it is empty.
    """

    ids: tuple[str, ...]
    stamp: tuple
    frame: tuple
    voxels: CodedArray | None

    @classmethod
    def of(
        cls, image: slicer.vtkOrientedImageData | None, ids: tuple[str, ...], stamp: tuple, like: Layer | None
    ) -> Layer:
        """A layer now; `like` is an earlier state of it."""
        if like is not None and like.stamp == stamp and like.ids == ids:
            return like
        if isEmpty(image):
            return cls(ids, stamp, (), None)
        coded = CodedArray.of(voxelsOf(image), None if like is None else like.voxels)
        return cls(ids, stamp, _frameOf(image), coded)

    def replaced(
        self, image: slicer.vtkOrientedImageData, present: Layer, values: Collection[int]
    ) -> tuple[slicer.vtkOrientedImageData, set[int]]:
        """An image with the same frame, whose state is known, with the voxels of this one.

        Returns:
            The image, or another one; and which of some label values have got or lost a voxel.
        """
        numbers = [] if self.voxels is None else self.voxels.differing(present.voxels)
        if not numbers:
            return image, set()
        image, unchanged = withOwnMemory(image), set(values)
        voxels = voxelsOf(image)
        for number in numbers:
            before, after = voxels[number], self.voxels.slices[number].decoded()
            unchanged = {one for one in unchanged if np.array_equal(before == one, after == one)}
            before[...] = after
        image.GetPointData().GetScalars().Modified()
        return image, set(values) - unchanged

    def newImage(self) -> slicer.vtkOrientedImageData:
        """Another image with its voxels."""
        if self.voxels is None:
            return slicer.vtkOrientedImageData()
        extent, matrix, scalarType = self.frame
        image = slicer.vtkOrientedImageData()
        image.SetGeometryFromImageToWorldMatrix(slicer.util.vtkMatrixFromArray(np.reshape(matrix, (4, 4))))
        image.SetExtent(extent)
        image.AllocateScalars(scalarType, 1)
        self.voxels.put(voxelsOf(image))
        return image


def _frameOf(image: slicer.vtkOrientedImageData) -> tuple:
    return image.GetExtent(), tuple(imageToWorld(image).ravel().tolist()), image.GetScalarType()


@dataclass(frozen=True, eq=False)
class Copy:
    """Another representation of a segment, such as its surface.

    Attributes:
        stamp: changes when it does.
        content: deep copy.
    """

    stamp: tuple
    content: slicer.vtkDataObject

    @classmethod
    def of(cls, representation: slicer.vtkDataObject, like: Copy | None) -> Copy:
        """A representation now; `like` is an earlier state of it."""
        stamp = _stampOfOther(representation)
        return like if like is not None and like.stamp == stamp else cls(stamp, _copied(representation))

    @property
    def size(self) -> int:
        """Bytes."""
        return 1024 * self.content.GetActualMemorySize()


def _stampOfOther(representation: slicer.vtkDataObject) -> tuple:
    return representation.GetAddressAsString(""), representation.GetMTime()


def _copied(content: slicer.vtkDataObject) -> slicer.vtkDataObject:
    another = content.NewInstance()
    another.DeepCopy(content)
    return another


class State:
    """All segments of a segmentation.

    Attributes:
        segments: by ID, in their order; of each all but its representations.
        layers: the labelmaps.
        others: other representations, by segment ID and name.
    """

    def __init__(self, segmentation: slicer.vtkSegmentation, like: State | None) -> None:
        """Keep the segments as they are now; `like` is an earlier state, of which they share what has not changed."""
        self.segments = {one: _described(segmentation.GetSegment(one)) for one in segmentation.GetSegmentIDs()}
        earlier = {} if like is None else {layer.stamp[0]: layer for layer in like.layers}
        self.layers = [
            Layer.of(image, ids, stamp, earlier.get(stamp[0])) for image, ids, stamp in _layersOf(segmentation)
        ]
        before = {} if like is None else like.others
        self.others = {
            key: Copy.of(representation, before.get(key)) for key, representation in _othersOf(segmentation).items()
        }
        self.stamp = stampOf(segmentation)

    def restored(self, segmentation: slicer.vtkSegmentation) -> State:
        """The state just after this one was restored, with the stamps of now; nothing is copied that was put back."""
        stamps = {ids: stamp for _, ids, stamp in _layersOf(segmentation)}
        known = copy(self)
        known.layers = [replace(one, stamp=stamps[one.ids]) for one in self.layers]
        known.others = {
            key: replace(self.others[key], stamp=_stampOfOther(representation))
            for key, representation in _othersOf(segmentation).items()
            if key in self.others
        }
        return State(segmentation, known)

    def sizes(self) -> dict[int, int]:
        """Bytes of each part that it may share with other states, by what identifies the part."""
        slices = (one for layer in self.layers if layer.voxels is not None for one in layer.voxels.slices)
        return {id(one): one.nbytes for one in slices} | {id(one.content): one.size for one in self.others.values()}

    def restore(self, segmentationNode: slicer.vtkMRMLSegmentationNode, present: State) -> None:
        """Bring the segments back; those that are there stay in place, so that they keep their display.

        Args:
            segmentationNode: whose segments are now as in `present`.
            present: that state.
        """
        segmentation = segmentationNode.GetSegmentation()
        self._restoreSegments(segmentation)
        changed = self._restoreLayers(segmentation, present)
        stale = self._restoreOthers(segmentation, present, changed)
        segmentation.ReorderSegments(list(self.segments))
        announce(segmentationNode, changed, stale)  # for the others, Slicer is told by each representation that is set

    def _restoreSegments(self, segmentation: slicer.vtkSegmentation) -> None:
        for segmentId in segmentation.GetSegmentIDs():
            if segmentId not in self.segments:
                empty = slicer.vtkOrientedImageData()  # else Slicer goes through all voxels to separate its own
                segmentation.GetSegment(segmentId).AddRepresentation(LABELMAP, empty)
                segmentation.RemoveSegment(segmentId)
        for segmentId, description in self.segments.items():
            if segmentation.GetSegment(segmentId) is None:
                segmentation.AddSegment(_described(description), segmentId)
            else:
                segmentation.GetSegment(segmentId).DeepCopyMetadata(description)

    def _restoreLayers(self, segmentation: slicer.vtkSegmentation, present: State) -> list[str]:
        """IDs of the segments that get other voxels."""
        changed = []
        for layer in self.layers:
            now = next((one for one in present.layers if one.ids == layer.ids), None)
            values = {one: segmentation.GetSegment(one).GetLabelValue() for one in layer.ids}
            if now is None or now.frame != layer.frame:
                image, touched = layer.newImage(), set(values.values())
            else:
                image = imageOf(segmentation, layer.ids[0])
                image, touched = layer.replaced(image, now, values.values())
            changed += [one for one, value in values.items() if value in touched]
            for segment in map(segmentation.GetSegment, layer.ids):
                if segment.GetRepresentation(LABELMAP) is not image:
                    segment.AddRepresentation(LABELMAP, image)
        return changed

    def _restoreOthers(self, segmentation: slicer.vtkSegmentation, present: State, changed: Iterable[str]) -> list[str]:
        """IDs of the changed segments some of whose other representations have to be made anew."""
        for (segmentId, name), one in self.others.items():
            now = present.others.get((segmentId, name))
            if now is None or now.content is not one.content:
                segmentation.GetSegment(segmentId).AddRepresentation(name, _copied(one.content))
        names = {name for _, name in present.others}
        return [one for one in changed if any((one, name) not in self.others for name in names)]


def stampOf(segmentation: slicer.vtkSegmentation) -> tuple:
    """What changes when a segment does, or their order."""
    ids = segmentation.GetSegmentIDs()
    segments = tuple((one, segmentation.GetSegment(one).GetMTime()) for one in ids)
    return segments, tuple(stamp for _, _, stamp in _layersOf(segmentation))


def _layersOf(segmentation: slicer.vtkSegmentation) -> list[tuple[slicer.vtkOrientedImageData, tuple[str, ...], tuple]]:
    """Each labelmap with the segments that share it and what changes when it does."""
    images: dict[str, slicer.vtkOrientedImageData] = {}
    ids: dict[str, list[str]] = {}
    for segmentId in segmentation.GetSegmentIDs():
        image = imageOf(segmentation, segmentId)
        if image is not None:
            images[image.GetAddressAsString("")] = image
            ids.setdefault(image.GetAddressAsString(""), []).append(segmentId)
    return [
        (image, tuple(ids[address]), layerStamp(segmentation, image, ids[address])) for address, image in images.items()
    ]


def layerStamp(
    segmentation: slicer.vtkSegmentation, image: slicer.vtkOrientedImageData, segmentIds: Iterable[str]
) -> tuple:
    """What changes when a labelmap does, begun with what identifies it.

    Scripts are told to say by `segment.Modified()` that they have written into its voxels.
    """
    times = (segmentation.GetSegment(one).GetMTime() for one in segmentIds)
    return image.GetAddressAsString(""), image.GetMTime(), *times


def _othersOf(segmentation: slicer.vtkSegmentation) -> Mapping[tuple[str, str], slicer.vtkDataObject]:
    found = {}
    for segmentId in segmentation.GetSegmentIDs():
        segment, names = segmentation.GetSegment(segmentId), []
        segment.GetContainedRepresentationNames(names)
        found.update({(segmentId, name): segment.GetRepresentation(name) for name in names if name != LABELMAP})
    return found


def _described(segment: slicer.vtkSegment) -> slicer.vtkSegment:
    """A copy of all but the representations."""
    description = slicer.vtkSegment()
    description.DeepCopyMetadata(segment)
    return description

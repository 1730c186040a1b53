"""Lungs of a whole volume, and of the slice that a view shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.edits import Edits, firstRecord, gridKey, noteWritten, remember
from SAMLungSegSlicer.jobs.caches import imageOf, segmenters
from SAMLungSegSlicer.jobs.settings import Settings
from SAMLungSegSlicer.jobs.sliceboxes import SortedBoxes, withFlatBoxes
from SAMLungSegSlicer.jobs.targets import Target

if TYPE_CHECKING:
    import numpy as np

    from SAMLungSegLib import Segmentation, VolumeBox, VolumePoint
    from SAMLungSegLib.pipeline import SliceSegmentation


def _never() -> bool:
    return False


class _SegmentJob:
    """What both jobs remember of the scene.

    Attributes:
        target: the nodes; after `finish` its `discarded` says why a result was not written.
    """

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode | None,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        settings: Settings,
        points: Sequence[VolumePoint],
        boxes: Sequence[VolumeBox],
    ) -> None:
        self.target = Target(volumeNode, segmentationNode)
        self._image = imageOf(volumeNode)
        self._settings, self._points, self._boxes = settings, tuple(points), tuple(boxes)


class SegmentVolumeJob(_SegmentJob):
    """Right and left lung of a volume: prepared and finished on the main thread, run on any.

    Attributes:
        kept: how many slices stay as they were painted or accepted, once it has run.

    Example:
        >>> job = SegmentVolumeJob(volumeNode, None, Settings(lungs="right"))
        >>> segmentationNode = job.finish(job.run())
    """

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode | None,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        settings: Settings,
        *,
        points: Sequence[VolumePoint] = (),
        boxes: Sequence[VolumeBox] = (),
        keepEdits: bool = True,
    ) -> None:
        """Copy the voxels.

        Args:
            volumeNode: CT or X-ray.
            segmentationNode: where the lungs go; None makes a new one in the end.
            settings: modality, window, model, which lungs.
            points, boxes: prompts in voxels of the volume (`bridge.pointsFromMarkups`, `bridge.boxesFromRois`).
            keepEdits: whether slices stay that were painted or accepted; see `kept`.
        Raises:
            SAMLungSegError: no volume, one without voxels or in colour, or a non-linear transform.
        """
        super().__init__(volumeNode, segmentationNode, settings, points, boxes)
        self._keepEdits = keepEdits
        self._edits = Edits.of(segmentationNode, volumeNode)
        self._grid = gridKey(volumeNode)
        self._found: Segmentation | None = None
        self._record = ""
        self._provenance: str | None = None
        self.kept = 0

    def run(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> Segmentation:
        """Find the lungs, on any thread; progress is in slices.

        Raises:
            CancelledError: `cancelled` said so.
            SAMLungSegError: wrong settings or prompts, or the model cannot be loaded.
        """
        from SAMLungSegLib import segment_volume

        volume, model = self._image.volume, self._settings.loadedModel()
        boxes = SortedBoxes.of(self._boxes, volume)
        around = (*boxes.thick, *boxes.flat) if boxes.thick else ()
        options = self._settings.options(self._points, around)
        self._found = segment_volume(volume, model, options, progress=progress, cancelled=cancelled)
        if boxes.flat and not boxes.thick:
            options = self._settings.options(self._points, boxes.flat)
            boxed = segment_volume(volume, model, options, cancelled=cancelled)
            self._found = withFlatBoxes(self._found, boxed, boxes.flat)
        if boxes.otherwise:
            note = f"Boxes drawn in a slice of another direction play no part here ({len(boxes.otherwise)})."
            self._found = replace(self._found, notes=(*self._found.notes, note))
        provenance = self._found.provenance()
        self._provenance = provenance and provenance.to_json()
        return self._merged()

    def finish(self, result: Segmentation) -> slicer.vtkMRMLSegmentationNode | None:
        """Write the lungs into the segmentation, as one step that can be undone.

        Returns:
            The segmentation; None, with nothing changed, when the volume or the segmentation is not what it was when
            the job began: `target.discarded` says why.
        """
        target, lungs = self.target, self._settings.lungs
        if (
            self._edits is not None
            and target.isThere()
            and bridge.stampOf(target.segmentationNode) != self._edits.before.stamp
        ):
            self._edits = Edits.of(target.segmentationNode, target.volumeNode)  # edited while the lungs were found
            result = self._merged()

        def fill(node: slicer.vtkMRMLSegmentationNode) -> None:
            bridge.writeLabelmap(node, result.labelmap_kji, target.volumeNode, lungs)
            remember(node, self._record, result.labelmap_kji)
            bridge.noteProvenance(node, lungs, self._provenance)

        return target.write(fill)

    def _merged(self) -> Segmentation:
        """What was found, with the edits that are kept."""
        found = self._found
        if self._edits is None:
            self._record = firstRecord(found, self._grid)
            return found
        merged = self._edits.merge(found, bridge.lungLabels(self._settings.lungs), self._keepEdits)
        self.kept, self._record = merged.kept, merged.record
        return replace(found, labelmap_kji=merged.labelmap_kji)


class SegmentSliceJob(_SegmentJob):
    """Right and left lung of the slice that a view shows; one that was looked at lately is not encoded again.

    Example:
        >>> job = SegmentSliceJob(volumeNode, slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed"), None, Settings())
        >>> segmentationNode = job.finish(job.run())
    """

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode | None,
        sliceNode: slicer.vtkMRMLSliceNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        settings: Settings,
        *,
        points: Sequence[VolumePoint] = (),
        boxes: Sequence[VolumeBox] = (),
    ) -> None:
        """Copy the voxels, unless they are as they were for the last job, and remember the view's plane.

        Args:
            volumeNode: CT or X-ray.
            sliceNode: of the view; any orientation.
            segmentationNode: where the lungs go; None makes a new one in the end.
            settings: modality, window, model, which lungs.
            points, boxes: prompts in voxels of the volume; those that are not in the slice are left out.
        Raises:
            SAMLungSegError: as of `SegmentVolumeJob`, or the view shows no part of the volume.
        """
        super().__init__(volumeNode, segmentationNode, settings, points, boxes)
        self._cut = bridge.cutFromSliceNode(sliceNode, volumeNode)

    def run(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> SliceSegmentation:
        """Find the lungs in the slice, on any thread.

        Raises:
            CancelledError: `cancelled` said so.
            SAMLungSegError: wrong settings or prompts, or the model cannot be loaded.
        """
        options = self._settings.options(self._points, self._boxes)
        return segmenters.segment(self._image, self._cut, self._settings, options, cancelled)

    def withoutPrompts(self) -> np.ndarray:
        """What is found in the slice without any prompt, uint8 (H, W), on any thread; errors as of `run`."""
        return segmenters.segment(self._image, self._cut, self._settings, self._settings.options(), _never).labels_hw

    def finish(self, result: SliceSegmentation) -> slicer.vtkMRMLSegmentationNode | None:
        """Write the lungs into the slice's voxels, as one step that can be undone; nothing else changes.

        Returns:
            The segmentation; None, with nothing changed, when the volume or the segmentation is not what it was when
            the job began: `target.discarded` says why.
        """
        target, lungs = self.target, self._settings.lungs

        def fill(node: slicer.vtkMRMLSegmentationNode) -> None:
            bridge.writeCut(node, result.labels_hw, result.cut, target.volumeNode, lungs)
            noteWritten(node, result.cut, target.volumeNode, None)

        return target.write(fill)

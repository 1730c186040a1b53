"""Lungs of a whole volume, and of the slice that a view shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import slicer

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.interaction import Predicted, Session, SlicePrompts, SortedBoxes, with_flat_boxes
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.caches import imageOf, provenanceOf, segmenters
from SAMLungSegSlicer.jobs.settings import Settings
from SAMLungSegSlicer.jobs.targets import Target
from SAMLungSegSlicer.sessions import LungsBefore, MergedLungs, proposed, writeSlice, writeVolume

if TYPE_CHECKING:
    import numpy as np

    from SAMLungSegLib import Segmentation, VolumeBox, VolumePoint
    from SAMLungSegLib.pipeline import SliceSegmentation
    from SAMLungSegLib.provenance import Provenance
    from SAMLungSegLib.structures import ExtentChoice


class _SegmentJob:
    """What both jobs remember of the scene, and, once they have run, how they found the lungs.

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
        keepEdits: bool,
    ) -> None:
        self.target = Target(volumeNode, segmentationNode)
        self._image = imageOf(volumeNode)
        self._settings, self._points, self._boxes = settings, tuple(points), tuple(boxes)
        self._keepEdits = keepEdits
        self._provenance: Provenance | None = None
        self._extent: ExtentChoice | None = None


class SegmentVolumeJob(_SegmentJob):
    """Right and left lung of a volume: prepared and finished on the main thread, run on any.

    Attributes:
        kept: how many slices stay as they were painted or accepted, once it has run.
        litres: of right and left lung, likewise.

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
        super().__init__(volumeNode, segmentationNode, settings, points, boxes, keepEdits)
        self._before = LungsBefore.of(volumeNode, segmentationNode, settings.lungs)
        self._found: Segmentation | None = None
        self._merged: MergedLungs | None = None
        self.kept, self.litres = 0, (0.0, 0.0)

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
            self._found = with_flat_boxes(self._found, boxed, boxes.flat)
        if boxes.otherwise:
            note = f"Boxes drawn in a slice of another direction play no part here ({len(boxes.otherwise)})."
            self._found = replace(self._found, notes=(*self._found.notes, note))
        self._provenance = self._found.provenance()
        return self._merge()

    def finish(self, result: Segmentation) -> slicer.vtkMRMLSegmentationNode | None:
        """Write the lungs into the segmentation, as one step that can be undone.

        Returns:
            The segmentation; None, with nothing changed, when the volume or the segmentation is not what it was when
            the job began: `target.discarded` says why.
        """
        target, lungs = self.target, self._settings.lungs
        now = target.volumeNode, target.segmentationNode, lungs
        if target.isThere() and self._before.isOutdated(*now):  # edited while the lungs were found
            self._before = LungsBefore.of(*now)
            self._merge()

        def fill(node: slicer.vtkMRMLSegmentationNode, session: Session) -> None:
            writeVolume(session, self._merged, target.volumeNode, node, lungs, self._provenance, result.extent)

        return target.write(fill)

    def _merge(self) -> Segmentation:
        """What was found, with the edits that are kept."""
        self._merged = self._before.merge(self._found, self._settings.lungs, self._keepEdits)
        labelmap_kji, voxel_ml = self._merged.volume.labelmap_kji, self._found.volume.voxel_ml
        right, left = (sum(int((one == label).sum()) for one in labelmap_kji) for label in (1, 2))
        self.kept, self.litres = self._merged.volume.kept, (right * voxel_ml / 1000, left * voxel_ml / 1000)
        return replace(self._found, labelmap_kji=labelmap_kji)


class SegmentSliceJob(_SegmentJob):
    """Right and left lung of the slice that a view shows; one that was looked at lately is not encoded again.

    Attributes:
        prompts: those on the slice.
        kept: how many pixels stay as they were painted, once it is finished.

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
        keepEdits: bool = True,
    ) -> None:
        """Copy the voxels, unless they are as they were for the last job, and remember the view's plane.

        Args:
            volumeNode: CT or X-ray.
            sliceNode: of the view; any orientation.
            segmentationNode: where the lungs go; None makes a new one in the end.
            settings: modality, window, model, which lungs.
            points, boxes: prompts in voxels of the volume; those that are not in the slice are left out.
            keepEdits: whether painted pixels stay; see `kept`.
        Raises:
            SAMLungSegError: as of `SegmentVolumeJob`, or the view shows no part of the volume.
        """
        super().__init__(volumeNode, segmentationNode, settings, points, boxes, keepEdits)
        from SAMLungSegLib.prompts.volume import VolumePrompts

        cut = bridge.cutFromSliceNode(sliceNode, volumeNode)
        self.prompts = SlicePrompts.of(cut, VolumePrompts(self._points, self._boxes), self._image.volume)
        self._automatic_hw: np.ndarray | None = None
        self.kept = 0

    def run(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> SliceSegmentation:
        """Find the lungs in the slice, on any thread.

        Raises:
            CancelledError: `cancelled` said so.
            SAMLungSegError: wrong settings or prompts, or the model cannot be loaded.
        """
        cut, shown = self.prompts.reformat, self.prompts.of_volume
        options = self._settings.options(shown.points, shown.boxes)
        result = segmenters.segment(self._image, cut, self._settings, options, cancelled)
        options = replace(options, modality=result.modality)
        self._extent = options.shown_extent
        self._provenance = provenanceOf(self._image, self._settings, options)
        if self.prompts.points and self.prompts.concern_whole_slice:  # which may be painted in parts
            self._automatic_hw = segmenters.automatic(self._image, cut, self._settings, cancelled)
        return result

    @property
    def provenance(self) -> Provenance | None:
        """How `run` has found the lungs."""
        return self._provenance

    @property
    def extent(self) -> ExtentChoice | None:
        """Of the lungs on an X-ray that `run` has found."""
        return self._extent

    def predicted(self, result: SliceSegmentation) -> Predicted:
        """What `run` has found, for the session that says what is written of it."""
        labels = bridge.lungLabels(self._settings.lungs)
        needsPrompt = MODELS[self._settings.model].capabilities.needs_prompt
        return Predicted.of(self.prompts, result.labels_hw, labels, self._automatic_hw, needs_prompt=needsPrompt)

    def finish(self, result: SliceSegmentation) -> slicer.vtkMRMLSegmentationNode | None:
        """Write the lungs into the slice's voxels, as one step that can be undone; nothing else changes.

        Returns:
            The segmentation; None, with nothing changed, when the volume or the segmentation is not what it was when
            the job began: `target.discarded` says why.
        Raises:
            PromptError: the model does not follow the points on the slice; nothing has changed.
        """
        predicted, volumeNode = self.predicted(result), self.target.volumeNode
        if predicted.objection:
            raise PromptError(predicted.objection)

        def fill(node: slicer.vtkMRMLSegmentationNode, session: Session) -> None:
            proposal = proposed(session, predicted, volumeNode, node, keep=self._keepEdits)
            writeSlice(session, proposal, volumeNode, node, self._provenance, self._extent)
            self.kept = proposal.kept_pixels

        return self.target.write(fill)

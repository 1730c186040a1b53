"""The module without its window: what the widget, scripts and Slicer's Python console call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from SAMLungSegLib.errors import GeometryError, PromptError, SAMLungSegError, VolumeError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs import (
    CardiothoracicJob,
    CardiothoracicNodes,
    EvaluateJob,
    EvaluationNodes,
    FolderJob,
    PropagateJob,
    SegmentSliceJob,
    SegmentVolumeJob,
    Settings,
)
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode
from SAMLungSegSlicer.runtime import consent, dependencies

if TYPE_CHECKING:
    from SAMLungSegLib import VolumePoint

    Points = slicer.vtkMRMLMarkupsNode | Sequence[Sequence[float]] | None
    Boxes = slicer.vtkMRMLMarkupsROINode | Iterable[slicer.vtkMRMLMarkupsROINode]
    Progress = Callable[[int, int], None]
    Cancelled = Callable[[], bool]

logger = logging.getLogger(__name__)


class SAMLungSegLogic(ScriptedLoadableModuleLogic):
    """Right and left lung on CT and chest X-ray; every method returns when it is done.

    Settings are keywords, the fields of `Settings`: modality, window, model, weights, device, lungs, threshold, extent.
    The defaults, and the voxels that come out, are those of the command line. What a caller did wrong is told by errors
    of the kind `SAMLungSegLib.SAMLungSegError`; nothing has changed then. The first call asks to install Python
    packages that Slicer does not have.

    Example:
        >>> logic = SAMLungSegLogic()
        >>> segmentationNode = logic.segmentVolume(getNode("CTChest"))
    """

    def getParameterNode(self) -> SAMLungSegParameterNode:
        """The user's choices in the scene, typed."""
        return SAMLungSegParameterNode(super().getParameterNode())

    def acceptWeightsLicence(self) -> None:
        """Accept the terms of the bundled weights, for this user and from now on: research only.

        The panel asks before they are first used; from the console nobody is asked, and what needs them raises
        `SAMLungSegLib.errors.LicenceError`. The environment variable SAMLUNGSEG_ACCEPT_WEIGHTS_LICENCE=1 does the same
        for one session.

        Example:
            >>> logic.acceptWeightsLicence()
        """
        consent.give()

    def segmentVolume(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        *,
        points: Points = (),
        negativePoints: Points = (),
        boxes: Boxes = (),
        keepEdits: bool = True,
        progress: Progress | None = None,
        cancelled: Cancelled = lambda: False,
        **settings: object,
    ) -> slicer.vtkMRMLSegmentationNode:
        """Find the lungs of a CT or X-ray and write them as two segments; other segments stay as they are.

        Example:
            >>> logic.segmentVolume(volumeNode, lungs="right", points=[(-80, 20, 40)])

        Args:
            volumeNode: CT or X-ray.
            segmentationNode: where the lungs go; None makes a new one called '<volume> lungs'.
            points: what belongs to a lung: a markups node, or positions in the world's RAS in mm.
            negativePoints: what does not, likewise.
            boxes: one ROI node or several, each around one lung; slices outside every box stay empty. Where all of
                them are one slice thick, they count in their slices only.
            keepEdits: whether slices of `segmentationNode` stay that were painted, accepted, or made by something else;
                a warning says how many.
            progress: called with (slices done, slices in all).
            cancelled: asked between slices; nothing is written when it says so.
            **settings: fields of `Settings`.
        Returns:
            The segmentation.
        Raises:
            SAMLungSegError: its kinds say what was wrong with the volume, the prompts or the model; CancelledError
                when `cancelled` said so.
        """
        _ensureUsable("segment", settings)
        prompts = _prompts(volumeNode, points, negativePoints, boxes)
        job = SegmentVolumeJob(volumeNode, segmentationNode, Settings(**settings), keepEdits=keepEdits, **prompts)
        written = _written(job, job.run(progress, cancelled))
        if job.kept:
            logger.warning(
                "%d edited slices of %s are kept; keepEdits=False replaces them.", job.kept, written.GetName()
            )
        return written

    def segmentSlice(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        sliceView: slicer.vtkMRMLSliceNode | str = "Red",
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        *,
        points: Points = (),
        negativePoints: Points = (),
        boxes: Boxes = (),
        keepEdits: bool = True,
        **settings: object,
    ) -> slicer.vtkMRMLSegmentationNode:
        """Find the lungs in the slice that a view shows, in any orientation, and write them into its voxels only.

        Example:
            >>> logic.segmentSlice(volumeNode, "Green", segmentationNode, negativePoints=markupsNode)

        Args:
            volumeNode: CT or X-ray.
            sliceView: name of the view ('Red', 'Green', 'Yellow') or its slice node.
            segmentationNode: where the lungs go; None makes a new one.
            points, negativePoints, boxes: as of `segmentVolume`; those that are not in the slice play no part. With
                boxes, nothing outside of them changes.
            keepEdits: whether what was painted in the slice stays, but for patches with a point in them; a warning
                says so.
            **settings: fields of `Settings`.
        Returns:
            The segmentation.
        Raises:
            SAMLungSegError: as `segmentVolume`, or the view does not show the volume.
        """
        _ensureUsable("segment", settings)
        prompts = _prompts(volumeNode, points, negativePoints, boxes)
        sliceNode, chosen = _sliceNode(sliceView), Settings(**settings)
        job = SegmentSliceJob(volumeNode, sliceNode, segmentationNode, chosen, keepEdits=keepEdits, **prompts)
        result = job.run()
        written = _written(job, result)
        if job.kept:
            logger.warning("What was painted in a slice of %s is kept; keepEdits=False replaces it.", written.GetName())
        for note in result.notes:
            logger.warning("%s", note)
        return written

    def propagate(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        sliceView: slicer.vtkMRMLSliceNode | str = "Red",
        *,
        progress: Progress | None = None,
        cancelled: Cancelled = lambda: False,
    ) -> tuple[int, ...]:
        """Carry what was corrected in slices along a view, by whatever means, to the other slices, in one step of undo.

        It starts from what `segmentVolume` has found; corrected and locked slices stay as they are.

        Example:
            >>> logic.propagate(volumeNode, segmentationNode, "Green")

        Args:
            volumeNode: CT.
            segmentationNode: its lungs, found by `segmentVolume` and corrected since.
            sliceView: name of a view along slices of the volume, or its slice node.
            progress: called with (slices done, slices in all).
            cancelled: asked between slices; nothing is written when it says so.
        Returns:
            Numbers of the slices that have changed, as that view's plane counts them.
        Raises:
            SAMLungSegError: nothing was found or corrected, or the view is oblique to the volume; CancelledError when
                `cancelled` said so.
        """
        job = PropagateJob(volumeNode, segmentationNode, _sliceNode(sliceView))
        result = job.run(progress, cancelled)
        _written(job, result)
        return result.changed_slices

    def evaluate(
        self,
        prediction: slicer.vtkMRMLNode,
        reference: slicer.vtkMRMLNode,
        volumeNode: slicer.vtkMRMLVolumeNode | None = None,
        *,
        toleranceMm: float = 2.0,
        csv: Path | str | None = None,
    ) -> EvaluationNodes:
        """Dice, Jaccard, surface distances and more for each lung, of each slice and of the whole volume.

        Example:
            >>> nodes = logic.evaluate(segmentationNode, referenceNode, csv="/data/slices.csv")
            >>> slicer.util.dataframeFromTable(nodes.summaryTable)

        Args:
            prediction: segmentation with lungs, or labelmap volume with 1 = right, 2 = left.
            reference: likewise; everything is measured on its grid.
            volumeNode: whose grid segmentations are read on; None for what they were segmented from.
            toleranceMm: of the surface Dice.
            csv: file to write the table of slices into as well.
        Returns:
            Tables, a chart, and the worst slices with a point to jump to (`bridge.jumpTo`).
        Raises:
            SAMLungSegError: something is no labelmap of lungs, or the two do not meet.
        """
        _ensureInstalled("evaluate")
        job = EvaluateJob(prediction, reference, volumeNode, toleranceMm=toleranceMm, csv=csv)
        return job.finish(job.run())

    def cardiothoracicRatio(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        *,
        modality: str | None = None,
    ) -> CardiothoracicNodes:
        """The heart's width by that of the chest on an X-ray, as a table and as lines in the views.

        Example:
            >>> table, heartLine, chestLine = logic.cardiothoracicRatio(volumeNode, logic.segmentVolume(volumeNode))
            >>> slicer.util.dataframeFromTable(table)["Cardiothoracic ratio"][0]

        Args:
            volumeNode: the X-ray.
            segmentationNode: with right and left lung, and perhaps a segment 'heart'.
            modality: 'XRAY' where the image looks like a CT slice.
        Raises:
            SAMLungSegError: it is no frontal X-ray, or a lung is missing.
        """
        _ensureInstalled("evaluate")
        job = CardiothoracicJob(volumeNode, segmentationNode, modality=modality)
        return job.finish(job.run())

    def segmentFolder(
        self,
        inputFolder: Path | str,
        outputFolder: Path | str,
        *,
        format: str | None = None,
        retryFailed: bool = False,
        progress: Progress | None = None,
        cancelled: Cancelled = lambda: False,
        **settings: object,
    ) -> slicer.vtkMRMLTableNode:
        """Segment all images below a folder into files, the same as `samlungseg batch FOLDER -o OUT` writes.

        One bad image never stops the others, and what is done stays: call it again to go on where it stopped. Nothing
        but the table comes into the scene.

        Example:
            >>> table = logic.segmentFolder("/data/cohort", "/data/lungs", format="nii.gz")
            >>> slicer.util.dataframeFromTable(table)

        Args:
            inputFolder: with image files and DICOM files, at any depth.
            outputFolder: another folder, made if it is not there.
            format: 'seg.nrrd', 'nrrd', 'nii.gz' or 'png'; None for PNG in, PNG out, and seg.nrrd else.
            retryFailed: whether images that failed before are tried again.
            progress: called with (images done, images in all).
            cancelled: asked between slices; what is done stays.
            **settings: fields of `Settings`.
        Returns:
            A table, one row for each image that has ended: id, state ('done' or 'failed'), reason, right_ml, left_ml,
            quality, flags, files and more.
        Raises:
            SAMLungSegError: the folders cannot be used, or the settings are wrong for every image.
        """
        _ensureUsable("batch", settings)
        job = FolderJob(inputFolder, outputFolder, Settings(**settings), format=format, retryFailed=retryFailed)
        return job.finish(job.run(progress, cancelled))


def _ensureUsable(feature: dependencies.Feature, settings: dict[str, Any]) -> None:
    """Make sure of consent and of what the model of these settings needs.

    Raises:
        SAMLungSegError: the terms of the bundled weights are not accepted; as `_ensureInstalled`.
    """
    model, weights = settings.get("model", Settings.model), settings.get("weights")
    consent.require(model, weights)
    _ensureInstalled(*dependencies.withModel(feature, model, weights))


def _ensureInstalled(*features: dependencies.Feature) -> None:
    """Ask to install what is missing, as the panel does.

    Raises:
        SAMLungSegError: the user declined, or it failed.
    """
    if not dependencies.ensure(*features):
        names = ", ".join(dependencies.missing(*features))
        raise SAMLungSegError(f"Python packages are missing ({names}); call again and agree to install them.")


def _written(job: SegmentVolumeJob | SegmentSliceJob | PropagateJob, result: object) -> slicer.vtkMRMLSegmentationNode:
    """The segmentation with the result; a progress callback may have changed the scene meanwhile."""
    segmentationNode = job.finish(result)
    if segmentationNode is None:
        raise VolumeError(job.target.discarded)
    return segmentationNode


def _prompts(
    volumeNode: slicer.vtkMRMLVolumeNode | None, points: Points, negativePoints: Points, boxes: Boxes
) -> dict[str, tuple]:
    rois = [boxes] if isinstance(boxes, slicer.vtkMRMLNode) else boxes
    return {
        "points": (*_voxels(points, volumeNode, True), *_voxels(negativePoints, volumeNode, False)),
        "boxes": bridge.boxesFromRois(rois, volumeNode) if rois else (),
    }


def _voxels(points: Points, volumeNode: slicer.vtkMRMLVolumeNode | None, positive: bool) -> tuple[VolumePoint, ...]:
    """Points of a node as far as they lie in the volume; positions as they are, so that wrong ones are refused."""
    if isinstance(points, slicer.vtkMRMLNode):
        return bridge.pointsFromMarkups(points, volumeNode, positive)
    if points is None or len(points) == 0:
        return ()
    from SAMLungSegLib import VolumePoint

    try:
        world = np.array([[*point, 1.0] for point in points], dtype=float).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise PromptError(
            f"Points {points!r} are not positions; give a markups node or a list of (R, A, S) in mm."
        ) from error
    ijk = world @ np.linalg.inv(bridge.ijkToWorldMatrix(volumeNode)).T
    return tuple(VolumePoint(tuple(voxel), positive) for voxel in ijk[:, :3].tolist())


def _sliceNode(sliceView: slicer.vtkMRMLSliceNode | str) -> slicer.vtkMRMLSliceNode:
    if not isinstance(sliceView, str):
        return sliceView
    views = {node.GetLayoutName(): node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    if sliceView not in views:
        raise GeometryError(f"There is no slice view '{sliceView}'; give one of {', '.join(sorted(views)) or 'none'}.")
    return views[sliceView]

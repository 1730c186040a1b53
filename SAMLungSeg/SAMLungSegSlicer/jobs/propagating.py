"""Corrections of some slices carried to the whole volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.interaction import Corrections, PropagatedVolume, Session
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.caches import imageOf
from SAMLungSegSlicer.jobs.targets import Target
from SAMLungSegSlicer.sessions import MergedLungs, sessionOf, writeVolume

if TYPE_CHECKING:
    from SAMLungSegLib.structures import ExtentChoice

_LUNGS = "both"
_EXTENT: ExtentChoice | None = None  # a volume of several slices is no X-ray


class PropagateJob:
    """What was corrected in the slices along a view, carried on: prepared and finished on the main thread, run on any.

    Attributes:
        target: the nodes; after `finish` its `discarded` says why a result was not written.

    Example:
        >>> job = PropagateJob(volumeNode, segmentationNode, sliceNode)
        >>> job.finish(job.run())
    """

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        sliceNode: slicer.vtkMRMLSliceNode,
    ) -> None:
        """Copy the lungs as they are.

        Args:
            volumeNode: CT.
            segmentationNode: its lungs.
            sliceNode: of a view along slices of the volume, in any of the three planes.
        Raises:
            PromptError: there are no lungs yet, or the view is oblique to the volume.
            VolumeError, GeometryError: as `bridge.storedLungs`, or the view does not show the volume.
        """
        self.target = Target(volumeNode, segmentationNode)
        cut = bridge.cutFromSliceNode(sliceNode, volumeNode)
        if segmentationNode is None:
            raise PromptError("There are no lungs to propagate corrections of; segment the volume first.")
        if cut.slice_number is None:
            raise PromptError(
                f"The {sliceNode.GetLayoutName()} view is oblique to the volume; turn it along the volume's slices "
                "(Slice controls > Rotate to volume plane), or choose another view."
            )
        session = sessionOf(volumeNode, segmentationNode)
        self._volume, self._plane = imageOf(volumeNode).volume, cut.plane
        self._stored = bridge.storedLungs(segmentationNode, volumeNode)
        self._editable_kji = bridge.editableVoxels(segmentationNode, volumeNode)
        self._written_kji = session.labels_kji.copy() if session.is_crossing(cut) else session.labels_kji
        self._automatic, self._locks, self._segmented = session.automatic, session.locks, session.plane
        self._session = session
        self._lungs: MergedLungs | None = None

    def run(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> PropagatedVolume:
        """Propagate, on any thread; nothing is written.

        Raises:
            PromptError: nothing was found automatically, or no slice of the plane was corrected.
            CancelledError: `cancelled` said so.
        """
        corrections = Corrections.of(
            self._stored.labelmap_kji(), self._written_kji, self._automatic, self._locks, self._segmented, self._plane
        )
        found = corrections.propagated(
            self._volume.array_kji, editable_kji=self._editable_kji, progress=progress, cancelled=cancelled
        )
        self._lungs = MergedLungs.of(found.merged, bridge.lungLabels(_LUNGS), self._stored, self._session)
        return found

    def isOutdated(self) -> bool:
        """Whether lungs, locks or the volume are not what they were when the job began."""
        volumeNode, segmentationNode = self.target.volumeNode, self.target.segmentationNode
        if not self.target.isThere() or bridge.stampOf(segmentationNode) != self._stored.stamp:
            return True
        return sessionOf(volumeNode, segmentationNode).locks != self._locks

    def finish(self, result: PropagatedVolume) -> slicer.vtkMRMLSegmentationNode | None:
        """Write what was propagated, as one step that can be undone.

        Returns:
            The segmentation; None, with nothing changed, when something is not what it was when the job began:
            `target.discarded` says why.
        """
        volumeNode = self.target.volumeNode

        def fill(node: slicer.vtkMRMLSegmentationNode, session: Session) -> None:
            writeVolume(session, self._lungs, volumeNode, node, _LUNGS, None, _EXTENT)

        if self.target.isThere() and self.isOutdated():
            self.target.discarded = _("The lungs were changed meanwhile: nothing is propagated, do it again.")
            return None
        return self.target.write(fill)

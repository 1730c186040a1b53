"""The slices of a volume in one row: how good they are said to be, locked, prompted, unlike the reference."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import slicer

from SAMLungSegLib.interaction import Timeline
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.sessions import sessionOf


class TimelineJob:
    """Read on the main thread, compared on any."""

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        prompts_ijk: Collection[np.ndarray] = (),
        referenceNode: slicer.vtkMRMLNode | None = None,
    ) -> None:
        """Copy the lungs.

        Args:
            volumeNode: CT.
            segmentationNode: its lungs.
            prompts_ijk: voxels (3,) with a point, or in the middle of a box.
            referenceNode: what the lungs are compared with, on whatever grid.
        Raises:
            VolumeError, GeometryError: as `bridge.storedLungs`.
        """
        session = sessionOf(volumeNode, segmentationNode)
        self.plane, self._locks, self._automatic = session.plane, session.locks, session.automatic
        self._prompted = [round(float(self.plane.ijk_to_nxy(ijk)[0])) for ijk in prompts_ijk]
        self._stored = bridge.storedLungs(segmentationNode, volumeNode)
        self._reference_kji = None
        if referenceNode is not None and referenceNode.IsA("vtkMRMLSegmentationNode"):
            self._reference_kji = bridge.labelmapFromNode(referenceNode, volumeNode).array_kji
        elif referenceNode is not None:
            reference_kji = slicer.util.arrayFromVolume(referenceNode)
            if reference_kji.shape == self.plane.size_kji:
                self._reference_kji = reference_kji.copy()

    def run(
        self, progress: Callable[..., None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> Timeline:
        """Compare, on any thread."""
        scores = () if self._automatic is None else self._automatic.scores
        return Timeline.of(
            self._stored.labelmap_kji(), self.plane, self._locks, scores, self._prompted, self._reference_kji
        )

"""What a preview shows: what was found in a slice, and what was drawn over it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs import SegmentSliceJob
from SAMLungSegSlicer.jobs.caches import imageOf
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, settingsOf
from SAMLungSegSlicer.promptnodes import promptsIn

if TYPE_CHECKING:
    import numpy as np

    from SAMLungSegLib.interaction import Patch, Predicted
    from SAMLungSegLib.provenance import Provenance
    from SAMLungSegLib.structures import ExtentChoice


@dataclass(frozen=True)
class Request:
    """What is predicted of one slice."""

    key: tuple  # equal requests have equal predictions
    job: SegmentSliceJob
    volumeNode: slicer.vtkMRMLScalarVolumeNode
    sliceNode: slicer.vtkMRMLSliceNode

    @classmethod
    def of(
        cls,
        parameters: SAMLungSegParameterNode,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        sliceNode: slicer.vtkMRMLSliceNode,
    ) -> Request:
        """What the prompts say of the slice that a view shows.

        Raises:
            SAMLungSegError: there is no such slice, or a prompt is not possible.
        """
        points, boxes = promptsIn(parameters, volumeNode)
        settings = settingsOf(parameters)
        job = SegmentSliceJob(volumeNode, sliceNode, None, settings, points=points, boxes=boxes)
        key = (imageOf(volumeNode).key, settings, frozenset(job.prompts.parts()))
        return cls(key, job, volumeNode, sliceNode)

    @property
    def place(self) -> tuple:
        """Tells the slice from others, of other volumes too."""
        return self.volumeNode, self.job.prompts.place


@dataclass(frozen=True)
class Held:
    """What can be accepted in one slice.

    Attributes:
        volumeNode, sliceNode: where it is shown.
        found: by a model, or nothing.
        request: what it was found for; None where nothing was.
        patches: drawn over it, in their order.
        labels: the structures that drawing may change.
    """

    volumeNode: slicer.vtkMRMLScalarVolumeNode
    sliceNode: slicer.vtkMRMLSliceNode
    found: Predicted
    request: Request | None = None
    patches: tuple[Patch, ...] = ()
    labels: tuple[int, ...] = ()

    @classmethod
    def nothing(cls, volumeNode: slicer.vtkMRMLScalarVolumeNode, sliceNode: slicer.vtkMRMLSliceNode) -> Held:
        """Of the slice that a view shows, to be drawn on.

        Raises:
            SAMLungSegError: the view shows no part of the volume.
        """
        from SAMLungSegLib.interaction import nothing_found

        return cls(volumeNode, sliceNode, nothing_found(bridge.cutFromSliceNode(sliceNode, volumeNode)))

    @property
    def place(self) -> tuple:
        """Tells the slice from others, of other volumes too."""
        return self.volumeNode, self.found.prompts.place

    @property
    def isEmpty(self) -> bool:
        """Whether there is nothing to accept."""
        return self.request is None and not self.patches

    @property
    def provenance(self) -> Provenance | None:
        """How a model found it."""
        return self.request and self.request.job.provenance

    @property
    def extent(self) -> ExtentChoice | None:
        """Of the lungs on an X-ray that a model has found."""
        return self.request and self.request.job.extent

    def alone(self) -> Held:
        """What was drawn, without what it was drawn over."""
        from SAMLungSegLib.interaction import nothing_found

        return replace(self, found=nothing_found(self.found.prompts.reformat), request=None)

    def over(self, request: Request, found: Predicted) -> Held:
        """What was drawn, over something else that was found in the slice."""
        return replace(self, sliceNode=request.sliceNode, found=found, request=request)

    def predicted(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> Predicted:
        """All of it, for the session that says what is written of it."""
        if not self.patches:
            return self.found
        from SAMLungSegLib.interaction import with_patches

        present_hw = self.found.labels_hw if self.request is None else self.present(segmentationNode)
        return with_patches(self.found, self.patches, present_hw, self.labels)

    def present(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> np.ndarray:
        """Uint8 (H, W): the slice as it is in a segmentation; empty where it is to come."""
        import numpy as np

        cut = self.found.prompts.reformat
        if segmentationNode is None or not bridge.stampOf(segmentationNode):
            return np.zeros(cut.size_hw, np.uint8)
        return bridge.readCut(segmentationNode, cut, self.volumeNode)

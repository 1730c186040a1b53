"""Live preview: prompts are predicted from at once, in their slice; nothing is written before the user accepts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk

from SAMLungSegLib.errors import PromptError, SAMLungSegError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import SEGMENT, Context
from SAMLungSegSlicer.jobs import SegmentSliceJob
from SAMLungSegSlicer.jobs.caches import imageOf
from SAMLungSegSlicer.live.node import PreviewNode
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, boxNodes, settingsOf, sliceNodeOf
from SAMLungSegSlicer.promptnodes import PROMPT_EVENTS, VOLUME_EVENTS, hasPrompts, promptsIn
from SAMLungSegSlicer.runtime import dependencies
from SAMLungSegSlicer.sessions import oneStep, proposed, sessionOf, writeSlice
from SAMLungSegSlicer.watching import Watched, Watcher

if TYPE_CHECKING:
    from SAMLungSegLib.interaction import Predicted, Proposal, Session
    from SAMLungSegLib.pipeline import SliceSegmentation

CHANNEL = "preview"
SEGMENTATION_EVENTS = (
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
)

logger = logging.getLogger(__name__)


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

    def isSameSlice(self, other: Request) -> bool:
        """Whether both are about the same voxels."""
        return self.volumeNode is other.volumeNode and self.job.prompts.place == other.job.prompts.place


class PreviewController(Watcher):
    """Watches the prompts, the slice view and the volume, and keeps the preview of the slice up to date.

    One request is under way at a time; what changes meanwhile is predicted next, so that dragging shows each prediction
    that is ready instead of none. MRML is touched on the main thread only.
    """

    def __init__(self, context: Context, unavailableReason: Callable[[], str]) -> None:
        """Watches nothing before `refresh`.

        Args:
            context: of the module.
            unavailableReason: says why the chosen model cannot predict; empty where it can.
        """
        super().__init__()
        self._context = context
        self._unavailableReason = unavailableReason
        self._node = PreviewNode()
        self._requested: Request | None = None
        self._isImporting = self._isWaiting = False
        self._prediction: tuple[Request, Predicted] | None = None
        self._shownOver: tuple = ()
        self._allowed: set[dependencies.Feature] = set()
        self._timer = qt.QTimer()  # gathers the many events of one change
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._predict)

    @property
    def isShown(self) -> bool:
        """Whether there is something that can be accepted."""
        return self._prediction is not None

    @property
    def node(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The node that shows it."""
        return self._node.node

    @property
    def isAllowed(self) -> bool:
        """Whether packages of the chosen model may be imported: they are there, or the user agreed to install them."""
        return self._context.segmenting in self._allowed

    def enter(self) -> None:
        """Begin if nothing has to be installed; else wait until the user has agreed in an action (`allow`)."""
        self._allowed |= {feature for feature in ("segment", "sam") if not dependencies.missing(feature)}

    def allow(self) -> None:
        """Packages of the chosen model are there now."""
        self._allowed.add(self._context.segmenting)
        self.refresh()

    def refresh(self) -> None:
        """Follow nodes that are new or gone, and predict again if something has changed."""
        parameters = self._context.parameters
        if parameters is None:
            self.exit()
            return
        nodes = [
            parameters.inputVolume,
            parameters.outputSegmentation,
            sliceNodeOf(parameters),
            parameters.positivePoints,
            parameters.negativePoints,
            *boxNodes(parameters),
        ]
        self.watch(*(Watched(node, _events(node), self._onEvent) for node in nodes if node is not None))
        self._timer.start()

    def exit(self) -> None:
        """Watch nothing and show nothing."""
        self._timer.stop()
        self.watch()
        self._context.worker.cancel(CHANNEL)
        self._requested = self._prediction = None
        self._node.remove()

    def accept(self) -> int:
        """Write what is shown into the output segmentation, in a way that can be undone.

        Returns:
            How many pixels stay as they were painted.
        """
        (request, predicted), parameters = self._prediction, self._context.parameters
        volumeNode = request.volumeNode
        with oneStep(volumeNode, parameters.outputSegmentation) as (segmentationNode, session):
            proposal = self._proposed(session, predicted, volumeNode, segmentationNode)
            writeSlice(session, proposal, volumeNode, segmentationNode, request.job.provenance, request.job.extent)
        parameters.outputSegmentation = segmentationNode
        self._clear()
        return proposal.kept_pixels

    def discard(self) -> None:
        """Show nothing until a prompt changes; the segmentation stays as it is."""
        request, predicted = self._prediction
        session = self._sessionOf(request.volumeNode)
        session.hold(predicted)
        session.discard()
        self._clear()

    def invalidate(self) -> None:
        """The slice was segmented with its prompts: what is shown is out of date."""
        if self._prediction is not None:
            self.discard()

    def reactivate(self) -> None:
        """Predict again where undo has made prompts pending again."""
        self._requested = None
        self.refresh()

    def _sessionOf(self, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> Session:
        return sessionOf(volumeNode, self._context.parameters.outputSegmentation)

    def _proposed(
        self,
        session: Session,
        predicted: Predicted,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
    ) -> Proposal:
        keep = self._context.parameters.keepEdits
        return proposed(session, predicted, volumeNode, segmentationNode, keep=keep, pendingOnly=True)

    def _onEvent(self, _node: Any, _event: object) -> None:
        self._timer.start()

    def _predict(self) -> None:
        if self._prediction is None and not self._isWanted():
            self._requested = None
        elif self.isAllowed and not self._isImporting:
            self._isImporting = True
            self._context.afterImport(
                self._context.segmentingModules,
                CHANNEL,
                self._onImported,
                failed=self._onImportFailed,
                cancelled=self._onImportCancelled,
            )

    def _onImported(self) -> None:
        self._isImporting = False
        with self._context.guarded():
            self._predictSlice()

    def _onImportFailed(self, error: BaseException) -> None:
        self._isImporting = False
        self._allowed.clear()
        self._context.show(error)

    def _onImportCancelled(self) -> None:
        self._isImporting = False
        self.refresh()

    def _isWanted(self) -> bool:
        """Whether there is something to preview in any slice."""
        parameters = self._context.parameters
        if parameters is None or not parameters.livePreview:
            return False
        return hasPrompts(parameters) and not self._unavailableReason()

    def _predictSlice(self) -> None:
        wanted = self._wanted()
        if self._prediction is not None and (wanted is None or not wanted.isSameSlice(self._prediction[0])):
            self._clear()
        if self._prediction is not None and self._shownOver != self._underlay():
            self._show(*self._prediction)
        if wanted is None:
            self._requested = None
        elif (self._requested is None or wanted.key != self._requested.key) and not self._mustWait():
            self._submit(wanted)

    def _mustWait(self) -> bool:
        """Whether the thread is busy with something whose end brings us here again."""
        return self._isWaiting or self._context.worker.isBusy(SEGMENT)

    def _submit(self, request: Request) -> None:
        self._requested = request
        self._isWaiting = True
        self._context.worker.submit(
            request.job.run,
            channel=CHANNEL,
            done=partial(self._onDone, request),
            failed=self._onFailed,
            cancelled=self._onCancelled,
        )

    def _onDone(self, request: Request, result: SliceSegmentation) -> None:
        self._isWaiting = False
        wanted = self._wanted()
        if wanted is not None and wanted.isSameSlice(request):
            with self._context.guarded():
                self._prediction = request, request.job.predicted(result)
                self._show(*self._prediction)
                self._context.changed()
        self._predict()

    def _onFailed(self, error: BaseException) -> None:
        self._isWaiting = False
        self._clear()
        self._context.show(error)

    def _onCancelled(self) -> None:
        self._isWaiting = False

    def _show(self, request: Request, predicted: Predicted) -> None:
        volumeNode, segmentationNode = request.volumeNode, self._context.parameters.outputSegmentation
        proposal = self._proposed(self._sessionOf(volumeNode), predicted, volumeNode, segmentationNode)
        self._node.show(proposal.shown_hw, proposal.prompts, volumeNode, request.sliceNode)
        self._shownOver = self._underlay()

    def _underlay(self) -> tuple:
        """What changes when the same prediction would change other voxels."""
        parameters = self._context.parameters
        node = parameters.outputSegmentation
        return node, node and bridge.stampOf(node), parameters.keepEdits

    def _clear(self) -> None:
        hadPrediction, self._prediction = self._prediction is not None, None
        self._node.hide()
        if hadPrediction:
            self._context.changed()

    def _wanted(self) -> Request | None:
        """What would be predicted now; None where there is nothing to preview."""
        parameters = self._context.parameters
        if not self._isWanted():
            return None
        volumeNode, sliceNode = parameters.inputVolume, sliceNodeOf(parameters)
        if sliceNode is None or not slicer.mrmlScene.IsNodePresent(volumeNode):
            return None
        try:
            request = Request.of(parameters, volumeNode, sliceNode)
            return request if self._sessionOf(volumeNode).is_pending(request.job.prompts) else None
        except PromptError as error:
            self._context.say("⚠ " + str(error))
        except SAMLungSegError as error:  # such as a view beside the volume; an action says so to the user
            logger.debug("No preview: %s", error)
        return None


def _events(node: slicer.vtkMRMLNode) -> tuple[int, ...]:
    if node.IsA("vtkMRMLMarkupsNode"):
        return PROMPT_EVENTS
    if node.IsA("vtkMRMLSegmentationNode"):
        return SEGMENTATION_EVENTS
    return VOLUME_EVENTS if node.IsA("vtkMRMLVolumeNode") else (vtk.vtkCommand.ModifiedEvent,)

"""Live preview: prompts are predicted from at once, in their slice; nothing is written before the user accepts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from SAMLungSegLib.errors import PromptError, SAMLungSegError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import SEGMENT, Context
from SAMLungSegSlicer.live.held import Held, Request
from SAMLungSegSlicer.live.node import PreviewNode
from SAMLungSegSlicer.parameters import boxNodes, sliceNodeOf
from SAMLungSegSlicer.promptnodes import PROMPT_EVENTS, VOLUME_EVENTS, hasPrompts
from SAMLungSegSlicer.runtime import dependencies
from SAMLungSegSlicer.sessions import oneStep, proposed, sessionOf, writeSlice
from SAMLungSegSlicer.watching import Watched, Watcher

if TYPE_CHECKING:
    import numpy as np

    from SAMLungSegLib.interaction import Predicted, Proposal, Session, Stroke
    from SAMLungSegLib.pipeline import SliceSegmentation

CHANNEL = "preview"
SEGMENTATION_EVENTS = (
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
)

logger = logging.getLogger(__name__)


class PreviewController(Watcher):
    """Watches the prompts, the slice view and the volume, and keeps the preview of the slice up to date.

    Attributes:
        isWriting: whether `accept` is changing the segmentation.

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
        self._held: Held | None = None
        self.isWriting = False
        self._shownOver: tuple = ()
        self._seen_hw: np.ndarray | None = None  # the slice as the preview shows it
        self._allowed: set[dependencies.Feature] = set()
        self._timer = qt.QTimer()  # gathers the many events of one change
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._predict)

    @property
    def isShown(self) -> bool:
        """Whether there is something that can be accepted."""
        return self._held is not None

    @property
    def hasStrokes(self) -> bool:
        """Whether any of it was drawn."""
        return self._held is not None and bool(self._held.patches)

    @property
    def node(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The node that shows it."""
        return self._node.node

    @property
    def isAllowed(self) -> bool:
        """Whether the chosen model may be used: its terms are accepted, its packages are there or will be installed."""
        return self._context.segmenting in self._allowed and not self._context.needsConsent

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
        self._requested = self._held = None
        self._node.remove()

    def accept(self) -> int:
        """Write what is shown into the output segmentation, in a way that can be undone.

        Returns:
            How many pixels stay as they were painted.
        """
        held, parameters = self._held, self._context.parameters
        isOfOutput = held.volumeNode is parameters.inputVolume
        output = parameters.outputSegmentation if isOfOutput else None
        self.isWriting = True
        try:
            with oneStep(held.volumeNode, output) as (segmentationNode, session):
                proposal = self._proposed(session, held, segmentationNode)
                self._write(session, held, proposal, segmentationNode)
        finally:
            self.isWriting = False
        if isOfOutput:
            parameters.outputSegmentation = segmentationNode
        self._clear()
        return proposal.kept_pixels

    def settle(self) -> None:
        """Write what was drawn before something else takes its place: the user has seen it."""
        if self.hasStrokes:
            self.accept()
            self._context.say(_("What was drawn is written; Undo takes it back."))

    def draw(self, sliceNode: slicer.vtkMRMLSliceNode, stroke: Stroke) -> None:
        """Draw with brush or lasso in the slice that a view shows, over what is shown or over the lungs there.

        Raises:
            SAMLungSegError: the view shows no part of the volume.
        """
        from SAMLungSegLib.interaction import Patch

        parameters = self._context.parameters
        empty = Held.nothing(parameters.inputVolume, sliceNode)
        if self._held is not None and self._held.place != empty.place:
            self.settle()
            self._clear()
        held, labels = self._held or empty, bridge.lungLabels(parameters.lungs)
        seen_hw = held.present(parameters.outputSegmentation) if self._held is None else self._seen_hw
        patch = Patch.of(stroke, held.found.prompts.reformat, seen_hw, labels)
        if patch.mask_hw.any():
            self._hold(replace(held, patches=(*held.patches, patch), labels=labels))
        else:
            self._context.say(_("The line holds no pixel of the slice; draw around what is to change."))

    def undoStroke(self) -> bool:
        """Take the last stroke back; whether there was any."""
        if not self.hasStrokes:
            return False
        self._hold(replace(self._held, patches=self._held.patches[:-1]))
        return True

    def discard(self) -> None:
        """Show nothing until a prompt changes; the segmentation stays as it is."""
        session = self._sessionOf(self._held.volumeNode)
        session.hold(self._held.predicted(self._context.parameters.outputSegmentation))
        session.discard()
        self._clear()

    def invalidate(self) -> None:
        """The slice was segmented with its prompts: what is shown is out of date, but for what was drawn."""
        if self.hasStrokes:
            self._hold(self._held.alone())
        elif self._held is not None:
            self.discard()

    def reactivate(self) -> None:
        """Predict again where undo has made prompts pending again."""
        self._requested = None
        self.refresh()

    def _sessionOf(self, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> Session:
        return sessionOf(volumeNode, self._context.parameters.outputSegmentation)

    def _proposed(
        self, session: Session, held: Held, segmentationNode: slicer.vtkMRMLSegmentationNode | None
    ) -> Proposal:
        predicted, keep = held.predicted(segmentationNode), self._context.parameters.keepEdits
        return proposed(session, predicted, held.volumeNode, segmentationNode, keep=keep, pendingOnly=True)

    def _write(
        self, session: Session, held: Held, proposal: Proposal, segmentationNode: slicer.vtkMRMLSegmentationNode
    ) -> None:
        writeSlice(session, proposal, held.volumeNode, segmentationNode, held.provenance, held.extent)

    def _onEvent(self, _node: Any, _event: object) -> None:
        self._timer.start()

    def _predict(self) -> None:
        if self._held is None and not self._isWanted():
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
        if self._held is not None and (wanted is None or wanted.place != self._held.place):
            self._giveWay(wanted)
        if self._held is not None and self._shownOver != self._underlay():
            self._show()
        if wanted is None:
            self._requested = None
        elif (self._requested is None or wanted.key != self._requested.key) and not self._mustWait():
            self._submit(wanted)

    def _giveWay(self, wanted: Request | None) -> None:
        """What is shown is not of the slice and the prompts that are worked on; what was drawn is not lost."""
        if not self.hasStrokes:
            self._clear()
        elif wanted is not None or self._held.volumeNode is not self._context.parameters.inputVolume:
            self.settle()
            self._clear()
        elif self._held.request is not None and self._isInView():
            self._hold(self._held.alone())  # its prompts were removed

    def _isInView(self) -> bool:
        try:
            return Held.nothing(self._held.volumeNode, sliceNodeOf(self._context.parameters)).place == self._held.place
        except SAMLungSegError:  # the view has left the volume
            return False

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
        if wanted is not None and wanted.place == request.place:
            with self._context.guarded():
                held = self._held if self._held is not None and self._held.place == request.place else None
                held = held or Held.nothing(request.volumeNode, request.sliceNode)
                predicted = request.job.predicted(result)
                if not predicted.objection:
                    self._hold(held.over(request, predicted))
                else:
                    self._refuse(held, predicted)
        self._predict()

    def _refuse(self, held: Held, predicted: Predicted) -> None:
        """What does not follow the clicks is not shown as an answer to them; what was drawn stays."""
        self._hold(held.alone())
        self._context.say("⚠ " + predicted.objection)

    def _onFailed(self, error: BaseException) -> None:
        self._isWaiting = False
        self._clear()
        self._context.show(error)

    def _onCancelled(self) -> None:
        self._isWaiting = False

    def _hold(self, held: Held) -> None:
        if held.isEmpty:
            self._clear()
            return
        self._held = held
        self._show()
        self._context.changed()

    def _show(self) -> None:
        held, segmentationNode = self._held, self._context.parameters.outputSegmentation
        proposal = self._proposed(self._sessionOf(held.volumeNode), held, segmentationNode)
        self._seen_hw = proposal.labels_hw
        self._node.show(proposal.shown_hw, proposal.prompts, held.volumeNode, held.sliceNode)
        self._shownOver = self._underlay()

    def _underlay(self) -> tuple:
        """What changes when the same prediction would change other voxels."""
        parameters = self._context.parameters
        node = parameters.outputSegmentation
        return node, node and bridge.stampOf(node), parameters.keepEdits

    def _clear(self) -> None:
        wasShown, self._held = self._held is not None, None
        self._node.hide()
        if wasShown:
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

"""Live preview: a changed prompt is answered at once, in its slice; nothing is written before the user accepts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.bridge.history import historyOf
from SAMLungSegSlicer.context import SEGMENT, SEGMENTING, Context
from SAMLungSegSlicer.edits import changeableBy, noteWritten
from SAMLungSegSlicer.jobs import SegmentSliceJob, Settings
from SAMLungSegSlicer.live.node import PreviewNode
from SAMLungSegSlicer.live.prompts import SlicePrompts
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, boxNodes, settingsOf, sliceNodeOf
from SAMLungSegSlicer.promptnodes import PROMPT_EVENTS, VOLUME_EVENTS, hasPrompts, promptsIn
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    import numpy as np

    from SAMLungSegLib import VolumeBox, VolumePoint
    from SAMLungSegLib.pipeline import SliceSegmentation

CHANNEL = "preview"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What is asked of one slice."""

    key: tuple  # equal requests have equal answers
    prompts: SlicePrompts
    volumeNode: slicer.vtkMRMLScalarVolumeNode
    sliceNode: slicer.vtkMRMLSliceNode
    settings: Settings
    points: tuple[VolumePoint, ...]
    boxes: tuple[VolumeBox, ...]

    @classmethod
    def of(
        cls,
        parameters: SAMLungSegParameterNode,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        sliceNode: slicer.vtkMRMLSliceNode,
    ) -> Request:
        """What the prompts ask of the slice that a view shows.

        Raises:
            SAMLungSegError: there is no such slice.
        """
        points, boxes = promptsIn(parameters, volumeNode)
        prompts = SlicePrompts.of(bridge.cutFromSliceNode(sliceNode, volumeNode), points, boxes)
        settings = settingsOf(parameters)
        image = (volumeNode.GetID(), volumeNode.GetImageData().GetMTime())
        key = (image, bridge.ijkToWorldMatrix(volumeNode).tobytes(), settings, frozenset(prompts.parts()))
        return cls(key, prompts, volumeNode, sliceNode, settings, points, boxes)

    @property
    def sliceKey(self) -> tuple:
        """Equal where the same is found without prompts."""
        return (*self.key[:3], self.prompts.place)

    def isSameSlice(self, other: Request) -> bool:
        """Whether both ask about the same voxels."""
        return self.volumeNode is other.volumeNode and self.prompts.place == other.prompts.place


@dataclass(frozen=True)
class Answer:
    """What is shown, and written if it is accepted."""

    request: Request
    labels_hw: np.ndarray
    insideMask_hw: np.ndarray | None
    automatic_hw: np.ndarray | None = None  # what is found without any prompt, where points were placed

    @property
    def lungs(self) -> str:
        """The lungs that are written.

        A model that answers prompts only says nothing about a lung that no point is in.
        """
        asked, shown = self.request.settings.lungs, set(self.labels_hw[self.labels_hw > 0].tolist())
        isPartial = MODELS[self.request.settings.model].capabilities.needs_prompt and len(shown) == 1
        if asked != "both" or not isPartial:
            return asked
        return "right" if shown == {1} else "left"


class PreviewController(VTKObservationMixin):
    """Watches the prompts, the slice view and the volume, and keeps the preview of the slice up to date.

    One request is under way at a time; what changes meanwhile is asked next, so that dragging shows every answer that
    is ready instead of none. MRML is touched on the main thread only.
    """

    def __init__(self, context: Context, reasonAgainstModel: Callable[[], str]) -> None:
        """Watches nothing before `refresh`.

        Args:
            context: of the module.
            reasonAgainstModel: says why the chosen model cannot answer; empty where it can.
        """
        super().__init__()
        self._context = context
        self._reasonAgainstModel = reasonAgainstModel
        self._node = PreviewNode()
        self._watched: list[Any] = []
        self._asked: Request | None = None
        self._isImporting = self._isWaiting = False
        self._answer: Answer | None = None
        self._automatic: tuple[tuple, np.ndarray | None] = (), None  # of the slice that was asked about last
        self._volumeNode: slicer.vtkMRMLScalarVolumeNode | None = None
        self._done: set[tuple] = set()  # parts of answers that were accepted or discarded
        self._isAllowed = False
        self._timer = qt.QTimer()  # gathers the many events of one change
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._ask)

    @property
    def answer(self) -> Answer | None:
        """What is shown and can be accepted."""
        return self._answer

    @property
    def node(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The node that shows it."""
        return self._node.node

    @property
    def isAllowed(self) -> bool:
        """Whether packages may be imported: they are there, or the user has agreed to install them."""
        return self._isAllowed

    def enter(self) -> None:
        """Begin if nothing has to be installed; else wait until the user has agreed in an action (`allow`)."""
        self._isAllowed = self._isAllowed or not dependencies.missing("segment")

    def allow(self) -> None:
        """Packages are there now."""
        self._isAllowed = True
        self.refresh()

    def refresh(self) -> None:
        """Follow nodes that are new or gone, and ask again if something has changed."""
        parameters = self._context.parameters
        if parameters is None:
            self.exit()
            return
        if parameters.inputVolume is not self._volumeNode:
            self._volumeNode = parameters.inputVolume
            self._done.clear()
        self._watch(
            [
                parameters.inputVolume,
                sliceNodeOf(parameters),
                parameters.positivePoints,
                parameters.negativePoints,
                *boxNodes(parameters),
            ]
        )
        self._timer.start()

    def exit(self) -> None:
        """Watch nothing and show nothing."""
        self._timer.stop()
        self._watch([])
        self._context.worker.cancel(CHANNEL)
        self._asked = self._answer = None
        self._node.remove()

    def accept(self) -> None:
        """Write what is shown into the output segmentation, in a way that can be undone."""
        answer, parameters = self._answer, self._context.parameters
        volumeNode = answer.request.volumeNode
        segmentationNode = bridge.ensureSegmentation(volumeNode, parameters.outputSegmentation)
        historyOf(segmentationNode).save()
        cut, inside_hw = answer.request.prompts.cut, answer.insideMask_hw
        if inside_hw is None:  # a box says itself what is to be drawn anew
            inside_hw = changeableBy(
                answer.request.prompts, answer.labels_hw, answer.automatic_hw, segmentationNode, volumeNode
            )
        bridge.writeCut(segmentationNode, answer.labels_hw, cut, volumeNode, answer.lungs, inside_hw)
        noteWritten(segmentationNode, cut, volumeNode, inside_hw)
        parameters.outputSegmentation = segmentationNode
        self.discard()

    def discard(self) -> None:
        """Show nothing until a prompt changes; the segmentation stays as it is."""
        self._done.update(self._answer.request.prompts.parts())
        self._clear()

    def settle(self) -> None:
        """The slice was segmented with its prompts: what is shown is out of date."""
        if self._answer is not None:
            self.discard()

    def reopen(self) -> None:
        """Answer prompts again that were accepted or discarded, as after undo."""
        self._done.clear()
        self._asked = None
        self.refresh()

    def _watch(self, nodes: list[Any]) -> None:
        wanted = [node for node in nodes if node is not None]
        if wanted == self._watched:
            return
        self.removeObservers()
        self._watched = wanted
        for node in wanted:
            for event in _events(node):
                self.addObserver(node, event, self._onEvent)

    def _onEvent(self, _node: Any, _event: object) -> None:
        self._timer.start()

    def _ask(self) -> None:
        if self._answer is None and not self._isWanted():
            self._asked = None
        elif self._isAllowed and not self._isImporting:
            self._isImporting = True
            self._context.afterImport(
                SEGMENTING,
                CHANNEL,
                self._onImported,
                failed=self._onImportFailed,
                cancelled=self._onImportCancelled,
            )

    def _onImported(self) -> None:
        self._isImporting = False
        with self._context.guarded():
            self._askOfSlice()

    def _onImportFailed(self, error: BaseException) -> None:
        self._isImporting = self._isAllowed = False
        self._context.show(error)

    def _onImportCancelled(self) -> None:
        self._isImporting = False
        self.refresh()

    def _isWanted(self) -> bool:
        """Whether there is something to preview in any slice."""
        parameters = self._context.parameters
        if parameters is None or not parameters.livePreview:
            return False
        return hasPrompts(parameters) and not self._reasonAgainstModel()

    def _askOfSlice(self) -> None:
        wanted = self._wanted()
        if self._answer is not None and (wanted is None or not wanted.isSameSlice(self._answer.request)):
            self._clear()
        if wanted is None:
            self._asked = None
        elif (self._asked is None or wanted.key != self._asked.key) and not self._mustWait():
            self._submit(wanted)

    def _mustWait(self) -> bool:
        """Whether the thread is busy with something whose end brings us here again."""
        return self._isWaiting or self._context.worker.isBusy(SEGMENT)

    def _submit(self, request: Request) -> None:
        self._asked = request
        job = SegmentSliceJob(
            request.volumeNode,
            request.sliceNode,
            None,
            request.settings,
            points=request.points,
            boxes=request.boxes,
        )
        self._isWaiting = True
        self._context.worker.submit(
            partial(_previewed, job, request, self._automatic),
            channel=CHANNEL,
            done=partial(self._onDone, request),
            failed=self._onFailed,
            cancelled=self._onCancelled,
        )

    def _onDone(self, request: Request, results: tuple[SliceSegmentation, np.ndarray | None]) -> None:
        self._isWaiting = False
        result, automatic_hw = results
        self._automatic = request.sliceKey, automatic_hw
        wanted = self._wanted()
        if wanted is not None and wanted.isSameSlice(request):
            with self._context.guarded():
                self._show(request, result.labels_hw, automatic_hw)
        self._ask()

    def _onFailed(self, error: BaseException) -> None:
        self._isWaiting = False
        self._clear()
        self._context.show(error)

    def _onCancelled(self) -> None:
        self._isWaiting = False

    def _show(self, request: Request, labels_hw: np.ndarray, automatic_hw: np.ndarray | None) -> None:
        mask_hw = request.prompts.insideMask(self._done)
        shown_hw = labels_hw if mask_hw is None else labels_hw * mask_hw
        self._answer = Answer(request, labels_hw, mask_hw, automatic_hw)
        self._node.show(shown_hw, request.prompts, request.volumeNode, request.sliceNode)
        self._context.changed()

    def _clear(self) -> None:
        hadAnswer, self._answer = self._answer is not None, None
        self._node.hide()
        if hadAnswer:
            self._context.changed()

    def _wanted(self) -> Request | None:
        """What would be asked now; None where there is nothing to preview."""
        parameters = self._context.parameters
        if not self._isWanted():
            return None
        volumeNode, sliceNode = parameters.inputVolume, sliceNodeOf(parameters)
        if sliceNode is None or not slicer.mrmlScene.IsNodePresent(volumeNode):
            return None
        try:
            request = Request.of(parameters, volumeNode, sliceNode)
        except SAMLungSegError as error:  # such as a view beside the volume; an action says so to the user
            logger.debug("No preview: %s", error)
            return None
        return None if self._done.issuperset(request.prompts.parts()) else request


def _previewed(
    job: SegmentSliceJob, request: Request, known: tuple[tuple, np.ndarray | None], *hooks: Callable[..., Any]
) -> tuple[SliceSegmentation, np.ndarray | None]:
    """The answer and, where points are in the slice, what is found without them; on any thread."""
    result, (sliceKey, automatic_hw) = job.run(*hooks), known
    if not request.prompts.points_xy:
        return result, None
    if sliceKey != request.sliceKey or automatic_hw is None:
        automatic_hw = job.withoutPrompts()
    return result, automatic_hw


def _events(node: slicer.vtkMRMLNode) -> tuple[int, ...]:
    if node.IsA("vtkMRMLMarkupsNode"):
        return PROMPT_EVENTS
    return VOLUME_EVENTS if node.IsA("vtkMRMLVolumeNode") else (vtk.vtkCommand.ModifiedEvent,)

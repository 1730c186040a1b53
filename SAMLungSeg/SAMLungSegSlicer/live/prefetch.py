"""While nothing else is to be done, slices are encoded before the user asks about them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import Context
from SAMLungSegSlicer.jobs import EncodeAheadJob, Settings
from SAMLungSegSlicer.jobs.caches import imageOf
from SAMLungSegSlicer.live.preview import PreviewController
from SAMLungSegSlicer.parameters import settingsOf, sliceNodeOf
from SAMLungSegSlicer.watching import Watched, Watcher

if TYPE_CHECKING:
    from SAMLungSegLib.pipeline.prefetch import SliceQueue
    from SAMLungSegLib.volume import SlicePlane

CHANNEL = "ahead"
QUIET_MS = 500  # without a change or a prediction before encoding goes on, so that dragging a prompt is not held up

_VOLUME_EVENTS = (
    slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
    slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stack:
    """The slices of one volume under one choice of settings, and which of them are still to be encoded."""

    key: tuple  # equal keys have equal embeddings
    plane: SlicePlane
    queue: SliceQueue

    @property
    def count(self) -> int:
        """Slices in all."""
        return self.plane.size_nhw[0]


class AheadController(Watcher):
    """Keeps the worker encoding the slices of the input volume, from the one in the slice view on.

    Any other work comes first: the worker stops the encoding for it after the slice that is under way, and encoding
    goes on when all has been quiet for a while. MRML is touched on the main thread only.
    """

    def __init__(self, context: Context, preview: PreviewController, unavailableReason: Callable[[], str]) -> None:
        """Does nothing before `refresh`.

        Args:
            context: of the module.
            preview: which comes sooner for it, and knows whether packages may be imported.
            unavailableReason: says why the chosen model cannot predict; empty where it can.
        """
        super().__init__()
        self._context = context
        self._preview = preview
        self._unavailableReason = unavailableReason
        self._stack: Stack | None = None
        self._isImporting = False
        self._failed: tuple | None = None  # what was tried in vain, and is not tried again before the module is left
        self._tip = context.ui.livePreviewCheckBox.toolTip
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.connect("timeout()", self._onQuiet)

    def refresh(self) -> None:
        """Begin, go on with other slices, or stop, as the parameters ask; a moment later."""
        if not self._isWanted():
            self._stop()
            return
        parameters = self._context.parameters
        self.watch(
            Watched(parameters.inputVolume, _VOLUME_EVENTS, self._onVolume),
            Watched(sliceNodeOf(parameters), (vtk.vtkCommand.ModifiedEvent,), self._onView),
        )
        self._timer.start()

    def exit(self) -> None:
        """Stop after the slice that is under way, and watch nothing."""
        self._stop()
        self._failed = None

    def _stop(self) -> None:
        self._timer.stop()
        self.watch()
        self._context.worker.cancel(CHANNEL)
        self._context.ui.livePreviewCheckBox.toolTip = self._tip

    def _isWanted(self) -> bool:
        """Whether the user gains by it."""
        parameters = self._context.parameters
        if parameters is None or parameters.inputVolume is None or not parameters.livePreview:
            return False
        if not MODELS[parameters.model].capabilities.encodes_slowly or not self._preview.isAllowed:
            return False
        return not self._unavailableReason() and self._choice() != self._failed

    def _choice(self) -> tuple[str, Settings]:
        """The volume, and the settings without those that play no part in embeddings."""
        parameters = self._context.parameters
        return parameters.inputVolume.GetID(), replace(
            settingsOf(parameters), lungs="both", threshold=0.5, extent="visible"
        )

    def _onVolume(self, _node: Any, _event: object) -> None:
        self._timer.start()

    def _onView(self, _node: Any, _event: object) -> None:
        if self._stack is not None:
            self._look(self._stack)

    def _look(self, stack: Stack) -> None:
        index = self._visible(stack.plane)
        if index is not None:
            stack.queue.set_visible(index)

    def _onQuiet(self) -> None:
        if self._isWanted() and not self._isImporting:
            self._isImporting = True
            failed = partial(self._onFailed, self._choice())
            modules = self._context.segmentingModules
            self._context.afterImport(modules, CHANNEL, self._onImported, failed=failed, cancelled=self._onCancelled)

    def _onImported(self) -> None:
        self._isImporting = False
        if not self._isWanted():
            return
        try:
            self._encode()
        except SAMLungSegError as error:  # such as a colour image; an action says so to the user
            logger.debug("No slices to encode ahead: %s", error)
            self._context.worker.cancel(CHANNEL)

    def _encode(self) -> None:
        worker, parameters = self._context.worker, self._context.parameters
        choice = _volumeId, settings = self._choice()
        stack = self._stackOf(parameters.inputVolume, settings)
        if stack is not self._stack:
            self._stack = stack
            worker.cancel(CHANNEL)
        self._look(stack)
        self._onProgress(len(stack.queue))
        if worker.isBusy(CHANNEL) or not len(stack.queue):  # the end of that work brings us here again
            return
        if worker.isBusy():
            self._timer.start()
            return
        worker.submit(
            EncodeAheadJob(parameters.inputVolume, settings, stack.queue).run,
            channel=CHANNEL,
            failed=partial(self._onFailed, choice),
            progress=self._onProgress,
            cancelled=self._onCancelled,
            background=True,
        )

    def _stackOf(self, volumeNode: slicer.vtkMRMLScalarVolumeNode, settings: Settings) -> Stack:
        """The present one, if neither the volume nor the settings have changed."""
        from SAMLungSegLib.pipeline.prefetch import SliceQueue
        from SAMLungSegLib.volume import axial_plane

        image = imageOf(volumeNode)
        key = (image.key, settings)
        if self._stack is not None and self._stack.key == key:
            return self._stack
        plane = axial_plane(image.volume)
        count, visible = plane.size_nhw[0], self._visible(plane)
        return Stack(key, plane, SliceQueue(count, visible=count // 2 if visible is None else visible))

    def _visible(self, plane: SlicePlane) -> int | None:
        """The slice in the middle of what the view shows; None where the view is not axial or beside the volume."""
        parameters = self._context.parameters
        sliceNode = sliceNodeOf(parameters)
        if sliceNode is None or parameters.inputVolume is None:
            return None
        with suppress(SAMLungSegError):
            cut = bridge.cutFromSliceNode(sliceNode, parameters.inputVolume)
            if cut.orientation == "axial":
                height, width = cut.size_hw
                index = plane.ijk_to_nxy(cut.xy_to_ijk(((width - 1) / 2, (height - 1) / 2)))[0]
                return min(max(round(float(index)), 0), plane.size_nhw[0] - 1)
        return None

    def _onProgress(self, left: int) -> None:
        text = _("Prepared slices: {done} of {total}.").format(done=self._stack.count - left, total=self._stack.count)
        self._context.ui.livePreviewCheckBox.toolTip = f"{self._tip} {text}"

    def _onFailed(self, choice: tuple, error: BaseException) -> None:
        """Nobody has asked for it, so nobody is told; what is asked for later says what is wrong."""
        logger.warning("Slices are not encoded ahead: %s", error)
        self._isImporting = False
        self._failed = choice

    def _onCancelled(self) -> None:
        self._isImporting = False
        self.refresh()

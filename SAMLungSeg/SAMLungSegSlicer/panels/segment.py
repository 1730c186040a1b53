"""Segment volume, Segment slice, Cancel, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from SAMLungSegSlicer.belongings import keepOutput
from SAMLungSegSlicer.context import SEGMENT, Context, keptParts, setEnabledWithReason
from SAMLungSegSlicer.jobs import SegmentSliceJob, SegmentVolumeJob
from SAMLungSegSlicer.live.preview import PreviewController
from SAMLungSegSlicer.panels.model import DOWNLOAD, ModelPanel
from SAMLungSegSlicer.parameters import settingsOf, sliceNodeOf
from SAMLungSegSlicer.promptnodes import promptsIn
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    from SAMLungSegLib.pipeline import Segmentation, SliceSegmentation

Job = Any


class SegmentPanel:
    """The one button that most users need, and what goes with it."""

    def __init__(self, context: Context, model: ModelPanel, preview: PreviewController) -> None:
        self._context = context
        self._model = model
        self._preview = preview
        self._startedAt = 0.0
        self._isStopping = False
        ui = context.ui
        ui.segmentVolumeButton.connect("clicked(bool)", self.onSegmentVolume)
        ui.segmentSliceButton.connect("clicked(bool)", self.onSegmentSlice)
        ui.cancelButton.connect("clicked(bool)", self.onCancel)

    def refresh(self) -> None:
        """Which buttons can work."""
        ui = self._context.ui
        isBusy = self._context.worker.isBusy(SEGMENT)
        reason, view = self._unavailableReason(), ui.viewSelector.currentText
        setEnabledWithReason(
            ui.segmentVolumeButton,
            reason,
            _("Find the lungs in the whole volume. With boxes of several slices, only where these are."),
        )
        if not reason and sliceNodeOf(self._context.parameters) is None:
            reason = _("The layout has no {view} view; choose another one.").format(view=view)
        setEnabledWithReason(
            ui.segmentSliceButton, reason, _("Find the lungs in the slice of the {view} view only.").format(view=view)
        )
        setEnabledWithReason(
            ui.cancelButton, "" if isBusy else _("Nothing is running."), _("Stop; the segmentation stays as it was.")
        )
        ui.progressBar.visible = isBusy

    def onSegmentVolume(self) -> None:
        """Segment the whole volume."""
        self._start(self._volumeJob, self._onVolume)

    def onSegmentSlice(self) -> None:
        """Segment the slice that the chosen view shows."""
        self._start(self._sliceJob, self._onSlice)

    def onCancel(self) -> None:
        """Stop what is running."""
        self._isStopping = True
        self._context.say(_("Stopping..."))
        self._context.worker.cancel(SEGMENT)

    def _unavailableReason(self) -> str:
        parameters, worker = self._context.parameters, self._context.worker
        if parameters is None or parameters.inputVolume is None:
            return _("Choose a volume first.")
        if worker.isBusy(SEGMENT):
            return _("A segmentation is running; wait or cancel it.")
        if worker.isBusy(DOWNLOAD):
            return _("A download is running; wait or cancel it.")
        return self._model.unavailableReason()

    def _start(self, prepare: Callable[[], Job], onDone: Callable[[Job, Any], None]) -> None:
        context = self._context
        with context.guarded():
            if not context.hasConsent():
                return
            if not dependencies.ensure(context.segmenting):
                context.say(_("Nothing was installed, so nothing can be segmented."))
                return
            self._preview.settle()
            self._preview.allow()
            self._isStopping = False
            context.say(_("Starting..."))
            context.ui.progressBar.setRange(0, 0)
            submit = partial(self._submit, prepare, onDone)
            context.afterImport(context.segmentingModules, SEGMENT, submit, cancelled=self._onCancelled)
        context.changed()

    def _submit(self, prepare: Callable[[], Job], onDone: Callable[[Job, Any], None]) -> None:
        if self._context.parameters is None:
            return
        job = prepare()
        self._startedAt = time.monotonic()
        self._context.worker.submit(
            job.run,
            channel=SEGMENT,
            done=partial(self._finish, job, onDone),
            failed=self._context.show,
            progress=self._onProgress,
            cancelled=self._onCancelled,
        )

    def _volumeJob(self) -> SegmentVolumeJob:
        parameters = self._context.parameters
        volumeNode = parameters.inputVolume
        points, boxes = promptsIn(parameters, volumeNode)
        settings = settingsOf(parameters)
        return SegmentVolumeJob(
            volumeNode,
            parameters.outputSegmentation,
            settings,
            points=points,
            boxes=boxes,
            keepEdits=parameters.keepEdits,
        )

    def _sliceJob(self) -> SegmentSliceJob:
        parameters = self._context.parameters
        volumeNode = parameters.inputVolume
        points, boxes = promptsIn(parameters, volumeNode)
        return SegmentSliceJob(
            volumeNode,
            sliceNodeOf(parameters),
            parameters.outputSegmentation,
            settingsOf(parameters),
            points=points,
            boxes=boxes,
            keepEdits=parameters.keepEdits,
        )

    def _onProgress(self, done: int, total: int) -> None:
        bar, seconds = self._context.ui.progressBar, time.monotonic() - self._startedAt
        left = seconds / done * (total - done)
        bar.setRange(0, total)
        bar.setValue(done)
        bar.setFormat(_("Slice {done} of {total}, {left:.0f} s left").format(done=done, total=total, left=left))
        self._context.say()

    def _finish(self, job: Job, onDone: Callable[[Job, Any], None], result: Any) -> None:
        with self._context.guarded():
            segmentationNode = job.finish(result)
            if segmentationNode is None:
                self._context.say("⚠ " + job.target.discarded)
            else:
                keepOutput(self._context.logic.getParameterNode(), job.target.volumeNode, segmentationNode)
                self._preview.invalidate()
                onDone(job, result)
        self._context.changed()

    def _onVolume(self, job: Job, result: Segmentation) -> None:
        seconds = time.monotonic() - self._startedAt
        right, left = job.litres
        if result.modality == "XRAY":
            text = _("Lungs of {name} found in {seconds:.1f} s.")
        else:
            text = _("Right lung {right:.2f} l, left lung {left:.2f} l, in {seconds:.1f} s.")
        said = text.format(name=result.volume.name, right=right, left=left, seconds=seconds)
        if job.kept:
            said += " " + _keptWords(job.kept)
        self._context.say(" ".join([said, *(f"⚠ {note}" for note in result.notes)]))

    def _onSlice(self, job: Job, result: SliceSegmentation) -> None:
        said = [_("The lungs of this slice are written."), *keptParts(job.kept)]
        self._context.say(" ".join([*said, *(f"⚠ {note}" for note in result.notes)]))

    def _onCancelled(self) -> None:
        if self._isStopping:  # by the user, not by a scene that closes
            self._context.say(_("Stopped; the segmentation is as it was."))
        self._context.changed()


def _keptWords(count: int) -> str:
    if count == 1:
        return _("1 edited slice is kept; untick 'Keep edited slices' to replace it.")
    return _("{count} edited slices are kept; untick 'Keep edited slices' to replace them.").format(count=count)

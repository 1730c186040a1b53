"""Corrections carried to the whole volume, shown before they are taken."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.interaction import PropagatedVolume
from SAMLungSegSlicer.context import PROPAGATE, Context
from SAMLungSegSlicer.jobs import PropagateJob
from SAMLungSegSlicer.live.changes import ChangeNode
from SAMLungSegSlicer.parameters import sliceNodeOf
from SAMLungSegSlicer.watching import Watched, Watcher


class PropagationController(Watcher):
    """Runs a propagation in the background and keeps what it would change in view until it is accepted or discarded.

    It goes by itself when the lungs are changed otherwise: then it says nothing of them any more.
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._changes = ChangeNode()
        self._shown: tuple[PropagateJob, PropagatedVolume] | None = None

    @property
    def isShown(self) -> bool:
        """Whether there is something that can be accepted."""
        return self._shown is not None

    @property
    def node(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The node that shows it."""
        return self._changes.node

    def start(self, progress: Callable[[int, int], None]) -> None:
        """Propagate what was corrected along the chosen view.

        Raises:
            SAMLungSegError: there is nothing to propagate from.
        """
        self.discard()
        parameters = self._context.parameters
        job = PropagateJob(parameters.inputVolume, parameters.outputSegmentation, sliceNodeOf(parameters))
        self._context.worker.submit(
            job.run,
            channel=PROPAGATE,
            done=partial(self._onDone, job),
            failed=self._context.show,
            progress=progress,
            cancelled=self._context.changed,
        )

    def accept(self) -> str:
        """Write what is shown, in a way that can be undone; what to say of it."""
        job, result = self._shown
        segmentationNode = job.finish(result)
        self.discard()
        if segmentationNode is None:
            return "⚠ " + job.target.discarded
        count = len(result.changed_slices)
        return _("{count} slices are written; corrected and locked ones stay.").format(count=count)

    def discard(self) -> None:
        """Show nothing; the segmentation stays as it is."""
        wasShown, self._shown = self.isShown, None
        self._changes.remove()
        self.watch()
        if wasShown:
            self._context.changed()

    def exit(self) -> None:
        """Stop, and show nothing."""
        self._context.worker.cancel(PROPAGATE)
        self.discard()

    def refresh(self) -> None:
        """What is shown goes where another volume or segmentation was chosen, or it is out of date."""
        if not self.isShown:
            return
        target, parameters = self._shown[0].target, self._context.parameters
        chosen = parameters and (parameters.inputVolume, parameters.outputSegmentation)
        if chosen != (target.volumeNode, target.segmentationNode) or self._shown[0].isOutdated():
            self.discard()

    def _onDone(self, job: PropagateJob, result: PropagatedVolume) -> None:
        with self._context.guarded():
            if job.isOutdated():
                self._context.say("⚠ " + _("The lungs were changed meanwhile: propagate again."))
            elif not result.changed_slices:
                self._context.say(_("The corrections change no other slice: the image does not support more."))
            else:
                self._show(job, result)
        self._context.changed()

    def _show(self, job: PropagateJob, result: PropagatedVolume) -> None:
        target = job.target
        self._shown = job, result
        self._changes.show(result.changes_kji, target.volumeNode)
        events = (slicer.vtkSegmentation.SourceRepresentationModified, slicer.vtkSegmentation.SegmentRemoved)
        self.watch(Watched(target.segmentationNode, events, self._onChanged))
        corrected, changed = len(result.propagation.reaches) // 2, len(result.changed_slices)
        text = _(
            "{changed} slices would change by {corrected} corrected ones: green becomes lung, red is no lung any more."
        )
        self._context.say(text.format(changed=changed, corrected=corrected) + " " + _("Accept or discard it."))

    def _onChanged(self, _node: object, _event: object) -> None:
        self.refresh()

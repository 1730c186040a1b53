"""The slices of the volume in one row, the doubtful ones, locks, and propagation from one slice to the others."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.interaction import Place, Timeline
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.context import PROPAGATE, SEGMENT, Context, setEnabledWithReason
from SAMLungSegSlicer.jobs import TimelineJob
from SAMLungSegSlicer.live.lockmarks import LockMarks
from SAMLungSegSlicer.live.prefetch import CHANNEL as AHEAD
from SAMLungSegSlicer.live.propagation import PropagationController
from SAMLungSegSlicer.panels.strip import StripPicture
from SAMLungSegSlicer.parameters import sliceNodeOf
from SAMLungSegSlicer.promptnodes import promptsIn
from SAMLungSegSlicer.sessions import remember, sessionOf
from SAMLungSegSlicer.watching import Watched, Watcher

CHANNEL = "timeline"
SETTLE_MS = 150  # edits come in bursts
SCROLL_MS = 20
_EDITS = (slicer.vtkSegmentation.SourceRepresentationModified, slicer.vtkSegmentation.SegmentRemoved)


class SlicesPanel(Watcher):
    """The strip and the buttons below it."""

    def __init__(self, context: Context, propagation: PropagationController) -> None:
        super().__init__()
        self._context = context
        self._propagation = propagation
        self._timeline: Timeline | None = None
        self._job: TimelineJob | None = None
        self._key: tuple | None = None  # of what is shown or under way
        ui = context.ui
        self._strip = StripPicture(ui.stripLabel, self.goTo)
        self.marks = LockMarks()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.connect("timeout()", self._read)
        self._scrolling = qt.QTimer()  # the views tell of one move many times
        self._scrolling.setSingleShot(True)
        self._scrolling.setInterval(SCROLL_MS)
        self._scrolling.connect("timeout()", self._afterScrolling)
        ui.propagateButton.connect("clicked(bool)", self.onPropagate)
        ui.lockButton.connect("clicked(bool)", self.onLock)
        ui.nextDoubtfulButton.connect("clicked(bool)", self.onNextDoubtful)

    @property
    def timeline(self) -> Timeline | None:
        """What the strip shows; None where there is nothing yet."""
        return self._timeline

    def exit(self) -> None:
        """Stop watching, and show nothing."""
        self._timer.stop()
        self._scrolling.stop()
        self._context.worker.cancel(CHANNEL)
        self.watch()
        self._forget()

    def refresh(self) -> None:
        """Follow the nodes, and read the slices anew."""
        parameters = self._context.parameters
        if parameters is None:
            self.exit()
            return
        self.watch(
            Watched(parameters.outputSegmentation, _EDITS, self._onEdited),
            Watched(parameters.reference, (vtk.vtkCommand.ModifiedEvent,), self._onEdited),
            *(Watched(one, (vtk.vtkCommand.ModifiedEvent,), self._onScrolled) for one in _sliceNodes()),
        )
        self._timer.start()
        self._buttons()

    def onPropagate(self) -> None:
        """Carry what was corrected to the other slices, to be looked at first."""
        with self._context.guarded():
            self._context.say(_("Propagating..."))
            self._propagation.start(self._onProgress)
        self._context.changed()

    def onLock(self, isWanted: bool | None = None) -> None:
        """Lock the slice that the view shows, or lift its lock."""
        with self._context.guarded():
            place = self._place()
            if place is None:
                return
            parameters = self._context.parameters
            volumeNode, segmentationNode = parameters.inputVolume, parameters.outputSegmentation
            session = sessionOf(volumeNode, segmentationNode)
            if self._isLocked(place):
                session.lift(place, bridge.storedLungs(segmentationNode, volumeNode, copied=False).labelmap_kji())
            else:
                session.lock(place)
            remember(segmentationNode, session)
            self._read()
        self._context.changed()

    def onNextDoubtful(self, step: int = 1) -> None:
        """Show the next slice to look at, or the one before with -1."""
        if self._timeline is None:
            return
        number = self._timeline.next_doubtful(self._number(), step if step in (1, -1) else 1)
        if number is not None:
            self.goTo(number)
            count, at = len(self._timeline.doubtful), self._timeline.doubtful.index(number) + 1
            self._context.say(_("Doubtful slice {at} of {count}.").format(at=at, count=count))

    def goTo(self, number: int) -> None:
        """Show a slice, by its number in the row, in the view."""
        parameters = self._context.parameters
        if parameters is None or self._job is None or parameters.inputVolume is None:
            return
        volumeNode, plane = parameters.inputVolume, self._job.plane
        count, height, width = plane.size_nhw
        ijk = plane.nxy_to_ijk((min(max(number, 0), count - 1), (width - 1) / 2, (height - 1) / 2))
        bridge.jumpTo((bridge.ijkToWorldMatrix(volumeNode) @ [*ijk, 1])[:3])

    # ---- how things are

    def _buttons(self) -> None:
        ui, parameters = self._context.ui, self._context.parameters
        isBusy = self._context.worker.isBusy(PROPAGATE)
        place = self._place()
        reason = "" if place is not None else _("Segment the volume first, and choose a view along its slices.")
        if not reason and self._context.worker.isBusy(SEGMENT):
            reason = _("A segmentation is running; wait or cancel it.")
        isSingle = self._timeline is not None and len(self._timeline.ranks) == 1
        noPropagation = reason or (_("It is under way.") if isBusy else "")
        if isSingle and not noPropagation:
            noPropagation = _("There is no other slice.")
        setEnabledWithReason(
            ui.propagateButton,
            noPropagation,
            _("Carry what was corrected in slices along this view to the others; shown first, then accepted. (X)"),
        )
        isLocked = self._isLocked(place)
        ui.lockButton.checked = isLocked
        ui.lockButton.text = _("Locked") if isLocked else _("Lock slice")
        setEnabledWithReason(
            ui.lockButton,
            reason,
            _("Only you change this slice; press again to lift the lock. (L)")
            if isLocked
            else _("Keep this slice as it is, whatever is segmented or propagated. (L)"),
        )
        doubtful = () if self._timeline is None or isSingle else self._timeline.doubtful
        setEnabledWithReason(
            ui.nextDoubtfulButton,
            "" if doubtful else _("No slice is doubtful, or nothing was segmented yet."),
            _("Show the next of {count} doubtful slices, the most doubtful first. (N, back with Shift+N)").format(
                count=len(doubtful)
            ),
        )
        hasSlices = parameters is not None and self._timeline is not None and len(self._timeline.ranks) > 1
        ui.stripLabel.visible = hasSlices

    def _onEdited(self, _node: Any, _event: object) -> None:
        self._timer.start()

    def _onScrolled(self, _node: Any, _event: object) -> None:
        if not self._scrolling.active:
            self._scrolling.start()

    def _afterScrolling(self) -> None:
        if self._context.parameters is not None:
            self._draw()
            self._buttons()

    def _onProgress(self, done: int, total: int) -> None:
        self._context.say(_("Propagating, slice {done} of {total}...").format(done=done, total=total))

    def _read(self) -> None:
        parameters, worker = self._context.parameters, self._context.worker
        if parameters is None or parameters.inputVolume is None or parameters.outputSegmentation is None:
            self._forget()
            self._buttons()
            return
        if worker.isBusy() and not worker.isBusy(AHEAD):
            self._timer.start()
            return
        try:
            volumeNode, segmentationNode = parameters.inputVolume, parameters.outputSegmentation
            points, boxes = promptsIn(parameters, volumeNode)
            locks = sessionOf(volumeNode, segmentationNode).locks
            reference = parameters.reference
            key = (volumeNode, segmentationNode, bridge.stampOf(segmentationNode), locks, points, boxes, reference)
            if key != self._key:
                middles = [(np.array(box.first_ijk) + box.last_ijk) / 2 for box in boxes]
                prompts = [*(np.array(point.ijk) for point in points), *middles]
                self._submit(key, TimelineJob(volumeNode, segmentationNode, prompts, reference))
        except SAMLungSegError:  # an action says so
            self._forget()

    def _submit(self, key: tuple, job: TimelineJob) -> None:
        self._key = key
        self._context.worker.submit(
            job.run, channel=CHANNEL, done=partial(self._show, job), cancelled=self._onCancelled, background=True
        )

    def _onCancelled(self) -> None:
        self._key = None
        if self._context.parameters is not None:
            self._timer.start()

    def _show(self, job: TimelineJob, timeline: Timeline) -> None:
        self._job, self._timeline = job, timeline
        self._draw()
        self._buttons()

    def _forget(self) -> None:
        self._job = self._timeline = self._key = None
        self._strip.clear()
        self.marks.clear()
        self._context.ui.stripLabel.visible = False

    def _draw(self) -> None:
        if self._timeline is not None:
            self._strip.show(self._timeline, self._number())
            self.marks.update(lambda sliceNode: self._isLocked(self._place(sliceNode)))

    def _place(self, sliceNode: slicer.vtkMRMLSliceNode | None = None) -> Place | None:
        """The slice that a view shows, without one the chosen view.

        None where there are no lungs, or the view is oblique or beside the volume.
        """
        parameters = self._context.parameters
        if parameters is None or parameters.inputVolume is None or parameters.outputSegmentation is None:
            return None
        sliceNode = sliceNode or sliceNodeOf(parameters)
        try:
            return sliceNode and Place.of_reformat(bridge.cutFromSliceNode(sliceNode, parameters.inputVolume))
        except SAMLungSegError:
            return None

    def _number(self, place: Place | None = None) -> int | None:
        """Of a slice, without one that of the chosen view, in the row; None where that shows others."""
        place = place or self._place()
        if place is None or self._job is None or place.axis != self._job.plane.axes[0]:
            return None
        return place.number_in(self._job.plane)

    def _isLocked(self, place: Place | None) -> bool:
        if place is None:
            return False
        parameters, number = self._context.parameters, self._number(place)
        if number is not None and self._timeline is not None and self._timeline.locked[number]:
            return True
        return place in sessionOf(parameters.inputVolume, parameters.outputSegmentation).locks.held


def _sliceNodes() -> list[slicer.vtkMRMLSliceNode]:
    return list(slicer.util.getNodesByClass("vtkMRMLSliceNode"))

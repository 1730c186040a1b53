"""One background thread for inference; results come back on the main thread.

Work never touches MRML or Qt, callbacks always run on the main thread. Python's `threading` is enough, for
the numerical libraries let go of the interpreter while they compute.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable

import qt

logger = logging.getLogger(__name__)

Progress = Callable[..., None]
Cancelled = Callable[[], bool]
Work = Callable[[Progress, Cancelled], object]

DELIVERY_INTERVAL_MS = 20
# Slicer's event loop keeps Python's interpreter lock while it waits for events, so other Python threads run only while
# the main thread waits inside Python. Most of each interval is therefore spent waiting here; the rest is the window's.
THREAD_SHARE_S = 0.015
# How long the window waits each time that it asks a busy thread for the lock, which is often while it draws. Python's
# usual 5 ms add up to 60 to 180 ms in which the window is deaf.
SWITCH_INTERVAL_S = 0.001
IDLE_S = 3.0
STOP_TIMEOUT_S = 10.0


class Ticket:
    """One piece of submitted work; every ticket ends with one call of done, failed or cancelled.

    Attributes:
        channel: which kind of work it is; only the newest ticket of a channel is of interest.
        isBackground: whether it steps aside for any other ticket.
    """

    def __init__(
        self, work: Work, channel: str, callbacks: dict[str, Callable | None], *, isBackground: bool = False
    ) -> None:
        self.channel = channel
        self.isBackground = isBackground
        self._work: Work | None = work
        self._callbacks = callbacks
        self._stop = threading.Event()
        self._claimed = threading.Lock()  # taken once, by the thread that runs it or by who cancels it before
        self._latestProgress: deque[tuple] = deque(maxlen=1)
        self._outcome: tuple[str, tuple] | None = None

    @property
    def isCancelled(self) -> bool:
        """Whether it was asked to stop, by `cancel` or by a newer ticket of its channel."""
        return self._stop.is_set()

    @property
    def isOver(self) -> bool:
        """Whether its work has ended or will never start."""
        return self._outcome is not None

    def cancel(self) -> None:
        """Ask running work to stop; work that has not started never will."""
        self._stop.set()
        if self._claimed.acquire(blocking=False):
            self._end("cancelled", ())

    def run(self) -> None:
        """Do the work, on the calling thread, unless it was cancelled before."""
        if not self._claimed.acquire(blocking=False):
            return
        try:
            self._end("done", (self._work(self._report, self._stop.is_set),))
        except BaseException as error:  # whatever it is, the thread goes on
            self._end("failed", (error,))

    def deliverProgress(self) -> None:
        """Pass on the latest progress since the last time, if there is any."""
        if self._latestProgress and not self.isCancelled:
            self._call("progress", self._latestProgress.pop())

    def deliverOutcome(self) -> None:
        """Tell how the work ended; a result or an error after cancelling is dropped."""
        self.deliverProgress()
        name, arguments = self._outcome
        if self.isCancelled:
            if name == "failed":
                logger.debug("%s was cancelled: %s", self.channel, arguments[0])
            name, arguments = "cancelled", ()
        elif name == "failed" and self._callbacks["failed"] is None:
            logger.error("%s failed", self.channel, exc_info=arguments[0])
        self._call(name, arguments)

    def _report(self, *progress: object) -> None:
        self._latestProgress.append(progress)

    def _end(self, name: str, arguments: tuple) -> None:
        self._work = None  # whatever it holds, such as voxels, is not needed any longer
        self._outcome = (name, arguments)

    def _call(self, name: str, arguments: tuple) -> None:
        callback = self._callbacks[name]
        if callback is None:
            return
        try:
            callback(*arguments)
        except Exception:
            logger.exception("The '%s' callback of %s failed", name, self.channel)


class _ShortSwitches:
    """Lets the window have the interpreter lock quickly, as long as any worker is busy."""

    def __init__(self) -> None:
        self._workers = 0
        self._usual_s = sys.getswitchinterval()

    def begin(self) -> None:
        if not self._workers:
            self._usual_s = sys.getswitchinterval()
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._workers += 1

    def end(self) -> None:
        self._workers -= 1
        if not self._workers:
            sys.setswitchinterval(self._usual_s)


_shortSwitches = _ShortSwitches()


class InferenceWorker:
    """Runs submitted work one after the other on one thread, which exists only while there is something to do.

    All methods belong to the main thread, where an event loop must run for callbacks to arrive.

    Example:
        >>> worker = InferenceWorker()
        >>> job = SegmentVolumeJob(volumeNode, None, Settings())
        >>> worker.submit(job.run, channel="volume", done=job.finish)
    """

    def __init__(self) -> None:
        self._outstanding: list[Ticket] = []
        self._news = threading.Event()
        self._thread = _TicketThread(self._news)
        self._timer = None

    def submit(
        self,
        work: Work,
        *,
        channel: str,
        done: Callable[[object], None] | None = None,
        failed: Callable[[BaseException], None] | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], None] | None = None,
        background: bool = False,
    ) -> Ticket:
        """Queue work; older work of the same channel is cancelled and its result never delivered.

        Args:
            work: called on the thread with a function to report progress with and a function to poll, which says
                whether to stop.
            channel: which kind of work it is.
            done: gets the result.
            failed: gets the error that the work raised; without it the error is logged.
            progress: gets what the work reported last, at most once for each turn of the event loop.
            cancelled: called instead of done or failed when the work was cancelled, or superseded by newer work.
            background: any work that is submitted later cancels this one.
        """
        self.cancel(channel)
        self._clearBackground()
        callbacks = {"done": done, "failed": failed, "progress": progress, "cancelled": cancelled}
        ticket = Ticket(work, channel, callbacks, isBackground=background)
        self._outstanding.append(ticket)
        self._thread.put(ticket)
        self._startTimer()
        return ticket

    def cancel(self, channel: str | None = None) -> None:
        """Ask the work of one channel, or all work, to stop; `cancelled` is called as soon as it has."""
        for ticket in self._outstanding:
            if channel in (None, ticket.channel):
                ticket.cancel()

    def isBusy(self, channel: str | None = None) -> bool:
        """Whether there is work, of one channel or at all, whose end has not been told yet."""
        return any(channel in (None, ticket.channel) for ticket in self._outstanding)

    def stop(self, timeoutSeconds: float = STOP_TIMEOUT_S) -> bool:
        """Cancel everything, call nobody back any more, and wait for the thread to end. Work may be submitted again.

        Returns:
            Whether the thread has ended; work that does not look whether it shall stop is left to itself.
        """
        self.cancel()
        self._outstanding.clear()
        self._dropTimer()
        thread, self._thread = self._thread, _TicketThread(self._news)
        hasEnded = thread.stop(timeoutSeconds)
        if not hasEnded:
            logger.warning("The inference thread is still busy after %g s; it ends after its work.", timeoutSeconds)
        return hasEnded

    def _clearBackground(self) -> None:
        for ticket in self._outstanding:
            if ticket.isBackground:
                ticket.cancel()

    def _startTimer(self) -> None:
        if self._timer is None:
            _shortSwitches.begin()
            self._timer = qt.QTimer()
            self._timer.setInterval(DELIVERY_INTERVAL_MS)
            self._timer.connect("timeout()", self._deliver)
            self._timer.start()

    def _dropTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            _shortSwitches.end()
            timer.stop()
            timer.disconnect("timeout()", self._deliver)
            timer.deleteLater()

    def _deliver(self) -> None:
        """One turn of the timer: let the thread run, then tell what is new."""
        self._news.wait(THREAD_SHARE_S)
        self._news.clear()
        for ticket in list(self._outstanding):
            ticket.deliverProgress()
        over = [ticket for ticket in self._outstanding if ticket.isOver]
        if over:  # a timer is silent while it is answered, and a callback may show a dialog, which runs the event loop
            self._dropTimer()
            self._startTimer()
        for ticket in over:
            if ticket in self._outstanding:  # else an earlier callback has stopped the worker or run the event loop
                self._outstanding.remove(ticket)
                ticket.deliverOutcome()
        if not self._outstanding:
            self._dropTimer()


class _TicketThread:
    """The thread: started by the first ticket, ends when it has been idle for a while."""

    def __init__(self, news: threading.Event) -> None:
        self._news = news
        self._tickets: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, ticket: Ticket) -> None:
        with self._lock:
            self._tickets.put(ticket)
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="SAMLungSeg inference", daemon=True)
                self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """End after the tickets that are here, which the caller has cancelled; whether it has ended in time."""
        with self._lock:
            thread = self._thread
            self._tickets.put(None)
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _loop(self) -> None:
        while (ticket := self._next()) is not None:
            ticket.run()
            self._news.set()
            del ticket  # else it is kept until the next one comes

    def _next(self) -> Ticket | None:
        try:
            return self._tickets.get(timeout=IDLE_S)
        except queue.Empty:
            with self._lock:
                if self._tickets.empty():
                    self._thread = None
                    return None
            return self._next()

"""Cases through one process: while the model answers one, the next are read and the last is written."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice

from SAMLungSegLib.batch.journal import READING, SEGMENTING, Entry, Journal
from SAMLungSegLib.batch.one import Loaded, Segmented, Task, load, segment, store
from SAMLungSegLib.isolation import interrupt

_AHEAD, _BEHIND = 2, 1  # cases that wait for the model and for the disk: what bounds the memory
_POLL_SECONDS, _STOP_SECONDS = 0.05, 3.0


def process_overlapped(tasks: Sequence[Task], journal: Journal, cancelled: Callable[[], bool]) -> Iterator[Entry]:
    """Process tasks in their order and enter each into the journal; yields entries when they are there.

    However it ends, what the model has answered is written, and nothing is left half-done. Nothing runs beside a task
    that is to run alone, so that what ends this process is known.

    Raises:
        BatchError, ModelError, CancelledError: the run has to stop.
    """
    side_by_side = [task for task in tasks if not task.alone]
    for some in (side_by_side, *([task] for task in tasks if task.alone)):
        yield from _side_by_side(some, journal, cancelled)


def _side_by_side(tasks: Sequence[Task], journal: Journal, cancelled: Callable[[], bool]) -> Iterator[Entry]:
    reader, writer = ThreadPoolExecutor(1, "reader"), ThreadPoolExecutor(1, "writer")
    waiting, reads, writes = iter(tasks), deque[tuple[Task, Future]](), deque[Future]()
    try:
        while True:
            for task in islice(waiting, _AHEAD + 1 - len(reads)):
                reads.append((task, reader.submit(_load, task, journal)))
            if not reads:
                break
            task, read = reads[0]
            loaded = read.result()
            reads.popleft()
            writes.append(writer.submit(_store, task, _segment(task, loaded, journal, cancelled), journal))
            yield from _finished(writes, _BEHIND)
        yield from _finished(writes, 0)
    finally:
        reader.shutdown(wait=False, cancel_futures=True)
        _leave_unread([future for _, future in reads])
        writer.shutdown()


def _leave_unread(reads: Sequence[Future]) -> None:
    """End what is being read, whatever it is at: nobody waits for it any more."""
    stop = time.monotonic() + _STOP_SECONDS
    while not all(future.done() for future in reads) and time.monotonic() < stop:
        interrupt()
        wait(reads, timeout=_POLL_SECONDS)


def _load(task: Task, journal: Journal) -> Loaded | Entry:
    journal.append(READING, task.case.id, alone=task.alone)
    return load(task)


def _segment(task: Task, loaded: Loaded | Entry, journal: Journal, cancelled: Callable[[], bool]) -> Segmented | Entry:
    if isinstance(loaded, Loaded):
        journal.append(SEGMENTING, task.case.id, alone=task.alone)
    return segment(task, loaded, cancelled)


def _store(task: Task, segmented: Segmented | Entry, journal: Journal) -> Entry:
    entry = store(task, segmented)
    journal.finish(task.case.id, entry)
    return entry


def _finished(writes: deque[Future], most_waiting: int) -> Iterator[Entry]:
    """Entries that were written, oldest first; waits until at most so many are not."""
    while writes and (len(writes) > most_waiting or writes[0].done()):
        yield writes.popleft().result()

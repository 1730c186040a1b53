"""Cases through one process: while the model predicts one, the next are read and the last is written."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING

from SAMLungSegLib.batch.journal import Entry, Journal
from SAMLungSegLib.batch.process import Loaded, Segmented, Stored, Task, failed, load, segment, store
from SAMLungSegLib.batch.settings import BatchError, Settings
from SAMLungSegLib.errors import CancelledError, SAMLungSegError
from SAMLungSegLib.models.engines import chosen_engine
from SAMLungSegLib.models.registry import model_spec

if TYPE_CHECKING:
    from distributed import Client, Future
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice

from SAMLungSegLib.batch.journal import READING, SEGMENTING
from SAMLungSegLib.isolation import interrupt

_AHEAD, _BEHIND = 2, 1  # cases that wait for the model and for the disk: what bounds the memory
_POLL_SECONDS, _STOP_SECONDS = 0.05, 3.0


def process_overlapped(tasks: Sequence[Task], journal: Journal, cancelled: Callable[[], bool]) -> Iterator[Entry]:
    """Process tasks in their order and enter each into the journal; yields entries when they are there.

    However it ends, what the model has predicted is written, and nothing is left half-done. Nothing runs beside a task
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


def _load(task: Task, journal: Journal) -> Loaded | Stored | Entry:
    journal.append(READING, task.case.id, alone=task.alone)
    return load(task)


def _segment(
    task: Task, loaded: Loaded | Stored | Entry, journal: Journal, cancelled: Callable[[], bool]
) -> Segmented | Stored | Entry:
    if isinstance(loaded, Loaded):
        journal.append(SEGMENTING, task.case.id, alone=task.alone)
    return segment(task, loaded, cancelled)


def _store(task: Task, segmented: Segmented | Stored | Entry, journal: Journal) -> Entry:
    entry = store(task, segmented)
    journal.finish(task.case.id, entry)
    return entry


def _finished(writes: deque[Future], most_waiting: int) -> Iterator[Entry]:
    """Entries that were written, oldest first; waits until at most so many are not."""
    while writes and (len(writes) > most_waiting or writes[0].done()):
        yield writes.popleft().result()


logger = logging.getLogger(__name__)

_THREADS = 2  # of each worker: one case is read or written while the model predicts the other
_POLL_SECONDS = 0.05
_CONNECT_SECONDS = 30
_CLOSE_SECONDS = 0.2
_PERHAPS = "alone as well, perhaps for want of memory; give a smaller part of it, or try it again with --retry-failed"
_one_at_a_time = Lock()  # in each worker: the model has the whole device


def process_distributed(
    tasks: Sequence[Task], journal: Journal, workers: int, scheduler: str | None, cancelled: Callable[[], bool]
) -> Iterator[Entry]:
    """Process tasks on Dask workers and enter each into the journal; yields an entry when it is there.

    The cases of a worker that is lost are tried again one by one, when the others have ended; one that ends a worker
    then as well has failed. Workers need the same files under the same paths.

    Args:
        tasks: to process.
        journal: of the run; only this process writes to it.
        workers: how many to start here, where there is no `scheduler`.
        scheduler: address of a running one, such as tcp://node1:8786.
        cancelled: polled while waiting.
    Raises:
        BatchError: Dask is missing, the scheduler does not answer, or the run cannot go on.
        ModelError, CancelledError: the run has to stop.
    """
    with ExitStack() as stack:
        client = _client(stack, workers, scheduler)
        stack.push(lambda kind, error, trace: _leave(client) if kind else None)
        suspects = [task for task in tasks if task.alone]
        for task, entry in _ended(client, [task for task in tasks if not task.alone], cancelled):
            if entry is None:
                suspects.append(task)
                continue
            journal.finish(task.case.id, entry)
            yield entry
        for suspect in suspects:  # who of those on a lost worker is to blame, shows when they are alone
            for task, entry in _ended(client, [suspect], cancelled):
                entry = entry or failed(task, f"{task.case.path} ended the processes that took it, {_PERHAPS}.")
                journal.finish(task.case.id, entry)
                yield entry


def _leave(client: Client) -> None:
    """End the processes that were started here, which would finish their cases first; what they write is whole."""
    nannies = list(getattr(client.cluster, "workers", {}).values())

    async def close() -> None:
        await asyncio.gather(*(nanny.close(timeout=_CLOSE_SECONDS) for nanny in nannies))

    with suppress(Exception):  # of workers that are lost
        client.sync(close)


def _ended(client: Client, tasks: Sequence[Task], cancelled: Callable[[], bool]) -> Iterator[tuple[Task, Entry | None]]:
    """Tasks with their entries, as they come; None for those whose worker was lost."""
    task_of = dict(zip(client.map(_process_here, tasks, pure=False, batch_size=1000), tasks, strict=True))
    try:
        for future in _completed(task_of, cancelled):
            task = task_of.pop(future)
            entry = _entry(future)
            future.release()
            yield task, entry
    finally:
        client.cancel(list(task_of))


def _client(stack: ExitStack, workers: int, scheduler: str | None) -> Client:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise BatchError("Several processes take Dask; install it: pip install 'samlungseg[cluster]'.") from error
    if scheduler is None:
        share = str(max(1, (os.cpu_count() or 1) // workers))
        threads = {"OMP_NUM_THREADS": share, "MKL_NUM_THREADS": share}  # Dask says 1
        try:
            with dask.config.set({"distributed.scheduler.allowed-failures": 0}):  # who is to blame is found here
                scheduler = stack.enter_context(
                    LocalCluster(
                        n_workers=workers,
                        threads_per_worker=_THREADS,
                        memory_limit=0,
                        dashboard_address=None,
                        env=threads,
                    )
                )
        except (OSError, RuntimeError) as error:
            raise BatchError(f"{workers} processes could not be started ({error}); choose fewer of them.") from error
    try:
        client = stack.enter_context(Client(scheduler, timeout=_CONNECT_SECONDS))
        if not isinstance(scheduler, str):  # our own processes: their warnings are told here, not by each of them
            client.forward_logging("SAMLungSegLib", logging.WARNING)
        return client
    except (OSError, ValueError) as error:
        raise BatchError(f"The Dask scheduler {scheduler} does not answer ({error}); give host:port of it.") from error


def _completed(futures: dict[Future, Task], cancelled: Callable[[], bool]) -> Iterator[Future]:
    from distributed import as_completed

    waiting = as_completed(list(futures))
    while not waiting.is_empty():
        if cancelled():
            raise CancelledError("Stopped; what is finished stays.")
        yield from waiting.next_batch(block=False)
        time.sleep(_POLL_SECONDS)


def _entry(future: Future) -> Entry | None:
    """What a worker returned; None where it was lost. Anything else stops the run."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker:
        return None
    except SAMLungSegError:
        raise
    except Exception as error:
        raise BatchError(f"The workers cannot go on ({type(error).__name__}: {error}); see their logs.") from error


def _process_here(task: Task) -> Entry:
    """All steps of a case, on a worker."""
    task = replace(task, settings=replace(task.settings, device=_own_device(task.settings)))
    loaded = load(task)
    with _one_at_a_time:
        segmented = segment(task, loaded)
    return store(task, segmented)


def _own_device(settings: Settings) -> str:
    """One graphics card for each worker of a machine with several, where the model runs by PyTorch."""
    from distributed import get_worker

    if settings.device != "auto" or chosen_engine(model_spec(settings.model.name)) != "torch":
        return settings.device
    import torch

    if torch.cuda.device_count() < 2:
        return settings.device
    number = re.findall(r"\d+", str(get_worker().name)) or ["0"]
    return f"cuda:{int(number[-1]) % torch.cuda.device_count()}"

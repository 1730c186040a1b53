"""A run over a cohort: find the cases, process what is not done, write the table and the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.discovery import find_cases
from SAMLungSegLib.batch.executors import process_overlapped
from SAMLungSegLib.batch.journal import DONE, FAILED, JOURNAL_NAME, RUN, STOPPED, Entry, Journal, read_history
from SAMLungSegLib.batch.outputs import remove_leftovers
from SAMLungSegLib.batch.plan import Plan, make_plan
from SAMLungSegLib.batch.process import Task, failed
from SAMLungSegLib.batch.report import write_summary
from SAMLungSegLib.batch.settings import BatchError, Settings
from SAMLungSegLib.batch.table import FILES, Row, table_of, write_tables
from SAMLungSegLib.errors import CancelledError, OutputError
from SAMLungSegLib.files import check_writable, check_written, real_path, writable_folder
from SAMLungSegLib.pipeline import Progress

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

_DEADLY = (
    "{} ended the program twice when it was alone, perhaps for want of memory; give a smaller part of it, or try it "
    "again with --retry-failed."
)

Inputs = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class BatchResult:
    """How a run ended.

    Attributes:
        rows: one for each case that has ended, in this run or before, in the order of the ids.
        cases: how many there are.
        processed: how many were worked on in this run.
        files: tables and report.
        is_complete: whether every case has ended; not where the run was cancelled.
    """

    rows: tuple[Row, ...]
    cases: int
    processed: int
    files: tuple[Path, ...]
    is_complete: bool

    @property
    def done(self) -> int:
        """How many cases have a result."""
        return sum(row["state"] == DONE for row in self.rows)

    @property
    def failed(self) -> tuple[Row, ...]:
        """Rows of the cases that have none, with their `reason`."""
        return tuple(row for row in self.rows if row["state"] == FAILED)

    def table(self) -> pd.DataFrame:
        """All rows as a data frame; its columns are explained in docs/cohorts.md."""
        return table_of(self.rows)


def run(
    inputs: Inputs,
    output: str | Path,
    settings: Settings | None = None,
    *,
    reference: str | Path | None = None,
    retry_failed: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> BatchResult:
    """Segment all images of a cohort; what an earlier run has done in the same folder stays as it is.

    A case that cannot be used becomes a row with its reason. A run that is stopped, in whatever way, goes on where it
    was when it is started again with the same arguments.

    Example:
        >>> from SAMLungSegLib.batch import run
        >>> run("scans", "results").table()

    Args:
        inputs: folder (with all below it), manifest, pattern or file, or several of them.
        output: folder for everything that is written.
        settings: of all cases.
        reference: folder of labelmaps to measure the results by, or one labelmap.
        retry_failed: whether cases that failed before are tried again.
        workers: processes; more than one take Dask.
        scheduler: address of a Dask scheduler whose workers see the same files; in place of `workers`.
        progress: called with (cases done, cases in all), once for each case that ends.
        cancelled: polled between slices.
    Raises:
        BatchError: nothing to do, another run is on it, the output folder takes no more, or results have vanished.
        ModelError: the model cannot be loaded.
    """
    settings, output = settings or Settings(), Path(output)
    weights_sha256 = settings.model.weights_sha256()
    settings = replace(settings, model=settings.model.located())
    cases = _found(inputs, output, reference)
    with Journal(writable_folder(output)) as journal:
        remove_leftovers(output)
        plan = make_plan(cases, journal.history, settings, weights_sha256, output.absolute(), retry_failed=retry_failed)
        journal.append(RUN, cases=len(cases), to_do=len(plan.together) + len(plan.alone), model=settings.model.name)
        try:
            _process(plan, cases, journal, workers, scheduler, progress, cancelled)
            remove_leftovers(output)  # of workers that were lost
        except CancelledError:
            journal.append(STOPPED)
            logger.info("Stopped; the same call goes on from here.")
        except BaseException:
            with suppress(Exception):  # what ended the run is worth more
                journal.append(STOPPED)
                _result(cases, plan, journal)
            raise
        return _result(cases, plan, journal)


def preview(
    inputs: Inputs,
    output: str | Path,
    settings: Settings | None = None,
    *,
    reference: str | Path | None = None,
    retry_failed: bool = False,
) -> Plan:
    """What `run` would do with these arguments; nothing is written.

    Raises:
        BatchError, ModelError: as `run`.
    """
    settings, output = settings or Settings(), Path(output)
    weights_sha256 = settings.model.weights_sha256()
    settings = replace(settings, model=settings.model.located())
    cases = _found(inputs, output, reference)
    history = read_history(output)
    return make_plan(cases, history, settings, weights_sha256, output.absolute(), retry_failed=retry_failed)


def _found(inputs: Inputs, output: Path, reference: str | Path | None) -> list[Case]:
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    if any(real_path(one) == real_path(output) for one in given):
        raise BatchError(f"Results would lie among the images of {output}; give another output folder.")
    check_writable(output)
    return find_cases(given, reference=Path(reference) if reference else None, without=[output])


def _process(
    plan: Plan,
    cases: Sequence[Case],
    journal: Journal,
    workers: int,
    scheduler: str | None,
    progress: Progress | None,
    cancelled: Callable[[], bool],
) -> None:
    """Process all tasks; those that may end this process, when the tables of the others are written."""
    number = count(len(plan.kept) + len(plan.failed) + 1)  # not of those in the journal, which may be ahead
    for task in plan.deadly:
        journal.finish(task.case.id, failed(task, _DEADLY.format(task.case.path)))
        _tell(journal.history.entries[task.case.id], next(number), len(cases), progress)
    for tasks in (plan.together, plan.alone):
        if tasks and tasks is plan.alone:
            _result(cases, plan, journal)
        with closing(_processed(tasks, journal, workers, scheduler, cancelled)) as entries:
            for entry in entries:
                _tell(entry, next(number), len(cases), progress)


def _processed(
    tasks: Sequence[Task], journal: Journal, workers: int, scheduler: str | None, cancelled: Callable[[], bool]
) -> Iterator[Entry]:
    if workers < 1:
        raise BatchError(f"{workers} processes cannot do anything; give 1 or more.")
    if not tasks:
        return
    if scheduler is not None or workers > 1:
        from SAMLungSegLib.batch.executors import process_distributed

        yield from process_distributed(tasks, journal, workers, scheduler, cancelled)
    else:
        settings = tasks[0].settings
        if not all(task.is_to_draw for task in tasks):
            settings.model.load(settings.device)  # what is wrong with the model is told before anything is read
        yield from process_overlapped(tasks, journal, cancelled)


def _tell(entry: Entry, done: int, total: int, progress: Progress | None) -> None:
    if entry.state == FAILED:
        logger.error("%s: %s", entry.row["id"], entry.row["reason"])
    else:
        logger.info("%s: done.", entry.row["id"])
    if progress is not None:
        progress(done, total)


def _result(cases: Sequence[Case], plan: Plan, journal: Journal) -> BatchResult:
    """Write tables and report of what has ended so far."""
    ended = {*plan.kept, *plan.failed, *journal.finished}
    rows = tuple(journal.history.entries[case.id].row for case in cases if case.id in ended)
    files = [*write_tables(rows, journal.folder), write_summary(rows, len(cases), journal.folder)]
    _check_there(rows, files, journal.folder)
    return BatchResult(rows, len(cases), len(journal.finished), tuple(files), len(rows) == len(cases))


def _check_there(rows: Sequence[Row], files: Sequence[Path], folder: Path) -> None:
    """Make sure that all results and the journal are still there, before the run is said to be done."""
    results = [folder / row[kind] for row in rows for kind in FILES if row.get(kind)]
    try:
        check_written([folder / JOURNAL_NAME, *files, *results])
    except OutputError as error:
        raise BatchError(str(error)) from error

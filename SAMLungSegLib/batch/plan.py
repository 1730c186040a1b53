"""What a run has to do, and what an earlier one has done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.journal import DONE, FAILED, NO_DEATHS, Entry, History
from SAMLungSegLib.batch.outputs import has_pictures, has_results
from SAMLungSegLib.batch.process import Loaded, Task, load
from SAMLungSegLib.batch.settings import Settings
from SAMLungSegLib.batch.table import is_row
from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.pipeline import segment_volume
from SAMLungSegLib.volume import Volume, axial_plane
from SAMLungSegLib.volume.guarded import size_of


@dataclass(frozen=True)
class Plan:
    """Cases by what becomes of them.

    Attributes:
        together: tasks to process side by side.
        alone: tasks at which an earlier run ended; they come last and one by one, those that did so most often at the
            end, lest they end the others again.
        deadly: tasks that have ended two runs when nothing ran beside them: they fail without being tried.
        kept: ids of cases that are done.
        failed: ids of cases that failed before and would fail again.
    """

    together: list[Task]
    alone: list[Task]
    deadly: list[Task]
    kept: list[str]
    failed: list[str]

    @property
    def tasks(self) -> list[Task]:
        """All that is to process, in this order."""
        return [*self.together, *self.alone]

    @property
    def touched(self) -> int:
        """How many tasks are only looked at again, because their files have another time."""
        return sum(task.known is not None and task.known.stamp != task.case.stamp for task in self.tasks)

    @property
    def drawn(self) -> int:
        """How many tasks only get pictures, of the labelmaps that are there."""
        return sum(task.is_to_draw for task in self.tasks)


def make_plan(
    cases: Sequence[Case],
    history: History,
    settings: Settings,
    weights_sha256: Mapping[str, str],
    output: Path,
    *,
    retry_failed: bool = False,
) -> Plan:
    """What is to be done so that every case has the result of these settings.

    A case is done when it ended so with these settings, this model and these files, and its results are there.
    """
    plan = Plan([], [], [], [], [])
    for case in cases:
        fingerprint = settings.fingerprint(case, weights_sha256)
        entry = history.entries.get(case.id)
        if entry is not None and not _counts(entry, fingerprint, output):
            entry = None
        is_same = entry is not None and entry.stamp == case.stamp
        if is_same and entry.state == DONE and has_pictures(output, entry.files, settings.pictures):
            plan.kept.append(case.id)
        elif is_same and entry.state == FAILED and not retry_failed:
            plan.failed.append(case.id)
        else:
            known = entry if entry is not None and entry.state == DONE else None
            deaths = history.deaths.get(case.id, NO_DEATHS)
            task = Task(case, settings, weights_sha256, fingerprint, output, known, alone=deaths.runs > 0)
            is_deadly = deaths.is_proven and not retry_failed
            (plan.deadly if is_deadly else plan.alone if task.alone else plan.together).append(task)
    plan.alone.sort(key=lambda task: history.deaths[task.case.id])
    return plan


def _counts(entry: Entry, fingerprint: str, output: Path) -> bool:
    """Whether an earlier end still says something: the settings are the same, and the labelmap is there."""
    if entry.fingerprint != fingerprint or not is_row(entry.row, entry.state):
        return False
    if any(entry.row.get(kind) != file for kind, file in entry.files.items()):
        return False
    return entry.state != DONE or has_results(output, entry.files)


_TRIED_SLICES = 4
_MOST_TRIED = 5


@dataclass(frozen=True)
class Estimate:
    """How long a run may take.

    Attributes:
        slices: to segment in all.
        seconds_per_slice: None where no image could be tried.
        is_from_journal: whether earlier runs say so; otherwise a few slices were tried just now.
    """

    slices: int
    seconds_per_slice: float | None
    is_from_journal: bool

    def seconds(self, workers: int = 1) -> float | None:
        """For all slices, by so many workers of the same kind."""
        return None if self.seconds_per_slice is None else self.slices * self.seconds_per_slice / max(1, workers)


def estimate(tasks: Sequence[Task], entries: Iterable[Entry]) -> Estimate:
    """How long `tasks` may take.

    Args:
        tasks: to do; those that only get pictures do not count.
        entries: of earlier runs in the same folder.
    """
    tasks = [task for task in tasks if not task.is_to_draw]
    slices = sum(slices_of(task.case) for task in tasks)
    rows = [entry.row for entry in entries if entry.state == DONE]
    known = sum(row["slices"] for row in rows)
    if known:
        return Estimate(slices, sum(row["seconds"] for row in rows) / known, True)
    return Estimate(slices, _tried(tasks[:_MOST_TRIED]), False)


def slices_of(case: Case) -> int:
    """How many slices an image has, by its header; 0 where that cannot be read."""
    if case.slices is not None:
        return case.slices
    if case.problem:
        return 0
    if case.path.is_dir():
        return sum(child.is_file() for child in case.path.iterdir())
    try:
        size = size_of(case.path)
    except SAMLungSegError:  # which is told when the case is read
        return 0
    return 1 if len(size) < 3 or 1 in size[:3] else size[2]


def _tried(tasks: Sequence[Task]) -> float | None:
    """Seconds for a slice of the first image that can be read."""
    for task in tasks:
        loaded = load(task)
        if isinstance(loaded, Loaded):
            part, slices = _middle(loaded.volume)
            model = task.settings.model.load(task.settings.device)
            segment_volume(part, model, task.settings.options)
            start = time.perf_counter()
            segment_volume(part, model, task.settings.options)
            return (time.perf_counter() - start) / slices
    return None


def _middle(volume: Volume) -> tuple[Volume, int]:
    """A few slices of the middle, and how many."""
    axis = axial_plane(volume).axes[0]
    count = min(_TRIED_SLICES, volume.size_kji[axis])
    first = (volume.size_kji[axis] - count) // 2
    return replace(volume, array_kji=np.take(volume.array_kji, range(first, first + count), axis)), count

"""What a run has to do, and what an earlier one has done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.journal import DONE, NO_DEATHS, Entry, History
from SAMLungSegLib.batch.one import Task
from SAMLungSegLib.batch.rows import is_row
from SAMLungSegLib.batch.settings import Settings


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
        return sum(task.known is not None for task in self.tasks)


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
        if entry is not None and not _counts(entry, fingerprint, output, settings.overlay):
            entry = None
        is_same = entry is not None and entry.stamp == case.stamp
        if is_same and entry.state == DONE:
            plan.kept.append(case.id)
        elif is_same and not retry_failed:
            plan.failed.append(case.id)
        else:
            known = entry if entry is not None and entry.state == DONE else None
            deaths = history.deaths.get(case.id, NO_DEATHS)
            task = Task(case, settings, weights_sha256, fingerprint, output, known, alone=deaths.runs > 0)
            is_deadly = deaths.is_proven and not retry_failed
            (plan.deadly if is_deadly else plan.alone if task.alone else plan.together).append(task)
    plan.alone.sort(key=lambda task: history.deaths[task.case.id])
    return plan


def _counts(entry: Entry, fingerprint: str, output: Path, overlay: bool) -> bool:
    """Whether an earlier end still says something: the settings are the same, and the files are there."""
    if entry.fingerprint != fingerprint or not is_row(entry.row, entry.state):
        return False
    if any(entry.row.get(kind) != file for kind, file in entry.files.items()):
        return False
    return entry.state != DONE or (_are_there(entry, output) and (not overlay or "overlay" in entry.files))


def _are_there(entry: Entry, output: Path) -> bool:
    return all((output / file).is_file() for file in entry.files.values())

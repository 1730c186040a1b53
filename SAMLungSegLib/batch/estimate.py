"""How long a run may take, by what earlier runs took or by a quick try."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.journal import DONE, Entry
from SAMLungSegLib.batch.one import Loaded, Task, load
from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.pipeline import segment_volume
from SAMLungSegLib.volume import Volume, axial_plane
from SAMLungSegLib.volume.guarded import size_of

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
        tasks: to do.
        entries: of earlier runs in the same folder.
    """
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

"""Limits of time on machines that are busy with something else."""

from __future__ import annotations

from collections.abc import Callable

MOST = 5


def takes(measure: Callable[[], float], limit: float) -> list[float]:
    """Measure until a value is below the limit, five times at most.

    What other work on the machine costs does not come back each time, what the measured code does itself comes back.
    """
    values = [measure()]
    while values[-1] >= limit and len(values) < MOST:
        values.append(measure())
    return values

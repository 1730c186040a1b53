"""How long the window was deaf: a clock in the event loop that ought to tick every few milliseconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import qt

TICK_MS = 5


class Latency:
    """Delays (ms) of the event loop's ticks beyond their interval."""

    def __init__(self) -> None:
        self.delays_ms: list[float] = []
        self._last = time.perf_counter()

    def tick(self) -> None:
        now = time.perf_counter()
        self.delays_ms.append(max((now - self._last) * 1000 - TICK_MS, 0.0))
        self._last = now

    @property
    def max_ms(self) -> float:
        """The longest time in which no click would have been answered."""
        return max(self.delays_ms)

    def percentile_ms(self, percent: float) -> float:
        """The delay that this share of the ticks did not exceed."""
        return float(np.percentile(self.delays_ms, percent))


@contextmanager
def latency(kind: type[Latency] = Latency) -> Iterator[Latency]:
    """Watches the event loop while the block runs; the block itself has to run the loop (`ModuleWindow.wait_until`)."""
    watch, timer = kind(), qt.QTimer()
    timer.setTimerType(qt.Qt.PreciseTimer)
    timer.setInterval(TICK_MS)
    timer.timeout.connect(watch.tick)
    timer.start()
    try:
        yield watch
    finally:
        watch.tick()
        timer.stop()

"""Encoding slices before somebody asks about them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np

from SAMLungSegLib.embedding.cached import CachedModel

_BEHIND_COST = 3  # a slice behind the direction of scrolling waits as long as one three times as far ahead


class SliceQueue:
    """Slices of a volume still to be encoded: the visible one first, then outward, ahead of the scrolling first.

    Any thread may call `look_at` and `next`; a slice is given out once.
    """

    def __init__(self, count: int, *, visible: int = 0) -> None:
        """All `count` slices wait; `visible` is on the screen."""
        self._waiting = set(range(count))
        self._visible = visible
        self._direction = 0
        self._lock = Lock()

    def look_at(self, index: int) -> None:
        """Slice `index` is on the screen now."""
        with self._lock:
            if index != self._visible:
                self._direction = 1 if index > self._visible else -1
                self._visible = index

    def next(self) -> int | None:
        """Take the slice to encode now; None when none is left."""
        with self._lock:
            if not self._waiting:
                return None
            index = min(self._waiting, key=self._cost)
            self._waiting.remove(index)
            return index

    def __len__(self) -> int:
        return len(self._waiting)

    def _cost(self, index: int) -> tuple[int, int]:
        """Distance from the visible slice, longer behind; of two equal ones the lower."""
        distance = index - self._visible
        is_behind = distance * self._direction < 0
        return abs(distance) * (_BEHIND_COST if is_behind else 1), index


def encode_ahead(
    model: CachedModel,
    grey_of: Callable[[int], np.ndarray],
    queue: SliceQueue,
    *,
    progress: Callable[[int], None] = lambda left: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Fill the model's cache with the slices of `queue` in its order, one at a time, so that memory stays bounded.

    Returns when the queue is empty, or within the time of one slice when `cancelled` turns true or the person looks
    at another slice (which is then the next).

    Args:
        model: whose cache is filled.
        grey_of: slice number to uint8 (H, W), as the model shall see it.
        queue: shared with whoever calls `look_at`.
        progress: called with the number of slices left, after each.
        cancelled: polled before each slice.
    """
    while not cancelled() and (index := queue.next()) is not None:
        model.encode([grey_of(index)])
        progress(len(queue))

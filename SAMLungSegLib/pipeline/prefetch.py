"""Encoding slices before somebody needs them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np

from SAMLungSegLib.models.base import ModelView
from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.options import Options
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.volume import Volume

_BEHIND_COST = 3  # a slice behind the direction of scrolling waits as long as one three times as far ahead


class SliceQueue:
    """Slices of a volume still to be encoded: the visible one first, then outward, ahead of the scrolling first.

    Any thread may call `set_visible` and `next`; a slice is given out once.
    """

    def __init__(self, count: int, *, visible: int = 0) -> None:
        """All `count` slices wait; `visible` is on the screen."""
        self._waiting = set(range(count))
        self._visible = visible
        self._direction = 0
        self._lock = Lock()

    def set_visible(self, index: int) -> None:
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
    view_of: Callable[[int], ModelView | np.ndarray],
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
        view_of: slice number to what the model sees of it.
        queue: shared with whoever calls `set_visible`.
        progress: called with the number of slices left, after each.
        cancelled: polled before each slice.
    """
    while not cancelled() and (index := queue.next()) is not None:
        model.encode([view_of(index)])
        progress(len(queue))


def encode_volume_ahead(
    volume: Volume,
    model: CachedModel,
    queue: SliceQueue,
    options: Options | None = None,
    *,
    progress: Callable[[int], None] = lambda left: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Fill the model's cache with just those embeddings that `segment_volume` needs, in the order of `queue`.

    Slices become grey one at a time, so that memory stays bounded. The queue may be shared with whoever calls its
    `set_visible`; after cancelling the same queue goes on where it was.

    Args:
        volume: the image.
        model: whose cache is filled.
        queue: numbers of axial slices as displayed: `axial_plane(volume).size_nhw[0]` of them.
        options: modality and window; the rest plays no part.
        progress: called with the number of slices left, after each.
        cancelled: polled before each slice.
    """
    view = VolumeView.of(volume, options or Options())
    encode_ahead(model, view.slice, queue, progress=progress, cancelled=cancelled)

"""Slices that were looked at stay encoded, so that moving a prompt only decodes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from SAMLungSegSlicer.jobs.images import Image
from SAMLungSegSlicer.jobs.models import models
from SAMLungSegSlicer.jobs.settings import Settings

if TYPE_CHECKING:
    from SAMLungSegLib import Options
    from SAMLungSegLib.pipeline import SliceSegmentation, SliceSegmenter
    from SAMLungSegLib.volume import SliceCut


class SegmenterCache:
    """One slice segmenter for each of the volumes and models used last; any thread may ask."""

    def __init__(self, capacity: int = 2) -> None:
        self._capacity = capacity
        self._latest: list[SliceSegmenter] = []
        self._lock = threading.Lock()

    def segment(
        self, image: Image, cut: SliceCut, settings: Settings, options: Options, cancelled: Callable[[], bool]
    ) -> SliceSegmentation:
        """The lungs of one cut.

        Raises:
            CancelledError: `cancelled` said so.
            SAMLungSegError: wrong prompts, or the model cannot be loaded.
        """
        with self._lock:
            return self._segmenter(image, settings).segment(cut, options, cancelled=cancelled)

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._latest.clear()

    def _segmenter(self, image: Image, settings: Settings) -> SliceSegmenter:
        from SAMLungSegLib.pipeline import SliceSegmenter

        model = models.get(settings)
        fitting = [one for one in self._latest if one.volume is image.volume and one.model is model]
        segmenter = fitting[0] if fitting else SliceSegmenter(image.volume, model)
        others = [one for one in self._latest if one is not segmenter]
        self._latest = [*others, segmenter][-self._capacity :]
        return segmenter


segmenters = SegmenterCache()

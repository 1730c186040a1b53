"""Embeddings of a volume's slices, made before they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import slicer

from SAMLungSegSlicer.jobs.caches import imageOf
from SAMLungSegSlicer.jobs.settings import Settings

if TYPE_CHECKING:
    from SAMLungSegLib.pipeline.prefetch import SliceQueue


class EncodeAheadJob:
    """Axial slices of a volume encoded into the cache on disk; nothing is written into the scene.

    Example:
        >>> job = EncodeAheadJob(volumeNode, Settings(model="sam-vit-b"), SliceQueue(120, visible=60))
        >>> job.run()
    """

    def __init__(self, volumeNode: slicer.vtkMRMLVolumeNode | None, settings: Settings, queue: SliceQueue) -> None:
        """Copy the voxels, unless they are as they were for the last job.

        Args:
            volumeNode: CT or X-ray.
            settings: modality, window and model count.
            queue: the slices that are left, as `encode_volume_ahead` numbers them; another job goes on with them.
        Raises:
            SAMLungSegError: as of `SegmentVolumeJob`.
        """
        self._image = imageOf(volumeNode)
        self._settings, self._queue = settings, queue

    def run(
        self, progress: Callable[[int], None] = lambda left: None, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Encode on any thread until the queue is empty; progress is in slices left.

        A model whose embeddings are not kept has nothing to do. Returns within the time of one slice where `cancelled`
        says so.

        Raises:
            SAMLungSegError: wrong settings, or the model cannot be loaded.
        """
        from SAMLungSegLib.models.cached import CachedModel
        from SAMLungSegLib.pipeline import encode_volume_ahead

        model = self._settings.loadedModel()
        if isinstance(model, CachedModel):
            options = self._settings.options()
            encode_volume_ahead(self._image.volume, model, self._queue, options, progress=progress, cancelled=cancelled)

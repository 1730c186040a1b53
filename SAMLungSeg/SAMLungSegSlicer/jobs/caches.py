"""What jobs keep for the next one: the voxels that are worked on, the models, the cuts that are encoded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.settings import Settings
from SAMLungSegSlicer.runtime.imports import keepTritonApart

if TYPE_CHECKING:
    from SAMLungSegLib import Options, Volume
    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.pipeline import SliceSegmentation, SliceSegmenter
    from SAMLungSegLib.volume import SliceCut


class Image(NamedTuple):
    """A copy of a volume node's voxels, safe to read on any thread.

    Attributes:
        key: what changes when the node's voxels or its place in the world change.
        volume: the copy.
    """

    key: tuple
    volume: Volume


_latest: Image | None = None


def imageOf(volumeNode: slicer.vtkMRMLVolumeNode | None) -> Image:
    """The voxels of a volume node; copied again only when another node is asked for or it has changed.

    Raises:
        VolumeError: no volume, or one without usable voxels.
        GeometryError: it is under a non-linear transform, or its directions are degenerate.
    """
    global _latest
    matrix = bridge.ijkToWorldMatrix(volumeNode)
    image = volumeNode.GetImageData()
    key = (volumeNode.GetID(), image and image.GetMTime(), matrix.tobytes())
    if _latest is None or _latest.key != key:
        _latest = Image(key, bridge.volumeFromNode(volumeNode))
    return _latest


def forgetImage() -> None:
    """Let go of the copy."""
    global _latest
    _latest = None


class ModelCache:
    """The models used last, each loaded once; any thread may ask.

    As in the command line, models that encode slowly keep their embeddings on disk.
    """

    def __init__(self, capacity: int = 2) -> None:
        self._capacity = capacity
        self._models: OrderedDict[tuple, PromptableModel] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, settings: Settings) -> PromptableModel:
        """The model of `settings`; weights that have changed on disk are loaded again.

        Raises:
            ModelError: the model is unknown, or its weights are absent or do not fit.
        """
        keepTritonApart()
        from SAMLungSegLib import load_model
        from SAMLungSegLib.models.cached import cached

        key = (settings.model, _stamp(settings.weights), settings.device or "auto")
        with self._lock:
            if key not in self._models:
                model = load_model(settings.model, weights=settings.weights or None, device=settings.device or "auto")
                self._models[key] = cached(model)
            self._models.move_to_end(key)
            while len(self._models) > self._capacity:
                self._models.popitem(last=False)
            return self._models[key]

    def clear(self) -> None:
        """Drop all models."""
        with self._lock:
            self._models.clear()


def _stamp(weights: Path | str | None) -> tuple | None:
    """What changes when the weights or the card beside them do; absent files are left to the library to explain."""
    if not weights:
        return None
    path = Path(weights)
    present = [file.stat() for file in (path, path.with_suffix(".json")) if file.is_file()]
    return str(path.resolve()), *((status.st_size, status.st_mtime_ns) for status in present)


models = ModelCache()


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


def releaseMemory() -> None:
    """Let go of models, copied voxels and embeddings, as when the scene is closed; the next job makes them anew."""
    forgetImage()
    segmenters.clear()
    models.clear()

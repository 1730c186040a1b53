"""What jobs keep for the next one: the voxels that are worked on, the cuts that are encoded; models keep themselves."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.settings import Settings

if TYPE_CHECKING:
    import numpy as np

    from SAMLungSegLib import Options, Volume
    from SAMLungSegLib.pipeline import SliceSegmentation, SliceSegmenter
    from SAMLungSegLib.provenance import Provenance
    from SAMLungSegLib.volume import ReformattedSlice


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


_digests: WeakKeyDictionary[Volume, str] = WeakKeyDictionary()


def provenanceOf(image: Image, settings: Settings, options: Options) -> Provenance | None:
    """How a slice of an image is segmented, on any thread; the voxels are hashed once for all of its slices.

    Raises:
        SAMLungSegError: the model cannot be loaded.
    """
    from SAMLungSegLib.models.choice import origin_of
    from SAMLungSegLib.provenance import provenance_of, voxels_sha256

    origin = origin_of(settings.loadedModel())
    if origin is None:
        return None
    if image.volume not in _digests:
        _digests[image.volume] = voxels_sha256(image.volume)
    return provenance_of(
        image.volume,
        options,
        origin.choice,
        origin.device,
        image_sha256=_digests[image.volume],
        weights_sha256=origin.weights_sha256,
    )


class SegmenterCache:
    """One slice segmenter for each of the volumes and models used last; any thread may ask."""

    def __init__(self, capacity: int = 2) -> None:
        self._capacity = capacity
        self._latest: list[SliceSegmenter] = []
        self._automatic: tuple[tuple, np.ndarray] | None = None
        self._lock = threading.Lock()

    def segment(
        self, image: Image, cut: ReformattedSlice, settings: Settings, options: Options, cancelled: Callable[[], bool]
    ) -> SliceSegmentation:
        """The lungs of one cut.

        Raises:
            CancelledError: `cancelled` said so.
            SAMLungSegError: wrong prompts, or the model cannot be loaded.
        """
        with self._lock:
            return self._segmenter(image, settings).segment(cut, options, cancelled=cancelled)

    def automatic(
        self, image: Image, cut: ReformattedSlice, settings: Settings, cancelled: Callable[[], bool]
    ) -> np.ndarray:
        """What is found in a cut without prompts, uint8 (H, W); that of the latest cut is kept. Errors as `segment`."""
        with self._lock:
            segmenter = self._segmenter(image, settings)
            key = (segmenter, cut.key, settings)
            if self._automatic is None or self._automatic[0] != key:
                found = segmenter.segment(cut, settings.options(), cancelled=cancelled)
                self._automatic = key, found.labels_hw
            return self._automatic[1]

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._latest.clear()
            self._automatic = None

    def _segmenter(self, image: Image, settings: Settings) -> SliceSegmenter:
        from SAMLungSegLib.pipeline import SliceSegmenter

        model = settings.loadedModel()
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
    loader = sys.modules.get("SAMLungSegLib.models.choice")  # which needs packages that may not be installed yet
    if loader is not None:
        loader.forget_models()

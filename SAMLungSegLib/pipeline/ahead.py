"""Encoding the slices of a volume before somebody asks for its lungs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from SAMLungSegLib.embedding import CachedModel, SliceQueue, encode_ahead
from SAMLungSegLib.intensity import grey_mapping, guess_modality
from SAMLungSegLib.pipeline.options import Options
from SAMLungSegLib.pipeline.square import SquarePixels
from SAMLungSegLib.volume import Volume, axial_plane


def encode_volume_ahead(
    volume: Volume,
    model: CachedModel,
    queue: SliceQueue,
    options: Options | None = None,
    *,
    progress: Callable[[int], None] = lambda left: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Fill the model's cache with just those embeddings that `segment_volume` asks for, in the order of `queue`.

    Slices become grey one at a time, so that memory stays bounded. The queue may be shared with whoever calls its
    `look_at`; after cancelling the same queue goes on where it was.

    Args:
        volume: the image.
        model: whose cache is filled.
        queue: numbers of axial slices as displayed: `axial_plane(volume).size_nhw[0]` of them.
        options: modality and window; the rest plays no part.
        progress: called with the number of slices left, after each.
        cancelled: polled before each slice.
    """
    options = options or Options()
    mapping = grey_mapping(volume, options.modality or guess_modality(volume), options.window)
    plane = axial_plane(volume)
    shown = plane.to_display(volume.array_kji)
    square = SquarePixels.of(plane.size_nhw[1:], plane.spacing_hw_mm)

    def grey_of(index: int) -> np.ndarray:
        return square.draw(mapping.apply(shown[index]))

    encode_ahead(model, grey_of, queue, progress=progress, cancelled=cancelled)

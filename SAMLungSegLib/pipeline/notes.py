"""What was assumed about an image, and what is uncertain about its lungs, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from SAMLungSegLib.intensity import GreyMapping, Modality, note_on_modality
from SAMLungSegLib.volume import Volume

_MIDDLE = 50


def notes_on_image(volume: Volume, given: Modality | None, mapping: GreyMapping) -> Iterator[str]:
    """What was assumed about an image: its modality where none was given, its values."""
    assumed = "" if given else note_on_modality(volume)
    if assumed:
        yield assumed
    if mapping.note:
        yield mapping.note


def notes_without_lung(labelmap: np.ndarray, volume: Volume, modality: Modality, mapping: GreyMapping) -> Iterator[str]:
    """Why there may be no lung in a labelmap of a CT, and what to do."""
    if labelmap.any() or modality != "CT":
        return
    if mapping.is_certain:
        yield "No lung was found; if one is in view, show it with a point or a box."
        return
    finite = volume.array_kji[np.isfinite(volume.array_kji)]
    yield (
        f"No lung was found, and the values, {finite.min():.4g} to {finite.max():.4g} with a median of "
        f"{np.percentile(finite, _MIDDLE):.4g}, do not look like Hounsfield units (air near -1000, the body near 0); "
        "give a window in values of the file: --window WIDTH/LEVEL, from what air has to what the body has."
    )

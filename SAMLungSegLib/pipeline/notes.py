"""What was assumed about an image, and what is uncertain about its lungs, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from SAMLungSegLib.intensity import GreyMapping, Modality, note_on_modality
from SAMLungSegLib.volume import SlicePlane, Volume

_MIDDLE = 50


LATERAL = "A lateral X-ray shows the lungs one behind the other: what is found in it has no side; use a frontal one."


def is_lateral_xray(volume: Volume, plane: SlicePlane, modality: Modality) -> bool:
    """Whether an X-ray was taken from the side, by what its file says of view or directions."""
    return modality == "XRAY" and (volume.is_lateral or plane.is_sagittal)


def notes_on_image(
    volume: Volume, plane: SlicePlane, modality: Modality, given: Modality | None, mapping: GreyMapping
) -> Iterator[str]:
    """What was assumed about an image, and what its view does not show."""
    if is_lateral_xray(volume, plane, modality):
        yield LATERAL
    yield from notes_on_values(volume, given, mapping)


def notes_on_values(volume: Volume, given: Modality | None, mapping: GreyMapping) -> Iterator[str]:
    """What was assumed about an image: its modality where none was given, and its values."""
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

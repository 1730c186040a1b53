"""The colours of labels in the palette of pictures, and back from colours to labels."""

from __future__ import annotations

import colorsys

import numpy as np

from SAMLungSegLib.structures import LUNGS, LUNGS_WITH_HIDDEN, LabelSet

_GOLDEN_RATIO = 0.618


def label_colours(label_set: LabelSet = LUNGS) -> np.ndarray:
    """Uint8 (256, 3): red, green, blue of each label; black, the colours of the set, then others, all different."""
    hues = (label * _GOLDEN_RATIO % 1 for label in range(256))
    colours = np.array([[round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, 0.9)] for hue in hues], np.uint8)
    colours[0] = 0
    for label, structure in label_set:
        colours[label] = structure.colour
    return colours


def labels_of_colours(array: np.ndarray) -> np.ndarray | None:
    """Labels of a picture in nothing but `label_colours` of lungs, uint8 (...); None where it has another colour.

    Args:
        array: uint8 (..., 3) or (..., 4), red, green, blue.
    """
    if array.dtype != np.uint8:
        return None
    stored = _as_numbers(array)
    for label_set in (LUNGS, LUNGS_WITH_HIDDEN):
        colours = _as_numbers(label_colours(label_set))
        order = np.argsort(colours)
        found = order[np.searchsorted(colours[order], stored).clip(max=len(colours) - 1)]
        if np.array_equal(colours[found], stored):
            return found.astype(np.uint8)
    return None


def _as_numbers(colours: np.ndarray) -> np.ndarray:
    return colours[..., :3].astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)

"""What label values stand for: names, codes and colours, in segmentations and in the palette of pictures."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

_TERMINOLOGY = "Segmentation category and type - 3D Slicer General Anatomy list"
_ANATOMICAL_STRUCTURE = "SCT^123037004^Anatomical Structure"
_LUNG = "SCT^39607008^Lung"
_ANATOMIC_REGIONS = "Anatomic codes - DICOM master list"
_GOLDEN_RATIO = 0.618


@dataclass(frozen=True)
class Segment:
    """What a label value stands for.

    Attributes:
        label: the value in labelmaps, 1 to 255.
        name: as shown to people.
        colour: red, green, blue, 0 to 255.
        modifier: SNOMED CT 'scheme^code^meaning' of the laterality.
    """

    label: int
    name: str
    colour: tuple[int, int, int]
    modifier: str

    @property
    def terminology(self) -> str:
        """Slicer's terminology entry: context, category, type, modifier, then an empty anatomic region."""
        codes = f"{_ANATOMICAL_STRUCTURE}~{_LUNG}~{self.modifier}"
        return f"{_TERMINOLOGY}~{codes}~{_ANATOMIC_REGIONS}~^^~^^"


SEGMENTS = (
    Segment(1, "right lung", (197, 165, 145), "SCT^24028007^Right"),
    Segment(2, "left lung", (145, 178, 197), "SCT^7771000^Left"),
)


def label_colours() -> np.ndarray:
    """Uint8 (256, 3): red, green, blue of each label; black, the colours of `SEGMENTS`, then others, all different."""
    hues = (label * _GOLDEN_RATIO % 1 for label in range(256))
    colours = np.array([[round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, 0.9)] for hue in hues], np.uint8)
    colours[0] = 0
    for segment in SEGMENTS:
        colours[segment.label] = segment.colour
    return colours


def labels_of_colours(array: np.ndarray) -> np.ndarray | None:
    """Labels of a picture in nothing but `label_colours`, uint8 (...); None where it has another colour.

    Args:
        array: uint8 (..., 3) or (..., 4), red, green, blue.
    """
    if array.dtype != np.uint8:
        return None
    colours, stored = (_as_numbers(one) for one in (label_colours(), array))
    order = np.argsort(colours)
    found = order[np.searchsorted(colours[order], stored).clip(max=len(colours) - 1)]
    return found.astype(np.uint8) if np.array_equal(colours[found], stored) else None


def _as_numbers(colours: np.ndarray) -> np.ndarray:
    return colours[..., :3].astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)

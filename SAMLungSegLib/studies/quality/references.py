"""The slices that a quality study measures on, each with what its reference says and what it leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.structures import EXTENT_MASKS, Extent
from SAMLungSegLib.training.data.cases import MASK_IGNORED, StudyCase, Windowing
from SAMLungSegLib.training.data.leakage import set_of
from SAMLungSegLib.training.data.splits import SPLIT_SETS, WHOLE_SETS
from SAMLungSegLib.volume import axial_plane, read_volume


@dataclass(frozen=True, eq=False)
class ReferenceSlice:
    """A slice as a model sees it, and its reference.

    Attributes:
        subset: that its case belongs to.
        name: of its case, with '/' and the number of the slice where there are several.
        modality: of the image.
        grey_hw: uint8 (H, W).
        lung_hw: bool (H, W).
        ignored_hw: bool (H, W), where nobody knows, which no score counts; nowhere lung.
    """

    subset: str
    name: str
    modality: Modality
    grey_hw: np.ndarray
    lung_hw: np.ndarray
    ignored_hw: np.ndarray

    def dice(self, mask_hw: np.ndarray) -> float:
        """Of a mask, bool (H, W), where the reference says something."""
        return dice(self.lung_hw, mask_hw & ~self.ignored_hw)

    def jaccard(self, mask_hw: np.ndarray) -> float:
        """As `dice`."""
        return jaccard(self.lung_hw, mask_hw & ~self.ignored_hw)

    def wrong_in(self, mask_hw: np.ndarray) -> np.ndarray:
        """Bool (H, W): where a mask is not as the reference."""
        return (mask_hw != self.lung_hw) & ~self.ignored_hw


def drawing_extent(cases: Sequence[StudyCase], extent: Extent) -> list[StudyCase]:
    """The cases whose masks hold this extent: of the public sets it is known, of others it is for the user to say.

    Of a CT, whose lungs have one extent, masks count as of visible lungs.

    Raises:
        VolumeError: there is none.
    """
    if extent == "whole":
        kept = [case for case in cases if case.modality != "CT" and set_of(case) not in SPLIT_SETS]
    else:
        kept = [case for case in cases if case.subset not in WHOLE_SETS]
    if not kept:
        sets = ", ".join(sorted({case.subset for case in cases}))
        other = "visible" if extent == "whole" else "whole"
        raise VolumeError(f"No masks of {sets} hold {EXTENT_MASKS[extent]}; give --extent {other}, or other images.")
    return kept


def reference_slices(case: StudyCase) -> Iterator[ReferenceSlice]:
    """The slices of a case that have lung.

    Raises:
        VolumeError, GeometryError: a file cannot be read, or the mask is on another grid.
    """
    greys, labels, modality = case.read_as_seen(Windowing())
    ignored = [np.zeros(one.shape, bool) for one in labels]
    if case.subset in WHOLE_SETS:
        mask = read_volume(case.mask)
        ignored = [one == MASK_IGNORED for one in axial_plane(mask).to_display(mask.array_kji)]
    for number, (grey, label, unknown) in enumerate(zip(greys, labels, ignored, strict=True)):
        lung = (label > 0) & ~unknown
        if lung.any():
            name = case.name if len(greys) == 1 else f"{case.name}/{number}"
            yield ReferenceSlice(case.subset, name, modality, grey, lung, unknown)

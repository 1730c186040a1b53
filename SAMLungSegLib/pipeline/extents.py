"""The extents of lungs on an X-ray: which a model predicts, all from one encoding, and what labels come of them.

On CT lungs have one extent.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from SAMLungSegLib.modality import Modality
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.structures import EXTENTS, LUNGS, Extent, ExtentChoice

VISIBLE, WHOLE = EXTENTS

_RIM = 1 / 256  # of the image's width, on either side of a rim's middle


def extents_to_predict(model: PromptableModel, modality: Modality, choice: ExtentChoice) -> tuple[Extent, ...]:
    """The extents that a model is to predict, the one that tells the sides first.

    Whole lungs come with the visible fields where the model has these: they hold them.

    Raises:
        PromptError: the model does not predict what was chosen.
    """
    offered = tuple(one for one in EXTENTS if one in model.capabilities.extents)
    if modality == "CT":
        return offered[:1]
    for needed in EXTENTS if choice == "both" else (choice,):
        model.check_extent(needed)
    return (VISIBLE,) if choice == VISIBLE else offered


def with_whole(
    visible: np.ndarray, whole: np.ndarray, choice: ExtentChoice, *, is_side_told: bool = False
) -> np.ndarray:
    """One labelmap of visible fields and whole lungs, which hold the fields whatever a model says.

    A pixel has one side: that of the visible field, else what the whole lungs have there. Rims by which two outlines of
    one chest wall differ are whole lung, but nothing hides them.

    Args:
        visible, whole: uint8, of one shape, 1 right lung, 2 left lung.
        choice: 'whole' for whole lungs, labels 1 and 2; 'both' for visible fields, 1 and 2, and what is hidden of
            them, 3 and 4, as in `structures.LUNGS_WITH_HIDDEN`.
        is_side_told: whether something was said on the sides of the fields by what surrounds them: where they are of
            one side then, all lung is.
    """
    sides = np.setdiff1d(visible, [0])
    if is_side_told and len(sides) == 1:
        whole = np.where(whole > 0, sides[0], 0).astype(np.uint8)
    if choice == WHOLE:
        return np.where(visible > 0, visible, whole).astype(np.uint8)
    hidden = _without_rims((whole > 0) & (visible == 0))
    return np.where(hidden, whole + len(LUNGS), visible).astype(np.uint8)


def _without_rims(mask: np.ndarray) -> np.ndarray:
    """What lies behind heart and diaphragm, not the rims by which two outlines of one chest wall differ."""
    reach = max(1, round(mask.shape[-1] * _RIM))
    across = (1,) * (mask.ndim - 2)
    thick = ndimage.binary_opening(mask, np.ones((*across, 2 * reach + 1, 2 * reach + 1)))
    return ndimage.binary_dilation(thick, np.ones((*across, 3, 3)), reach, mask)  # with its corners

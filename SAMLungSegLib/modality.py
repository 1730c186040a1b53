"""CT or X-ray: what an image says of itself, or looks like."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from SAMLungSegLib.hounsfield import finite_range, may_be_shifted_hu
from SAMLungSegLib.volume import Volume, axial_plane
from SAMLungSegLib.volume.telling import tell_of_image

logger = logging.getLogger(__name__)

Modality = Literal["CT", "XRAY"]
MODALITIES: tuple[Modality, ...] = ("CT", "XRAY")

_AIR_IN_SINGLE_CT_SLICE_HU = -500
_HIGHEST_GREY = 255

_PIXELS = 256  # along the longer side: fine enough to see a body and its lungs
_EDGE = 0.015  # of the body's height
_SMALLEST_BODY = 0.15  # of the picture
_SMALLEST_LUNGS = 0.08  # of the body
_LARGEST_SHARE_OF_BOX = 0.93  # a frame fills all of it, an ellipse 0.79
_WIDEST_TOP, _WIDEST_BOTTOM = 0.55, 0.45  # of the body's width; the belly of an X-ray in a black frame is wider
_SLIMMEST = 1.05  # width to height


@dataclass(frozen=True)
class RecognisedModality:
    """What an image was taken for.

    Attributes:
        modality: 'CT' or 'XRAY'.
        note: what is not certain about it, and what to do; empty where it is.
    """

    modality: Modality
    note: str = ""


def recognise_modality(volume: Volume) -> RecognisedModality:
    """What DICOM says; otherwise CT for several slices, for one with air in HU, and for one that shows an axial body.

    Any other single slice is an X-ray; a note says where a single slice may be the other.
    """
    if volume.modality_hint in MODALITIES:
        return _taken(volume, volume.modality_hint, "its file says so")
    if 1 not in volume.size_kji:
        return _taken(volume, "CT", "it has several slices")
    low, high = finite_range(volume.array_kji)
    if low < _AIR_IN_SINGLE_CT_SLICE_HU:
        return _taken(volume, "CT", f"its only slice holds air ({low:g} HU)")
    if looks_like_ct_slice(axial_plane(volume).to_display(volume.array_kji)[0]):
        reason = "it shows an oval body with dark lungs, and air around it"
        note = f"Taken as a CT slice, for {reason}; if it is an X-ray, give xray as its modality."
        return _taken(volume, "CT", reason, note)
    note = ""
    if volume.modality_hint is None and high > _HIGHEST_GREY and may_be_shifted_hu(volume.array_kji, low, high):
        note = "Taken as an X-ray, with values as a CT slice in HU + 1024 has; if it is one, give ct as its modality."
    reason = f"it is a single slice without values below {_AIR_IN_SINGLE_CT_SLICE_HU}"
    return _taken(volume, "XRAY", reason, note)


def _taken(volume: Volume, modality: Modality, reason: str, note: str = "") -> RecognisedModality:
    kind = "a CT" if modality == "CT" else "an X-ray"
    tell_of_image(logger, "%s: taken as %s, for %s.", volume.name, kind, reason)
    return RecognisedModality(modality, note)


def looks_like_ct_slice(picture_hw: np.ndarray) -> bool:
    """Whether a picture shows an oval body, wider than high, with dark lungs in it and air above and below.

    Of 633 X-rays of four sets, with and without a black frame, none does; of 129 CT slices, 121.

    Args:
        picture_hw: grey values (H, W), air dark.
    """
    step = max(1, round(max(picture_hw.shape) / _PIXELS))
    coarse = np.nan_to_num(picture_hw[::step, ::step].astype(np.float32), posinf=0, neginf=0)
    low, high = np.percentile(coarse, (0.5, 99.5))
    if low == high:
        return False
    coarse = np.clip(coarse, low, high)
    parts, count = ndimage.label(ndimage.binary_opening(coarse > threshold_otsu(coarse)))
    if count == 0:
        return False
    tissue = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    body = ndimage.binary_fill_holes(tissue)
    if body[0].any() or body[-1].any() or body.mean() < _SMALLEST_BODY:
        return False
    return _has_lungs(tissue, body) and _is_oval(body)


def _has_lungs(tissue: np.ndarray, body: np.ndarray) -> bool:
    return np.count_nonzero(body & ~tissue) > _SMALLEST_LUNGS * np.count_nonzero(body)


def _is_oval(body: np.ndarray) -> bool:
    (box,) = ndimage.find_objects(body.astype(np.uint8))
    inside = body[box]
    height, width = inside.shape
    rows = max(1, round(_EDGE * height))
    top, bottom = (edge.any(axis=0).mean() for edge in (inside[:rows], inside[-rows:]))
    is_round = top < _WIDEST_TOP and bottom < _WIDEST_BOTTOM and inside.mean() < _LARGEST_SHARE_OF_BOX
    return bool(is_round and width > _SLIMMEST * height)

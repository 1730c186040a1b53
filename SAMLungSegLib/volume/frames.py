"""What enhanced multi-frame DICOM says of each of its frames, which ITK passes over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SAMLungSegLib.errors import VolumeError

_POSITION, _ORIENTATION, _PIXEL_SPACING = "0020|0032", "0020|0037", "0028|0030"
_INTERCEPT, _SLOPE = "0028|1052", "0028|1053"

_PLACES = {
    _POSITION: ("PlanePositionSequence", "ImagePositionPatient"),
    _ORIENTATION: ("PlaneOrientationSequence", "ImageOrientationPatient"),
    _PIXEL_SPACING: ("PixelMeasuresSequence", "PixelSpacing"),
    _INTERCEPT: ("PixelValueTransformationSequence", "RescaleIntercept"),
    _SLOPE: ("PixelValueTransformationSequence", "RescaleSlope"),
}


def tags_of_frames(path: Path, tags: Mapping[str, str]) -> list[dict[str, str]]:
    """The tags of each frame in the order of the file: those of the file and those of its functional groups.

    Empty where the file has no functional groups for each frame.

    Raises:
        VolumeError: the functional groups are damaged.
    """
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        frames = header.get("PerFrameFunctionalGroupsSequence") or ()
        shared = next(iter(header.get("SharedFunctionalGroupsSequence") or ()), None)
        return [{**tags, **_stated(shared), **_stated(frame)} for frame in frames]
    except Exception as error:  # pydicom has no kind of its own for damaged files
        raise VolumeError(f"{path} is damaged, its frames cannot be separated: {error}") from error


def _stated(groups: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, (sequence, name) in _PLACES.items():
        items = groups.get(sequence) if groups is not None else None
        value = items[0].get(name) if items else None
        if value is not None:
            found[key] = str(value) if key in (_INTERCEPT, _SLOPE) else "\\".join(map(str, value))
    return found


def with_own_rescale(array_kji: np.ndarray, frames: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Frames (K, J, I) in the order of the file by the rescale of each: ITK has applied that of the first to all."""
    rescales = [(float(one.get(_SLOPE, 1)), float(one.get(_INTERCEPT, 0))) for one in frames]
    slope, intercept = rescales[0]
    if set(rescales) == {rescales[0]} or slope == 0:
        return array_kji
    stored = ((one.astype(np.float32) - intercept) / slope for one in array_kji)
    return np.stack([one * s + i for one, (s, i) in zip(stored, rescales, strict=True)]).astype(np.float32)

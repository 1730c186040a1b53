"""Segmentations as 3D Slicer writes them: which values in which layers of a NRRD file are lungs, by their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume.lungnames import Side, side_of_name, side_of_terminology

logger = logging.getLogger(__name__)

LungLabels = dict[str, tuple[int, ...]]

_FIELD = re.compile(r"Segment(\d+)_(\w+)")
_TERMINOLOGY = re.compile(r"(?:^|\|)TerminologyEntry:([^|]*)")
_NUMBERED = re.compile(r"(segment|label|structure|region|roi|mask)?[\s_.-]*\d*", re.IGNORECASE)
_LABELS: dict[Side, int] = {"right": 1, "left": 2, "both": 3}


@dataclass(frozen=True)
class StoredSegment:
    """A segment of a file.

    Attributes:
        name: as shown to people.
        layer: in which it is.
        label: its value there.
        side: which lung it is; None where neither name nor terminology says that it is one.
    """

    name: str
    layer: int
    label: int
    side: Side | None


def stored_segments(fields: Mapping[str, str], layers: int, path: Path) -> tuple[StoredSegment, ...]:
    """The segments that a NRRD header describes; none where it is of no segmentation.

    Args:
        fields: keys and values of the header.
        layers: how many there are, for segments that do not say in which they are: each has its own then.
        path: for messages.
    Raises:
        VolumeError: a number is none, or a name says another side than the terminology.
    """
    by_number: dict[int, dict[str, str]] = {}
    for key, value in fields.items():
        if match := _FIELD.fullmatch(key):
            by_number.setdefault(int(match[1]), {})[match[2]] = value.strip()
    described = [one for _, one in sorted(by_number.items()) if {"ID", "Name", "LabelValue", "Layer"} & one.keys()]
    return tuple(_segment(one, index if layers > 1 else 0, path) for index, one in enumerate(described))


def _segment(fields: Mapping[str, str], own_layer: int, path: Path) -> StoredSegment:
    name = fields.get("Name") or fields.get("ID") or "segment"
    try:
        layer, label = int(fields.get("Layer", own_layer)), int(fields.get("LabelValue", 1))
    except ValueError as error:
        raise VolumeError(f"{path}: layer or label value of segment '{name}' is no number ({error}).") from error
    entry = _TERMINOLOGY.search(fields.get("Tags", ""))
    named, coded = side_of_name(name), entry and side_of_terminology(entry[1])
    if {named, coded} == {"right", "left"}:
        raise VolumeError(
            f"{path}: segment '{name}' is the {coded} lung by its terminology; give it one name in Slicer, and save it."
        )
    return StoredSegment(name, layer, label, coded if coded in ("right", "left") else named or coded)


def lung_labels(segments: Sequence[StoredSegment], path: Path) -> LungLabels | None:
    """Label values of the lungs of a segmentation of one layer; None where no name says what is lung."""
    if not any(one.side for one in segments):
        others = [one.name for one in segments if not _NUMBERED.fullmatch(one.name)]
        if others:
            logger.warning("%s: no segment is named as a lung (%s); labels count by number.", path, _listed(others))
        return None
    _say_left_out(segments, path)
    return {
        side: labels
        for side in _LABELS
        if (labels := tuple(dict.fromkeys(one.label for one in segments if one.side == side)))
    }


def one_layer(array: np.ndarray, segments: Sequence[StoredSegment], path: Path) -> tuple[np.ndarray, LungLabels]:
    """The lungs of a segmentation of several layers, as one labelmap.

    Args:
        array: integer (K, J, I, layers).
        segments: of all layers.
        path: for messages.
    Returns:
        Uint8 (K, J, I): 1 right, 2 left, 3 lung without a side, or of both; and the labels by side.
    Raises:
        VolumeError: no segment is named as a lung, or one is in a layer that is not there.
    """
    layers = array.shape[-1]
    if not any(one.side for one in segments):
        raise VolumeError(
            f"{path} has {layers} layers, with the segments {_listed([one.name for one in segments])}; expected some "
            "named as 'right lung' and 'left lung': name them in Slicer, or export the lungs as a labelmap."
        )
    beyond = next((one for one in segments if not 0 <= one.layer < layers), None)
    if beyond is not None:
        raise VolumeError(f"{path}: segment '{beyond.name}' is in layer {beyond.layer} of {layers}; export it again.")
    _say_left_out(segments, path)
    masks = {side: np.zeros(array.shape[:-1], bool) for side in _LABELS}
    for one in segments:
        if one.side:
            masks[one.side] |= array[..., one.layer] == one.label
    shared = masks["right"] & masks["left"]
    if count := np.count_nonzero(shared):
        logger.warning(
            "%s: %d voxels are in the right lung and in the left; they count in both lungs only.", path, count
        )
    labels = np.where(masks["both"], np.uint8(_LABELS["both"]), np.uint8(0))
    for side in ("right", "left"):
        labels[masks[side]] = _LABELS[side]
    labels[shared] = _LABELS["both"]
    sides = {one.side for one in segments} | ({"both"} if count else set())
    return labels, {side: (label,) for side, label in _LABELS.items() if side in sides}


def _say_left_out(segments: Sequence[StoredSegment], path: Path) -> None:
    others = [one.name for one in segments if one.side is None]
    if others:
        logger.warning("%s: segments that are not named as lungs are left out: %s.", path, _listed(others))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:6]) + (", ..." if len(names) > 6 else "")

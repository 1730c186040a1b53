"""Which voxels are right lung, left lung, or lung of unknown side, whatever numbers a labelmap uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.postprocess import LEFT_LUNG, RIGHT_LUNG

SIDELESS = 3
STRUCTURES = ("right lung", "left lung", "both lungs")
BOTH_ONLY = STRUCTURES[-1:]
_CODES = {"right": RIGHT_LUNG, "left": LEFT_LUNG, "both": SIDELESS}

Labels = Mapping[str, Sequence[int]]


def side_codes(labelmap: np.ndarray, labels: Labels | None, name: str) -> np.ndarray:
    """A labelmap as codes.

    Args:
        labelmap: whole numbers or bool, any shape.
        labels: label values by side, such as {'right': (1,), 'left': (2,)}; 'both' lists lung of unknown side. Other
            values are background then. None: 1 is right, 2 is left, and any other positive value lung of unknown side.
        name: of the volume, for messages.
    Returns:
        uint8, same shape: 0 background, 1 right lung, 2 left lung, 3 lung of unknown side.
    Raises:
        VolumeError: values are not whole numbers, or `labels` has other keys.
    """
    if labelmap.dtype.kind == "f" and not np.array_equal(labelmap, np.round(labelmap)):
        raise VolumeError(f"{name} holds fractions; expected a labelmap of whole numbers, threshold it first.")
    if labels is None:
        codes = np.where(labelmap > 0, np.uint8(SIDELESS), np.uint8(0))
        codes[labelmap == RIGHT_LUNG], codes[labelmap == LEFT_LUNG] = RIGHT_LUNG, LEFT_LUNG
        return codes
    unknown = sorted(set(labels) - set(_CODES))
    if unknown:
        raise VolumeError(f"Labels were given for {', '.join(unknown)}; expected {', '.join(_CODES)}.")
    codes = np.zeros(labelmap.shape, np.uint8)
    for side, values in labels.items():
        codes[np.isin(labelmap, list(values))] = _CODES[side]
    return codes


def structure_mask(codes: np.ndarray, structure: str) -> np.ndarray:
    """Bool mask of one of `STRUCTURES` in an array of codes."""
    sides = {"right lung": RIGHT_LUNG, "left lung": LEFT_LUNG}
    return codes == sides[structure] if structure in sides else codes > 0


def joint_counts(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Int (4, 4): voxels with each code in the reference (rows) and in the prediction (columns)."""
    counts = np.zeros(16, np.int64)
    for row, column in zip(reference, prediction, strict=True):  # slice by slice: bincount needs 8 bytes a voxel
        counts += np.bincount((row * np.uint8(4) + column).ravel(), minlength=16)
    return counts.reshape(4, 4)


def comparable_structures(
    counts: np.ndarray, reference_labels: Labels | None, prediction_labels: Labels | None
) -> tuple[tuple[str, ...], list[str]]:
    """Structures that both labelmaps tell apart, and notes on what was decided.

    Args:
        counts: of `joint_counts`.
        reference_labels: what the caller said about the reference; sides are taken as said.
        prediction_labels: likewise about the prediction.
    """
    if reference_labels is None and _lacks_sides(counts.sum(axis=1)):
        return BOTH_ONLY, ["The reference has one lung label: compared as both lungs only."]
    if prediction_labels is None and _is_one_mask_of_both(counts):
        return BOTH_ONLY, ["The prediction has one label for both lungs: compared as both lungs only."]
    kept, exchanged = counts[1, 1] + counts[2, 2], counts[1, 2] + counts[2, 1]
    notes = []
    if exchanged > kept:
        notes.append(
            "Right and left look exchanged: check the labels, 1 is the patient's right lung and 2 the left, "
            "or say which labels the reference uses."
        )
    if counts[SIDELESS].any():
        notes.append("The reference has labels other than 1 and 2: they count in both lungs only.")
    return STRUCTURES, notes


def _lacks_sides(voxels: np.ndarray) -> bool:
    """Lung, but not both right and left; an empty labelmap lacks nothing."""
    return bool(voxels[1:].any() and not (voxels[RIGHT_LUNG] and voxels[LEFT_LUNG]))


def _is_one_mask_of_both(counts: np.ndarray) -> bool:
    """One prediction label that covers most of both reference lungs; a lung that was missed is not mistaken for it."""
    used = np.flatnonzero(counts[:, 1:].any(axis=0)) + 1
    if len(used) != 1:
        return False
    covered = counts[[RIGHT_LUNG, LEFT_LUNG], used[0]] > counts[[RIGHT_LUNG, LEFT_LUNG]].sum(axis=1) / 2
    return bool(used[0] == SIDELESS or covered.all())

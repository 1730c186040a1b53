"""Which voxels are right lung, left lung, or lung of unknown side in a labelmap, and the structures of other sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from SAMLungSegLib.errors import SettingsError, VolumeError, listed
from SAMLungSegLib.structures import LABEL_SETS, LEFT_LUNG, LUNGS, RIGHT_LUNG, LabelSet
from SAMLungSegLib.volume import Volume

SIDELESS = 3
Structures = Mapping[str, tuple[int, ...]]  # the codes of each; the last one is all of them together

BOTH = "both lungs"
ALL = "all structures"
BOTH_ONLY: Structures = {BOTH: (RIGHT_LUNG, LEFT_LUNG, SIDELESS)}
STRUCTURES: Structures = {"right lung": (RIGHT_LUNG,), "left lung": (LEFT_LUNG,), **BOTH_ONLY}
_CODES = {"right": RIGHT_LUNG, "left": LEFT_LUNG, "both": SIDELESS}
_EXPECTED = "give a labelmap, 0 for the background and one number for each structure"
_MOST_LABELS = 200  # the largest label sets of whole bodies have fewer than 170, an 8-bit image has 256 values
_MOST_LISTED = 12
_ROUNDING = 1e-4  # what factors such as 1/255 miss a whole number by, in single precision

Labels = Mapping[str, Sequence[int]]


def side_codes(volume: Volume, labels: Labels | None = None) -> tuple[np.ndarray, tuple[int, ...]]:
    """A labelmap as codes.

    Args:
        volume: whole numbers from 0 or bool.
        labels: label values by side, such as {'right': (1,), 'left': (2,)}; 'both' lists lung of unknown side. Other
            values are background then. None: those of the names that the file gives them; where it gives none, 1 is
            right, 2 is left, and any other positive value lung of unknown side.
    Returns:
        uint8 (K, J, I): 0 background, 1 right lung, 2 left lung, 3 lung of unknown side; and the values that occur
        and whose side was guessed: none where `labels` or names say the sides.
    Raises:
        VolumeError: the values are not those of a labelmap, `labels` is not usable, none of its values occurs, or the
            file names structures of which none is a lung.
    """
    name = volume.name
    labelmap = _whole(volume.array_kji, name)
    present = _label_values(labelmap, name)
    if labels is None and volume.structure_labels:
        is_said = not {*LUNGS.keys}.isdisjoint(volume.structure_labels)
        return _named_codes(volume, labelmap, LUNGS), () if is_said else present
    if labels is None:
        codes = np.where(labelmap > 0, np.uint8(SIDELESS), np.uint8(0))
        codes[labelmap == RIGHT_LUNG], codes[labelmap == LEFT_LUNG] = RIGHT_LUNG, LEFT_LUNG
        return codes, present
    check_labels(labels)
    given = {value for values in labels.values() for value in values}
    if present and given.isdisjoint(present):
        raise VolumeError(
            f"{name} has none of the given labels {listed(sorted(given))}; it holds {listed(present)}: "
            "give those of the right and of the left lung."
        )
    return _coded(labelmap, labels), ()


def _named_codes(volume: Volume, labelmap: np.ndarray, label_set: LabelSet) -> np.ndarray:
    """Labels of a set by what the file says that it holds; the number after the last one is of no single structure."""
    said = volume.structure_labels or {}
    labels = dict(zip((*label_set.keys, label_set.name), range(1, len(label_set) + 2), strict=True))
    if labels.keys().isdisjoint(said):
        names = ", ".join(key.replace("_", " ") for key in list(said)[:_MOST_LISTED])
        raise VolumeError(
            f"{volume.name} says that it holds {names}, none of the set '{label_set.name}'; give labelmaps of that "
            f"set, or name another one of {', '.join(LABEL_SETS)} (--structures)."
        )
    codes = np.zeros(labelmap.shape, np.uint8)
    for key in labels.keys() & said.keys():
        codes[np.isin(labelmap, list(said[key]))] = labels[key]
    return codes


def _coded(labelmap: np.ndarray, labels: Labels) -> np.ndarray:
    codes = np.zeros(labelmap.shape, np.uint8)
    for side, values in labels.items():
        codes[np.isin(labelmap, list(values))] = _CODES[side]
    return codes


def value_codes(volume: Volume, values: Sequence[Sequence[int]]) -> np.ndarray:
    """A labelmap as codes of what it is said to hold.

    Args:
        volume: whole numbers from 0 or bool.
        values: label values of each thing.
    Returns:
        uint8 (K, J, I): the place of the thing in `values`, from 1; 0 elsewhere.
    Raises:
        VolumeError: the values are not those of a labelmap.
    """
    labelmap = _whole(volume.array_kji, volume.name)
    _label_values(labelmap, volume.name)
    codes = np.zeros(labelmap.shape, np.uint8)
    for code, some in enumerate(values, start=1):
        codes[np.isin(labelmap, list(some))] = code
    return codes


def check_labels(labels: Labels) -> None:
    """Refuse labels that no labelmap could have.

    Raises:
        SettingsError: a side is unknown, a value is not positive, or a value belongs to more than one side.
    """
    unknown = sorted(set(labels) - set(_CODES))
    if unknown:
        raise SettingsError(f"Labels were given for {', '.join(unknown)}; expected {', '.join(_CODES)}.")
    given = sorted(value for values in labels.values() for value in set(values))
    if given and given[0] < 1:
        raise SettingsError(f"Label {given[0]} was given for a lung; expected numbers from 1, for 0 is the background.")
    shared = sorted({value for value in given if given.count(value) > 1})
    if shared:
        raise SettingsError(f"Label {listed(shared)} was given for more than one side; give each label to one side.")


def _whole(labelmap: np.ndarray, name: str) -> np.ndarray:
    """The same labels exactly, where they were stored as real numbers, scaled or not."""
    if labelmap.dtype.kind != "f":
        return labelmap
    if not np.isfinite(labelmap).all():
        raise VolumeError(f"{name} holds NaN or infinite voxels; expected a labelmap of whole numbers, set them to 0.")
    whole = np.round(labelmap)
    if np.abs(labelmap - whole).max() > _ROUNDING:
        raise VolumeError(f"{name} holds fractions; expected a labelmap of whole numbers, threshold it first.")
    return whole


def _label_values(labelmap: np.ndarray, name: str) -> tuple[int, ...]:
    """The positive values of a labelmap, ascending."""
    values = np.sort(pd.unique(labelmap.ravel()))  # by hash: numpy would sort all voxels
    found = f"values from {int(values[0])} to {int(values[-1])}"
    if values[0] < 0:
        raise VolumeError(f"{name} holds {found}: labels are not negative, so this looks like an image; {_EXPECTED}.")
    if len(values) > _MOST_LABELS:
        raise VolumeError(f"{name} holds {len(values)} different {found}: this looks like an image; {_EXPECTED}.")
    return tuple(int(value) for value in values if value > 0)


def positive_values(volume: Volume) -> tuple[int, ...]:
    """The positive values of a labelmap, ascending.

    Raises:
        VolumeError: the values are not those of a labelmap.
    """
    return _label_values(_whole(volume.array_kji, volume.name), volume.name)


def set_codes(volume: Volume, label_set: LabelSet) -> tuple[np.ndarray, list[str]]:
    """A labelmap in the values of a label set, and a note on values that are not of it: they are background.

    Values mean what the file says of them by codes or names, else what the set says. One more than the set's last one
    is what belongs to the set, but to several of its structures, or to none that is said.

    Raises:
        VolumeError: the values are not those of a labelmap, or none is of the set.
    """
    labelmap = _whole(volume.array_kji, volume.name)
    present = _label_values(labelmap, volume.name)
    if volume.structure_labels:
        return _named_codes(volume, labelmap, label_set), []
    others = [value for value in present if value not in label_set.labels]
    if present and len(others) == len(present):
        raise VolumeError(
            f"{volume.name} holds labels {listed(present)}, none of the set '{label_set.name}', which has 1 to "
            f"{len(label_set)}; give labelmaps of that set, or name another one."
        )
    codes = np.where(np.isin(labelmap, label_set.labels), labelmap, 0).astype(np.uint8)
    return codes, [f"{volume.name} has labels {listed(others)}, not of the set: left out."] if others else []


def set_structures(label_set: LabelSet) -> Structures:
    """The structures of a label set, and all together."""
    return {structure.name: (label,) for label, structure in label_set} | {ALL: label_set.labels}


def structure_mask(codes: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Bool mask of the voxels of one structure, or, for several values, of all structures together."""
    return codes == values[0] if len(values) == 1 else codes > 0


def joint_counts(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Int (4, 4): voxels with each code in the reference (rows) and in the prediction (columns)."""
    counts = np.zeros(16, np.int64)
    for row, column in zip(reference, prediction, strict=True):  # slice by slice: bincount needs 8 bytes a voxel
        counts += np.bincount((row * np.uint8(4) + column).ravel(), minlength=16)
    return counts.reshape(4, 4)


def comparable_structures(
    counts: np.ndarray, guessed_reference: Sequence[int], guessed_prediction: Sequence[int]
) -> tuple[Structures, list[str]]:
    """Structures that both labelmaps tell apart, and notes on what was decided.

    Args:
        counts: of `joint_counts`.
        guessed_reference: of `side_codes`; empty where the caller said the sides, which are taken as said.
        guessed_prediction: likewise of the prediction.
    """
    if guessed_reference and _lacks_sides(counts.sum(axis=1)):
        return BOTH_ONLY, [_without_sides("reference", guessed_reference)]
    if guessed_prediction and is_one_mask_of_both(counts):
        return BOTH_ONLY, [_without_sides("prediction", guessed_prediction)]
    notes = []
    if sides_look_exchanged(counts):
        notes.append(
            "Right and left look exchanged: check the labels, 1 is the patient's right lung and 2 the left, "
            "or say which labels the reference uses."
        )
    if counts[SIDELESS].any():
        notes.append("The reference has labels other than 1 and 2: they count in both lungs only.")
    return STRUCTURES, notes


def sides_look_exchanged(counts: np.ndarray) -> bool:
    """Whether more of the right lung is the other labelmap's left one, and of the left its right, than not.

    Args:
        counts: of `joint_counts`.
    """
    return bool(counts[1, 2] + counts[2, 1] > counts[1, 1] + counts[2, 2])


def missing_sides(codes: np.ndarray, labels: Labels | None, role: str) -> list[str]:
    """A note for each side of which no voxel has one of the labels that were given for it."""
    return [
        f"The {role} has no voxel with the label given for the {side} lung, {listed(values)}."
        for side, values in (labels or {}).items()
        if values and not (codes == _CODES[side]).any()
    ]


def _without_sides(role: str, values: Sequence[int]) -> str:
    if len(values) == 1:
        return f"The {role} has one lung label, {values[0]}: compared as both lungs only."
    return (
        f"The {role} uses labels {listed(values)}, not 1 and 2: compared as both lungs only; "
        f"say which is which with --{role}-right and --{role}-left ({role}_labels in Python)."
    )


def _lacks_sides(voxels: np.ndarray) -> bool:
    """Lung, but not both right and left; an empty labelmap lacks nothing."""
    return bool(voxels[1:].any() and not (voxels[RIGHT_LUNG] and voxels[LEFT_LUNG]))


def is_one_mask_of_both(counts: np.ndarray) -> bool:
    """One prediction label that covers most of both reference lungs; a lung that was missed is not mistaken for it."""
    used = np.flatnonzero(counts[:, 1:].any(axis=0)) + 1
    if len(used) != 1:
        return False
    covered = counts[[RIGHT_LUNG, LEFT_LUNG], used[0]] > counts[[RIGHT_LUNG, LEFT_LUNG]].sum(axis=1) / 2
    return bool(used[0] == SIDELESS or covered.all())

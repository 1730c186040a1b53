"""Segmentations: which values of an array are which structures, by what a file says of its segments.

Values of one layer stay as they are stored. Several layers, whose segments may overlap, become one array with a value
for each combination that occurs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SAMLungSegLib.errors import SAMLungSegError, VolumeError, listed
from SAMLungSegLib.structures import LABEL_SETS, LUNGS, LabelSet
from SAMLungSegLib.volume.structurenames import Terminology, known_structures

logger = logging.getLogger(__name__)

StructureLabels = dict[str, tuple[int, ...]]  # values by structure, or by a set for what is of it but not said what
Members = frozenset[tuple[str, str]]  # label set, and key or the set's name
Meaning = tuple[int, ...]  # the label in each label set, see `_label_of`

_FIELD = re.compile(r"Segment(\d+)_(\w+)")
_TERMINOLOGY = re.compile(r"(?:^|\|)TerminologyEntry:([^|]*)")
_NUMBERED = re.compile(r"(segment|label|structure|region|roi|mask)?[\s_.-]*\d*", re.IGNORECASE)


@dataclass(frozen=True)
class StoredSegment:
    """A segment of a file.

    Attributes:
        name: as shown to people.
        layer: in which it is.
        label: its value there.
        structures: what it is in each label set that has it, see `known_structures`.
    """

    name: str
    layer: int
    label: int
    structures: Mapping[str, str]


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
    terminology = Terminology.of_entry(entry[1]) if entry else None
    return StoredSegment(name, layer, label, known_structures(name, terminology, path))


def labels_of_one_layer(segments: Sequence[StoredSegment], path: Path) -> StructureLabels | None:
    """Values by structure of a segmentation of one layer; None where no segment is known, and numbers must tell."""
    if not any(one.structures for one in segments):
        others = [one.name for one in segments if not _NUMBERED.fullmatch(one.name)]
        if others:
            logger.warning(
                "%s: no segment is known by its code or name (%s); labels count by number.", path, _listed(others)
            )
        return None
    say_unknown(segments, path)
    members: dict[int, Members] = {}
    for one in segments:
        members[one.label] = members.get(one.label, frozenset()) | one.structures.items()
    return _by_structure(
        {label: tuple(_label_of(those, s) for s in LABEL_SETS.values()) for label, those in members.items()}
    )


def joined_layers(
    array: np.ndarray, segments: Sequence[StoredSegment], path: Path
) -> tuple[np.ndarray, StructureLabels]:
    """The known structures of a segmentation of several layers, as one labelmap.

    Args:
        array: integer (K, J, I, layers).
        segments: of all layers.
        path: for messages.
    Returns:
        As `Combination.joined`.
    Raises:
        VolumeError: no segment is known, or one is in a layer that is not there.
    """
    layers = array.shape[-1]
    check_any_known(segments, f"{path} has {layers} layers,")
    beyond = next((one for one in segments if not 0 <= one.layer < layers), None)
    if beyond is not None:
        raise VolumeError(f"{path}: segment '{beyond.name}' is in layer {beyond.layer} of {layers}; export it again.")
    say_unknown(segments, path)
    together = Combination(array.shape[:-1])
    for one in segments:
        together.add(array[..., one.layer] == one.label, one)
    return together.joined(path)


class Combination:
    """One labelmap of segments that may overlap: a value for each combination of structures that occurs."""

    def __init__(self, size_kji: tuple[int, ...]) -> None:
        self._values_kji = np.zeros(size_kji, np.uint16)
        self._members: list[Members] = [frozenset()]

    def add(self, mask: np.ndarray, segment: StoredSegment, part: int | slice = slice(None)) -> None:
        """Put a segment where `mask` is, bool of the size of the array, or of its `part` along K."""
        values = self._values_kji[part]
        before = values[mask]
        after = before.copy()
        for value in np.unique(before):
            after[before == value] = self._number_of(self._members[value] | segment.structures.items())
        values[mask] = after

    def _number_of(self, members: Members) -> int:
        if members not in self._members:
            self._members.append(members)
        return self._members.index(members)

    def joined(self, path: Path) -> tuple[np.ndarray, StructureLabels]:
        """The labelmap, and its values by structure; what overlaps within a label set is said.

        Values are those of the first label set in which all that occurs differs, or numbers from 1 where none has it.

        Args:
            path: for messages.
        Returns:
            Uint8 or uint16 (K, J, I).
        """
        meanings = [tuple(_label_of(members, one) for one in LABEL_SETS.values()) for members in self._members]
        values = _values_of(set(meanings))
        self._say_overlaps(path)
        table = np.array([values[one] for one in meanings])
        table = table.astype(np.min_scalar_type(table.max()))
        return table[self._values_kji], _by_structure({value: one for one, value in values.items()})

    def _say_overlaps(self, path: Path) -> None:
        for label_set in LABEL_SETS.values():
            for number, members in enumerate(self._members):
                names = [one.name for _, one in label_set if (label_set.name, one.key) in members]
                count = np.count_nonzero(self._values_kji == number) if len(names) > 1 else 0
                if count:
                    where, all_of = " and in the ".join(names), "both lungs" if label_set is LUNGS else "all structures"
                    logger.warning("%s: %d voxels are in the %s; they count in %s only.", path, count, where, all_of)


def _label_of(members: Members, label_set: LabelSet) -> int:
    """What a voxel with these members is in a label set: nothing (0), a label, or, after the last one, not just one."""
    keys = {key for of, key in members if of == label_set.name}
    exact = keys - {label_set.name}
    if len(exact) == 1:
        return label_set.label_of(exact.pop())
    return len(label_set) + 1 if keys else 0


def _values_of(meanings: set[Meaning]) -> dict[Meaning, int]:
    for place in range(len(LABEL_SETS)):
        if len({one[place] for one in meanings}) == len(meanings):
            return {one: one[place] for one in meanings}
    return {one: value for value, one in enumerate(sorted(meanings))}  # nothing, all zeros, is the first


def _by_structure(meanings: Mapping[int, Meaning]) -> StructureLabels:
    """Values by the key of what they mean, or by the set's name where that is not just one structure."""
    found: StructureLabels = {}
    for value, meaning in sorted(meanings.items()):
        for label_set, label in zip(LABEL_SETS.values(), meaning, strict=True):
            if label:
                key = label_set.structure_of(label).key if label in label_set.labels else label_set.name
                found[key] = (*found.get(key, ()), value)
    return found


@contextmanager
def damage_told(path: Path, what: str) -> Iterator[None]:
    """A block that reads a DICOM file, for whose damage pydicom has no kind of error of its own.

    Raises:
        VolumeError: anything that is no error of ours.
    """
    try:
        yield
    except (SAMLungSegError, MemoryError):
        raise
    except Exception as error:
        raise VolumeError(f"{path} is damaged, its {what} cannot be read: {error}") from error


def check_any_known(segments: Sequence[StoredSegment], what: str) -> None:
    """Refuse segments none of which is known, where their numbers say nothing.

    Args:
        segments: of the file.
        what: how the message begins: the file, and what it has.
    Raises:
        VolumeError: with their names.
    """
    if not any(one.structures for one in segments):
        raise VolumeError(
            f"{what} with the segments {_listed([one.name for one in segments])}; expected some whose code or name is "
            "that of a lung, a lobe or an organ, such as 'right lung': name them in Slicer, or export a labelmap."
        )


def say_unknown(segments: Sequence[StoredSegment], path: Path) -> None:
    """Warn once of the segments that are known neither by code nor by name."""
    others = [one.name for one in segments if not one.structures]
    if others:
        logger.warning("%s: segments of no known structure are left out: %s.", path, _listed(others))


def _listed(names: Sequence[str]) -> str:
    return listed([f"'{name}'" for name in names], 6)

"""DICOM segmentations: frames of segments, in the order of the file, put where each lies in the patient."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.isolation import announce_decoding
from SAMLungSegLib.volume.extents import extent_of_segments
from SAMLungSegLib.volume.itk import ijk_to_ras_from_lps
from SAMLungSegLib.volume.projections import ijk_to_ras_by_letters
from SAMLungSegLib.volume.segmentations import Combination, StoredSegment, check_any_known, damage_told, say_unknown
from SAMLungSegLib.volume.structurenames import Code, Terminology, known_structures
from SAMLungSegLib.volume.suspicion import check_size
from SAMLungSegLib.volume.types import Volume

logger = logging.getLogger(__name__)

SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # the second of label values

_HEAD_BYTES = 1024
_AFTER_CLASS = b"\x02\x00\x03\x00"  # the tag that follows the class in the file's meta information
_IN_PLANE_MM = 0.1  # by which planes may be shifted against each other
_BETWEEN_PLANES = 0.05  # of their distance, likewise
_THIN = 1.5  # times their thickness, further than which slices that are evenly apart have gaps
_SAME_PLACE_MM = 1e-3
_SAME_DIRECTION = 1e-3


class _Grid(NamedTuple):
    """Where frames lie: the plane of each, how many planes there are, and whether their pixels are known in mm."""

    planes: np.ndarray
    count: int
    ijk_to_ras: np.ndarray
    is_in_mm: bool = True


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file says at its start that it is a segmentation: ITK does not know all of their classes."""
    return says_class(path, SEGMENTATION_CLASSES)


def says_class(path: Path, classes: Sequence[str]) -> bool:
    """Whether a DICOM file says at its start that it is of one of these classes."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # which is told by what reads it
        return False
    return any(one.encode() + bytes(len(one) % 2) + _AFTER_CLASS in head for one in classes)  # of even length


def read_segmentation(path: Path, name: str) -> Volume:
    """The known structures of a DICOM segmentation (binary, fractional from one half on, or of label values).

    Planes that the file leaves out, as it may where they hold nothing, are empty.

    Args:
        path: of a file of `SEGMENTATION_CLASSES`.
        name: of the volume.
    Raises:
        VolumeError: the file is damaged, its frames make no volume, or none of its segments is known.
        GeometryError: its directions cannot be used.
    """
    import pydicom

    with damage_told(path, "segments"):
        return _read(pydicom.dcmread(path), path, name)


def _read(file: Any, path: Path, name: str) -> Volume:
    segments = {int(one.SegmentNumber): _segment(one, path) for one in file.SegmentSequence}
    known = [*segments.values()]
    check_any_known(known, f"{path} is a DICOM segmentation")
    say_unknown(known, path)
    frames = file.PerFrameFunctionalGroupsSequence
    shared = next(iter(file.get("SharedFunctionalGroupsSequence") or ()), {})
    if any("PlanePositionSequence" in groups for groups in (shared, *frames)):
        grid = _grid([_Places.of(frame, shared) for frame in frames], path)
    else:
        grid = _projection_grid(file, frames, shared, path)
    size_kji = (grid.count, int(file.Rows), int(file.Columns))
    value_bytes = 2 * int(np.prod(size_kji, dtype=object)) + len(frames) * size_kji[1] * size_kji[2]
    check_size(path, value_bytes, 0)
    announce_decoding(value_bytes, [path])
    together = Combination(size_kji)
    for frame, plane, pixels in zip(frames, grid.planes, _pixels(file, len(frames), path), strict=True):
        for number, mask in _masks(file, frame, shared, pixels):
            if number in segments and segments[number].structures:
                together.add(mask, segments[number], int(plane))
    array_kji, labels = together.joined(path)
    extent = extent_of_segments(known)
    return Volume(array_kji, grid.ijk_to_ras, name, None, grid.is_in_mm, structure_labels=labels, extent=extent)


def _segment(item: Any, path: Path) -> StoredSegment:
    name, number = str(item.get("SegmentLabel") or "segment"), int(item.SegmentNumber)
    type_item = next(iter(item.get("SegmentedPropertyTypeCodeSequence") or ()), None)
    terminology = None
    if type_item is not None:
        modifiers = type_item.get("SegmentedPropertyTypeModifierCodeSequence")
        terminology = Terminology(_code(type_item), _code(next(iter(modifiers or ()), {})))
    return StoredSegment(name, 0, number, known_structures(name, terminology, path))


def _code(item: Any) -> Code:
    return str(item.get("CodeValue") or ""), str(item.get("CodeMeaning") or "")


class _Places(NamedTuple):
    """What the functional groups of a frame say of its place: LPS in mm, spacings of rows, columns and slices."""

    position: np.ndarray
    directions: np.ndarray
    spacing_mm: tuple[float, float]
    slices_mm: float | None
    thickness_mm: float | None

    @classmethod
    def of(cls, frame: Any, shared: Any) -> _Places:
        position, orientation, measures = (
            _group(frame, shared, one)
            for one in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
        )
        rows_mm, columns_mm = map(float, measures.PixelSpacing)
        apart, thickness = (measures.get(one) for one in ("SpacingBetweenSlices", "SliceThickness"))
        return cls(
            np.array(position.ImagePositionPatient, float),
            np.array(orientation.ImageOrientationPatient, float).reshape(2, 3),
            (rows_mm, columns_mm),
            float(apart) if apart else None,
            float(thickness) if thickness else None,
        )


def _group(frame: Any, shared: Any, sequence: str) -> Any:
    return (frame.get(sequence) or shared[sequence].value)[0]


def _grid(places: Sequence[_Places], path: Path) -> _Grid:
    """The grid of planes that all frames lie on.

    Raises:
        VolumeError: they are turned, scaled or shifted against each other, or not at multiples of one distance.
    """
    first = places[0]
    if any(
        np.abs(one.directions - first.directions).max() > _SAME_DIRECTION or one.spacing_mm != first.spacing_mm
        for one in places
    ):
        raise VolumeError(
            f"{path} has frames of different directions or pixel sizes; export one grid for all segments."
        )
    normal = np.cross(*first.directions)
    positions = np.array([one.position for one in places])
    along = positions @ normal
    lowest = positions[along.argmin()]
    from_lowest = positions - lowest
    tilt = _tilt(from_lowest, normal, path)
    apart_mm = _plane_distance(from_lowest @ normal, first, path)
    planes = np.rint(from_lowest @ normal / apart_mm).astype(int)
    axes = np.column_stack([*first.directions, normal])
    spacing = np.array([first.spacing_mm[1], first.spacing_mm[0], apart_mm * np.hypot(1, tilt)])
    return _Grid(planes, int(planes.max()) + 1, ijk_to_ras_from_lps(axes, spacing, lowest))


def _tilt(from_lowest: np.ndarray, normal: np.ndarray, path: Path) -> float:
    """By what planes are shifted for each mm along their normal, as by a tilted gantry, which is said; mostly 0.

    Raises:
        VolumeError: they are shifted otherwise.
    """
    along = from_lowest @ normal
    shifts = from_lowest - np.outer(along, normal)
    if np.abs(shifts).max() <= _IN_PLANE_MM:
        return 0.0
    each_mm = shifts[along.argmax()] / along.max() if along.max() > 0 else np.zeros(3)
    if np.abs(shifts - np.outer(along, each_mm)).max() > _IN_PLANE_MM:
        raise VolumeError(f"{path} has frames that are shifted against each other; export one grid for all segments.")
    logger.warning("%s: the gantry was tilted; slices are taken as stacked at right angles.", path)
    return float(np.linalg.norm(each_mm))


def _projection_grid(file: Any, frames: Sequence[Any], shared: Any, path: Path) -> _Grid:
    """The one plane of a segmentation of a projection image, such as an X-ray, which has no place in the patient.

    Raises:
        VolumeError: a segment has several frames, of which nothing says where they lie.
    """
    if file.SegmentationType == "LABELMAP":
        numbers = [0] * len(frames)
    else:
        groups = [_group(one, shared, "SegmentIdentificationSequence") for one in frames]
        numbers = [int(one.ReferencedSegmentNumber) for one in groups]
    if not frames or len(set(numbers)) < len(numbers):
        raise VolumeError(f"{path} has frames that do not say where they lie; export it again, with their positions.")
    measures = next((one["PixelMeasuresSequence"].value[0] for one in (frames[0], shared) if _has_sizes(one)), None)
    rows_mm, columns_mm = (1.0, 1.0) if measures is None else map(float, measures.PixelSpacing)
    spacing, letters = np.array([columns_mm, rows_mm, 1.0]), "\\".join(file.get("PatientOrientation") or ())
    ijk_to_ras = ijk_to_ras_by_letters(letters, spacing)
    if ijk_to_ras is None:
        ijk_to_ras = ijk_to_ras_from_lps(np.eye(3), spacing, np.zeros(3))
    return _Grid(np.zeros(len(frames), int), 1, ijk_to_ras, measures is not None)


def _has_sizes(groups: Any) -> bool:
    return "PixelMeasuresSequence" in groups and "PixelSpacing" in groups["PixelMeasuresSequence"].value[0]


def _plane_distance(along_mm: np.ndarray, place: _Places, path: Path) -> float:
    """The distance of planes of which all frames lie at a multiple: that which is stated, or that of the frames.

    The thickness of slices is their distance where planes are left out; thin slices may lie evenly further apart.
    """
    gaps = np.diff(np.unique(along_mm))
    gaps = gaps[gaps > _SAME_PLACE_MM]
    if not len(gaps):
        return place.slices_mm or place.thickness_mm or 1.0
    is_even = len(gaps) > 1 and np.ptp(gaps) <= _BETWEEN_PLANES * gaps.min()
    of_frames_mm = float(gaps.mean() if is_even else gaps.min())
    is_thin = is_even and place.thickness_mm is not None and place.thickness_mm * _THIN < of_frames_mm
    if is_thin and place.slices_mm is None:
        logger.warning(
            "%s: its slices are %.3g mm thick and %.3g mm apart, and taken as the next to each other; where slices "
            "between them were left out, volumes are too large.",
            path, place.thickness_mm, of_frames_mm,
        )  # fmt: skip
    for apart_mm in (place.slices_mm, None if is_thin else place.thickness_mm, of_frames_mm):
        if apart_mm is None:
            continue
        steps = along_mm / apart_mm
        if apart_mm <= gaps.min() * (1 + _BETWEEN_PLANES) and np.abs(steps - np.rint(steps)).max() <= _BETWEEN_PLANES:
            return apart_mm
    raise VolumeError(
        f"{path} has frames {gaps.min():.3g} to {gaps.max():.3g} mm apart, on no grid; export them again."
    )


def _pixels(file: Any, count: int, path: Path) -> Iterator[np.ndarray]:
    """Each frame (H, W); of single bits without ever holding all of them as bytes."""
    height, width = int(file.Rows), int(file.Columns)
    if file.BitsAllocated != 1 or file.file_meta.TransferSyntaxUID.is_compressed:
        yield from np.reshape(file.pixel_array, (count, height, width))
        return
    stored, area = np.frombuffer(file.PixelData, np.uint8), height * width
    if len(stored) * 8 < count * area:
        raise VolumeError(f"{path} is truncated: it has {len(stored)} bytes of {count} frames; copy it again.")
    for start in range(0, count * area, area):
        bits = np.unpackbits(stored[start // 8 : -(-(start + area) // 8)], bitorder="little")
        yield bits[start % 8 : start % 8 + area].reshape(height, width)


def _masks(file: Any, frame: Any, shared: Any, pixels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Segment numbers and bool masks (H, W) of a frame."""
    if file.SegmentationType == "LABELMAP":
        yield from ((int(number), pixels == number) for number in np.unique(pixels) if number)
        return
    number = int(_group(frame, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
    most = int(file.MaximumFractionalValue) if file.SegmentationType == "FRACTIONAL" else 1
    yield number, 2 * pixels.astype(np.uint16) >= most if most > 1 else pixels > 0

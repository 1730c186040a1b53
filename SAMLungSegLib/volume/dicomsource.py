"""The DICOM images that a volume was read from: what objects made of it refer to, and take patient and study from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SAMLungSegLib.errors import GeometryError, OutputError
from SAMLungSegLib.volume.types import Volume

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Rows", "Columns")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime"),
)
_AGE = re.compile(r"\d{3}[DWMY]")
_SAME_PLACE_MM = 0.1
_EVEN = 0.05  # of their distance, by which slices may be unevenly spaced


def headers_of(volume: Volume) -> list[Any]:
    """The headers (pydicom datasets without pixels) of a volume's slices, in their order, or that of its one file.

    What the standard wants to be there, even if empty, is there afterwards.

    Raises:
        OutputError: the volume was not read from DICOM, a file is gone, or lacks what identifies it.
        GeometryError: the files are not of the volume's grid.
    """
    if not volume.dicom_files:
        raise OutputError(
            f"{volume.name} was not read from DICOM files, to which a DICOM object would refer; write .seg.nrrd, .nrrd "
            "or .nii.gz, or give the DICOM file or folder."
        )
    headers = [_header(Path(path)) for path in volume.dicom_files]
    for name in _MAY_BE_EMPTY:
        if name not in headers[0]:
            setattr(headers[0], name, "")
    if not _AGE.fullmatch(str(headers[0].get("PatientAge") or "000Y")):
        del headers[0].PatientAge  # which would make every object invalid that takes it over
    _complete_frame_of_reference(headers)
    _check_grid(headers, volume)
    _complete_sizes(headers, volume)
    return headers


def _header(path: Path) -> Any:
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        missing = [name for name in _NEEDED if not header.get(name)]
    except FileNotFoundError as error:
        raise OutputError(f"{path} is no longer there, to which a DICOM object would refer; put it back.") from error
    except Exception as error:  # pydicom has no kind of its own for damaged files
        raise OutputError(f"{path} is damaged, no DICOM object can refer to it: {error}") from error
    if missing:
        raise OutputError(
            f"{path} lacks {', '.join(missing)}, so that no DICOM object can refer to it; write .seg.nrrd or .nii.gz."
        )
    return header


def check_referable(headers: Sequence[Any], volume: Volume) -> None:
    """Refuse an image whose slices no object can tell apart, or which is placed in the patient at its first voxel only.

    Raises:
        OutputError: slices share a SOPInstanceUID, or the size of pixels is not known.
    """
    identity, count = Counter(str(header.SOPInstanceUID) for header in headers).most_common(1)[0]
    if count > 1:
        raise OutputError(
            f"{count} slices of {volume.name} have one SOPInstanceUID, {identity}, so that no DICOM object can "
            "refer to each of them; write .seg.nrrd or .nii.gz, or export the series anew."
        )
    if is_placed(headers[0]) and not volume.has_physical_spacing:
        raise OutputError(
            f"{volume.name} does not say how large its pixels are (Pixel Spacing), without which a DICOM object has no "
            "place in the patient; write .seg.nrrd or .nii.gz."
        )


def is_placed(header: Any) -> bool:
    """Whether an image, or each frame of it, says where in the patient it lies."""
    return "ImagePositionPatient" in header or bool(positions_of_frames(header))


def positions_of_frames(header: Any) -> list[np.ndarray]:
    """LPS in mm (3,) of the first voxel of each frame of an enhanced image; empty where they are not all said."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or ()
    places = [frame["PlanePositionSequence"].value[0] for frame in frames if "PlanePositionSequence" in frame]
    found = [np.array(one.ImagePositionPatient, float) for one in places if one.get("ImagePositionPatient")]
    return found if len(found) == len(frames) else []


def frame_of_slices(header: Any) -> np.ndarray:
    """Which frame of an enhanced image each slice along K is: in the order along the normal, as they were read."""
    positions, directions = _unsorted_places([header])
    return np.argsort(positions @ np.cross(directions[:3], directions[3:]), kind="stable")


def slice_distance_mm(headers: Sequence[Any], otherwise_mm: float) -> float | None:
    """Between the planes of neighbouring slices, along their normal; None where that differs from slice to slice.

    Args:
        headers: of placed images, in the order of the slices, or of an enhanced one.
        otherwise_mm: of a single slice.
    """
    positions, directions = _unsorted_places(headers)
    gaps_mm = np.diff(np.sort(positions @ np.cross(directions[:3], directions[3:])))
    if not len(gaps_mm):
        return otherwise_mm
    return float(gaps_mm.mean()) if np.ptp(gaps_mm) <= _EVEN * gaps_mm.mean() else None


def places_of(headers: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (K, 3) of the first voxels of slices along K, and directions of rows and columns (6,); LPS in mm."""
    positions, directions = _unsorted_places(headers)
    return (
        positions if len(headers) > 1 or len(positions) == 1 else positions[frame_of_slices(headers[0])]
    ), directions


def _unsorted_places(headers: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """As `places_of`, frames of an enhanced image in the order of the file."""
    if "ImagePositionPatient" in headers[0]:
        positions = [np.array(one.ImagePositionPatient, float) for one in headers]
        return np.array(positions), np.array(headers[0].ImageOrientationPatient, float)
    groups = headers[0].PerFrameFunctionalGroupsSequence[0]
    if "PlaneOrientationSequence" not in groups:
        groups = headers[0].SharedFunctionalGroupsSequence[0]
    directions = groups["PlaneOrientationSequence"].value[0].ImageOrientationPatient
    return np.array(positions_of_frames(headers[0])), np.array(directions, float)


def _complete_frame_of_reference(headers: list[Any]) -> None:
    """A frame of reference where there are positions in one, the same at each time; none where there are none."""
    from pydicom.uid import generate_uid

    if not is_placed(headers[0]):
        for header in headers:
            header.pop("FrameOfReferenceUID", None)
        return
    own = generate_uid(entropy_srcs=["frame of reference", str(headers[0].SeriesInstanceUID)])
    for header in headers:
        if not header.get("FrameOfReferenceUID"):
            header.FrameOfReferenceUID = own


def _complete_sizes(headers: list[Any], volume: Volume) -> None:
    """A thickness for each slice, and the pixels of an enhanced image's first frame as those of all."""
    for header in headers:
        if not header.get("SliceThickness"):
            header.SliceThickness = f"{volume.spacing_mm[0]:.10g}"
    shared = next(iter(headers[0].get("SharedFunctionalGroupsSequence") or ()), None)
    frames = headers[0].get("PerFrameFunctionalGroupsSequence") or ()
    for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        if shared is not None and name not in shared and frames and name in frames[0]:
            shared[name] = frames[0][name]


def _check_grid(headers: list[Any], volume: Volume) -> None:
    """Refuse a volume that has another grid than its files, as one that was resampled."""
    first = headers[0]
    count = int(first.get("NumberOfFrames") or 1) if len(headers) == 1 else len(headers)
    size = (count, int(first.Rows), int(first.Columns))
    position = first.get("ImagePositionPatient") if len(headers) > 1 else None
    is_there = position is None or np.allclose(
        np.array(position, float) * (-1, -1, 1), volume.ijk_to_ras[:3, 3], atol=_SAME_PLACE_MM
    )
    if size != volume.size_kji or not is_there:
        raise GeometryError(
            f"{volume.name} is no longer on the grid of its DICOM files, whose size is {size}: it has "
            f"{volume.size_kji}; give the image as it was read."
        )

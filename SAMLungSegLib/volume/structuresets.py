"""RT Structure Sets of radiotherapy: labelmaps as closed contours on the slices of a CT, and back.

Contours run between voxels, so that the centre of each voxel is inside of exactly those that it is part of: what is
written comes back voxel for voxel. Of several contours of a structure in one slice, one within another is a hole.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from skimage.measure import find_contours

from SAMLungSegLib import __version__
from SAMLungSegLib.errors import OutputError, SAMLungSegError, VolumeError
from SAMLungSegLib.files import write_bytes
from SAMLungSegLib.structures import LabelSet, Structure
from SAMLungSegLib.volume.dicom import read_dicom_folder
from SAMLungSegLib.volume.dicomout import Algorithm
from SAMLungSegLib.volume.dicomseg import says_class
from SAMLungSegLib.volume.dicomsource import check_referable, frame_of_slices, headers_of, is_placed, places_of
from SAMLungSegLib.volume.segmentations import Combination, StoredSegment, check_any_known, damage_told, say_unknown
from SAMLungSegLib.volume.structurenames import known_structures
from SAMLungSegLib.volume.types import Volume

_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_MAKER = "SAMLungSeg"
_FARTHEST = 0.25  # of the distance of slices, that contours may lie off them
_OF_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName"),
)


class _Slices(NamedTuple):
    """Where the slices of a volume lie, in their order: LPS in mm."""

    positions: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    rows_mm: float
    columns_mm: float

    @classmethod
    def of(cls, volume: Volume, headers: list[Any]) -> _Slices:
        positions, directions = places_of(headers)
        return cls(positions, directions[:3], directions[3:], *volume.spacing_mm[1:])

    def lps_of(self, k: int, points_ji: np.ndarray) -> np.ndarray:
        along = points_ji[:, 1:] * self.columns_mm * self.rows + points_ji[:, :1] * self.rows_mm * self.columns
        return self.positions[k] + along

    def pixels_of(self, points_lps: np.ndarray) -> tuple[int, np.ndarray, float]:
        """Slice, points (row, column) in it, and how far off it they lie, by the distance of slices."""
        normal = np.cross(self.rows, self.columns)
        off_mm = (points_lps.mean(axis=0) - self.positions) @ normal
        k = int(np.abs(off_mm).argmin())
        gaps_mm = np.diff(self.positions @ normal)
        from_first = points_lps - self.positions[k]
        apart = np.abs(from_first @ normal).max() / (gaps_mm.min() if len(gaps_mm) else 1.0)
        places = (from_first @ self.columns / self.rows_mm, from_first @ self.rows / self.columns_mm)
        return k, np.column_stack(places), float(apart)


def is_structure_set(path: Path) -> bool:
    """Whether a DICOM file says at its start that it is an RT Structure Set."""
    return says_class(path, (_CLASS,))


def check_structure_set_possible(volume: Volume) -> None:
    """Refuse a volume that is no DICOM volume, before the work is done.

    Raises:
        OutputError, GeometryError: it does not come from DICOM files that say where they lie, and how large pixels are.
    """
    headers = headers_of(volume)
    check_referable(headers, volume)
    if not is_placed(headers[0]):
        raise OutputError(
            f"{volume.name} does not say where in the patient it lies, as an X-ray, so that contours have no place; "
            "give dcm or seg.nrrd as format."
        )


def write_structure_set(
    labelmap_kji: np.ndarray, like: Volume, path: Path, label_set: LabelSet, algorithm: Algorithm
) -> None:
    """Write an RT Structure Set with a region for each structure; the file appears complete or not at all.

    Args:
        labelmap_kji: integer (K, J, I), labels of the set.
        like: the CT, which was read from DICOM.
        path: the file to write or replace.
        label_set: what the labels stand for.
        algorithm: what made it.
    Raises:
        OutputError, GeometryError: as `check_structure_set_possible`, or it cannot be written.
    """
    check_structure_set_possible(like)
    headers = headers_of(like)
    try:
        made = _described(headers, like, label_set, algorithm)
        slices, images = _Slices.of(like, headers), _references(headers, len(labelmap_kji))
        for (label, _), region in zip(label_set, made.ROIContourSequence, strict=True):
            region.ContourSequence = [*_contours(labelmap_kji == label, slices, images)]
        content = io.BytesIO()
        made.save_as(content, enforce_file_format=True)
    except (SAMLungSegError, MemoryError):
        raise
    except Exception as error:  # of many kinds, for anything in the headers that is not as it should be
        raise OutputError(
            f"{path} cannot be written, for the headers of {like.name} do not suffice ({error})."
        ) from error
    write_bytes(content.getvalue(), path)


def _described(headers: list[Any], like: Volume, label_set: LabelSet, algorithm: Algorithm) -> Any:
    """The whole object, without contours."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian, generate_uid

    first, now = headers[0], datetime.datetime.now()
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit ones have no room for long contours
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = _CLASS
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    if "SpecificCharacterSet" in first:
        made.SpecificCharacterSet = first.SpecificCharacterSet
    for name in _OF_PATIENT_AND_STUDY:
        setattr(made, name, first.get(name, ""))
    made.Modality, made.SeriesInstanceUID, made.SeriesNumber = "RTSTRUCT", generate_uid(), None
    made.OperatorsName, made.Manufacturer = "", _MAKER
    made.ManufacturerModelName, made.SoftwareVersions = algorithm.name[:64], __version__
    made.SeriesDescription = f"{label_set.name} by {algorithm.name}"[:64]
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = first.FrameOfReferenceUID, ""
    made.StructureSetLabel = label_set.name.upper()[:16]
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.InstanceCreationDate, made.InstanceCreationTime = made.StructureSetDate, made.StructureSetTime
    series = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=_references(headers, len(headers)))
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    made.ReferencedFrameOfReferenceSequence = [
        _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    ]
    made.StructureSetROISequence = [_region(first, *one, algorithm) for one in label_set]
    made.ROIContourSequence = [
        _item(ReferencedROINumber=label, ROIDisplayColor=list(one.colour)) for label, one in label_set
    ]
    made.RTROIObservationsSequence = [_observation(*one) for one in label_set]
    made.ApprovalStatus = "UNAPPROVED"
    return made


def _region(first: Any, label: int, structure: Structure, algorithm: Algorithm) -> Any:
    return _item(
        ROINumber=label,
        ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID,
        ROIName=structure.name,
        ROIGenerationAlgorithm="AUTOMATIC" if algorithm.is_automatic else "SEMIAUTOMATIC",
    )


def _observation(label: int, structure: Structure) -> Any:
    value, meaning = structure.code
    code = _item(CodeValue=value, CodingSchemeDesignator=structure.scheme, CodeMeaning=meaning)
    return _item(
        ObservationNumber=label,
        ReferencedROINumber=label,
        RTROIInterpretedType="ORGAN",
        ROIInterpreter="",
        RTROIIdentificationCodeSequence=[code],
    )


def _references(headers: list[Any], count: int) -> list[Any]:
    """To the image, or the frame of an enhanced one, of each of so many slices."""
    if len(headers) > 1 or count == 1:
        return [
            _item(ReferencedSOPClassUID=one.SOPClassUID, ReferencedSOPInstanceUID=one.SOPInstanceUID) for one in headers
        ]
    (only,) = headers
    return [
        _item(
            ReferencedSOPClassUID=only.SOPClassUID,
            ReferencedSOPInstanceUID=only.SOPInstanceUID,
            ReferencedFrameNumber=int(frame) + 1,
        )
        for frame in frame_of_slices(only)
    ]


def _contours(mask_kji: np.ndarray, slices: _Slices, images: list[Any]) -> Iterator[Any]:
    outlines = [
        (k, one) for k, mask in enumerate(mask_kji) if mask.any() for one in find_contours(np.pad(mask, 1), 0.5)
    ]
    has_holes = any(_is_hole(one) for _, one in outlines)
    for k, outline in outlines:
        points_lps = slices.lps_of(k, _corners(outline) - 1)  # without the padding
        yield _item(
            ContourImageSequence=[images[k]],
            ContourGeometricType="CLOSEDPLANAR_XOR" if has_holes else "CLOSED_PLANAR",
            NumberOfContourPoints=len(points_lps),
            ContourData=[f"{one:.5f}" for one in points_lps.ravel()],
        )


def _corners(outline_ji: np.ndarray) -> np.ndarray:
    """Points of a closed outline (n, 2), without its last, which is its first, and without those on straight lines."""
    points = outline_ji[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def _is_hole(outline_ji: np.ndarray) -> bool:
    """Contours run so that what is higher lies to one side of them, and holes therefore the other way round."""
    rows, columns = outline_ji.T
    return float(np.sum(rows[:-1] * columns[1:] - rows[1:] * columns[:-1])) > 0


def _item(**values: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def read_structure_set(path: Path, name: str) -> Volume:
    """The known regions of an RT Structure Set, on the grid of the series that it was drawn on, which lies beside it.

    Raises:
        VolumeError: the file is damaged, none of its regions is known, its images are not in the same folder, or its
            contours do not lie in their slices.
        GeometryError: their directions cannot be used.
    """
    import pydicom

    with damage_told(path, "contours"):
        return _read(pydicom.dcmread(path), path, name)


def _read(file: Any, path: Path, name: str) -> Volume:
    regions = {int(one.ROINumber): _segment(one, path) for one in file.StructureSetROISequence}
    known = [*regions.values()]
    check_any_known(known, f"{path} is an RT Structure Set")
    say_unknown(known, path)
    image = _image_of(file, path)
    if not image.has_physical_spacing:
        raise VolumeError(
            f"{path} holds contours in mm, but its images do not say how large their pixels are (Pixel Spacing); put "
            "the images that it was drawn on beside it as they were."
        )
    slices, together = _Slices.of(image, headers_of(image)), Combination(image.size_kji)
    for region in file.ROIContourSequence:
        segment = regions[int(region.ReferencedROINumber)]
        if segment.structures:
            together.add(_filled(region, slices, image.size_kji, path), segment)
    array_kji, labels = together.joined(path)
    return Volume(array_kji, image.ijk_to_ras, name, structure_labels=labels)


def _segment(item: Any, path: Path) -> StoredSegment:
    region, number = str(item.get("ROIName") or "region"), int(item.ROINumber)
    return StoredSegment(region, 0, number, known_structures(region, None, path))


def _image_of(file: Any, path: Path) -> Volume:
    reference = file.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    uid = str(reference.SeriesInstanceUID)
    try:
        return read_dicom_folder(path.parent, uid)
    except VolumeError as error:
        raise VolumeError(
            f"{path} holds contours, which need the images that they were drawn on (series {uid}) in the same folder; "
            f"put it there ({error})."
        ) from error


def _filled(region: Any, slices: _Slices, size_kji: tuple[int, int, int], path: Path) -> np.ndarray:
    """Bool (K, J, I) of the voxels whose centres are inside."""
    mask_kji = np.zeros(size_kji, bool)
    for contour in region.get("ContourSequence") or ():
        if contour.ContourGeometricType not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
            continue  # points and open lines enclose nothing
        k, points_ji, off = slices.pixels_of(np.array(contour.ContourData, float).reshape(-1, 3))
        if off > _FARTHEST:
            raise VolumeError(
                f"{path} has contours that lie between the slices of its images; export it again for these."
            )
        mask_kji[k] ^= _inside(points_ji, size_kji[1:])
    return mask_kji


def _inside(points_ji: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Bool (H, W): the pixels whose centres are inside a polygon, by the edges that lie to their left in their row."""
    (height, width), (rows, columns) = size_hw, points_ji.T
    next_rows, next_columns = np.roll(rows, -1), np.roll(columns, -1)
    first = np.ceil(np.minimum(rows, next_rows)).astype(int)
    counts = np.ceil(np.maximum(rows, next_rows)).astype(int) - first  # rows that each edge crosses
    edge = np.repeat(np.arange(len(rows)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    along = (row - rows[edge]) / (next_rows - rows)[edge]
    column = np.ceil(columns[edge] + along * (next_columns - columns)[edge]).astype(int).clip(0, width)
    crossed = np.zeros((height, width + 1), np.uint8)
    is_shown = (row >= 0) & (row < height)
    np.add.at(crossed, (row[is_shown], column[is_shown]), 1)
    return np.cumsum(crossed, axis=1, dtype=np.uint8)[:, :width] % 2 == 1

"""Labelmaps as DICOM segmentations: binary segments that refer to the images that were segmented, by highdicom."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from SAMLungSegLib import __version__
from SAMLungSegLib.errors import OutputError, SAMLungSegError, SettingsError
from SAMLungSegLib.files import write_bytes
from SAMLungSegLib.structures import LabelSet, Structure
from SAMLungSegLib.volume.dicomsource import check_referable, frame_of_slices, headers_of, is_placed, slice_distance_mm
from SAMLungSegLib.volume.types import Volume

_MAKER = "SAMLungSeg"
_LONGEST_NAME = 64  # of DICOM's long strings
_NO_THICKNESS_MM = 1.0  # of a projection, which has none: highdicom's reader wants to see one
_SERIES_AFTER = 1000  # the source's number


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation, as DICOM identifies it.

    Attributes:
        name: 'SAMLungSeg' and the model.
        is_automatic: without any prompt of a person.
        parameters: texts by name, without commas and equals signs.
    """

    name: str = _MAKER
    is_automatic: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


def check_dicom_possible(volume: Volume) -> None:
    """Refuse what cannot become a DICOM segmentation, before the work is done.

    Raises:
        SettingsError: highdicom is not installed.
        OutputError, GeometryError: the volume does not come from DICOM files that an object can refer to.
    """
    _highdicom()
    _check_places(headers_of(volume), volume)


def write_dicom_segmentation(
    labelmap_kji: np.ndarray, like: Volume, path: Path, label_set: LabelSet, algorithm: Algorithm | None = None
) -> None:
    """Write a DICOM Segmentation object; the file appears complete or not at all.

    Each structure is a segment with its code, side and colour, and has a frame in each slice, also where it has no
    voxel: so the object holds the whole grid, and reads back as it was.

    Args:
        labelmap_kji: integer (K, J, I), labels of the set.
        like: the image, which was read from DICOM.
        path: the file to write or replace.
        label_set: what the labels stand for.
        algorithm: what made it.
    Raises:
        SettingsError, OutputError, GeometryError: as `check_dicom_possible`, labels that are not of the set, or it
            cannot be written.
    """
    hd = _highdicom()
    headers = headers_of(like)
    _check_places(headers, like)
    unnamed = set(np.unique(labelmap_kji).tolist()) - {0, *label_set.labels}
    if unnamed:
        raise OutputError(f"Labels {sorted(unnamed)} are not of the set '{label_set.name}'; write .nrrd.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values in the source that are not as the standard wants them
            made = _object(hd, labelmap_kji, like, headers, label_set, algorithm or Algorithm())
            content = io.BytesIO()
            made.save_as(content)
    except (SAMLungSegError, MemoryError):
        raise
    except Exception as error:  # of many kinds, for anything in the headers that is not as it should be
        raise OutputError(
            f"{path} cannot be written as DICOM, for the headers of {like.name} do not suffice ({error}); write "
            ".seg.nrrd or .nii.gz."
        ) from error
    write_bytes(content.getvalue(), path)


def _highdicom() -> Any:
    try:
        import highdicom
        import highdicom.coding_schemes
        import highdicom.seg
    except ImportError as error:
        raise SettingsError(
            "DICOM segmentations are written by highdicom, which is not installed: pip install 'samlungseg[dicom]', "
            "or write seg.nrrd, nrrd or nii.gz."
        ) from error
    return highdicom


def _check_places(headers: Sequence[Any], volume: Volume) -> None:
    check_referable(headers, volume)
    if volume.size_kji[0] > 1 and not is_placed(headers[0]):
        raise OutputError(
            f"The slices of {volume.name} do not say where in the patient they lie, without which DICOM has no volume; "
            "write .seg.nrrd or .nii.gz."
        )


def _object(
    hd: Any,
    labelmap_kji: np.ndarray,
    like: Volume,
    headers: Sequence[Any],
    label_set: LabelSet,
    algorithm: Algorithm,
) -> Any:
    first, measures = headers[0], _pixel_measures(hd, like, headers)
    schemes = {one.scheme for _, one in label_set}
    made = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=_in_order_of_frames(labelmap_kji, headers),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(hd, *one, algorithm) for one in label_set],
        series_instance_uid=hd.UID(),
        series_number=int(first.get("SeriesNumber") or 0) + _SERIES_AFTER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MAKER,
        software_versions=__version__,
        device_serial_number=__version__,
        pixel_measures=measures,
        omit_empty_frames=False,
        content_label=label_set.name.upper().replace("-", "_")[:16],
        content_description=", ".join(one.name for _, one in label_set)[:_LONGEST_NAME],
        series_description=f"{label_set.name} by {algorithm.name}"[:_LONGEST_NAME],
        coding_schemes=[_own_scheme(hd, one) for one in sorted(schemes) if one.startswith("99")] or None,
    )
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.pop(
        "PixelMeasuresSequence", None
    )  # the source's, which highdicom prefers, even where it is not the volume's
    if measures is not None:
        shared.PixelMeasuresSequence = measures
    if not is_placed(first):
        made.PatientOrientation = first.get("PatientOrientation")  # the only word on right and left
    return made


def _in_order_of_frames(labelmap_kji: np.ndarray, headers: Sequence[Any]) -> np.ndarray:
    if len(headers) > 1 or len(labelmap_kji) == 1:
        return labelmap_kji
    frames = np.empty_like(labelmap_kji)
    frames[frame_of_slices(headers[0])] = labelmap_kji
    return frames


def _description(hd: Any, label: int, structure: Structure, algorithm: Algorithm) -> Any:
    found = hd.seg.SegmentDescription(
        segment_number=label,
        segment_label=structure.name,
        segmented_property_category=hd.sr.CodedConcept("123037004", "SCT", "Anatomical Structure"),
        segmented_property_type=_concept(hd, structure.scheme, structure.code),
        algorithm_type="AUTOMATIC" if algorithm.is_automatic else "SEMIAUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            algorithm.name[:_LONGEST_NAME],
            family=hd.sr.CodedConcept("123109", "DCM", "Artificial Intelligence"),
            version=__version__,
            source=_MAKER,
            parameters=dict(algorithm.parameters) or None,
        ),
        display_color=hd.color.CIELabColor.from_rgb(*structure.colour),
    )
    side = structure.side_code
    if side is not None:
        type_item = found.SegmentedPropertyTypeCodeSequence[0]
        type_item.SegmentedPropertyTypeModifierCodeSequence = [_concept(hd, "SCT", side)]
    return found


def _concept(hd: Any, scheme: str, code: tuple[str, str]) -> Any:
    value, meaning = code
    return hd.sr.CodedConcept(value, scheme, meaning)


def _own_scheme(hd: Any, designator: str) -> Any:
    return hd.coding_schemes.CodingSchemeIdentificationItem(designator, name=_MAKER, responsible_organization=_MAKER)


def _pixel_measures(hd: Any, like: Volume, headers: Sequence[Any]) -> Any:
    """Sizes as they were read; of an X-ray none where they are not known."""
    if not like.has_physical_spacing:
        return None
    apart_mm, rows_mm, columns_mm = like.spacing_mm
    if not is_placed(headers[0]):
        return hd.PixelMeasuresSequence((rows_mm, columns_mm), _NO_THICKNESS_MM)
    thickness_mm = float(headers[0].get("SliceThickness") or apart_mm)
    return hd.PixelMeasuresSequence((rows_mm, columns_mm), thickness_mm, slice_distance_mm(headers, apart_mm))

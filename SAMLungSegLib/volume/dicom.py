"""DICOM: choosing the series, checking its slices, and what ITK leaves undone.

ITK (GDCM) applies the rescale, reads encapsulated pixels, sorts by position, and inverts MONOCHROME1 by
`highest stored value - x`. It ignores PatientOrientation, the presentation LUT shape and the places of single frames.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.isolation import announce_decoding
from SAMLungSegLib.volume.completeness import value_bytes
from SAMLungSegLib.volume.dicomseg import SEGMENTATION_CLASSES, is_segmentation, read_segmentation
from SAMLungSegLib.volume.folders import advice_for
from SAMLungSegLib.volume.formats import given_name
from SAMLungSegLib.volume.frames import tags_of_frames, with_own_rescale
from SAMLungSegLib.volume.itk import ijk_to_ras_from_lps, ijk_to_ras_of, readable
from SAMLungSegLib.volume.pixels import check_dimensions, grey_array, grey_voxels, without_trailing_axes
from SAMLungSegLib.volume.projections import ijk_to_ras_by_letters
from SAMLungSegLib.volume.types import Volume

logger = logging.getLogger(__name__)

_XRAY_MODALITIES = frozenset(("CR", "DX", "DR", "RG", "PX", "RF", "XA"))

_MODALITY, _SERIES_DESCRIPTION, _SERIES_UID = "0008|0060", "0008|103e", "0020|000e"
_POSITION, _ORIENTATION, _PATIENT_ORIENTATION = "0020|0032", "0020|0037", "0020|0020"
_PHOTOMETRIC, _LUT_SHAPE, _ROWS, _COLUMNS = "0028|0004", "2050|0020", "0028|0010", "0028|0011"
_BITS_STORED, _IS_SIGNED, _INTERCEPT, _SLOPE = "0028|0101", "0028|0103", "0028|1052", "0028|1053"
_CLASS, _NUMBER, _PIXEL_SPACING, _VIEW = "0008|0016", "0020|0013", "0028|0030", "0018|5101"
_SPACINGS = (_PIXEL_SPACING, "0018|1164", "0018|2010")
_VALUE_TYPE = "value type"  # no tag: what ITK makes of the stored type and the rescale
_OF_VALUES = (_VALUE_TYPE, _PHOTOMETRIC, _LUT_SHAPE, _BITS_STORED, _IS_SIGNED, _INTERCEPT, _SLOPE)
_KEYS = (
    *(_CLASS, _NUMBER, _VIEW),
    *(_MODALITY, _SERIES_DESCRIPTION, _SERIES_UID, _POSITION, _ORIENTATION, _PATIENT_ORIENTATION, _PHOTOMETRIC),
    *(_LUT_SHAPE, _ROWS, _COLUMNS, _BITS_STORED, _IS_SIGNED, _INTERCEPT, _SLOPE, *_SPACINGS),
)

_LATERAL_VIEWS = ("LL", "RL", "LAT", "LATERAL")
_ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")  # the second converted from slices

_SAME_PLACE_MM = 1e-3
_FAR_OFF_MM = 0.1
_SPACING_TOLERANCE = 1e-3
_DIRECTION_TOLERANCE = 1e-2
_GAP_TOLERANCE = 0.05
_TILT_TOLERANCE = 0.01

Tags = dict[str, str]


def read_dicom_file(path: Path, name: str, allow_gaps: bool = True) -> Volume:
    """Read one DICOM file, which may hold several frames, each with a place of its own.

    Raises:
        VolumeError: no DICOM image, damaged, in colour, or its frames make no volume, as the files of a folder.
        GeometryError: its directions cannot be used.
    """
    if is_segmentation(path):
        return read_segmentation(path, name)
    return replace(_read_images(path, name, allow_gaps), dicom_files=(str(path.absolute()),))


def _read_images(path: Path, name: str, allow_gaps: bool) -> Volume:
    """Of one file that is no segmentation."""
    with readable(path):
        reader = _file_reader(path)
        check_dimensions(path, reader.GetSize())
        announce_decoding(value_bytes(reader), [path])
        image = reader.Execute()
    image, tags = without_trailing_axes(image), _tags_of(reader)
    is_one_frame = image.GetDimension() < 3 or image.GetSize()[2] == 1
    frames = [] if is_one_frame else tags_of_frames(path, tags)
    if frames and len(frames) == image.GetSize()[2] and _are_placed(frames):
        return _volume_of_frames(image, frames, path, name, allow_gaps)
    _check_frames(image, tags, path)
    volume = _volume(image, tags, path, name)
    if is_one_frame or volume.modality_hint != "CT" or _POSITION in tags:
        return volume
    logger.warning("%s: frames without a position, taken in the order of the file.", path)
    return volume


def _volume_of_frames(image: sitk.Image, frames: Sequence[Tags], path: Path, name: str, allow_gaps: bool) -> Volume:
    """The volume of placed frames, which may lie in the file in any order."""
    modality = _modality_hint(frames[0], path)
    array_kji = with_own_rescale(_with_right_polarity(grey_array(image, path), frames[0], modality), frames)
    indices, in_order = _in_order([str(index) for index in range(len(frames))], frames)
    _check_one_stack(path, in_order, allow_gaps)
    ordered_kji, has_spacing = array_kji[list(map(int, indices))], _PIXEL_SPACING in in_order[0]
    return _placed_by_tags(Volume(ordered_kji, ijk_to_ras_of(image), name, modality, has_spacing), in_order)


def _check_frames(image: sitk.Image, tags: Tags, path: Path) -> None:
    """Refuse an enhanced CT of which ITK knows no place: it gives up where frames are not one after the other.

    Raises:
        VolumeError: with what may be the reason.
    """
    has_place = any(spacing != 1 for spacing in image.GetSpacing())
    if tags.get(_CLASS) in _ENHANCED_CT and image.GetSize()[-1] > 1 and not has_place:
        raise VolumeError(
            f"{path} is an enhanced CT whose frames are out of order, missing, or without a place; export it as single "
            "slices, or convert it to NIfTI."
        )


def read_dicom_folder(folder: Path, series: str | None = None, allow_gaps: bool = True) -> Volume:
    """Read the series of a folder, or the one of several whose UID is, starts or ends with `series`.

    Raises:
        VolumeError: no series, several to choose from, its files do not make one volume, or slices are missing and
            gaps are not allowed.
        GeometryError: its directions cannot be used.
    """
    paths = _chosen_files(folder, series)
    tags = [_read_tags(Path(path)) for path in paths]
    return _read_stack(*_in_order(paths, tags), folder, allow_gaps)


def read_dicom_series(paths: Sequence[Path], folder: Path, allow_gaps: bool = True) -> Volume:
    """Read these files of one series, in one or several folders below `folder`, which names the volume.

    Raises:
        VolumeError: a file is damaged or has no place, or as `read_dicom_folder`.
        GeometryError: its directions cannot be used.
    """
    tags = [_read_tags(path) for path in paths]
    if not (_are_placed(tags) or _are_numbered(tags)) and len({Path(path).parent for path in paths}) > 1:
        raise VolumeError(f"{folder} holds a series in several folders without positions; put it into one folder.")
    return _read_stack(*_in_order([str(path) for path in paths], tags), folder, allow_gaps)


def _in_order(paths: Sequence[str], tags: Sequence[Tags]) -> tuple[list[str], list[Tags]]:
    """Files and their tags along the slice normal; by instance number where they do not say where they lie."""
    if _are_placed(tags) and len(tags) > 1:
        directions = _numbers(tags[0][_ORIENTATION])
        normal = np.cross(directions[:3], directions[3:])
        places = [np.dot(_numbers(one[_POSITION]), normal) for one in tags]
    elif _are_numbered(tags):
        places = [int(one[_NUMBER]) for one in tags]
    else:
        places = list(range(len(tags)))
    order = np.argsort(places, kind="stable")
    return [paths[index] for index in order], [tags[index] for index in order]


def _are_numbered(tags: Sequence[Tags]) -> bool:
    numbers = {one.get(_NUMBER, "") for one in tags}
    return len(numbers) == len(tags) and all(re.fullmatch(r"[+-]?\d{1,9}", number) for number in numbers)


def carries_dicom_tags(image: sitk.Image) -> bool:
    """Whether an image in memory was read from DICOM and still knows what that said."""
    return image.HasMetaDataKey(_MODALITY) or image.HasMetaDataKey(_SERIES_UID)


def volume_by_its_tags(image: sitk.Image, name: str) -> Volume:
    """The volume of an image that ITK has read from DICOM, by the tags that it carries.

    Raises:
        VolumeError: a colour image.
        GeometryError: its directions cannot be used.
    """
    return _volume(image, _tags_of(image), name, name)


def series_of(path: Path) -> tuple[str, str | None]:
    """Series instance UID of a DICOM image (empty where it has none), and 'CT', 'XRAY' or None.

    Raises:
        VolumeError: the file is damaged or holds no image.
    """
    tags = _read_tags(path)
    return tags.get(_SERIES_UID, ""), modality_of_code(tags.get(_MODALITY))


def _read_stack(paths: Sequence[str], tags: Sequence[Tags], folder: Path, allow_gaps: bool) -> Volume:
    """The volume of files in their order."""
    if len(paths) == 1:
        return read_dicom_file(Path(paths[0]), given_name(folder), allow_gaps)
    _check_one_stack(folder, tags, allow_gaps)
    with readable(folder):
        announce_decoding(len(paths) * value_bytes(_file_reader(Path(paths[0]))), map(Path, paths))
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames(paths)
        image = reader.Execute()
    volume = _volume(without_trailing_axes(image), tags[0], folder, given_name(folder))
    if len({tuple(one.get(key) for key in _OF_VALUES) for one in tags}) > 1:
        volume = replace(volume, array_kji=_slice_by_slice(paths, tags, volume.modality_hint))
    volume = replace(volume, dicom_files=tuple(str(Path(path).absolute()) for path in paths))
    if not _are_placed(tags):
        return replace(volume, has_physical_spacing=False)
    return _placed_by_tags(volume, tags)


def _slice_by_slice(paths: Sequence[str], tags: Sequence[Tags], modality: str | None) -> np.ndarray:
    """Array (K, J, I) of files whose values are stored in several ways: ITK takes all for what the first one holds."""
    slices = []
    for path, one in zip(paths, tags, strict=True):
        with readable(Path(path)):
            image = _file_reader(Path(path)).Execute()
        slices.append(_with_right_polarity(grey_array(without_trailing_axes(image), path), one, modality)[0])
    return grey_voxels(np.stack(slices), paths[0])


def _placed_by_tags(volume: Volume, tags: Sequence[Tags]) -> Volume:
    """The same slices where their tags say: ITK overlooks these in some classes, such as CR images of a CT."""
    if _PIXEL_SPACING not in tags[0]:
        return volume
    positions, directions = (np.array(_numbers(tags[0][key])) for key in (_POSITION, _ORIENTATION))
    rows_mm, columns_mm = _numbers(tags[0][_PIXEL_SPACING])
    normal = np.cross(directions[:3], directions[3:])
    apart_mm = normal @ (np.array(_numbers(tags[-1][_POSITION])) - positions) / (len(tags) - 1)
    axes = np.column_stack([directions[:3], directions[3:], normal])
    matrix = ijk_to_ras_from_lps(axes, np.array([columns_mm, rows_mm, apart_mm]), positions)
    is_told = np.allclose(volume.ijk_to_ras[:3, :2], matrix[:3, :2], atol=_SAME_PLACE_MM * 10)
    is_there = np.allclose(volume.ijk_to_ras[:3, 3], matrix[:3, 3], atol=_FAR_OFF_MM)
    return volume if is_told and is_there else replace(volume, ijk_to_ras=matrix, has_physical_spacing=True)


def _file_reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _read_tags(path: Path) -> Tags:
    with readable(path):
        return _tags_of(_file_reader(path))


def _tags_of(reader: sitk.ImageFileReader | sitk.Image) -> Tags:
    """The tags in use, without padding; absent and empty ones are left out."""
    found = {key: reader.GetMetaData(key).strip(" \0") for key in _KEYS if reader.HasMetaDataKey(key)}
    found[_VALUE_TYPE] = reader.GetPixelIDTypeAsString() if isinstance(reader, sitk.Image) else str(reader.GetPixelID())
    return {key: value for key, value in found.items() if value}


def _chosen_files(folder: Path, series: str | None) -> Sequence[str]:
    with readable(folder):
        uids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        if not uids:
            raise VolumeError(f"{folder} holds no DICOM image; {advice_for(folder)}.")
        files = {uid: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in uids}
    matching = _matching_series(files, series)
    if len(matching) != 1:
        which = "several" if series is None else f"{len(matching) or 'none'} that match '{series}'"
        raise VolumeError(
            f"{folder} holds {which} of these DICOM series: {'; '.join(_described(uid, files[uid]) for uid in uids)}. "
            "Choose one with series=UID (--series UID on the command line)."
        )
    return files[matching[0]]


def _matching_series(files: Mapping[str, Sequence[str]], series: str | None) -> list[str]:
    if series is None:  # segmentations often lie beside the image that they are of
        return [uid for uid, paths in files.items() if not is_segmentation(Path(paths[0]))] or [*files]
    if series in files:
        return [series]
    return [uid for uid in files if series and (uid.startswith(series) or uid.endswith(series))]


def _described(uid: str, paths: Sequence[str]) -> str:
    tags = _read_tags(Path(paths[0]))
    description = tags.get(_SERIES_DESCRIPTION, "no description")
    return f"{uid or '(no UID)'} '{description}' ({len(paths)} file{'s' if len(paths) > 1 else ''})"


def _check_one_stack(folder: Path, tags: Sequence[Tags], allow_gaps: bool) -> None:
    """Refuse files that do not make one volume; warn where their slices are not evenly stacked.

    Raises:
        VolumeError: X-rays, different sizes or directions, or several images at one place.
    """
    if len(tags) == 1:
        return
    are_segmentations = tags[0].get(_CLASS) in SEGMENTATION_CLASSES
    if are_segmentations or tags[0].get(_MODALITY) in _XRAY_MODALITIES:
        what = "segmentations" if are_segmentations else "X-rays"
        raise VolumeError(f"{folder} holds {len(tags)} {what} in one series, not a volume; give one of the files.")
    sizes = sorted({(one.get(_COLUMNS, "?"), one.get(_ROWS, "?")) for one in tags})
    if len(sizes) > 1:
        listed = ", ".join(" x ".join(size) for size in sizes)
        raise VolumeError(f"{folder} mixes images of {listed} pixels in one series; keep one kind in the folder.")
    spacings = np.array([_numbers(one[_PIXEL_SPACING]) for one in tags if _PIXEL_SPACING in one])
    if len(spacings) and np.ptp(spacings, axis=0).max() > _SPACING_TOLERANCE * spacings.min():
        low, high = (f"{one:.4g}" for one in (spacings.min(), spacings.max()))
        raise VolumeError(
            f"{folder} mixes slices with pixels of {low} to {high} mm in one series; keep one kind in the folder."
        )
    if not _are_placed(tags):
        order = "instance numbers" if _are_numbered(tags) else "file names"
        logger.warning("%s: slices without a position, taken in the order of the %s 1 mm apart.", folder, order)
        return
    directions = np.array([_numbers(one[_ORIENTATION]) for one in tags])
    if np.abs(directions - directions[0]).max() > _DIRECTION_TOLERANCE:
        raise VolumeError(f"{folder} mixes slices of different directions in one series; keep one kind in the folder.")
    _check_positions(folder, np.array([_numbers(one[_POSITION]) for one in tags]), directions[0], allow_gaps)


def _are_placed(tags: Sequence[Tags]) -> bool:
    """Whether the distances of slices are known; a single file has none or knows them itself."""
    return len(tags) == 1 or all(_POSITION in one and _ORIENTATION in one for one in tags)


def _check_positions(folder: Path, positions: np.ndarray, directions: np.ndarray, allow_gaps: bool) -> None:
    normal = np.cross(directions[:3], directions[3:])
    gaps = np.abs(np.diff(positions @ normal))
    if gaps.min() < _SAME_PLACE_MM:
        raise VolumeError(
            f"{folder} holds several images at the same place in one series (4D or repeated); keep one of each."
        )
    if np.ptp(gaps) > _GAP_TOLERANCE * np.median(gaps):
        apart = f"slices are {gaps.min():.3g} to {gaps.max():.3g} mm apart, some may be missing"
        if not allow_gaps:
            raise VolumeError(f"{folder}: {apart}; copy the series again.")
        logger.warning("%s: %s; they are taken as evenly spaced.", folder, apart)
    way = positions[-1] - positions[0]
    if np.linalg.norm(way - (way @ normal) * normal) > _TILT_TOLERANCE * np.linalg.norm(way):
        logger.warning("%s: the gantry was tilted; slices are taken as stacked at right angles.", folder)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split("\\")]
    except ValueError as error:
        raise VolumeError(f"A DICOM position or direction is '{text}'; expected numbers, repair the file.") from error


def _volume(image: sitk.Image, tags: Tags, path: Path | str, name: str) -> Volume:
    modality = _modality_hint(tags, path)
    array_kji = _with_right_polarity(grey_array(image, path), tags, modality)
    ijk_to_ras = _ijk_to_ras_by_patient_orientation(image, tags)
    if ijk_to_ras is None:
        ijk_to_ras = ijk_to_ras_of(image)
    is_lateral = modality == "XRAY" and tags.get(_VIEW, "").upper() in _LATERAL_VIEWS
    return Volume(array_kji, ijk_to_ras, name, modality, _has_physical_spacing(image, tags), is_lateral=is_lateral)


def _has_physical_spacing(image: sitk.Image, tags: Tags) -> bool:
    """Whether ITK found a spacing that it believes; it says 1 mm where it did not, and where it is 1 mm."""
    columns_mm, rows_mm = image.GetSpacing()[:2]
    stated = [_numbers(tags[key]) for key in _SPACINGS if key in tags]
    return (rows_mm, columns_mm) != (1, 1) or [rows_mm, columns_mm] in stated


def modality_of_code(code: str | None) -> str | None:
    """'CT' or 'XRAY' of a DICOM modality code such as DX; None for any other."""
    if code in _XRAY_MODALITIES:
        return "XRAY"
    return "CT" if code == "CT" else None


def _modality_hint(tags: Tags, path: Path | str) -> str | None:
    code = tags.get(_MODALITY)
    hint = modality_of_code(code)
    if hint is None and code is not None:
        logger.warning("%s: DICOM modality %s is neither CT nor X-ray.", path, code)
    return hint


def _with_right_polarity(array: np.ndarray, tags: Tags, modality: str | None) -> np.ndarray:
    """Bright bone for X-rays, HU for CT.

    MONOCHROME1 says that low values are shown bright. ITK has inverted such pixels, which is what an X-ray needs and
    what makes the HU of a CT wrong. MONOCHROME2 with an inverse presentation LUT is left to us.
    """
    if tags.get(_PHOTOMETRIC) == "MONOCHROME1":
        return _with_hu_restored(array, tags) if modality == "CT" else array
    if tags.get(_LUT_SHAPE) == "INVERSE" and modality == "XRAY":
        return (array.max() - array) + array.min()  # integers that overflow on the way come back into range
    return array


def _with_hu_restored(array: np.ndarray, tags: Tags) -> np.ndarray:
    slope, intercept = float(tags.get(_SLOPE, 1)), float(tags.get(_INTERCEPT, 0))
    stored_sum = -1 if tags.get(_IS_SIGNED) == "1" else 2 ** int(tags[_BITS_STORED]) - 1
    restored = slope * stored_sum + 2 * intercept - array.astype(np.float32)
    return np.rint(restored).astype(np.int16) if array.dtype.kind in "iu" else restored


def _ijk_to_ras_by_patient_orientation(image: sitk.Image, tags: Tags) -> np.ndarray | None:
    r"""Float64 (4, 4) of one projection image from 'row direction\column direction', such as L\F; None without it."""
    is_one_image = image.GetDimension() == 2 or image.GetSize()[2] == 1
    if _ORIENTATION in tags or not is_one_image:
        return None
    return ijk_to_ras_by_letters(tags.get(_PATIENT_ORIENTATION, ""), np.array((*image.GetSpacing(), 1.0)[:3]))

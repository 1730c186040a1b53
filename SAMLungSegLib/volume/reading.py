"""Reading NIfTI, NRRD, MetaImage, DICOM and pictures into a `Volume`."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.isolation import announce
from SAMLungSegLib.volume.completeness import check_complete, check_present, check_spacing, stored_bytes, value_bytes
from SAMLungSegLib.volume.dicom import read_dicom_file, read_dicom_folder
from SAMLungSegLib.volume.extents import extent_of_segments, known_extent, with_extent
from SAMLungSegLib.volume.formats import (
    DICOM_EXTENSIONS,
    NIFTI_EXTENSIONS,
    PICTURE_EXTENSIONS,
    image_extension,
    image_name,
    pair_header,
)
from SAMLungSegLib.volume.itk import ijk_to_ras_of, readable
from SAMLungSegLib.volume.nifti import nifti_header
from SAMLungSegLib.volume.pictures import ijk_to_ras_of_picture, picture_of, stored_pixels
from SAMLungSegLib.volume.pixels import check_dimensions, grey_array, grey_voxels, without_trailing_axes
from SAMLungSegLib.volume.segmentations import joined_layers, labels_of_one_layer, stored_segments
from SAMLungSegLib.volume.structuresets import is_structure_set, read_structure_set
from SAMLungSegLib.volume.suspicion import check_before_opening, check_size
from SAMLungSegLib.volume.types import Volume

logger = logging.getLogger(__name__)

_SEGMENTATION_EXTENSIONS = (".nrrd", ".nhdr")


def read_volume_here(path: str | os.PathLike, *, series: str | None = None, allow_gaps: bool = True) -> Volume:
    """`read_volume` in this process, which a corrupted file may end.

    Raises:
        VolumeError: the file is absent, damaged, of another kind, in colour, 4D, or the folder has several series.
        GeometryError: the directions or spacings of the file cannot be used.
    """
    path = Path(path)
    volume = read_dicom_folder(path, series, allow_gaps) if path.is_dir() else _read_file(path, series, allow_gaps)
    _warn_of_values_that_are_not_finite(volume.array_kji, path)
    return volume


def _read_file(path: Path, series: str | None, allow_gaps: bool) -> Volume:
    path = pair_header(path)
    if not path.is_file():
        what = "is no regular file" if path.exists() else "does not exist"
        raise VolumeError(f"{path} {what}; give an image file or a folder of DICOM files.")
    if series is not None:
        raise VolumeError(f"A series was chosen ({series}) but {path} is a file; choose a series with a DICOM folder.")
    extension = image_extension(path)
    with readable(path):
        check_before_opening(path)
        check_present(path, extension)
    if extension is None or extension in DICOM_EXTENSIONS:
        if is_structure_set(path):
            return read_structure_set(path, image_name(path))
        return read_dicom_file(path, image_name(path), allow_gaps)
    if extension in PICTURE_EXTENSIONS:
        return _read_picture(path, extension)
    image, reader = _read_by_itk(path, extension)
    image = _without_undue_offset(image, path, extension)
    layers = image.GetNumberOfComponentsPerPixel()
    fields = _fields(reader) if extension in _SEGMENTATION_EXTENSIONS else {}
    segments = stored_segments(fields, layers, path)
    if segments and layers > 1:
        array_kji, labels = joined_layers(sitk.GetArrayViewFromImage(image), segments, path)
    else:
        array_kji = grey_array(image, path, tolerance=0)
        labels = labels_of_one_layer(segments, path) if segments else None
    read = Volume(array_kji, ijk_to_ras_of(image), image_name(path), structure_labels=labels)
    return with_extent(read, extent_of_segments(segments, fields))


def _read_picture(path: Path, extension: str) -> Volume:
    """Pixels as stored; their directions say how a viewer shows them."""
    with readable(path):
        picture = picture_of(path)
    if picture.orientation != 1:
        logger.warning("%s: shown turned or mirrored by its orientation tag, and taken as it is shown.", path)
    if picture.is_not_for_itk:
        pixels = stored_pixels(path)
        array_kji, spacing = grey_voxels(pixels, path, has_channels=pixels.ndim == 3), (1.0, 1.0)
    else:
        image, _ = _read_by_itk(path, extension)
        if image.GetDimension() > 2 and image.GetSize()[2] > 1:
            raise VolumeError(
                f"{path} has {image.GetSize()[2]} pages without geometry; give one picture, or convert to NIfTI or "
                "NRRD."
            )
        array_kji, spacing = grey_array(image, path), image.GetSpacing()[:2]
    matrix = ijk_to_ras_of_picture(picture.orientation, spacing)
    read = Volume(array_kji, matrix, image_name(path), has_physical_spacing=False)
    return with_extent(read, known_extent(picture.extent))


def _read_by_itk(path: Path, extension: str) -> tuple[sitk.Image, sitk.ImageFileReader]:
    """The image of up to three axes, and the reader that knows its header."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with readable(path):
        reader.ReadImageInformation()
        check_dimensions(path, reader.GetSize())
        check_size(path, value_bytes(reader), stored_bytes(path, extension, reader))
        announce(value_bytes(reader))
        check_complete(path, extension, reader)
        check_spacing(path, extension, reader)
        image = reader.Execute()
    return without_trailing_axes(image), reader


def _fields(reader: sitk.ImageFileReader) -> dict[str, str]:
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _without_undue_offset(image: sitk.Image, path: Path, extension: str) -> sitk.Image:
    """The values as NIfTI means them: where its factor is 0 nothing is scaled, but ITK adds the offset."""
    header = nifti_header(path) if extension in NIFTI_EXTENSIONS else None
    if header is None or not header.undue_offset:
        return image
    return image - header.undue_offset


def _warn_of_values_that_are_not_finite(array_kji: np.ndarray, path: Path) -> None:
    if array_kji.dtype.kind != "f":
        return
    count = array_kji.size - sum(np.count_nonzero(np.isfinite(one_slice)) for one_slice in array_kji)
    if count:
        logger.warning("%s: %d of %d voxels are NaN or infinite.", path, count, array_kji.size)

"""Images that are in memory already, as a `Volume`."""

from __future__ import annotations

import os
from typing import TypeAlias

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import ArrayLike

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.volume.dicom import carries_dicom_tags, volume_by_its_tags
from SAMLungSegLib.volume.guarded import read_volume
from SAMLungSegLib.volume.itk import ijk_to_ras_of
from SAMLungSegLib.volume.pixels import check_dimensions, grey_array, without_trailing_axes
from SAMLungSegLib.volume.types import Volume

Image: TypeAlias = Volume | sitk.Image | np.ndarray | os.PathLike[str] | str

_COLOUR_CHANNELS = (3, 4)


def as_volume(image: Image, ijk_to_ras: ArrayLike | None = None, *, name: str = "image") -> Volume:
    """The volume of an image in whatever form it is at hand.

    Args:
        image: a volume, which comes back as it is; a path, see `read_volume`; a SimpleITK image in 2D or 3D; or an
            array (K, J, I), of one slice also (J, I).
        ijk_to_ras: (4, 4), voxel centre (i, j, k, 1) to patient RAS in mm; of an array, and of nothing else.
        name: of a SimpleITK image or array, in messages and files.
    Raises:
        VolumeError: colour, 4D, an array without its place, or something that is no image.
        GeometryError: the matrix is not a finite, invertible affine (4, 4).
    """
    if isinstance(image, np.ndarray):
        return _of_array(image, ijk_to_ras, name)
    if ijk_to_ras is not None:
        raise GeometryError("ijk_to_ras is the place of an array, and other images know theirs; leave it out.")
    if isinstance(image, Volume):
        return image
    if isinstance(image, sitk.Image):
        return _of_sitk(image, name)
    if isinstance(image, os.PathLike | str):
        return read_volume(image)
    raise VolumeError(
        f"An image of type {type(image).__name__} cannot be used; give a path, a SimpleITK image, a NumPy array with "
        "ijk_to_ras, or a Volume."
    )


def _of_sitk(image: sitk.Image, name: str) -> Volume:
    if "label" in image.GetPixelIDTypeAsString():  # which ends the process when its voxels are read
        raise VolumeError(
            f"{name} is a SimpleITK label map, which has no voxels; convert it by sitk.Cast to sitkUInt8."
        )
    check_dimensions(name, image.GetSize())
    image = without_trailing_axes(image)
    if carries_dicom_tags(image):
        return volume_by_its_tags(image, name)
    is_picture = image.GetDimension() == 2 and image.GetSpacing() == (1, 1)  # what ITK says where nothing is known
    return Volume(grey_array(image, name), ijk_to_ras_of(image), name, None, not is_picture)


def _of_array(array: np.ndarray, ijk_to_ras: ArrayLike | None, name: str) -> Volume:
    if array.ndim not in (2, 3):
        raise VolumeError(f"The array has {array.ndim} axes {array.shape}; expected one grey volume (K, J, I).")
    if array.ndim == 3 and array.shape[2] in _COLOUR_CHANNELS and min(array.shape[:2]) > max(_COLOUR_CHANNELS):
        raise VolumeError(f"The array {array.shape} looks like colour; expected one grey value a voxel, (K, J, I).")
    if ijk_to_ras is None:
        raise VolumeError(
            "An array does not say where its voxels lie, and so not which lung is the right one. Add ijk_to_ras, the "
            "matrix (4, 4) from voxel (i, j, k, 1) to RAS in mm (where i runs to the patient's left, j to posterior "
            "and k to superior: numpy.diag([-di, -dj, dk, 1]) with the spacings), or give a Volume or a path or a "
            "SimpleITK image."
        )
    try:
        matrix = np.array(ijk_to_ras, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GeometryError(f"ijk_to_ras is not a matrix of numbers ({error}); expected (4, 4).") from error
    return Volume(array[np.newaxis] if array.ndim == 2 else array, matrix, name)

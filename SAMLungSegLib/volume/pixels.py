"""From stored voxels, of a SimpleITK image or elsewhere, to one grey array (K, J, I)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume.colours import labels_of_colours

CHANNEL_TOLERANCE = 2  # grey levels by which the channels of a grey picture saved in colour may differ after JPEG


def check_dimensions(path: Path | str, size: tuple[int, ...]) -> None:
    """Refuse images with more than three axes longer than 1, before their pixels are read.

    Raises:
        VolumeError: with the sizes.
    """
    if any(length > 1 for length in size[3:]):
        sizes = " x ".join(map(str, size))
        raise VolumeError(f"{path} has {len(size)} dimensions ({sizes}); expected one 3D volume, split it first.")


def without_trailing_axes(image: sitk.Image) -> sitk.Image:
    """The same image with at most three dimensions; further ones have size 1."""
    while image.GetDimension() > 3:
        image = image[(slice(None),) * (image.GetDimension() - 1) + (0,)]
    return image


def grey_array(image: sitk.Image, path: Path | str, *, tolerance: int = CHANNEL_TOLERANCE) -> np.ndarray:
    """Array (K, J, I) of a 2D or 3D image, in the smallest of its natural types.

    Args:
        image: with one grey value, or the same in several channels.
        path: what to call the image in an error.
        tolerance: as in `grey_voxels`.
    Raises:
        VolumeError: a colour or vector image.
    """
    array = sitk.GetArrayFromImage(image)
    return grey_voxels(array, path, has_channels=array.ndim > image.GetDimension(), tolerance=tolerance)


def grey_voxels(
    array: np.ndarray, source: Path | str, *, has_channels: bool = False, tolerance: int = CHANNEL_TOLERANCE
) -> np.ndarray:
    """Array (K, J, I) of stored voxels, in the smallest of its natural types; a view where nothing had to change.

    Args:
        array: (J, I) or (K, J, I), and a last axis of channels where it `has_channels`.
        source: what to call the image in an error.
        has_channels: whether several values are stored in each voxel: grey saved in colour, with or without alpha.
        tolerance: by how much 8-bit channels may differ; 0 where they may be masks, whose values are as small.
    Raises:
        VolumeError: a colour or vector image, unless it is a labelmap in the colours of its palette.
    """
    if has_channels:
        array = _grey_from_channels(array, source, tolerance)
    return _narrowed(array[np.newaxis] if array.ndim == 2 else array)


def _grey_from_channels(array: np.ndarray, source: Path | str, tolerance: int) -> np.ndarray:
    channels = array.shape[-1]
    if channels not in (1, 3, 4):
        raise VolumeError(f"{source} holds {channels} values in each voxel; expected one grey value.")
    tolerance = tolerance if array.dtype == np.uint8 else 0
    first = array[..., 0]
    for channel in range(1, min(channels, 3)):
        other = array[..., channel]
        if np.any(np.maximum(first, other) - np.minimum(first, other) > tolerance):
            labels = labels_of_colours(array)
            if labels is not None:
                return labels
            raise VolumeError(f"{source} is a colour image; expected grey values, convert it first.")
    return np.ascontiguousarray(first)


def _narrowed(array: np.ndarray) -> np.ndarray:
    """The same values as int16 where they fit, and float64 as float32: half the memory for whole volumes."""
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2 and array.size:
        limits = np.iinfo(np.int16)
        if array.min() >= limits.min and array.max() <= limits.max:
            return array.astype(np.int16)
    return array

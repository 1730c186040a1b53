"""What viewers know of a picture and ITK does not: which way up it is shown, and its alpha beside grey."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume.extents import EXTENT_NAME
from SAMLungSegLib.volume.itk import ijk_to_ras_from_lps

_ORIENTATION_TAG = 0x0112
_DIRECTIONS = {  # of the tag: where stored columns and rows run to as displayed, (right, down)
    1: ((1, 0), (0, 1)),
    2: ((-1, 0), (0, 1)),
    3: ((-1, 0), (0, -1)),
    4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)),
    6: ((0, 1), (-1, 0)),
    7: ((0, -1), (-1, 0)),
    8: ((0, -1), (1, 0)),
}
_GREY_WITH_ALPHA = ("LA", "La")
_PNG_16_BIT_WITH_ALPHA = b"\x10\x04"
_TIFF_EXTENSIONS = (".tif", ".tiff")
_PNG_DEPTH = slice(24, 26)


@dataclass(frozen=True)
class Picture:
    """What the header of a picture says.

    Attributes:
        orientation: EXIF's, 1 to 8; 1 is shown as stored.
        is_not_for_itk: ITK turns some of its orientations itself, or takes its alpha for grey.
        extent: the text about the lungs that a labelmap of this program holds.
    """

    orientation: int = 1
    is_not_for_itk: bool = False
    extent: str | None = None


def picture_of(path: Path) -> Picture:
    """The header of a PNG, JPEG or TIFF file; of one that Pillow does not know, that it is shown as stored.

    Raises:
        VolumeError: grey with alpha in 16 bit.
    """
    from PIL import Image

    with path.open("rb") as file:
        if file.read(_PNG_DEPTH.stop)[_PNG_DEPTH] == _PNG_16_BIT_WITH_ALPHA and path.suffix.lower() == ".png":
            raise VolumeError(f"{path} is grey with transparency in 16 bit; save it as grey without transparency.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                stated = image.getexif().get(_ORIENTATION_TAG, 1)
                is_turned = stated in _DIRECTIONS and stated != 1
                is_not_for_itk = image.mode in _GREY_WITH_ALPHA or (image.format == "TIFF" and is_turned)
                return Picture(stated if is_turned else 1, is_not_for_itk, image.info.get(EXTENT_NAME))
    except Exception:  # of damaged headers Pillow raises whatever it stumbles over; ITK says what is wrong
        return Picture()


def stored_pixels(path: Path) -> np.ndarray:
    """Pixels (H, W) or (H, W, channels) in the order of the file, grey without its alpha.

    Raises:
        VolumeError: it has several pages, or cannot be read so.
    """
    from PIL import Image

    try:
        if path.suffix.lower() in _TIFF_EXTENSIONS:
            pixels = _tiff_pixels(path)
        else:
            with Image.open(path) as image:
                pixels = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VolumeError(
            f"{path} is turned by a tag, or has alpha, and cannot be read so; save it upright."
        ) from error
    return np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 2 else pixels)


def _tiff_pixels(path: Path) -> np.ndarray:
    """By tifffile, which turns nothing."""
    from tifffile import TiffFile

    with TiffFile(path) as file:
        count = len(file.pages)
        if count > 1:
            raise VolumeError(
                f"{path} has {count} pages without geometry; give one picture, or convert to NIfTI or NRRD."
            )
        return file.pages[0].asarray()


def ijk_to_ras_of_picture(orientation: int, spacing_ij: tuple[float, float]) -> np.ndarray:
    """Float64 (4, 4) of stored pixels: as displayed, columns run to the patient's left and rows to posterior."""
    directions = np.eye(3)
    directions[:2, :2] = np.transpose(_DIRECTIONS[orientation])
    return ijk_to_ras_from_lps(directions, np.array([*spacing_ij, 1.0]), np.zeros(3))

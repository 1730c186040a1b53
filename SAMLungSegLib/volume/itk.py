"""What SimpleITK needs around every call: quiet, one-line errors, and RAS instead of its LPS."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.volume.formats import ACCEPTED, is_marked_as_dicom

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_GEOMETRY_WORDS = ("orthonormal", "spacing", "direction", "determinant")
_NO_READER_WORDS = ("cannot read requested file", "unable to determine imageio")
_REASON_LENGTH = 160


class _Quiet:
    """Keeps ITK's warnings, which are of the whole process, off while any thread wants that."""

    def __init__(self) -> None:
        self._lock, self._count, self._shown = Lock(), 0, True

    def begin(self) -> None:
        with self._lock:
            if self._count == 0:
                self._shown = sitk.ProcessObject.GetGlobalWarningDisplay()
                sitk.ProcessObject.SetGlobalWarningDisplay(False)
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                sitk.ProcessObject.SetGlobalWarningDisplay(self._shown)


_quiet = _Quiet()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Keep ITK's warnings off the terminal and turn its exceptions into one-line errors about `path`.

    Raises:
        GeometryError: the file's directions or spacings cannot be used.
        VolumeError: anything else that ITK refuses.
    """
    check_name(path)
    _quiet.begin()
    try:
        yield
    except RuntimeError as error:
        reason = itk_reason(error)
        if any(word in reason.lower() for word in _GEOMETRY_WORDS):
            raise GeometryError(f"{path} has an unusable geometry, repair it first: {reason}") from error
        raise VolumeError(_refusal(path, reason)) from error
    except OSError as error:
        raise VolumeError(f"{path} cannot be read: {error.strerror or error}.") from error
    finally:
        _quiet.end()


def check_name(path: Path) -> None:
    """Refuse a name that is no text: SimpleITK ends the whole process on it.

    Raises:
        VolumeError: with the name as far as it is text.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        name = os.fsencode(path).decode(errors="replace")
        raise VolumeError(f"{name} has a name that is no UTF-8 text; rename it.") from error


def _refusal(path: Path, reason: str) -> str:
    if path.is_dir() or not any(words in reason.lower() for words in _NO_READER_WORDS):
        return f"{path} is damaged or no image of a kind that can be read: {reason}"
    if is_marked_as_dicom(path):
        return f"{path} is DICOM, but damaged, truncated or without an image; copy or export it again."
    return f"{path} is damaged or of a kind that cannot be read; give {ACCEPTED}."


def itk_reason(error: Exception) -> str:
    """The gist of an ITK exception on one line, without source lines and addresses."""
    text = re.split(r"ERROR: |\[nrrd\] ", str(error).strip())[-1]  # NRRD lists what went wrong, the cause last
    text = re.sub(r"\w+ ?\(0x[0-9a-f]+\): ?", "", text)
    text = re.sub(r"^_\w+: ", "", text)
    text = re.sub(r"\S+\.[ch]xx:?\d* ?(\(\))?:?", "", text)
    text = " ".join(text.split())
    return text if len(text) <= _REASON_LENGTH else text[:_REASON_LENGTH] + "..."


def ijk_to_ras_of(image: sitk.Image) -> np.ndarray:
    """Float64 (4, 4) of a 2D or 3D image; a 2D image lies in the plane of patient left and posterior."""
    dimension = image.GetDimension()
    directions, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    directions[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension, dimension))
    spacing[:dimension] = image.GetSpacing()
    origin[:dimension] = image.GetOrigin()
    return ijk_to_ras_from_lps(directions, spacing, origin)


def ijk_to_ras_from_lps(directions: np.ndarray, spacing_ijk: np.ndarray, origin_lps: np.ndarray) -> np.ndarray:
    """Float64 (4, 4) from ITK's description: unit directions as columns (3, 3), spacing in mm (3,), origin (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3] = _LPS_TO_RAS @ (directions * spacing_ijk)
    matrix[:3, 3] = _LPS_TO_RAS @ origin_lps
    return matrix


def image_of(array_kji: np.ndarray, ijk_to_ras: np.ndarray) -> sitk.Image:
    """The 3D image of an array and its geometry."""
    image = sitk.GetImageFromArray(array_kji)
    set_ijk_to_ras(image, ijk_to_ras)
    return image


def set_ijk_to_ras(image: sitk.Image, ijk_to_ras: np.ndarray) -> None:
    """Give a 3D image its geometry; sheared and left-handed matrices are kept as they are."""
    columns = _LPS_TO_RAS @ ijk_to_ras[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin((_LPS_TO_RAS @ ijk_to_ras[:3, 3]).tolist())

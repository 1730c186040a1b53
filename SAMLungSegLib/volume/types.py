"""The image type that everything else starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.structures import ExtentChoice

_SMALLEST_DETERMINANT = 1e-6
_SPACINGS_MM = (1e-6, 1e6)  # far beyond what is imaged
_FARTHEST_MM = 1e9


@dataclass(frozen=True, eq=False)
class Volume:
    """A grey image in the patient; a single slice or an X-ray has one axis of size 1.

    Attributes:
        array_kji: integer or float (K, J, I).
        ijk_to_ras: float64 (4, 4), voxel centre (i, j, k, 1) to patient RAS in mm; read-only.
        name: the file's name without its extension, or the DICOM folder's name.
        modality_hint: 'CT' or 'XRAY' where the file says so, else None.
        has_physical_spacing: False where a distance is not known in mm (PNG, JPEG, TIFF, some DICOM).
        structure_labels: of a labelmap whose file says by codes or names what it holds: label values by structure, such
            as 'right_lung' or 'liver', and by the name of a label set ('lungs') for what is of it but of several
            structures, or of no side that is said; else None.
        is_lateral: whether the file says that an X-ray was taken from the side.
        extent: of the lungs in a labelmap of an X-ray, where its file says it.
        dicom_files: that the slices come from, one for each along K, or one of several frames; empty of other images.
    Raises:
        VolumeError: the array is not a numeric 3D image with at least one voxel and one finite value.
        GeometryError: the matrix is not a finite, invertible affine (4, 4).
    """

    array_kji: np.ndarray
    ijk_to_ras: np.ndarray
    name: str = "volume"
    modality_hint: str | None = None
    has_physical_spacing: bool = True
    structure_labels: Mapping[str, Sequence[int]] | None = None
    is_lateral: bool = False
    extent: ExtentChoice | None = None
    dicom_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_array(self.array_kji, self.name)
        matrix = np.array(self.ijk_to_ras, dtype=np.float64)
        check_affine(matrix, self.name)
        matrix.setflags(write=False)
        object.__setattr__(self, "ijk_to_ras", matrix)

    @property
    def size_kji(self) -> tuple[int, int, int]:
        """Voxels along K, J and I."""
        return self.array_kji.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along K, J and I (the order of the array's axes, not SimpleITK's)."""
        k, j, i = np.linalg.norm(self.ijk_to_ras[:3, 2::-1], axis=0)
        return float(k), float(j), float(i)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml; on a sheared grid it is less than the product of the spacings."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000


def _check_array(array: np.ndarray, name: str) -> None:
    if array.ndim != 3:
        raise VolumeError(f"Volume {name} has {array.ndim} axes {array.shape}; expected three, (K, J, I).")
    if 0 in array.shape:
        raise VolumeError(f"Volume {name} is empty, its size is {array.shape}; expected at least one voxel.")
    if array.dtype.kind not in "biuf":
        raise VolumeError(f"Volume {name} holds {array.dtype} values; expected whole or real numbers.")
    if array.dtype.kind == "f" and not any(np.isfinite(one_slice).any() for one_slice in array):
        raise VolumeError(f"Volume {name} holds no finite value (all NaN); check how the file was made.")


def check_affine(matrix: np.ndarray, name: str) -> None:
    """Refuse what places no grid in the patient.

    Raises:
        GeometryError: `ijk_to_ras` of the volume `name` is not a finite, invertible affine (4, 4).
    """
    if matrix.shape != (4, 4):
        raise GeometryError(f"Volume {name}: ijk_to_ras has shape {matrix.shape}; expected (4, 4).")
    if not np.isfinite(matrix).all():
        raise GeometryError(f"Volume {name}: the image directions are not finite numbers; repair the file's geometry.")
    if not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise GeometryError(f"Volume {name}: the last row of ijk_to_ras is {matrix[3]}; expected 0 0 0 1.")
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    smallest, largest = _SPACINGS_MM
    if not (spacing.min() == 0 or (spacing.min() >= smallest and spacing.max() <= largest)):
        values = " x ".join(f"{one:.3g}" for one in spacing)
        raise GeometryError(
            f"Volume {name}: the spacing is {values} mm (I, J, K); expected {smallest:g} to {largest:g} mm, repair the "
            "file's geometry."
        )
    if np.abs(matrix[:3, 3]).max() > _FARTHEST_MM:
        away = np.abs(matrix[:3, 3]).max()
        raise GeometryError(f"Volume {name}: the origin is {away:.3g} mm away; repair the file's geometry.")
    if spacing.min() <= 0 or abs(np.linalg.det(matrix[:3, :3] / spacing)) < _SMALLEST_DETERMINANT:
        raise GeometryError(
            f"Volume {name}: the image directions are degenerate (zero or parallel); repair the file's geometry."
        )

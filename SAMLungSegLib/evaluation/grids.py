"""Bring a prediction onto the reference's grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.volume import SlicePlane, Volume
from SAMLungSegLib.volume.itk import set_ijk_to_ras

# Two grids are the same when no corner is off by more than this part of the smallest voxel edge: well above what
# headers lose by rounding, well below what changes a nearest neighbour.
_SAME_GRID_SHARE = 0.05
_OUTSIDE = 255


def on_grid_of(reference: Volume, prediction: Volume, codes_kji: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Codes of the prediction on the reference's grid.

    Args:
        reference: gives the grid.
        prediction: gives the place of the codes.
        codes_kji: uint8 below 255, of the prediction's size.
    Returns:
        uint8 of the reference's size (nearest neighbour, 0 outside the prediction), and notes on what was done.
    Raises:
        GeometryError: the grids do not overlap, or the sizes differ and one has no physical spacing.
    """
    same_size = reference.size_kji == prediction.size_kji
    if not (reference.has_physical_spacing and prediction.has_physical_spacing):
        if not same_size:
            sizes = (
                f"{prediction.name} has size {prediction.size_kji} and {reference.name} {reference.size_kji} (K, J, I)"
            )
            raise GeometryError(f"{sizes}, and without physical spacing nothing can be resampled; give one size.")
        mixed = reference.has_physical_spacing != prediction.has_physical_spacing
        return codes_kji, ["Only one of the two has a physical geometry: compared voxel by voxel."] if mixed else []
    if same_size and _same_place(reference.ijk_to_ras, prediction.ijk_to_ras, reference.size_kji[::-1]):
        return codes_kji, []
    resampled = _resampled(reference, prediction, codes_kji)
    outside = resampled == _OUTSIDE
    if outside.all():
        raise GeometryError(
            f"{prediction.name} and {reference.name} do not overlap in space; check that they are of the same scan."
        )
    resampled[outside] = 0
    notes = ["The prediction was resampled to the reference's grid (nearest neighbour)."]
    if outside.any():
        notes.append(f"{outside.mean():.1%} of the reference's grid is outside the prediction: taken as no lung.")
    return resampled, notes


def fits_display(plane: SlicePlane, image_plane: SlicePlane, *, is_physical: bool) -> bool:
    """Whether the displayed slices of an image are those of a plane, in whatever order either is stored.

    Args:
        plane: of the labelmap.
        image_plane: of the image.
        is_physical: both have a place in mm; otherwise only the sizes are compared.
    """
    if plane.size_nhw != image_plane.size_nhw:
        return False
    slices, height, width = plane.size_nhw
    return not is_physical or _same_place(
        plane.nxy_to_ras_matrix, image_plane.nxy_to_ras_matrix, (slices, width, height)
    )


def _same_place(to_ras: np.ndarray, other_to_ras: np.ndarray, size: Sequence[int]) -> bool:
    """Whether two matrices take the corners of a grid to the same places; sizes in the order of their columns."""
    corners = np.array(np.meshgrid(*((0, length - 1) for length in size))).reshape(3, -1)
    moved_mm = (to_ras - other_to_ras)[:3] @ np.vstack([corners, np.ones(8)])
    smallest_edge_mm = np.linalg.norm(to_ras[:3, :3], axis=0).min()
    return bool(np.linalg.norm(moved_mm, axis=0).max() <= _SAME_GRID_SHARE * smallest_edge_mm)


def _resampled(reference: Volume, prediction: Volume, codes_kji: np.ndarray) -> np.ndarray:
    image = sitk.GetImageFromArray(codes_kji)
    set_ijk_to_ras(image, prediction.ijk_to_ras)
    grid = sitk.Image([int(size) for size in reference.size_kji[::-1]], sitk.sitkUInt8)
    set_ijk_to_ras(grid, reference.ijk_to_ras)
    resampled = sitk.Resample(image, grid, sitk.Transform(), sitk.sitkNearestNeighbor, _OUTSIDE)
    return sitk.GetArrayFromImage(resampled)

"""Bring a prediction onto the reference's grid, or both onto one that holds both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.volume import SlicePlane, Volume
from SAMLungSegLib.volume.itk import set_ijk_to_ras

# Two grids are the same when no corner is off by more than this part of the smallest voxel edge: well above what
# headers lose by rounding, well below what changes a nearest neighbour.
_SAME_GRID_SHARE = 0.05
_OUTSIDE = 255
_EDGE = 1e-3  # voxels; by which a centre may miss a face


def on_grid_of(
    reference: Volume, prediction: Volume, codes_kji: np.ndarray, what: str = "lung"
) -> tuple[np.ndarray, list[str]]:
    """Codes of the prediction on the reference's grid.

    Args:
        reference: gives the grid.
        prediction: gives the place of the codes.
        codes_kji: uint8 below 255, of the prediction's size.
        what: notes call what has a label.
    Returns:
        uint8 of the reference's size (nearest neighbour, 0 outside the prediction), and notes on what was done.
    Raises:
        GeometryError: the grids do not overlap, or the sizes differ and one has no physical spacing.
    """
    if _is_one_grid(reference, prediction):
        return codes_kji, _mixed_note(reference, prediction)
    resampled = _resampled(reference, prediction, codes_kji)
    outside = resampled == _OUTSIDE
    if outside.all():
        raise GeometryError(
            f"{prediction.name} and {reference.name} do not overlap in space; check that they are of the same scan."
        )
    resampled[outside] = 0
    notes = ["The prediction was resampled to the reference's grid (nearest neighbour)."]
    if outside.any():
        notes.append(f"{outside.mean():.1%} of the reference's grid is outside the prediction: taken as no {what}.")
    return resampled, notes


@dataclass(frozen=True, eq=False)
class CommonGrid:
    """Two labelmaps on a grid that holds both: the reference's, continued as far as the prediction reaches.

    Attributes:
        frame: gives the grid; its voxels are the reference's codes.
        reference_kji: uint8, 0 outside the reference's own grid.
        prediction_kji: uint8, of the same size, 0 outside the prediction.
        first_kji: where the reference's own voxel (0, 0, 0) is.
        notes: on what was done.
    """

    frame: Volume
    reference_kji: np.ndarray
    prediction_kji: np.ndarray
    first_kji: tuple[int, int, int]
    notes: tuple[str, ...]


def on_common_grid(
    reference: Volume,
    reference_kji: np.ndarray,
    prediction: Volume,
    prediction_kji: np.ndarray,
    what: str = "lung",
) -> CommonGrid:
    """Both labelmaps where neither loses a voxel: files that were cropped to what they hold are cropped differently.

    Where the voxels of both lie at the same places, in whatever order they are stored, the grid covers both files.
    Otherwise it is continued to the labels of the prediction, which is resampled (nearest neighbour).

    Args:
        reference: gives spacings, directions and the order of axes.
        reference_kji: its codes, uint8 below 255.
        prediction: gives the place of its codes.
        prediction_kji: its codes, uint8 below 255.
        what: notes call what has a label.
    Raises:
        GeometryError: as `on_grid_of`.
    """
    resampled, notes = on_grid_of(reference, prediction, prediction_kji, what)
    if resampled is prediction_kji:
        return CommonGrid(reference, reference_kji, prediction_kji, (0, 0, 0), tuple(notes))
    before, after = _beyond(reference, prediction, prediction_kji)
    if not (any(before) or any(after)):
        return CommonGrid(reference, reference_kji, resampled, (0, 0, 0), tuple(notes))
    padded = np.pad(reference_kji, tuple(zip(before, after, strict=True)))
    matrix = reference.ijk_to_ras.copy()
    matrix[:3, 3] -= matrix[:3, :3] @ before[::-1]
    frame = replace(reference, array_kji=padded, ijk_to_ras=matrix)
    whole = _resampled(frame, prediction, prediction_kji)
    whole[whole == _OUTSIDE] = 0
    beyond = np.count_nonzero(whole) - np.count_nonzero(resampled)
    notes.append(
        f"The prediction reaches beyond the reference's grid, with {beyond} voxels of {what}: measured on both grids "
        f"together, and no {what} is taken to be where the reference has no voxels."
    )
    return CommonGrid(frame, padded, whole, tuple(int(one) for one in before), tuple(notes))


def _is_one_grid(reference: Volume, prediction: Volume) -> bool:
    """Whether codes of both can be compared as they are.

    Raises:
        GeometryError: the sizes differ and one has no physical spacing.
    """
    same_size = reference.size_kji == prediction.size_kji
    if reference.has_physical_spacing and prediction.has_physical_spacing:
        return same_size and _same_place(reference.ijk_to_ras, prediction.ijk_to_ras, reference.size_kji[::-1])
    if not same_size:
        sizes = f"{prediction.name} has size {prediction.size_kji} and {reference.name} {reference.size_kji} (K, J, I)"
        raise GeometryError(f"{sizes}, and without physical spacing nothing can be resampled; give one size.")
    return True


def _mixed_note(reference: Volume, prediction: Volume) -> list[str]:
    mixed = reference.has_physical_spacing != prediction.has_physical_spacing
    return ["Only one of the two has a physical geometry: compared voxel by voxel."] if mixed else []


def _beyond(reference: Volume, prediction: Volume, codes_kji: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how many voxels along K, J and I the reference's grid must be continued, before its first and its last."""
    to_reference = np.linalg.inv(reference.ijk_to_ras) @ prediction.ijk_to_ras
    first, last = np.zeros(3), np.array(prediction.size_kji[::-1]) - 1
    if not _is_same_lattice(to_reference, last):
        first, last = _content_ijk(codes_kji)
    faces = np.array(np.meshgrid(*zip(first - 0.5, last + 0.5, strict=True))).reshape(3, -1)
    reached = to_reference[:3, :3] @ faces + to_reference[:3, 3:]
    low, high = np.ceil(reached.min(axis=1) - _EDGE), np.floor(reached.max(axis=1) + _EDGE)
    before, after = np.maximum(-low, 0), np.maximum(high - np.array(reference.size_kji[::-1]) + 1, 0)
    return before[::-1].astype(int), after[::-1].astype(int)


def _is_same_lattice(to_reference: np.ndarray, last_ijk: np.ndarray) -> bool:
    """Whether all voxels of one grid are voxels of the other, continued without end."""
    turned = np.rint(to_reference[:3, :3])
    is_turned = (np.abs(turned).sum(axis=0) == 1).all() and (np.abs(turned).sum(axis=1) == 1).all()
    corners = np.array(np.meshgrid(*((0, last) for last in last_ijk))).reshape(3, -1)
    reached = to_reference[:3, :3] @ corners + to_reference[:3, 3:]
    exact = turned @ corners + np.rint(to_reference[:3, 3:])
    return bool(is_turned and np.abs(reached - exact).max() <= _SAME_GRID_SHARE)


def _content_ijk(codes_kji: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel (3,) of the box of all labels; one voxel where there are none."""
    filled = [np.flatnonzero(codes_kji.any(axis=tuple({0, 1, 2} - {axis}))) for axis in (2, 1, 0)]
    return tuple(np.array([places[end] if len(places) else 0 for places in filled], float) for end in (0, -1))


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

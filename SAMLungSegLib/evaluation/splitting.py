"""One label of both lungs, split into right and left where that is sure: two parts that lie apart, side by side."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from SAMLungSegLib.evaluation.sides import Labels, side_codes
from SAMLungSegLib.masks import box_around
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.volume import SlicePlane, Volume, axial_plane

_SMALLER_LUNG = 0.2  # of both; a collapsed lung may have less, and stays in doubt
_SPECKS = 0.05  # of both, in all parts but the two largest


def with_sides(volume: Volume, labels: Labels | None, role: str) -> tuple[np.ndarray, tuple[int, ...], list[str]]:
    """`side_codes` of a labelmap, and where one label has two lungs, each with its side.

    Args:
        volume: labelmap of lungs.
        labels: as in `side_codes`; what is given stays as it is.
        role: what notes call it.
    Returns:
        The codes and the guessed values of `side_codes`, none where sides were found, and a note on that.
    Raises:
        VolumeError: as `side_codes`.
    """
    codes, guessed = side_codes(volume, labels)
    if len(guessed) != 1:
        return codes, guessed, []
    plane = axial_plane(volume)
    split = split_lungs(plane.to_display(codes > 0)) if _columns_run_to_the_left(plane) else None
    if split is None:
        return codes, guessed, []
    by = "the patient's directions" if volume.has_physical_spacing else "the picture, the patient's right at its left"
    note = f"The {role} has one lung label, {guessed[0]}, of two lungs apart: split into right and left by {by}."
    return plane.from_display(split), (), [note]


def _columns_run_to_the_left(plane: SlicePlane) -> bool:
    """Whether one sees both sides in a slice; not so in a single sagittal one."""
    return int(np.argmax(np.abs(plane.nxy_to_ras_matrix[:3, 1]))) == 0


def split_lungs(mask_nhw: np.ndarray) -> np.ndarray | None:
    """Right and left lung of a mask of both.

    Args:
        mask_nhw: bool (N, H, W), in display orientation: the patient's right at the left.
    Returns:
        uint8 (N, H, W), 1 right lung, 2 left lung; None where the mask has not two large parts side by side. Specks
        have the side of the nearer lung's centre.
    """
    box = box_around(mask_nhw)
    parts, count = ndimage.label(mask_nhw[box], np.ones((3, 3, 3)))
    if count < 2:
        return None
    voxels = np.bincount(parts.ravel())[1:]
    first, second = np.argsort(-voxels, kind="stable")[:2]
    if voxels[second] < _SMALLER_LUNG * voxels.sum() or voxels[[first, second]].sum() < (1 - _SPECKS) * voxels.sum():
        return None
    columns = [np.nonzero(parts == part + 1)[2] for part in (first, second)]
    right, left = sorted(columns, key=np.median)
    if np.percentile(right, 75) >= np.percentile(left, 25):
        return None
    centres = np.array([one[2] for one in ndimage.center_of_mass(parts > 0, parts, np.arange(1, count + 1))])
    is_right = np.abs(centres - right.mean()) < np.abs(centres - left.mean())
    side_of_part = np.concatenate([[0], np.where(is_right, RIGHT_LUNG, LEFT_LUNG)]).astype(np.uint8)
    split = np.zeros(mask_nhw.shape, np.uint8)
    split[box] = side_of_part[parts]
    return split

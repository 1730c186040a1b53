"""Automatic masks of slices of an image, on the image's own grid."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from SAMLungSegLib.automatic.generator import automatic_masks
from SAMLungSegLib.automatic.masks import AutomaticMask, numbered
from SAMLungSegLib.automatic.settings import AutomaticSettings, default_settings
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.pipeline import Options
from SAMLungSegLib.pipeline.resample import IsotropicResampling
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.volume import SlicePlane, Volume

logger = logging.getLogger(__name__)

MOST_MASKS = np.iinfo(np.uint16).max
COLUMNS = (
    "mask", "slice", "area_px", "visible_px", "area_mm2", "predicted_iou", "stability", "i_min", "j_min", "k_min",
    "i_max", "j_max", "k_max", "point_i", "point_j", "point_k",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class VolumeMasks:
    """Masks of some slices of a volume.

    Attributes:
        volume: the input.
        plane: how its slices are displayed.
        slices: numbers of the displayed slices that were looked at.
        grey_nhw: uint8 (len(slices), H, W), these slices.
        labelmap_kji: uint16 on the input's grid: the number of the mask, 0 without one. Masks are numbered slice by
            slice, the largest first; where they overlap the smallest is on top.
        table: one row for each mask: 'mask' its number, 'slice', its area alone ('area_px', 'area_mm2', NaN where
            distances are not known) and what of it is on top ('visible_px'), 'predicted_iou', 'stability', its first
            and last voxel ('i_min' to 'k_max') and the voxel of the point that it comes of ('point_i' to 'point_k').
        notes: what was assumed about the image, a sentence each.
    """

    volume: Volume
    plane: SlicePlane
    slices: tuple[int, ...]
    grey_nhw: np.ndarray
    labelmap_kji: np.ndarray
    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def volume_masks(
    volume: Volume,
    model: PromptableModel,
    settings: AutomaticSettings | None = None,
    options: Options | None = None,
    *,
    slices: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VolumeMasks:
    """Masks of everything in slices of a volume, each slice by itself.

    Args:
        volume: the image.
        model: one that accepts points.
        settings: those that suit the model where not given.
        options: modality and window; the rest plays no part.
        slices: numbers of axial slices as displayed, from 0 at the inferior end; the middle one where not given.
        progress: called with (points done, points in all).
    Raises:
        VolumeError: the volume has no such slice, or there are more masks than a labelmap can number.
        PromptError: the model accepts boxes only.
    """
    options, settings = options or Options(), settings or default_settings(model.name)
    view = VolumeView.of(volume, options)
    plane = view.plane
    chosen = _checked_slices(volume, len(view), [len(view) // 2] if slices is None else slices)
    grey_nhw = np.stack([view.grey(number) for number in chosen])
    notes = tuple(filter(None, (*view.notes, view.why_another_window(model, options.ct_window))))
    for note in notes:
        logger.warning("%s: %s", volume.name, note)
    labelmap_kji = np.zeros(volume.size_kji, np.uint16)
    labelmap_nhw = plane.to_display(labelmap_kji)
    rows: list[dict[str, float]] = []
    for index, (number, grey_hw) in enumerate(zip(chosen, grey_nhw, strict=True)):

        def show(done: int, total: int, index: int = index) -> None:
            progress(index * total + done, len(chosen) * total)

        found = automatic_masks(model, view.slice(number).grey_hw, settings, progress=show)
        masks = sorted(_restored(found, view.resampling), key=lambda mask: -mask.area_px)
        if len(rows) + len(masks) > MOST_MASKS:
            raise VolumeError(f"{volume.name} has more than {MOST_MASKS} masks; choose fewer of its slices.")
        labels_hw = numbered(masks, grey_hw.shape)
        labelmap_nhw[number] = np.where(labels_hw > 0, labels_hw + len(rows), 0)
        visible_px = np.bincount(labels_hw.ravel(), minlength=len(masks) + 1)[1:]
        rows += [
            _row(len(rows) + place, number, mask, int(visible), volume, plane)
            for place, (mask, visible) in enumerate(zip(masks, visible_px, strict=True), start=1)
        ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return VolumeMasks(volume, plane, tuple(chosen), grey_nhw, labelmap_kji, table, notes)


def _checked_slices(volume: Volume, count: int, slices: Sequence[int]) -> list[int]:
    if not slices:
        raise VolumeError(f"No slice of {volume.name} was given; give one from 0 to {count - 1}.")
    outside = [number for number in slices if not 0 <= number < count]
    if outside:
        raise VolumeError(f"{volume.name} has no slice {outside[0]}; give one from 0 to {count - 1}.")
    return list(slices)


def _restored(masks: Sequence[AutomaticMask], resampling: IsotropicResampling) -> list[AutomaticMask]:
    """The masks in the slice's own pixels; those between its rows or columns vanish."""
    if resampling.times_hw == (1, 1):
        return list(masks)
    rows, columns = resampling.times_hw
    found = []
    for mask in masks:
        own_hw = resampling.restore(mask.on(resampling.resampled_hw))
        if own_hw.any():
            (x, y) = mask.point_xy
            found.append(AutomaticMask.of(own_hw, mask.predicted_iou, mask.stability, (x / columns, y / rows)))
    return found


def _row(
    mask_number: int, slice_number: int, mask: AutomaticMask, visible_px: int, volume: Volume, plane: SlicePlane
) -> dict[str, float]:
    left, top, right, bottom = mask.box_xyxy
    corners = plane.nxy_to_ijk([(slice_number, left, top), (slice_number, right, bottom)]).astype(int)
    steps = plane.nxy_to_ras_matrix[:3]
    pixel_mm2 = np.linalg.norm(np.cross(steps[:, 1], steps[:, 2])) if volume.has_physical_spacing else np.nan
    point_ijk = plane.nxy_to_ijk((slice_number, *mask.point_xy))
    values = (
        mask_number, slice_number, mask.area_px, visible_px, mask.area_px * pixel_mm2, mask.predicted_iou,
        mask.stability, *corners.min(axis=0), *corners.max(axis=0), *point_ijk,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))

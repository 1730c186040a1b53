"""Cardiothoracic ratio of a frontal chest X-ray: the heart's greatest width by that of the chest inside the ribs.

After C. S. Danzer, The cardiothoracic ratio: an index of cardiac enlargement, Am J Med Sci 157 (1919) 513-521, by the
usual construction: the heart's width is its greatest distance to the right of the midline (MRD) plus that to the left
(MLD), each at its own level, so that the midline itself does not matter as long as it lies within the heart. The
chest's width is the largest distance between the outer borders of both lungs at one level, wherever that is; readers
who take it at the top of the right dome of the diaphragm get about the same or a little less.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.masks import keep_large_components
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.volume import SlicePlane, Volume, axial_plane

logger = logging.getLogger(__name__)

FoundBy = Literal["heart", "lungs"]

BY_LUNGS = "Without a heart, its borders are those of the lungs beside it: fat and vessels there count as heart."
_PLAUSIBLE = (0.3, 0.7)

_HEART_BEGINS = 0.5  # of a lung's height, from its top: below the hila
_ALONG = 0.05  # of a lung's height: over which the slope of its border is taken
_DIAPHRAGM_SLOPE = 2.0  # mm to the side for each mm down: the heart's border is steeper, also that of a large heart
_DOMES_APART = 0.1  # of a lung's height: by which one dome lies lower than the other


@dataclass(frozen=True)
class Width:
    """A horizontal distance.

    Attributes:
        right_ijk, left_ijk: its ends at the patient's right and left, in voxels; borders lie between pixels' centres.
        mm: its length; pixels where the image's spacing is not known.
    """

    right_ijk: tuple[float, float, float]
    left_ijk: tuple[float, float, float]
    mm: float


@dataclass(frozen=True)
class CardiothoracicRatio:
    """The ratio, and what it was measured by.

    Attributes:
        heart: drawn at the level of the heart's farthest point to the left; its right end may be of another level.
        chest: at the lowest of the levels where it is widest.
        found_by: 'heart', a mask of it, or 'lungs', whose medial borders stand for it.
        in_mm: whether the widths are in mm, or in pixels.
        notes: what is uncertain, a sentence each.
    """

    heart: Width
    chest: Width
    found_by: FoundBy
    in_mm: bool
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """Heart by chest."""
        return self.heart.mm / self.chest.mm


def cardiothoracic_ratio(lungs: Volume, heart_kji: np.ndarray | None = None) -> CardiothoracicRatio:
    """Measure the heart against the chest.

    Widths run along the axis of the image that is closest to the patient's right and left. Without a heart, the medial
    borders of the visible lungs stand for its own, in the lower half of each lung, down to where the border turns from
    the heart to the diaphragm: where it runs aside by more than twice of what it goes down. Neither side goes further
    below the higher turn than domes of the diaphragm lie apart.

    Args:
        lungs: labelmap of one X-ray, 1 right, 2 left lung, other values ignored; where it says that these are whole
            lungs, a heart is needed.
        heart_kji: bool, on the same grid.
    Raises:
        VolumeError: this is no frontal X-ray, a lung is missing, the lungs are whole ones or meet, or the heart is
            empty.
        GeometryError: the heart has another size.
    """
    plane = _frontal_plane(lungs)
    labels_hw = plane.to_display(lungs.array_kji)[0]
    right, left = (_largest(labels_hw == label, label, lungs.name) for label in (RIGHT_LUNG, LEFT_LUNG))
    chest = _chest(right, left, lungs.name)
    if heart_kji is not None:
        heart = _extent_of(_heart_on(plane, heart_kji, lungs.name))
    elif lungs.extent == "whole":
        raise VolumeError(
            f"{lungs.name} holds whole lungs, with what the heart hides, so the heart has no border in it; give "
            "visible lungs (extent 'visible' or 'both'), or a mask of the heart as well."
        )
    else:
        heart = _between(right, left, plane.spacing_hw_mm, lungs.name)
    found_by: FoundBy = "lungs" if heart_kji is None else "heart"
    in_mm = lungs.has_physical_spacing
    notes = _notes(heart, chest, found_by, labels_hw.shape[1])
    return CardiothoracicRatio(_width(plane, heart, in_mm), _width(plane, chest, in_mm), found_by, in_mm, notes)


def ratio_if_measurable(lungs: Volume, modality: Modality) -> float | None:
    """The ratio from lungs alone; None on CT, and where `cardiothoracic_ratio` refuses them."""
    if modality != "XRAY":
        return None
    try:
        return cardiothoracic_ratio(lungs).ratio
    except VolumeError as error:
        logger.info("No cardiothoracic ratio: %s", error)
        return None


_Extent = tuple[int, int, int]  # first column, column after the last one, row


def _frontal_plane(lungs: Volume) -> SlicePlane:
    plane = axial_plane(lungs)
    if plane.size_nhw[0] != 1:
        raise VolumeError(
            f"{lungs.name} has {plane.size_nhw[0]} slices; the cardiothoracic ratio is that of a frontal chest X-ray, "
            "give the labelmap of one."
        )
    if lungs.is_lateral or plane.is_sagittal:
        raise VolumeError(
            f"{lungs.name} was taken from the side; the cardiothoracic ratio needs a frontal chest X-ray."
        )
    return plane


def _largest(mask_hw: np.ndarray, label: int, name: str) -> np.ndarray:
    if not mask_hw.any():
        side = "right" if label == RIGHT_LUNG else "left"
        raise VolumeError(
            f"{name} has no {side} lung (label {label}); the cardiothoracic ratio needs both, segment or draw it."
        )
    return keep_large_components(mask_hw, 1.0)


def _heart_on(plane: SlicePlane, heart_kji: np.ndarray, name: str) -> np.ndarray:
    if heart_kji.shape != plane.size_kji:
        raise GeometryError(f"The heart has shape {heart_kji.shape}; expected {plane.size_kji}, that of {name}.")
    if not heart_kji.any():
        raise VolumeError(f"The heart given with {name} is empty; draw it, or measure from the lungs alone.")
    return keep_large_components(plane.to_display(heart_kji != 0)[0], 1.0)


def _extent_of(mask_hw: np.ndarray) -> _Extent:
    """From the first to the last column of a mask, at the level where it reaches farthest to the patient's left."""
    columns = np.flatnonzero(mask_hw.any(axis=0))
    rows = np.flatnonzero(mask_hw[:, columns[-1]])
    return int(columns[0]), int(columns[-1]) + 1, int(rows[len(rows) // 2])


def _chest(right: np.ndarray, left: np.ndarray, name: str) -> _Extent:
    """Between the outer borders, at the lowest of the widest levels that both lungs have."""
    rows = np.flatnonzero(right.any(axis=1) & left.any(axis=1))
    if not len(rows):
        raise VolumeError(f"The lungs of {name} have no level in common; check the labels, or draw what is missing.")
    first = right[rows].argmax(axis=1)
    after = left.shape[1] - left[rows, ::-1].argmax(axis=1)
    lowest = np.flatnonzero(after - first == (after - first).max())[-1]
    if after[lowest] <= first[lowest]:
        raise VolumeError(f"Right and left lung of {name} lie exchanged; label 1 is the patient's right one.")
    return int(first[lowest]), int(after[lowest]), int(rows[lowest])


def _between(right: np.ndarray, left: np.ndarray, spacing_hw_mm: tuple[float, float], name: str) -> _Extent:
    """The heart's greatest extent between the medial borders of both lungs."""
    slope = _DIAPHRAGM_SLOPE * spacing_hw_mm[0] / spacing_hw_mm[1]
    sides = [_MedialBorder.of(one, slope) for one in (right, left[:, ::-1])]
    limit = min(one.turn for one in sides) + round(_DOMES_APART * max(len(one.columns) for one in sides))
    (first, _), (from_left, row) = (one.farthest_aside(limit) for one in sides)
    after = right.shape[1] - from_left
    if after <= first:
        raise VolumeError(
            f"Between the lungs of {name} there is no room for a heart; give visible lungs, without what it hides."
        )
    return first, after, row


@dataclass(frozen=True, eq=False)
class _MedialBorder:
    """Of a lung that is shown as right ones are, its medial side at the right.

    Attributes:
        top: row that the lung begins in.
        columns: for each of its rows the column after the last one, smoothed.
        turn: row where the border leaves the heart for the diaphragm.
    """

    top: int
    columns: np.ndarray
    turn: int

    @classmethod
    def of(cls, lung_hw: np.ndarray, slope: float) -> _MedialBorder:
        """Args: the lung, and how many columns aside for each row down are diaphragm."""
        rows = np.flatnonzero(lung_hw.any(axis=1))
        count = lung_hw.shape[1]
        columns = count - lung_hw[rows[0] : rows[-1] + 1, ::-1].argmax(axis=1)
        along = max(1, round(_ALONG * len(columns)))
        columns = ndimage.median_filter(columns, along // 2 * 2 + 1, mode="nearest")
        begin = round(_HEART_BEGINS * len(columns))
        aside = columns[begin : len(columns) - along] - columns[begin + along :]
        turns = np.flatnonzero(aside > slope * along)
        turn = len(columns) - 1
        if len(turns):
            turn = begin + int(turns[0])
            steps = -np.diff(columns[turn : turn + along + 1])
            turn += int((steps > slope).argmax())
        return cls(int(rows[0]), columns, int(rows[0]) + turn)

    def farthest_aside(self, limit: int) -> tuple[int, int]:
        """The column after the lung's last one where the heart reaches farthest into it, and the lowest such row."""
        begin = round(_HEART_BEGINS * len(self.columns))
        end = max(begin, min(self.turn, limit) - self.top)
        beside = self.columns[begin : end + 1]
        lowest = int(np.flatnonzero(beside == beside.min())[-1])
        return int(beside[lowest]), self.top + begin + lowest


def _width(plane: SlicePlane, extent: _Extent, in_mm: bool) -> Width:
    first, after, row = extent
    ends = plane.nxy_to_ijk([(0, first - 0.5, row), (0, after - 0.5, row)]).tolist()
    right, left = ((i, j, k) for i, j, k in ends)
    return Width(right, left, (after - first) * (plane.spacing_hw_mm[1] if in_mm else 1.0))


def _notes(heart: _Extent, chest: _Extent, found_by: FoundBy, image_width: int) -> tuple[str, ...]:
    notes = [BY_LUNGS] if found_by == "lungs" else []
    ratio = (heart[1] - heart[0]) / (chest[1] - chest[0])
    if chest[0] == 0 or chest[1] == image_width:
        notes.append("The lungs reach the image's edge: the chest may be wider than it shows.")
    if ratio < _PLAUSIBLE[0]:
        notes.append("The ratio is unusually small: do the lungs hold what lies behind the heart? Check the lines.")
    if ratio > _PLAUSIBLE[1]:
        notes.append("The ratio is unusually large: is all of both lungs outlined? Check the lines.")
    return tuple(notes)

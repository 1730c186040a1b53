"""Prompts computed from a reference slice, as the papers' studies give them to a model.

Points are XY at pixel centres of the slice, boxes XYXY half-open: the right and bottom edge are one pixel beyond the
last of the object, as in SAM's own training data. 'Middle' of n pixels in a row is the one with number n // 2.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from SAMLungSegLib.errors import PromptError, SettingsError
from SAMLungSegLib.masks import split_sides
from SAMLungSegLib.prompts.simulated import distance_transform_peak, random_point, spread_points
from SAMLungSegLib.prompts.types import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

Mode = Literal["improved", "paper"]
MODES: tuple[Mode, ...] = ("improved", "paper")
MEAN_SHARE = 0.5

CENTROIDS, RECENTRED, NEGATIVE, BOX = "centroids", "+ recentred", "+ negative", "+ box"
ABLATION_STEPS = (CENTROIDS, RECENTRED, NEGATIVE, BOX)

XY = tuple[int, int]


def gutierrez2024_prompts(
    labels_hw: np.ndarray, mode: Mode = "improved", rng: np.random.Generator | None = None
) -> PromptSet:
    """One centred positive point for each label, one negative point, and the box of all labels.

    Each label's centroid is truncated to whole pixels. Where it lies outside its mask it is moved onto it: to the
    middle of the mask's pixels on that of the four rays left, right, above and below which meets most of them (in this
    order where some meet the same number), or to a random pixel where none meets any. Then it is moved to the middle of
    the mask's contiguous run through it along the row or the column, whichever is longer (the row's if they are equal).

    Args:
        labels_hw: integer (H, W), one positive value for each object (lung).
        mode: 'paper' puts the negative point at the middle of the box, even where that is lung. 'improved' puts it at
            the pixel of the box farthest from lung, and leaves it out where the box holds nothing else.
        rng: draws the random pixel; one that is seeded with 0 by default.
    Raises:
        PromptError: there is no positive label.
        SettingsError: there is no such mode.
    Source: Gutiérrez et al. (2024), doi:10.1109/ACCESS.2024.3353142, algorithm 1.
    """
    return gutierrez2024_prompt_steps(labels_hw, mode, rng)[BOX]


def gutierrez2024_prompt_steps(
    labels_hw: np.ndarray, mode: Mode = "improved", rng: np.random.Generator | None = None
) -> dict[str, PromptSet]:
    """The prompts of `gutierrez2024_prompts` as they come into being: figure 7 of the paper.

    Returns:
        By `ABLATION_STEPS`: the bare centroids, wherever they lie; the centred ones; with the negative point; with the
        box.
    """
    if mode not in MODES:
        raise SettingsError(f"There is no mode '{mode}' of algorithm 1; choose one of {', '.join(MODES)}.")
    rng = rng or np.random.default_rng(0)
    box = tight_box(labels_hw > 0)
    masks = [labels_hw == value for value in np.unique(labels_hw[labels_hw > 0])]
    seeds = [_centroid(mask) for mask in masks]
    centred = [_centred(mask, _moved_inside(mask, xy, rng)) for mask, xy in zip(masks, seeds, strict=True)]
    negative = _middle_of_box(box) if mode == "paper" else _farthest_from_lung(labels_hw > 0, box)
    positives = _points(centred)
    with_negative = (*positives, *_points([] if negative is None else [negative], positive=False))
    prompts = (
        PromptSet(_points(seeds)),
        PromptSet(positives),
        PromptSet(with_negative),
        PromptSet(with_negative, box),
    )
    return dict(zip(ABLATION_STEPS, prompts, strict=True))


def _points(places: list[XY], *, positive: bool = True) -> tuple[PointPrompt, ...]:
    return tuple(PointPrompt((float(x), float(y)), positive) for x, y in places)


def _centroid(mask: np.ndarray) -> XY:
    rows, columns = np.nonzero(mask)
    return int(columns.mean()), int(rows.mean())


def _moved_inside(mask: np.ndarray, xy: XY, rng: np.random.Generator) -> XY:
    x, y = xy
    if mask[y, x]:
        return xy
    in_row, in_column = np.flatnonzero(mask[y]), np.flatnonzero(mask[:, x])
    rays = [
        [(int(column), y) for column in in_row if column < x],
        [(int(column), y) for column in in_row if column > x],
        [(x, int(row)) for row in in_column if row < y],
        [(x, int(row)) for row in in_column if row > y],
    ]
    longest = max(rays, key=len)  # the first of equals
    if longest:
        return longest[len(longest) // 2]
    column, row = random_point(mask, rng)
    return int(column), int(row)


def _centred(mask: np.ndarray, xy: XY) -> XY:
    x, y = xy
    left, right = _run(mask[y], x)
    top, bottom = _run(mask[:, x], y)
    if right - left >= bottom - top:
        return (left + right) // 2, y
    return x, (top + bottom) // 2


def _run(line: np.ndarray, place: int) -> tuple[int, int]:
    """First element of the contiguous run of True through `place`, and the one after its last."""
    gaps = np.flatnonzero(~line)
    after = np.searchsorted(gaps, place)
    first = gaps[after - 1] + 1 if after > 0 else 0
    return int(first), int(gaps[after]) if after < len(gaps) else len(line)


def _middle_of_box(box: BoxPrompt) -> XY:
    left, top, right, bottom = (int(edge) for edge in box.xyxy)
    return (left + right) // 2, (top + bottom) // 2


def _farthest_from_lung(lung: np.ndarray, box: BoxPrompt) -> XY | None:
    left, top, right, bottom = (int(edge) for edge in box.xyxy)
    distance = ndimage.distance_transform_edt(~lung)[top:bottom, left:right]
    row, column = np.unravel_index(np.argmax(distance), distance.shape)
    return (left + int(column), top + int(row)) if distance[row, column] > 0 else None


def tight_box(mask: np.ndarray) -> BoxPrompt:
    """Bounding box of a bool mask (H, W), half-open.

    Raises:
        PromptError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise PromptError("No prompt can be computed from an empty mask; skip slices without the object.")
    return BoxPrompt((float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)))


def enlarged_box(mask: np.ndarray, by_px: float) -> BoxPrompt:
    """`tight_box` made `by_px` wider and higher, about its middle, within the slice.

    Raises:
        PromptError: the mask is empty.
    """
    return _grown_box(mask, np.full(4, by_px / 2))


def outward_box(mask: np.ndarray, rng: np.random.Generator, jitter_px: float = 20.0) -> BoxPrompt:
    """`tight_box` with each side moved outwards by 0 to `jitter_px`, drawn uniformly, within the slice.

    Raises:
        PromptError: the mask is empty.
    """
    return _grown_box(mask, rng.uniform(0, jitter_px, 4))


def _grown_box(mask: np.ndarray, by_px: np.ndarray) -> BoxPrompt:
    height, width = mask.shape
    outer = np.array(tight_box(mask).xyxy) + by_px * (-1, -1, 1, 1)
    return BoxPrompt(tuple(np.clip(outer, 0, (width, height, width, height)).tolist()))


def random_points(mask: np.ndarray, rng: np.random.Generator, count: int = 1) -> tuple[PointPrompt, ...]:
    """`count` pixels of a bool mask (H, W), drawn uniformly and without repetition as far as there are enough.

    Raises:
        PromptError: the mask is empty.
    """
    pixels = np.argwhere(mask)
    if len(pixels) == 0:
        raise PromptError("No point can be drawn from an empty mask; skip slices without the object.")
    drawn = pixels[rng.choice(len(pixels), count, replace=count > len(pixels))]
    return tuple(PointPrompt((float(column), float(row))) for row, column in drawn)


def mean_image_points(masks_nhw: np.ndarray, per_lung: int = 1) -> tuple[PointPrompt, ...]:
    """Points that fit all images of a set: inside the two parts of the mean mask where it is at least 0.5.

    Args:
        masks_nhw: bool (N, H, W) of all training images, which have one size.
        per_lung: 1 gives the peak of each part's distance transform; more are spread over each part evenly (centroidal
            Voronoi tessellation, each centre moved to the nearest pixel of the part).
    Returns:
        Positive points, those at the left of the picture first.
    Raises:
        PromptError: the masks have not two parts in common.
    Source: Carvalho and Almeida (2024), points from the average image.
    """
    sides = split_sides(masks_nhw.mean(axis=0) >= MEAN_SHARE)
    parts = [_largest_component(sides == side) for side in (RIGHT_LUNG, LEFT_LUNG)]
    if not all(part.any() for part in parts):
        raise PromptError(
            f"The mean of {len(masks_nhw)} masks has no two lungs; give masks of frontal images that show both."
        )
    places = (xy for part in parts for xy in _places(part, per_lung))
    return tuple(PointPrompt(xy) for xy in places)


def _places(part: np.ndarray, count: int) -> list[tuple[float, float]]:
    return [distance_transform_peak(part)] if count == 1 else spread_points(part, count)


def _largest_component(mask: np.ndarray) -> np.ndarray:
    components, _ = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return (components == np.argmax(sizes)) & mask

"""Prompts as a person would give them, drawn from a reference mask: for training and for measuring.

Points are XY in pixels of the given mask.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.prompts.types import Click


def random_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """A pixel of a bool mask (H, W) drawn uniformly.

    Raises:
        PromptError: the mask is empty.
    """
    pixels = np.flatnonzero(mask)
    if pixels.size == 0:
        raise PromptError("No point can be drawn from an empty mask; skip slices without the object.")
    row, column = divmod(int(rng.choice(pixels)), mask.shape[1])
    return float(column), float(row)


def distance_transform_peak(mask: np.ndarray) -> tuple[float, float]:
    """The pixel of a bool mask (H, W) that is deepest inside; what lies beyond the slice is outside.

    Raises:
        PromptError: the mask is empty.
    """
    if not mask.any():
        raise PromptError("An empty mask has no middle; skip slices without the object.")
    ((rows, columns),) = ndimage.find_objects(mask.astype(np.int8))
    part = mask[rows, columns]  # what is nearest outside of it lies in its frame of one pixel
    distance = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(np.argmax(distance), part.shape)
    return float(columns.start + column), float(rows.start + row)


def spread_points(mask: np.ndarray, count: int) -> list[tuple[float, float]]:
    """Pixels spread evenly over a bool mask (H, W): a centroidal Voronoi tessellation of it, by k-means.

    Each centre is moved to the nearest pixel of the mask. The same mask always gives the same pixels: the search begins
    at the pixel nearest to the mean, and goes on with whichever is farthest from those chosen.

    Returns:
        `count` different pixels, those at the top first; fewer where the mask is smaller, or centres meet.
    Raises:
        PromptError: the mask is empty.
    """
    pixels = np.argwhere(mask)[:, ::-1].astype(float)
    if len(pixels) == 0:
        raise PromptError("No point can be drawn from an empty mask; skip slices without the object.")
    if count >= len(pixels):
        return [(x, y) for x, y in pixels.tolist()]
    centres = pixels.mean(axis=0, keepdims=True)
    if count > 1:
        centres, _ = kmeans2(pixels, _far_apart(pixels, count), minit="matrix", iter=50)
    nearest = np.unique(pixels[cdist(centres, pixels).argmin(axis=1)][:, ::-1], axis=0)
    return [(x, y) for y, x in nearest.tolist()]


def _far_apart(pixels_xy: np.ndarray, count: int) -> np.ndarray:
    chosen = [int(cdist([pixels_xy.mean(axis=0)], pixels_xy).argmin())]
    while len(chosen) < count:
        chosen.append(int(cdist(pixels_xy, pixels_xy[chosen]).min(axis=1).argmax()))
    return pixels_xy[chosen]


def jittered_box(mask: np.ndarray, rng: np.random.Generator, jitter_px: float) -> tuple[float, float, float, float]:
    """Bounding box XYXY of a bool mask, each side moved by at most `jitter_px` inwards or outwards.

    Raises:
        PromptError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise PromptError("No box can be drawn around an empty mask; skip slices without the object.")
    edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    half = min(edges[2] - edges[0], edges[3] - edges[1]) / 2
    left, top, right, bottom = edges + rng.uniform(-1, 1, 4) * min(jitter_px, 0.5 * half)
    height, width = mask.shape
    return max(left, 0.0), max(top, 0.0), min(right, width - 1.0), min(bottom, height - 1.0)


def corrective_click(prediction: np.ndarray, reference: np.ndarray) -> Click | None:
    """Where a person would click next: the middle of the largest wrong region.

    Args:
        prediction: bool (H, W).
        reference: bool (H, W).
    Returns:
        The point XY and whether it is positive (the region was missed); None where nothing is wrong.
    """
    wrong = prediction != reference
    if not wrong.any():
        return None
    kinds = wrong * (1 + reference)
    best, best_size = wrong, 0
    for kind in (1, 2):
        components, count = ndimage.label(kinds == kind)
        if count and (sizes := np.bincount(components.ravel())[1:]).max() > best_size:
            best, best_size = components == np.argmax(sizes) + 1, sizes.max()
    column, row = distance_transform_peak(best)
    return (column, row), bool(reference[int(row), int(column)])

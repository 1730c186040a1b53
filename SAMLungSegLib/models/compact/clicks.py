"""What clicks mean, whichever network made the mask: the clicked place changes, and nothing that no click is about.

Clicks are XY in pixels of the mask, with whether they are positive; a later click has the last word over an earlier one
beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from SAMLungSegLib.prompts.types import Click

HALO_PX = 2  # around what changes, within which its logits are the new ones: for a smooth border
OBEYED_LOGIT = 4.0  # beyond the threshold, if that is not above 0.98
REACH = 1.5  # of the distance to the nearest pixel that is as wanted
SMALLEST_PX, LARGEST_SHARE = 1.5, 0.06  # radius of what a click changes by itself; share of the longer side


def with_clicked_changes(before: np.ndarray, after: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
    """Logits (H, W) `before`, and those `after` where a connected change holds a click and goes its way.

    So a click on what is right changes nothing, and no click changes the other lung.
    """
    was, becomes = before > 0, after > 0
    changed = was != becomes
    kept = np.zeros_like(changed)
    for click, positive in clicks:
        pieces, _ = ndimage.label(changed & (becomes == positive))
        if number := pieces[_pixel(click, before.shape)]:
            kept |= pieces == number
    if not kept.any():
        return before
    halo = ndimage.binary_dilation(kept, iterations=HALO_PX) & ~(changed & ~kept)
    return np.where(halo, after, before)


def obeying(logits: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
    """Logits (H, W) that have at each click what it says.

    Where they have not, a disc around the click changes: half again as large as the way to the nearest pixel that is as
    wanted, so that it joins what is there, but small, and no further than half of the way to a click of the other kind.
    """
    for place, (click, positive) in enumerate(clicks):
        row, column = _pixel(click, logits.shape)
        if (logits[row, column] > 0) == positive:
            continue
        others = [other for other, kind in (*clicks[:place], *clicks[place + 1 :]) if kind != positive]
        logits = _with_disc(logits, (row, column), positive, others)
    return logits


def _with_disc(
    logits: np.ndarray, at: tuple[int, int], positive: bool, others: Sequence[tuple[float, float]]
) -> np.ndarray:
    row, column = at
    largest = LARGEST_SHARE * max(logits.shape)
    reach = int(np.ceil(largest))
    rows = slice(max(0, row - reach), row + reach + 1)
    columns = slice(max(0, column - reach), column + reach + 1)
    y, x = np.ogrid[rows.start : min(rows.stop, logits.shape[0]), columns.start : min(columns.stop, logits.shape[1])]
    distance = np.hypot(y - row, x - column)
    part = logits[rows, columns]
    as_wanted = distance[(part > 0) == positive]
    nearest = float(as_wanted.min()) if as_wanted.size else 0.0
    radius = min(max(REACH * nearest, SMALLEST_PX), largest)
    for other_x, other_y in others:
        radius = min(radius, max(np.hypot(other_x - column, other_y - row) / 2, 0.5))
    sign = 1 if positive else -1
    changed = logits.copy()
    changed[rows, columns] = np.where(distance <= radius, sign * np.maximum(OBEYED_LOGIT, sign * part), part)
    return changed


def _pixel(click: tuple[float, float], shape: tuple[int, ...]) -> tuple[int, int]:
    """Row and column of the pixel that a click lies in."""
    x, y = (int(np.clip(np.floor(value + 0.5), 0, size - 1)) for value, size in zip(click, shape[::-1], strict=True))
    return y, x

"""Corrections as people make them: masks that are wrong in part, outlines that somebody may want, clicks that say so.

Masks are bool (H, W) on the decoder's grid, and lengths are in its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SAMLungSegLib.prompts.simulated import corrective_click, random_point
from SAMLungSegLib.prompts.types import Click

OWN_AGAINST_REFERENCE, OWN_AGAINST_OTHER, CHANGED_BACK = 0.45, 0.65, 0.85  # cumulated; the rest are masks alone
PIECE_RADII, BLOB_SD = (3.0, 22.0), (4.0, 9.0)
MOST_BENT = 3.0
CERTAIN = 10.0
MIDDLE, NEUTRAL = 0.5, 0.12
NEAR_CHANGE = 8
CLICK_RADIUS = 1.6
WEIGHT_NEAR, WEIGHT_CHANGE, WEIGHT_CLICK = 4.0, 6.0, 10.0


@dataclass
class Correction:
    """A mask and what it should become.

    Attributes:
        mask: float32 (H, W), logits.
        target: bool (H, W).
        known: bool (H, W), where the target says something.
        is_mask_alone: whether no clicks come with it: borders follow the image then, everything else the mask.
        clicks: so far.
    """

    mask: np.ndarray
    target: np.ndarray
    known: np.ndarray
    is_mask_alone: bool
    clicks: list[Click]

    @classmethod
    def draw(cls, own: np.ndarray, reference: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> Correction:
        """One of four kinds: the network's own mask against the reference or against another outline; a mask changed
        in part, to be changed back; and a mask alone.

        Args:
            own: float32 (H, W), logits that the network has predicted.
            reference: bool (H, W); known: likewise, where that is known.
        """
        kind = rng.uniform()
        everywhere = np.ones_like(known)
        if kind < OWN_AGAINST_REFERENCE:
            return cls(own, reference, known, False, [])
        if kind < OWN_AGAINST_OTHER:
            return cls(own, other_outline(own > 0, rng), everywhere, False, [])
        from_reference = rng.uniform() < 0.5
        target, known = (reference, known) if from_reference else (own > 0, everywhere)
        if kind < CHANGED_BACK:
            return cls(as_logits(other_outline(target, rng)), target, known, False, [])
        if rng.uniform() < 0.6:
            target = other_outline(target, rng)
        return cls(as_logits(bent(target, rng)), target, known, True, [])

    def click(self, present: np.ndarray, rng: np.random.Generator) -> None:
        """Add the next click, given the present mask, bool (H, W): on an error, or at times where all is right."""
        if self.is_mask_alone:
            return
        click = error_click(present & self.known, self.target & self.known, rng) if rng.uniform() >= NEUTRAL else None
        click = click or neutral_click(present, self.target, self.known, rng)
        if click:
            self.clicks.append(click)

    def wanted(self) -> tuple[np.ndarray, np.ndarray]:
        """What should come out, float32 (H, W) in 0..1, and how much each pixel counts, likewise.

        Of a mask alone that is the target. With clicks, the wrong pieces that hold one are put right, and everything
        else stays as likely as it was.
        """
        if self.is_mask_alone:
            return self.target.astype(np.float32), self.known.astype(np.float32)
        before = self.mask > 0
        after = clicked_pieces_changed(before, np.where(self.known, self.target, before), self.clicks)
        changed = after != before
        near = ndimage.binary_dilation(changed, iterations=NEAR_CHANGE) if changed.any() else changed
        likely = 1 / (1 + np.exp(-np.clip(self.mask, -15, 15)))
        weight = 1 + WEIGHT_NEAR * near + WEIGHT_CHANGE * changed
        rows, columns = np.indices(before.shape)
        for (x, y), _ in self.clicks:
            weight = weight + WEIGHT_CLICK * (np.hypot(columns - x, rows - y) < CLICK_RADIUS)
        return np.where(near, after, likely).astype(np.float32), weight.astype(np.float32)


def clicked_pieces_changed(before: np.ndarray, target: np.ndarray, clicks: Sequence[Click]) -> np.ndarray:
    """A mask in which the connected wrong pieces that hold a click are as in the target."""
    after = before.copy()
    for (x, y), positive in clicks:
        missing = (before != target) & (target == positive)
        pieces, _ = ndimage.label(missing)
        if number := pieces[int(y), int(x)]:
            after[pieces == number] = positive
    return after


def error_click(present: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> Click | None:
    """In the middle of the largest error, or anywhere well inside one, large ones more often; None without an error."""
    middle = corrective_click(present, target)
    if middle is None or rng.uniform() < MIDDLE:
        return middle
    positive = bool(rng.uniform() < 0.5)
    wrong = present != target
    if not (wrong & (target == positive)).any():
        positive = not positive
    pieces, count = ndimage.label(wrong & (target == positive))
    sizes = np.bincount(pieces.ravel())[1:]
    piece = pieces == 1 + rng.choice(count, p=sizes / sizes.sum())
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    return random_point(depth >= max(1.0, min(3.0, 0.5 * depth.max())), rng), positive


def neutral_click(present: np.ndarray, target: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> Click | None:
    """Anywhere where all is right; it should change nothing."""
    positive = bool(rng.uniform() < 0.6)
    right = (present == target) & known & (target == positive)
    return (random_point(right, rng), positive) if right.any() else None


def other_outline(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask as somebody else may want it: pieces at the border more or less, a blob, a part cut off, or moved."""
    kind = rng.uniform()
    if not mask.any() or kind < 0.15:
        return _with_blob(mask, rng)
    if kind < 0.75:
        return _with_pieces(mask, rng)
    return _cut(mask, rng) if kind < 0.92 else np.roll(mask, rng.integers(-6, 7, 2), (0, 1))


def bent(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask whose border lies up to some pixels beside."""
    amplitude = rng.uniform(0, MOST_BENT)
    moved = [axis + 12 * amplitude * _noise(mask.shape, 12, rng) for axis in np.indices(mask.shape)]
    return ndimage.map_coordinates(mask.astype(np.float32), moved, order=1) > 0.5


def as_logits(mask: np.ndarray) -> np.ndarray:
    """A mask as float32 logits, steep at the border."""
    return (ndimage.gaussian_filter(mask.astype(np.float32), 0.8) - 0.5) * (2 * CERTAIN)


def _noise(shape: tuple[int, ...], sd: float, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(rng.standard_normal(shape), sd)


def _with_blob(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ripple = _noise(mask.shape, rng.uniform(*BLOB_SD), rng)
    blobs, count = ndimage.label(ripple > ripple.std() * rng.uniform(1.2, 1.9))
    if not count:
        return mask
    blob = blobs == rng.integers(1, count + 1)
    return np.where(blob, mask[blob].mean() <= 0.5, mask)


def _with_pieces(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    changed, edge = mask.copy(), border_pixels(mask)
    if not len(edge):
        return changed
    for _ in range(rng.integers(1, 3)):
        is_added, at = rng.uniform() < 0.5, edge[rng.integers(len(edge))]
        changed[bent_ellipse(mask.shape, at, rng.uniform(*PIECE_RADII, 2), rng)] = is_added
    return changed


def border_pixels(mask: np.ndarray) -> np.ndarray:
    """Rows and columns, int (N, 2), of a mask's pixels at its border."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask, border_value=1))


def bent_ellipse(shape: tuple[int, ...], at: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An ellipse, bool (H, W), around a pixel (row, column), turned and bent at random."""
    angle = rng.uniform(0, np.pi)
    y, x = (axis - place for axis, place in zip(np.indices(shape), at, strict=True))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    bend = rng.uniform(-0.5, 0.5) / radii[0]
    return (along / radii[0]) ** 2 + ((across + bend * along**2) / radii[1]) ** 2 < 1


def _cut(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Without what lies beyond a wavy line across one part of the mask."""
    parts, count = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())[1:]
    number = 1 + (int(np.argmax(sizes)) if rng.uniform() < 0.5 else rng.integers(count))
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.indices(mask.shape)
    depth = columns * np.cos(angle) + rows * np.sin(angle) + 15 * _noise(mask.shape, 6, rng)
    part = parts == number
    return mask & ~(part & (depth > np.quantile(depth[part], rng.uniform(0.4, 0.9))))

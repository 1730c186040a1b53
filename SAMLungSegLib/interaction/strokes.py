"""What a person draws in a slice: brush and lasso set the pixels under them, a scribble says where there is lung.

Example:
    >>> stroke = Stroke("brush", ((40.0, 52.5), (44.0, 60.0)), radius_mm=4.0)
    >>> patch = Patch.of(stroke, reformat, shown_hw, labels=(1, 2))
    >>> session.hold(with_patches(nothing_found(reformat), [patch], shown_hw, labels=(1, 2)))
    >>> session.accept(session.preview())
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.interaction.prompts import Part, SlicePrompts
from SAMLungSegLib.interaction.rules import Predicted, written_over
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

if TYPE_CHECKING:
    from SAMLungSegLib.prompts import BoxPrompt, PointPrompt
    from SAMLungSegLib.volume import ReformattedSlice

StrokeKind = Literal["brush", "lasso", "scribble"]

RADIUS_MM = 5.0
POINTS_EVERY_MM, MOST_POINTS = 20.0, 8  # of one scribble


@dataclass(frozen=True)
class Stroke:
    """One line drawn with the mouse in a slice.

    Attributes:
        kind: a 'brush' sets what is nearer to the line than its radius, a 'lasso' what the line, closed, surrounds; a
            'scribble' becomes points.
        points_xy: of the line in pixels of the slice, in the order in which they were drawn; whole numbers are centres.
        adds: lung, or takes it away.
        radius_mm: of a brush.
    Raises:
        PromptError: there is no point, one is not finite, or the radius is not positive.
    """

    kind: StrokeKind
    points_xy: tuple[tuple[float, float], ...]
    adds: bool = True
    radius_mm: float = RADIUS_MM

    def __post_init__(self) -> None:
        points = np.asarray(self.points_xy, float)
        if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
            raise PromptError(f"A {self.kind} of shape {points.shape} was drawn; expected finite x,y of its points.")
        if self.kind == "brush" and not (np.isfinite(self.radius_mm) and self.radius_mm > 0):
            raise PromptError(f"The brush has a radius of {self.radius_mm} mm; choose one above 0.")

    def mask_hw(self, reformat: ReformattedSlice) -> np.ndarray:
        """Bool (H, W): the pixels of a slice that it sets; none for a scribble."""
        points_xy = np.asarray(self.points_xy, float)
        if self.kind == "brush":
            return brush_mask(points_xy, self.radius_mm, reformat.size_hw, reformat.steps_xy_mm) & reformat.inside_hw
        if self.kind == "lasso":
            return lasso_mask(points_xy, reformat.size_hw) & reformat.inside_hw
        return np.zeros(reformat.size_hw, bool)

    def points(self, reformat: ReformattedSlice) -> tuple[PointPrompt, ...]:
        """Points spread evenly over the line, as prompts: one for each `POINTS_EVERY_MM`, at most `MOST_POINTS`.

        What was drawn beyond the slice is moved to its border.
        """
        from SAMLungSegLib.prompts import PointPrompt

        limit = np.array(reformat.size_hw[::-1]) - 1.0
        points_xy = np.clip(np.asarray(self.points_xy, float), 0, limit)
        lengths = np.linalg.norm(np.diff(points_xy, axis=0) @ reformat.steps_xy_mm, axis=1)
        along = np.concatenate([[0.0], np.cumsum(lengths)])
        count = int(np.clip(round(along[-1] / POINTS_EVERY_MM), 1, MOST_POINTS))
        places = (np.arange(count) + 0.5) / count * along[-1]
        x, y = (np.interp(places, along, points_xy[:, axis]) for axis in (0, 1))
        return tuple(PointPrompt(xy, self.adds) for xy in zip(x.tolist(), y.tolist(), strict=True))


def brush_mask(
    points_xy: np.ndarray, radius_mm: float, size_hw: tuple[int, int], steps_xy_mm: np.ndarray
) -> np.ndarray:
    """Bool (H, W): the pixels whose centres lie within a radius of a line, and those in which its points lie.

    Args:
        points_xy: float (N, 2), the line.
        radius_mm: of the brush.
        size_hw: of the slice.
        steps_xy_mm: float (2, 3), from a pixel to the next along x and along y; they need not be square.
    """
    mask = np.zeros(size_hw, bool)
    metric = steps_xy_mm @ steps_xy_mm.T
    reach = radius_mm * np.sqrt(np.diag(np.linalg.inv(metric)))
    to_mm = np.linalg.cholesky(metric).T  # of a difference (x, y): as long in mm
    limit = np.array(size_hw[::-1]) - 1
    for start, stop in zip(points_xy, [*points_xy[1:], points_xy[-1]], strict=True):
        first = np.maximum(np.floor(np.minimum(start, stop) - reach), 0).astype(int)
        last = np.minimum(np.ceil(np.maximum(start, stop) + reach), limit).astype(int)
        if (first > last).any():
            continue
        x, y = (np.arange(low, high + 1) for low, high in zip(first, last, strict=True))
        near = _squared_distance(x - start[0], y - start[1], stop - start, to_mm) <= radius_mm**2
        mask[first[1] : last[1] + 1, first[0] : last[0] + 1] |= near
    for x, y in np.rint(points_xy).astype(int):
        if 0 <= x <= limit[0] and 0 <= y <= limit[1]:
            mask[y, x] = True
    return mask


def _squared_distance(x: np.ndarray, y: np.ndarray, stop_xy: np.ndarray, to_mm: np.ndarray) -> np.ndarray:
    """Float (len(y), len(x)): of pixels to the straight piece from 0, 0 to `stop_xy`; `to_mm` is upper triangular."""
    (across, shear), (_, down) = to_mm
    along_x, along_y = across * x + shear * y[:, None], down * y[:, None]
    way_x, way_y = to_mm @ stop_xy
    squared = way_x**2 + way_y**2
    share = np.clip((along_x * way_x + along_y * way_y) / squared, 0, 1) if squared > 0 else 0.0
    return np.asarray((along_x - share * way_x) ** 2 + (along_y - share * way_y) ** 2)


def lasso_mask(points_xy: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Bool (H, W): the pixels whose centres a closed line surrounds, how often and which way round it may be."""
    height, width = size_hw
    windings = np.zeros((height, width + 1), int)
    for (x0, y0), (x1, y1) in zip(points_xy, np.roll(points_xy, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        low, high = sorted((y0, y1))
        rows = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), height))
        crossings = x0 + (rows - y0) / (y1 - y0) * (x1 - x0)
        np.add.at(windings, (rows, np.clip(np.ceil(crossings), 0, width).astype(int)), 1 if y1 > y0 else -1)
    return np.cumsum(windings, axis=1)[:, :width] != 0


def lung_at(xy: tuple[float, float], labels_hw: np.ndarray, reformat: ReformattedSlice, labels: Sequence[int]) -> int:
    """Which lung a place means: that under it, else the nearest, else, in a slice without lung, the patient's side.

    Args:
        xy: pixels of the slice.
        labels_hw: uint8 (H, W), what the slice shows.
        reformat: the slice.
        labels: that it may be.
    """
    rows, columns = np.nonzero(np.isin(labels_hw, labels))
    if rows.size:
        distances = np.linalg.norm((np.stack([columns, rows], axis=1) - np.rint(xy)) @ reformat.steps_xy_mm, axis=1)
        nearest = int(distances.argmin())
        return int(labels_hw[rows[nearest], columns[nearest]])
    middle_ijk = (np.array(reformat.plane.size_kji[::-1]) - 1) / 2
    to_right = float(reformat.plane.ijk_to_ras[0, :3] @ (reformat.xy_to_ijk(xy) - middle_ijk))
    side = RIGHT_LUNG if to_right > 0 else LEFT_LUNG
    return side if side in labels else labels[0]


@dataclass(frozen=True, eq=False)
class Patch:
    """Pixels that a person has set.

    Attributes:
        mask_hw: bool (H, W).
        label: that they get; 0 where lung was taken away.
    """

    mask_hw: np.ndarray
    label: int

    @classmethod
    def of(cls, stroke: Stroke, reformat: ReformattedSlice, shown_hw: np.ndarray, labels: Sequence[int]) -> Patch:
        """What a brush or a lasso sets in a slice; the lung that is added is the one at the stroke's beginning.

        Args:
            stroke: in pixels of the slice.
            reformat: the slice.
            shown_hw: uint8 (H, W), the labels that the person has seen.
            labels: the structures that may be added.
        """
        label = lung_at(stroke.points_xy[0], shown_hw, reformat, labels) if stroke.adds else 0
        return cls(stroke.mask_hw(reformat), label)


@dataclass(frozen=True)
class DrawnPrompts(SlicePrompts):
    """The prompts on a slice, and what a person has drawn over what they predict.

    Attributes:
        patches: in the order in which they were drawn; a later one has the last word.
    """

    patches: tuple[Patch, ...] = ()

    @property
    def under(self) -> SlicePrompts:
        """The prompts alone."""
        return SlicePrompts(self.reformat, self.points, self.boxes, self.of_volume)

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a prompt nor a patch."""
        return not self.patches and self.under.is_empty

    def parts(self) -> dict[Part, BoxPrompt | None]:
        """Those of the prompts, and one of the patches, which says itself what it may change."""
        return {**self.under.parts(), (self.place, self.patches): None}

    def changeable_hw(self, done: Collection[Part] = ()) -> np.ndarray:
        """Bool (H, W): the pixels of the patches, and those that the prompts which are not `done` may change."""
        is_pending = not set(done).issuperset(self.under.parts())
        return self.drawn_hw() | (self.under.changeable_hw(done) if is_pending else False)

    def boxed_hw(self) -> np.ndarray:
        """Bool (H, W): the pixels that any box surrounds or a patch sets: what was painted there before goes."""
        return self.under.boxed_hw() | self.drawn_hw()

    def drawn_hw(self) -> np.ndarray:
        """Bool (H, W): the pixels of the patches."""
        masks = [patch.mask_hw for patch in self.patches]
        return np.logical_or.reduce(masks) if masks else super().drawn_hw()


def nothing_found(reformat: ReformattedSlice) -> Predicted:
    """Of a slice without prompts, to draw on what is there."""
    from SAMLungSegLib.prompts.volume import VolumePrompts

    prompts = SlicePrompts(reformat, (), (), VolumePrompts())
    return Predicted(prompts, np.zeros(reformat.size_hw, np.uint8), ())


def with_patches(
    found: Predicted, patches: Sequence[Patch], present_hw: np.ndarray, labels: Sequence[int]
) -> Predicted:
    """What a person has drawn over a prediction: accepting it writes both.

    Args:
        found: what is drawn on; `nothing_found` for what the slice has.
        patches: in the order in which they were drawn.
        present_hw: uint8 (H, W), the slice as it is.
        labels: the structures that may change.
    """
    prompts = found.prompts
    drawn = DrawnPrompts(prompts.reformat, prompts.points, prompts.boxes, prompts.of_volume, tuple(patches))
    labels_hw = written_over(present_hw, found.labels_hw, found.labels)
    for patch in patches:
        labels_hw[patch.mask_hw] = patch.label
    return replace(found, prompts=drawn, labels_hw=labels_hw, labels=tuple(labels))

"""Which of a user's prompts concern one slice, and which part of the slice they may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from SAMLungSegLib import VolumeBox, VolumePoint
    from SAMLungSegLib.volume.cut import SliceCut

Rectangle = tuple[float, float, float, float]
Part = tuple  # what identifies a part of the answer: equal as long as its prompts and its slice are the same


@dataclass(frozen=True)
class SlicePrompts:
    """The prompts on a slice.

    Attributes:
        cut: the slice.
        points_xy: x, y in pixels, and whether positive, of the points on the slice.
        rectangles: left, top, right, bottom in pixels of what the slice shows of each box.
    """

    cut: SliceCut
    points_xy: tuple[tuple[float, float, bool], ...]
    rectangles: tuple[Rectangle, ...]

    @classmethod
    def of(cls, cut: SliceCut, points: tuple[VolumePoint, ...], boxes: tuple[VolumeBox, ...]) -> SlicePrompts:
        """Those of a volume's prompts that the slice shows."""
        shown = [point for point in points if cut.contains(point.ijk)]
        points_xy = [(*cut.ijk_to_xy(point.ijk).tolist(), point.positive) for point in shown]
        rectangles = [cut.box_xyxy(box.first_ijk, box.last_ijk) for box in boxes]
        return cls(cut, tuple(points_xy), tuple(one for one in rectangles if one is not None))

    @property
    def isEmpty(self) -> bool:
        """Whether the slice has no prompt."""
        return not self.points_xy and not self.rectangles

    @property
    def place(self) -> tuple:
        """What tells this slice from other slices of the volume."""
        return self.cut.orientation, self.cut.first_xy, self.cut.size_hw, tuple(np.round(self.cut.depth, 3))

    def parts(self) -> dict[Part, Rectangle | None]:
        """The parts of the answer, each with the rectangle that it may change; None is the whole slice.

        Boxes answer for themselves, with the points in them. A positive point outside every box, and points without
        boxes, concern the whole slice. Without prompts there is none.
        """
        if self.isEmpty:
            return {}
        if self._concernWholeSlice():
            return {(self.place, self.points_xy, self.rectangles): None}
        return {
            (self.place, one, tuple(point for point in self.points_xy if _isInside(point, one))): one
            for one in self.rectangles
        }

    def insideMask(self, done: set[Part]) -> np.ndarray | None:
        """Bool (H, W): the pixels that the parts which are not `done` may change; None for the whole slice."""
        mask_hw = np.zeros(self.cut.size_hw, bool)
        for part, rectangle in self.parts().items():
            if part in done:
                continue
            if rectangle is None:
                return None
            left, top, right, bottom = rectangle
            rows, columns = _pixels(top, bottom), _pixels(left, right)
            mask_hw[rows, columns] = True
        return mask_hw

    def _concernWholeSlice(self) -> bool:
        outside = [point for point in self.points_xy if not any(_isInside(point, one) for one in self.rectangles)]
        return not self.rectangles or any(positive for *_, positive in outside)


def _isInside(point: tuple[float, float, bool], rectangle: Rectangle) -> bool:
    (x, y, _), (left, top, right, bottom) = point, rectangle
    return left <= x <= right and top <= y <= bottom


def _pixels(low: float, high: float) -> slice:
    """Pixels whose centres lie within an interval."""
    return slice(max(0, int(np.ceil(low))), int(np.floor(high)) + 1)

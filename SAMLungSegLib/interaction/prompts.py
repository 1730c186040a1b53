"""Which of a user's prompts concern one slice, and which part of the slice they may change."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.interaction.boxes import SortedBoxes, in_one_slice

if TYPE_CHECKING:
    from SAMLungSegLib.prompts import BoxPrompt, PointPrompt
    from SAMLungSegLib.prompts.volume import VolumePrompts
    from SAMLungSegLib.volume import ReformattedSlice, Volume

Part = tuple[object, ...]  # identifies a part of a slice's prompts: equal while its prompts and its slice are the same


@dataclass(frozen=True)
class SlicePrompts:
    """The prompts on a slice.

    Attributes:
        reformat: the slice.
        points, boxes: what the slice shows of the user's prompts, in its pixels.
        of_volume: what a model is shown of the volume's prompts for this slice.
    """

    reformat: ReformattedSlice
    points: tuple[PointPrompt, ...]
    boxes: tuple[BoxPrompt, ...]
    of_volume: VolumePrompts

    @classmethod
    def of(cls, reformat: ReformattedSlice, prompts: VolumePrompts, volume: Volume) -> SlicePrompts:
        """Those of a volume's prompts that the slice shows.

        A box that is one slice thick is in the slice that holds its middle, and says nothing of others; boxes of
        several slices say that there is nothing outside of them.

        Raises:
            PromptError: a prompt is outside the volume, or a box is flat in the slice.
        """
        prompts = replace(prompts, boxes=tuple(in_one_slice(box, 2 - reformat.plane.axes[0]) for box in prompts.boxes))
        placed = prompts.on(reformat, volume)
        if not placed.boxes and not SortedBoxes.of(prompts.boxes, volume).thick:
            prompts = replace(prompts, boxes=())
        return cls(reformat, tuple(placed.points), tuple(placed.boxes), prompts)

    @property
    def is_empty(self) -> bool:
        """Whether the slice has no prompt."""
        return not self.points and not self.boxes

    @property
    def place(self) -> tuple[object, ...]:
        """Tells the slice from other slices of the volume; a view that comes back to it misses it by rounding."""
        return (
            self.reformat.orientation,
            self.reformat.first_xy,
            self.reformat.size_hw,
            tuple(round(v, 3) for v in self.reformat.depth),
        )

    @property
    def concern_whole_slice(self) -> bool:
        """Whether anything but what boxes surround may change.

        Boxes speak for themselves, with the points in them. A positive point outside every box, points without boxes,
        and a slice without prompts concern all of it.
        """
        outside = [point for point in self.points if not any(box.contains(point) for box in self.boxes)]
        return not self.boxes or any(point.positive for point in outside)

    def parts(self) -> dict[Part, BoxPrompt | None]:
        """The parts of the prompts, each with the box that it may change; None is the whole slice.

        Without prompts there is none.
        """
        if self.is_empty:
            return {}
        if self.concern_whole_slice:
            return {(self.place, self.points, self.boxes): None}
        return {
            (self.place, box, tuple(point for point in self.points if box.contains(point))): box for box in self.boxes
        }

    def changeable_hw(self, done: Collection[Part] = ()) -> np.ndarray:
        """Bool (H, W): the pixels that the parts which are not `done` may change."""
        pending = [box for part, box in self.parts().items() if part not in done]
        if self.is_empty or None in pending:
            return np.ones(self.reformat.size_hw, bool)
        return self._in_boxes(box for box in pending if box is not None)

    def boxed_hw(self) -> np.ndarray:
        """Bool (H, W): the pixels that any box surrounds."""
        return self._in_boxes(self.boxes)

    def drawn_hw(self) -> np.ndarray:
        """Bool (H, W): the pixels that a person has drawn by hand: none."""
        return np.zeros(self.reformat.size_hw, bool)

    def _in_boxes(self, boxes: Iterable[BoxPrompt]) -> np.ndarray:
        mask_hw = np.zeros(self.reformat.size_hw, bool)
        for box in boxes:
            left, top, right, bottom = box.xyxy
            mask_hw[_pixels(top, bottom), _pixels(left, right)] = True
        return mask_hw


def _pixels(low: float, high: float) -> slice:
    """Pixels whose centres lie within an interval."""
    return slice(max(0, int(np.ceil(low))), int(np.floor(high)) + 1)

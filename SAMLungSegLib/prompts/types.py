"""Prompts of one slice: signed points, a box, a mask. All in pixels of the slice as displayed (x right, y down).

Integer coordinates are pixel centres, as in SAM; the prompt encoder adds the half pixel itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.structures import Extent

Click = tuple[tuple[float, float], bool]  # XY, and whether it is positive


@dataclass(frozen=True)
class PointPrompt:
    """One click at `xy` (pixels); `positive` means 'this belongs to the object'."""

    xy: tuple[float, float]
    positive: bool = True

    def __post_init__(self) -> None:
        if len(self.xy) != 2 or not np.all(np.isfinite(self.xy)):
            raise PromptError(f"Point {self.xy} is not two finite numbers; give x,y in pixels of the slice.")


@dataclass(frozen=True)
class BoxPrompt:
    """A rectangle `xyxy` = (left, top, right, bottom) in pixels around one object."""

    xyxy: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        if len(self.xyxy) != 4 or not np.all(np.isfinite(self.xyxy)):
            raise PromptError(f"Box {self.xyxy} is not four finite numbers; give left,top,right,bottom in pixels.")
        left, top, right, bottom = self.xyxy
        if right <= left or bottom <= top:
            raise PromptError(f"Box {self.xyxy} is empty; right must exceed left and bottom must exceed top.")

    def contains(self, point: PointPrompt) -> bool:
        """Whether a point lies in the rectangle or on its border."""
        (x, y), (left, top, right, bottom) = point.xy, self.xyxy
        return left <= x <= right and top <= y <= bottom


@dataclass(frozen=True)
class MaskPrompt:
    """A previous prediction: bool mask or float logits, (H, W) of the slice."""

    array: np.ndarray

    def __post_init__(self) -> None:
        if self.array.ndim != 2:
            raise PromptError(f"A mask prompt must be two-dimensional, got shape {self.array.shape}.")

    def logits(self) -> np.ndarray:
        """Float32 logits (H, W); a bool mask becomes +-10, the value SAM's own predictions saturate near."""
        if self.array.dtype == bool:
            return np.where(self.array, np.float32(10), np.float32(-10))
        return self.array.astype(np.float32)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one object in one slice. Empty means 'both lungs', which only some models predict.

    Attributes:
        extent: of a lung on an X-ray: the 'visible' field, up to the borders of heart and diaphragm, or the 'whole'
            lung, with what lies behind them. On CT they are one.
    """

    points: tuple[PointPrompt, ...] = ()
    box: BoxPrompt | None = None
    mask: MaskPrompt | None = None
    extent: Extent = "visible"

    @property
    def is_empty(self) -> bool:
        return not self.points and self.box is None and self.mask is None

    def points_xy(self) -> np.ndarray:
        """Float32 (N, 2)."""
        return np.array([p.xy for p in self.points], dtype=np.float32).reshape(-1, 2)

    def point_labels(self) -> np.ndarray:
        """Int32 (N,): 1 positive, 0 negative, as SAM expects."""
        return np.array([int(p.positive) for p in self.points], dtype=np.int32)

    def check_inside(self, size_hw: tuple[int, int]) -> None:
        """Refuse prompts outside a slice of `size_hw` pixels.

        Raises:
            PromptError: a point lies outside, the box does not meet the slice, or the mask has another size.
        """
        height, width = size_hw
        for point in self.points:
            x, y = point.xy
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise PromptError(f"Point {x:g},{y:g} lies outside the slice of {width} x {height} pixels.")
        if self.box is not None:
            left, top, right, bottom = self.box.xyxy
            if right < 0 or bottom < 0 or left > width - 1 or top > height - 1:
                raise PromptError(f"Box {self.box.xyxy} lies outside the slice of {width} x {height} pixels.")
        if self.mask is not None and self.mask.array.shape != tuple(size_hw):
            raise PromptError(f"Mask prompt has shape {self.mask.array.shape}, the slice has {tuple(size_hw)}.")


@dataclass(frozen=True)
class ObjectPrompt:
    """The prompts of one object in one slice.

    Attributes:
        prompts: of one object, or of both lungs where empty.
        label: that the object gets; None to take it from the prediction.
        corrects: what the points correct: what the model predicts 'unprompted', or the object 'shown' by the box (by
            the points themselves without one); None where all prompts are given at once.
    """

    prompts: PromptSet
    label: int | None = None
    corrects: Literal["unprompted", "shown"] | None = None

    @property
    def first(self) -> PromptSet:
        """The prompts of the prediction that the points correct."""
        if self.corrects == "unprompted":
            return PromptSet(extent=self.prompts.extent)
        return replace(self.prompts, points=()) if self.prompts.box else self.prompts

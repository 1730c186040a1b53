"""Slices with square pixels, which is what models have been trained on.

A coronal slice of thick axial ones is flat: unless it is drawn out, lungs are not recognised in it at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from SAMLungSegLib.predictor import Question
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet

MOST_TIMES = 32


@dataclass(frozen=True)
class SquarePixels:
    """A slice drawn out along its coarse axis by a whole number, so that its own pixels remain among the others.

    Pixel (x, y) of the slice is pixel (x * times_x, y * times_y) of what is drawn. Slices with pixels that are nearly
    square stay as they are.

    Attributes:
        times_hw: of rows and of columns.
        size_hw: of the slice.
    """

    times_hw: tuple[int, int]
    size_hw: tuple[int, int]

    @classmethod
    def of(cls, size_hw: tuple[int, int], spacing_hw_mm: tuple[float, float]) -> SquarePixels:
        """For a slice of that size and pixel spacing."""
        height, width = spacing_hw_mm
        rows, columns = (int(np.clip(round(ratio), 1, MOST_TIMES)) for ratio in (height / width, width / height))
        return cls((rows, columns), size_hw)

    @property
    def drawn_hw(self) -> tuple[int, int]:
        """Size of what is drawn."""
        (height, width), (rows, columns) = self.size_hw, self.times_hw
        return (height - 1) * rows + 1, (width - 1) * columns + 1

    def draw(self, values_hw: np.ndarray) -> np.ndarray:
        """Whole numbers (H, W) drawn out, linearly interpolated and rounded to the nearest."""
        if self.times_hw == (1, 1):
            return values_hw
        drawn = ndimage.affine_transform(
            values_hw.astype(np.float32),
            1 / np.array(self.times_hw),
            output_shape=self.drawn_hw,
            order=1,
            mode="nearest",
        )
        return np.rint(drawn).astype(values_hw.dtype)

    def undraw(self, drawn: np.ndarray) -> np.ndarray:
        """The slice's own pixels (H, W), picked from what is drawn."""
        rows, columns = self.times_hw
        return drawn[::rows, ::columns]

    def draw_questions(self, questions: Sequence[Question]) -> list[Question]:
        """The same questions about what is drawn; points at the border are kept inside."""
        return [replace(question, prompts=self._draw_prompts(question.prompts)) for question in questions]

    def _draw_prompts(self, prompts: PromptSet) -> PromptSet:
        rows, columns = self.times_hw
        limit = np.array(self.drawn_hw[::-1]) - 0.5
        points = tuple(
            PointPrompt(tuple(np.clip(np.multiply(point.xy, (columns, rows)), -0.5, limit).tolist()), point.positive)
            for point in prompts.points
        )
        box = prompts.box and BoxPrompt(tuple(np.multiply(prompts.box.xyxy, (columns, rows, columns, rows)).tolist()))
        return replace(prompts, points=points, box=box)

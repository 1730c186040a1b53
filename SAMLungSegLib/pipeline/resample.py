"""Slices with square pixels, which is what models have been trained on.

A coronal slice of thick axial ones is flat: unless it is resampled, lungs are not recognised in it at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.prompts.types import ObjectPrompt

MOST_TIMES = 32


@dataclass(frozen=True)
class IsotropicResampling:
    """A slice resampled along its coarse axis by a whole number, so that its own pixels remain among the others.

    Pixel (x, y) of the slice is pixel (x * times_x, y * times_y) of the result. Slices with pixels that are nearly
    square stay as they are.

    Attributes:
        times_hw: of rows and of columns.
        size_hw: of the slice.
    """

    times_hw: tuple[int, int]
    size_hw: tuple[int, int]

    @classmethod
    def of(cls, size_hw: tuple[int, int], spacing_hw_mm: tuple[float, float]) -> IsotropicResampling:
        """For a slice of that size and pixel spacing."""
        height, width = spacing_hw_mm
        rows, columns = (int(np.clip(round(ratio), 1, MOST_TIMES)) for ratio in (height / width, width / height))
        return cls((rows, columns), size_hw)

    @property
    def resampled_hw(self) -> tuple[int, int]:
        """Size of the result."""
        (height, width), (rows, columns) = self.size_hw, self.times_hw
        return (height - 1) * rows + 1, (width - 1) * columns + 1

    def apply(self, values_hw: np.ndarray) -> np.ndarray:
        """Whole numbers (H, W) resampled, linearly interpolated and rounded to the nearest."""
        if self.times_hw == (1, 1):
            return values_hw
        resampled = ndimage.affine_transform(
            values_hw.astype(np.float32),
            1 / np.array(self.times_hw),
            output_shape=self.resampled_hw,
            order=1,
            mode="nearest",
        )
        return np.rint(resampled).astype(values_hw.dtype)

    def restore(self, resampled: np.ndarray) -> np.ndarray:
        """The slice's own pixels (H, W), picked from the result."""
        rows, columns = self.times_hw
        return resampled[::rows, ::columns]

    def apply_to_prompts(self, objects: Sequence[ObjectPrompt]) -> list[ObjectPrompt]:
        """The same prompts on the result; points at the border are kept inside."""
        return [replace(one, prompts=self._resampled(one.prompts)) for one in objects]

    def _resampled(self, prompts: PromptSet) -> PromptSet:
        rows, columns = self.times_hw
        limit = np.array(self.resampled_hw[::-1]) - 0.5
        points = tuple(
            PointPrompt(tuple(np.clip(np.multiply(point.xy, (columns, rows)), -0.5, limit).tolist()), point.positive)
            for point in prompts.points
        )
        box = prompts.box and BoxPrompt(tuple(np.multiply(prompts.box.xyxy, (columns, rows, columns, rows)).tolist()))
        return replace(prompts, points=points, box=box)

"""Between a slice and lung-compact's frame, S x S pixels: what surrounds the network, whichever engine runs it.

Resizing is bilinear. Where something becomes smaller, each pixel is the mean of all that it covers (antialiasing).
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from SAMLungSegLib.models.base import scaled_size
from SAMLungSegLib.prompts import PromptSet

PROMPTED, RIGHT, LEFT, BOTH = range(4)  # what the mask tokens mean
ROWS_IN_CACHE = 64  # worked on at once: three times as fast as whole planes
LARGEST_NO = -10.0  # logit where a mask prompt says nothing, unless it has lower ones
MAX_THREADS = 8


class FramePrompts(NamedTuple):
    """A prompt set as the network sees it, in pixels of the frame.

    Attributes:
        points_xy: float32 (N, 2).
        labels: int32 (N,), 1 positive, 0 negative.
        box_xyxy: float32 (4,), None where there is none.
        mask: float32 (S/2, S/2) logits, None where there is none.
    """

    points_xy: np.ndarray
    labels: np.ndarray
    box_xyxy: np.ndarray | None = None
    mask: np.ndarray | None = None


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def to_frame(grey_hw: np.ndarray, input_size: int) -> np.ndarray:
    """A slice, uint8 (H, W), as float32 (S, S) in [-1, 1], S the `input_size`.

    The longest side becomes S, the rest is black at the bottom and right.
    """
    height, width = scaled_size(grey_hw.shape, input_size)
    frame = np.full((input_size, input_size), -1, np.float32)
    frame[:height, :width] = _resized(grey_hw, height, width) / np.float32(127.5) - 1
    return frame


def mask_to_frame(logits_hw: np.ndarray, input_size: int) -> np.ndarray:
    """Logits float32 (H, W) of a slice on the decoder's grid, float32 (S/2, S/2)."""
    height, width = scaled_size(logits_hw.shape, input_size)
    frame = np.full((input_size, input_size), min(float(logits_hw.min()), LARGEST_NO), np.float32)
    frame[:height, :width] = _resized(logits_hw, height, width)
    half = input_size // 2
    return frame.reshape(half, 2, half, 2).mean((1, 3))


def from_frame(low_res: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Logits float32 (C, S/2, S/2) in the slice's own pixels, (C, H, W), in one step where the grids allow."""
    input_size = 2 * low_res.shape[-1]
    height, width = scaled_size(size_hw, input_size)
    rows, columns = (max(1, round(side / 2)) for side in (height, width))
    if (rows * 2, columns * 2) == (height, width):
        return _drawn_out(low_res[:, :rows, :columns], size_hw)
    return _drawn_out(_drawn_out(low_res, (input_size, input_size))[:, :height, :width], size_hw)


def prompts_in_frame(prompts: PromptSet, size_hw: tuple[int, int], input_size: int) -> FramePrompts:
    """The prompts of a slice of that size."""
    height, width = scaled_size(size_hw, input_size)
    scale_xy = np.array([width / size_hw[1], height / size_hw[0]], np.float32)
    box = mask = None
    if prompts.box is not None:
        corners = np.array(prompts.box.xyxy, np.float32).reshape(2, 2)
        box = ((corners + 0.5) * scale_xy - 0.5).ravel()
    if prompts.mask is not None:
        mask = mask_to_frame(prompts.mask.logits(), input_size)
    return FramePrompts((prompts.points_xy() + 0.5) * scale_xy - 0.5, prompts.point_labels(), box, mask)


def _resized(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """A plane as float32 (height, width), antialiased."""
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _drawn_out(planes: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Planes float32 (C, h, w) as (C, H, W), each pixel from the nearest four, without antialiasing."""
    before, share = _neighbours(planes.shape[2], size_hw[1])
    after = np.minimum(before + 1, planes.shape[2] - 1)
    wide = planes.take(before, 2)
    wide += (planes.take(after, 2) - wide) * share
    steps = np.diff(wide, axis=1, append=wide[:, -1:])
    before, share = _neighbours(planes.shape[1], size_hw[0])
    drawn = np.empty((len(planes), *size_hw), np.float32)
    buffer = np.empty((ROWS_IN_CACHE, size_hw[1]), np.float32)
    for plane, step, target in zip(wide, steps, drawn, strict=True):
        for first in range(0, size_hw[0], ROWS_IN_CACHE):
            block = slice(first, min(first + ROWS_IN_CACHE, size_hw[0]))
            change = buffer[: block.stop - block.start]
            step.take(before[block], 0, out=change, mode="clip")  # any other mode copies once more
            change *= share[block, None]
            plane.take(before[block], 0, out=target[block], mode="clip")
            target[block] += change
    return drawn


def _neighbours(count: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `wanted` pixels along `count` ones: the pixel before its centre, and the share of the next one."""
    centres = np.maximum((np.arange(wanted) + 0.5) * (count / wanted) - 0.5, 0)
    before = np.minimum(centres.astype(np.intp), count - 1)
    return before, (centres - before).astype(np.float32)

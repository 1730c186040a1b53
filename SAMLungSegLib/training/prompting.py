"""Simulated prompts for a batch, in pixels of the images in it, as tensors for the prompt encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from SAMLungSegLib.prompts.simulated import corrective_click, jittered_box, random_point

NOT_A_POINT = -1
PIECE_RADII = 0.03, 0.13  # of the image's side
BOX_JITTER = 12 / 256  # of the image's side

Click = tuple[tuple[float, float], bool]


@dataclass
class BatchPrompts:
    """One prompt set per image: points with labels, boxes and masks, each optional for the whole batch."""

    points: list[list[Click]]
    boxes: Tensor | None = None
    masks: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked of any image."""
        return self.boxes is None and self.masks is None and not any(self.points)

    def point_tensors(self) -> tuple[Tensor, Tensor] | None:
        """XY (B, N, 2) and labels (B, N); short rows are padded with 'not a point'."""
        longest = max(len(row) for row in self.points)
        if longest == 0:
            return None
        points_xy = torch.zeros(len(self.points), longest, 2)
        labels = torch.full((len(self.points), longest), NOT_A_POINT)
        for index, row in enumerate(self.points):
            for place, (xy, positive) in enumerate(row):
                points_xy[index, place] = torch.tensor(xy)
                labels[index, place] = int(positive)
        return points_xy, labels


class PromptSampler:
    """Draws targets and prompts about them, reproducibly."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def targets(self, shares: Tensor, sides_known: Tensor) -> tuple[Tensor, Tensor]:
        """What each image is asked about: its right lung, left lung or both.

        Args:
            shares: (B, 2, H, W) right and left lung; sides_known: bool (B,).
        Returns:
            Target shares (B, 1, H, W) and the sides included, bool (B, 2).
        """
        wanted = torch.ones(len(shares), 2, dtype=torch.bool)
        for index, present in enumerate((shares > 0.5).flatten(2).any(2)):
            if sides_known[index] and present.all() and self.rng.uniform() < 0.7:
                wanted[index, self.rng.integers(2)] = False
        return (shares * wanted[:, :, None, None]).sum(1, keepdim=True).clamp(max=1), wanted

    def prompts(self, shares: Tensor, wanted: Tensor) -> BatchPrompts:
        """Boxes, points or both for every image; images without lung get negative points only."""
        use_boxes = self.rng.uniform() < 0.4
        use_points = not use_boxes or self.rng.uniform() < 0.5
        boxes = torch.zeros(len(shares), 4)
        rows = []
        for index, masks in enumerate(shares.cpu().numpy() > 0.5):
            parts = [part for part, is_wanted in zip(masks, wanted[index], strict=True) if is_wanted and part.any()]
            target = np.any(parts, axis=0) if parts else np.zeros(masks.shape[1:], bool)
            boxes[index] = torch.tensor(self._box(target))
            rows.append(self._points(parts, target) if use_points else [])
        return BatchPrompts(rows, boxes if use_boxes else None)

    def _box(self, target: np.ndarray) -> tuple[float, float, float, float]:
        side = target.shape[0]
        if not target.any():
            first, second = np.sort(self.rng.uniform(0, side, (2, 2)), axis=0)
            return float(first[0]), float(first[1]), float(second[0]) + 1, float(second[1]) + 1
        return jittered_box(target, self.rng, jitter_px=BOX_JITTER * side)

    def _points(self, parts: list[np.ndarray], target: np.ndarray) -> list[Click]:
        """Mostly one positive point per part, and mostly no negative one, as people begin."""
        counts = self.rng.choice([1, 2, 3], len(parts), p=[0.6, 0.2, 0.2])
        points = [
            (random_point(part, self.rng), True)
            for part, count in zip(parts, counts, strict=True)
            for _ in range(count)
        ]
        negatives = self.rng.choice([0, 1, 2], p=[0.6, 0.2, 0.2]) if points else 1
        return points + [(random_point(~target, self.rng), False) for _ in range(negatives)]

    def corrected(self, prompts: BatchPrompts, low_res_logits: Tensor, target: Tensor, known: Tensor) -> BatchPrompts:
        """The same prompts with a click in each image's largest error, and often the previous answer as mask.

        With the mask come up to three clicks more, mostly on what it shows rightly: these must not change the object.
        Where nothing was asked before, the mask is always given, for a click alone would ask about one lung. Once
        given, it is given again.

        Args:
            low_res_logits: (B, 1, h, w) of the previous answer; target: shares (B, 1, H, W); known: bool like target.
        """
        step = target.shape[-1] // low_res_logits.shape[-1]
        answers = low_res_logits[:, 0].float().cpu().numpy() > 0
        references, certain = (item[:, 0, ::step, ::step].cpu().numpy() for item in (target > 0.5, known))
        use_masks = prompts.is_empty or prompts.masks is not None or self.rng.uniform() < 0.7
        rows = []
        for row, answer, reference, sure in zip(prompts.points, answers, references, certain, strict=True):
            clicks = [corrective_click(answer & sure, reference & sure)]
            if use_masks:
                clicks += [self._consistent_click(reference, sure) for _ in range(self.rng.integers(0, 4))]
            rows.append(row + [_in_frame(click, step) for click in clicks if click is not None])
        return BatchPrompts(rows, prompts.boxes, low_res_logits if use_masks else None)

    def other_outlines(self, target: Tensor) -> Tensor:
        """Half of the targets with a piece at the border added or taken away, as a person may want it.

        Only a click can tell that the piece is wanted: so the network learns to do what clicks say, even where the
        image says otherwise.

        Args:
            target: shares (B, 1, H, W).
        """
        changed = target.clone()
        for index, share in enumerate(target[:, 0].cpu().numpy()):
            if self.rng.uniform() < 0.5 and (piece := self._piece_at_border(share > 0.5)) is not None:
                is_added = bool(self.rng.uniform() < 0.5)
                changed[index, 0][torch.from_numpy(piece).to(target.device)] = float(is_added)
        return changed

    def _piece_at_border(self, mask: np.ndarray) -> np.ndarray | None:
        """A bent ellipse, bool (H, W), around a pixel of the mask's border; None where there is no border."""
        rows, columns = np.nonzero(mask & ~ndimage.binary_erosion(mask, border_value=1))
        if rows.size == 0:
            return None
        at, side = self.rng.integers(rows.size), mask.shape[0]
        radii, angle = self.rng.uniform(*PIECE_RADII, 2) * side, self.rng.uniform(0, np.pi)
        y, x = (axis - place for axis, place in zip(np.indices(mask.shape), (rows[at], columns[at]), strict=True))
        along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        bend = self.rng.uniform(-0.5, 0.5) / radii[0]
        return (along / radii[0]) ** 2 + ((across + bend * along**2) / radii[1]) ** 2 < 1

    def _consistent_click(self, reference: np.ndarray, sure: np.ndarray) -> Click | None:
        positive = bool(self.rng.uniform() < 0.6)
        pixels = (reference == positive) & sure
        return (random_point(pixels, self.rng), positive) if pixels.any() else None


def _in_frame(click: Click, step: int) -> Click:
    """A click on a grid `step` times coarser than the images, in their pixels."""
    (x, y), positive = click
    return ((x + 0.5) * step - 0.5, (y + 0.5) * step - 0.5), positive

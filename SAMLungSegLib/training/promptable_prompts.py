"""What a SAM that learns is shown: objects and prompts about them, drawn at random; predictions of whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything.modeling import Sam
from torch import Tensor

from SAMLungSegLib.prompts.simulated import distance_transform_peak, jittered_box, random_point
from SAMLungSegLib.training.losses import IOU_WEIGHT, iou_loss, segmentation_loss

BOX_JITTER = 12 / 256  # of the frame's side
MIDDLE_SHARE, NEGATIVE_SHARE = 0.3, 0.5  # of the points in the middle; of several points, how often one is negative
MANY = 3
KINDS = ("none", "point", "points", "box")  # of prompts, as validated


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Images as a SAM is shown them, with their labels.

    Attributes:
        frames: (B, 3, S, S), normalised.
        masks: bool (B, 2, S, S), right and left lung on the CPU, where prompts are drawn.
        labels: (B, 2, s, s), soft, on the decoder's grid.
        known: (B, 1, s, s), 0 where nobody knows.
        sides_known: bool (B,), whether the labels tell right from left.
        rng: that draws their prompts.
    """

    frames: Tensor
    masks: np.ndarray
    labels: Tensor
    known: Tensor
    sides_known: np.ndarray
    rng: np.random.Generator


@dataclass(frozen=True, eq=False)
class Decoded:
    """Predictions of one kind of prompts, and what they should be.

    Attributes:
        logits: (B, T, s, s) of T mask tokens, the first for the prompt, others where three are guessed at.
        iou: (B, T), predicted.
        target: (B, 1, s, s), soft.
        valid: (B, 1, s, s), how much each place counts.
    """

    logits: Tensor
    iou: Tensor
    target: Tensor
    valid: Tensor

    def loss(self) -> Tensor:
        """Of the mask and its predicted IoU; of three guesses that of the best counts, as in SAM."""
        first = segmentation_loss(self.logits[:, :1], self.target, self.valid)
        target, valid = (part.expand_as(self.logits) for part in (self.target, self.valid))
        loss = first + IOU_WEIGHT * iou_loss(self.logits, target, valid, self.iou)
        return loss if self.logits.shape[1] == 1 else loss + self._best_guess()

    def _best_guess(self) -> Tensor:
        guesses = self.logits[:, 1:]
        with torch.no_grad():
            target, valid = (part.expand_as(guesses) for part in (self.target, self.valid))
            wrong = F.binary_cross_entropy_with_logits(guesses, target, weight=valid, reduction="none").mean((2, 3))
        best = guesses[torch.arange(len(guesses)), wrong.argmin(1)][:, None]
        return segmentation_loss(best, self.target, self.valid)


Clicks = list[tuple[tuple[float, float], bool]]  # in pixels of the frame, XY, and whether they are positive


def decode_all(
    sam: Sam,
    features: Tensor,
    points: tuple[Tensor, Tensor] | None = None,
    boxes: Tensor | None = None,
    masks: Tensor | None = None,
    *,
    guesses: bool = False,
) -> tuple[Tensor, Tensor]:
    """Decode one prompt set for each of several images at once, which segment_anything's decoder does for one image.

    Args:
        features: (B, C, h, w), embeddings.
        points: XY (B, N, 2) in pixels of the frame, and labels (B, N).
        boxes: XYXY (B, 4).
        masks: (B, 1, s, s), logits.
        guesses: whether the three further masks are wanted too.
    Returns:
        Logits (B, T, s, s) and predicted IoU (B, T), T 1 or 4.
    """
    decoder, images = sam.mask_decoder, len(features)
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(images, -1, -1), sparse.expand(images, -1, -1)], 1)
    positions = sam.prompt_encoder.get_dense_pe().expand(images, -1, -1, -1)
    seen, mixed = decoder.transformer(features + dense, positions, tokens)
    upscaled = decoder.output_upscaling(mixed.transpose(1, 2).reshape(features.shape))
    count = decoder.num_mask_tokens if guesses else 1
    weights = torch.stack([decoder.output_hypernetworks_mlps[token](seen[:, 1 + token]) for token in range(count)], 1)
    logits = torch.einsum("btc,bcyx->btyx", weights, upscaled)
    return logits, decoder.iou_prediction_head(seen[:, 0])[:, :count]


def drawn_objects(batch: FrameBatch, *, single: float) -> np.ndarray:
    """What each image is prompted for: one lung with a probability of `single` where there are two, else both.

    Returns:
        Bool (B, 2), right and left lung.
    """
    wanted = np.ones((len(batch.masks), 2), bool)
    present = batch.masks.any((2, 3))
    for index, there in enumerate(present):
        if batch.sides_known[index] and there.all() and batch.rng.uniform() < single:
            wanted[index, batch.rng.integers(2)] = False
    return wanted


def object_of(masks: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The wanted ones, bool (2,), of bool (2, S, S) together."""
    return (masks & wanted[:, None, None]).any(0)


def drawn_clicks(masks: np.ndarray, wanted: np.ndarray, count: int, rng: np.random.Generator) -> Clicks:
    """Points for an object: into each lung that belongs to it, then anywhere in it, and often one beside it.

    Args:
        masks: bool (2, S, S), right and left lung.
        wanted: bool (2,), which of these the object is.
        count: of points.
    """
    parts = [part for part in masks[wanted] if part.any()]
    whole = object_of(masks, wanted)
    if not parts:
        return [((0.0, 0.0), False)] * count
    clicks: Clicks = [(_inside(part, rng), True) for part in parts[:count]]
    while len(clicks) < count:
        if len(clicks) == count - 1 and rng.uniform() < NEGATIVE_SHARE and not whole.all():
            other = masks.any(0) & ~whole
            clicks.append((random_point(other if other.any() else ~whole, rng), False))
        else:
            clicks.append((random_point(whole, rng), True))
    return clicks


def _inside(part: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    return distance_transform_peak(part) if rng.uniform() < MIDDLE_SHARE else random_point(part, rng)


def drawn_boxes(masks: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> Tensor:
    """XYXY (B, 4) around objects, jittered; the whole frame where there is none."""
    objects = map(object_of, masks, wanted)
    side = masks.shape[-1]
    jitter, whole = BOX_JITTER * side, (0.0, 0.0, side - 1.0, side - 1.0)
    return torch.tensor([jittered_box(one, rng, jitter) if one.any() else whole for one in objects])

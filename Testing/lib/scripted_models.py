"""Models whose answers are written by hand: for tests of automatic masks."""

from __future__ import annotations

import numpy as np
import torch

from SAMLungSegLib.automatic import AutomaticMask
from SAMLungSegLib.models.base import Embedding, ModelView, PromptableModel


class Scripted(PromptableModel):
    """Gives the same masks for every point: full-size logits and scores, one for each."""

    name, device = "scripted", torch.device("cpu")

    def __init__(self, *answers: tuple[np.ndarray, float]) -> None:
        self.logits = np.array([logits for logits, _ in answers], np.float32)
        self.scores = np.array([score for _, score in answers], np.float32)
        self.drawn_at_once: list[int] = []

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        return [Embedding((), one.shape) for one in slices]

    def decode(self, embedding, prompts):
        raise AssertionError("automatic masks are decoded in batches")

    def decode_points(self, embedding, points_xy):
        count = len(points_xy)
        return np.repeat(self.logits[None], count, axis=0), np.repeat(self.scores[None], count, axis=0)

    def to_slice(self, low_res, size_hw):
        self.drawn_at_once.append(len(low_res))
        return low_res


class BrightThings(Scripted):
    """One mask: what is brighter than grey 200, or brighter than 100, in turn from point to point."""

    def __init__(self) -> None:
        self.drawn_at_once = []

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        return [Embedding((one.astype(np.float32),), one.shape) for one in slices]

    def decode_points(self, embedding, points_xy):
        levels = np.array([200.0, 100.0], np.float32)[np.arange(len(points_xy)) % 2]
        return embedding.features[0] - levels[:, None, None, None], np.ones((len(points_xy), 1), np.float32)


def block(size_hw: tuple[int, int], rows: slice, columns: slice, value: float = 5.0) -> np.ndarray:
    """Logits that are positive in a rectangle."""
    logits = np.full(size_hw, -5.0)
    logits[rows, columns] = value
    return logits


def areas(masks: list[AutomaticMask]) -> list[int]:
    return sorted(mask.area_px for mask in masks)

"""What every promptable model offers: encode a slice once, then answer prompts about it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.errors import IntensityError, PromptError
from SAMLungSegLib.prompts import PromptSet

if TYPE_CHECKING:  # the interface itself needs no torch, so that the pipeline's options are checked without it
    import torch
    from torch import nn


@dataclass(frozen=True)
class Embedding:
    """The encoded form of one slice.

    Attributes:
        features: tensors of a single slice without batch axis, the image embedding (C, h, w) first, then any
            high-resolution skips.
        size_hw: the slice's own size in pixels.
    """

    features: tuple[torch.Tensor, ...]
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class Prediction:
    """A model's answer to one prompt set.

    Attributes:
        logits: float32 (H, W) of the slice; the object is where they exceed the logit of the threshold. They may be
            given back as a mask prompt.
        score: predicted intersection over union of the mask, as the model sees it.
        side_logits: float32 (2, H, W), patient's right lung then left lung, of models that tell them apart.
        low_res_logits: float32 (h, w), unthresholded, on the decoder's own grid.
    """

    logits: np.ndarray
    score: float
    side_logits: np.ndarray | None
    low_res_logits: np.ndarray


class PromptableModel(ABC):
    """Base of the model families. Slices are uint8 (H, W), windowed, in radiological display orientation."""

    name: str
    device: torch.device
    answers_without_prompt: bool = False
    tells_sides_apart: bool = False
    accepts_points: bool = True
    accepts_masks: bool = True
    encodes_slowly: bool = True
    slices_at_once: int = 1  # that threads may ask about with gain; each uses one core

    @property
    def fingerprint(self) -> str:
        """Names everything that decides an embedding but the slice: family, settings and weights of the encoder."""
        raise NotImplementedError(f"{type(self).__name__} gives its encoder no name; its embeddings cannot be kept.")

    @abstractmethod
    def encode(self, slices: Sequence[np.ndarray]) -> list[Embedding]:
        """Encode slices (uint8 (H, W) each, sizes may differ), in one batch where the sizes allow."""

    @abstractmethod
    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """Answer one prompt set about an encoded slice."""

    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer many positive points in one batch, each about an object of its own.

        Args:
            embedding: of the slice.
            points_xy: float (N, 2), pixels of the slice.
        Returns:
            Logits (N, M, h, w) on the decoder's own grid, see `to_slice`, and predicted IoU (N, M) of the M masks that
            the model has for each point; on the model's device.
        Raises:
            PromptError: the model does not accept points, or one lies outside the slice.
        """
        raise NotImplementedError(f"{type(self).__name__} answers one prompt set at a time; use decode.")

    def to_slice(self, low_res: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
        """Logits (N, M, h, w) of the decoder's own grid to the slice's pixels (N, M, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} answers one prompt set at a time; use decode.")

    @property
    def mask_decoder(self) -> nn.Module:
        """The part that tuning changes."""
        raise NotImplementedError(f"{type(self).__name__} has no mask decoder that could be tuned.")

    def decode_batch(
        self, embeddings: Sequence[Embedding], prompts: Sequence[PromptSet]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer one prompt set about each of several slices, with gradients of the mask decoder where these are on.

        Prompts are not checked: all sets are of the same kind and number, and empty ones are possible.

        Returns:
            Logits (B, T, h, w) on the decoder's own grid and predicted IoU (B, T) of its T mask tokens, the prompted
            one first.
        """
        raise NotImplementedError(f"{type(self).__name__} has no mask decoder that could be tuned.")

    def size_in_frame(self, size_hw: tuple[int, int], side: int) -> tuple[int, int]:
        """Rows and columns that a slice takes, at the top left, of the network's frame drawn as `side` x `side`."""
        return scaled_size(size_hw, side)

    def prompts_about_both(self, rough_hw: np.ndarray) -> PromptSet | None:
        """What this model was tuned to be asked about both lungs at once, given a rough labelmap (H, W) of the slice.

        None for models that were not, which are asked about each lung.
        """
        return None

    def check_prompts(self, prompts: PromptSet, size_hw: tuple[int, int]) -> None:
        """Refuse prompts that this model cannot answer.

        Raises:
            PromptError: with the model's name and what it accepts.
        """
        if prompts.is_empty and not self.answers_without_prompt:
            raise PromptError(f"Model {self.name} needs a prompt: give a point or a box, or use lung-compact.")
        if prompts.points and not self.accepts_points:
            raise PromptError(f"Model {self.name} accepts boxes only: give a box instead of points.")
        if prompts.mask is not None and not self.accepts_masks:
            raise PromptError(f"Model {self.name} accepts boxes only: give a box instead of a mask.")
        prompts.check_inside(size_hw)


def scaled_size(size_hw: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns of a slice of `size_hw` pixels whose longest side becomes `side`, aspect kept."""
    return tuple(max(1, round(length * side / max(size_hw))) for length in size_hw)


def check_slice(array: np.ndarray) -> None:
    """Refuse what is not a grey slice.

    Raises:
        IntensityError: not uint8 (H, W).
    """
    if array.ndim != 2 or array.dtype != np.uint8 or array.size == 0:
        raise IntensityError(
            f"A slice has type {array.dtype} and shape {array.shape}, expected uint8 (H, W); apply a window first, and "
            "give a list of slices."
        )


def encoder_fingerprint(encoder: nn.Module, settings: str) -> str:
    """Hex digest of an encoder's weights and of `settings`, the text that names everything else that matters."""
    import torch

    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())  # bfloat16 as well
    return digest.hexdigest()

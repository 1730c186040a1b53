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

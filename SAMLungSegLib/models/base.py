"""What every promptable model offers: encode a slice once, then predict masks from prompts.

Arrays are NumPy's on this border: whether a model runs on torch, on another engine or elsewhere is its own affair.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from SAMLungSegLib.adapters.place import PlaceInVolume
from SAMLungSegLib.errors import IntensityError, PromptError
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.models.engines import Engine
from SAMLungSegLib.prompts import PromptSet

if TYPE_CHECKING:  # the interface itself needs no torch, so that the pipeline's options are checked without it
    from torch import nn


def _no_neighbour(_offset: int) -> None:
    return None


@dataclass(frozen=True, eq=False)
class ModelView:
    """One slice as a model sees it: windowed, in radiological display orientation, with about square pixels.

    Attributes:
        grey_hw: uint8 (H, W).
        neighbour: the slice so many places above (positive) or below, uint8 (H, W); None beyond the volume's ends.
        place: in the volume; None of a slice that comes without it.
    Raises:
        IntensityError: the slice is not uint8 (H, W).
    """

    grey_hw: np.ndarray
    neighbour: Callable[[int], np.ndarray | None] = _no_neighbour
    place: PlaceInVolume | None = None

    def __post_init__(self) -> None:
        check_slice(self.grey_hw)

    @classmethod
    def of(cls, slice_or_view: np.ndarray | ModelView) -> ModelView:
        """A slice without neighbours, or the view itself."""
        return slice_or_view if isinstance(slice_or_view, ModelView) else cls(slice_or_view)

    @classmethod
    def amid(cls, stack_nhw: np.ndarray, place: PlaceInVolume | None = None) -> ModelView:
        """The middle of uint8 (N, H, W), N odd, with the others as its neighbours."""
        middle = len(stack_nhw) // 2

        def neighbour(offset: int) -> np.ndarray | None:
            return stack_nhw[middle + offset] if abs(offset) <= middle else None

        return cls(stack_nhw[middle], neighbour, place)

    def stack(self, count: int) -> np.ndarray:
        """The slice amid its neighbours, uint8 (count, H, W); the nearest one stands for those that are not there."""
        half = count // 2
        slices = [self.grey_hw]
        for step in range(1, half + 1):
            below, above = self.neighbour(-step), self.neighbour(step)
            slices = [slices[0] if below is None else below, *slices, slices[-1] if above is None else above]
        return np.stack(slices)


@dataclass(frozen=True)
class Embedding:
    """The encoded form of one slice.

    Attributes:
        features: arrays of the model's own kind, without batch axis, which nobody else looks into; torch tensors of
            SAM's kind: the image embedding (C, h, w) first, then any high-resolution skips.
        size_hw: the slice's own size in pixels.
    """

    features: tuple[Any, ...]
    size_hw: tuple[int, int]


@dataclass(frozen=True)
class Prediction:
    """What a model makes of one prompt set.

    Attributes:
        logits: float32 (H, W) of the slice; the object is where they exceed the logit of the threshold. They may be
            given back as a mask prompt.
        score: predicted intersection over union of the mask, as the model sees it.
        low_res_logits: float32 (h, w), unthresholded, on the decoder's own grid.
        structure_logits: float32 (H, W) of each structure that the model predicts, by its key, such as 'right_lung'.
        organ_probabilities: which organ the object is, by name, adding up to 1; empty where the model names none.
    """

    logits: np.ndarray
    score: float
    low_res_logits: np.ndarray
    structure_logits: Mapping[str, np.ndarray] = field(default_factory=dict)
    organ_probabilities: Mapping[str, float] = field(default_factory=dict)

    @property
    def organ(self) -> str | None:
        """The most probable organ; None where the model names none."""
        return max(self.organ_probabilities, key=self.organ_probabilities.__getitem__, default=None)


class PromptableModel(ABC):
    """Base of the model families."""

    name: str
    engine: Engine = "torch"  # what runs the network
    device: Any  # with `type`, such as 'cuda', and a text, such as 'cuda:1': a torch.device, or another engine's
    capabilities: Capabilities = Capabilities()
    max_threads: int = 1  # that may use the model at once with gain; each uses one core

    @property
    def fingerprint(self) -> str:
        """Names everything that decides an embedding but the slice: family, settings and weights of the encoder."""
        raise NotImplementedError(f"{type(self).__name__} gives its encoder no name; its embeddings cannot be kept.")

    @abstractmethod
    def encode(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        """Encode slices, in one batch where their sizes allow.

        Args:
            views: what the model sees of each; a mere slice, uint8 (H, W), has no neighbours.
        Raises:
            IntensityError: a slice is not uint8 (H, W).
        """

    @abstractmethod
    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """Predict the mask of one prompt set.

        Raises:
            PromptError: a prompt that the model does not accept, or outside the slice.
        """

    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict masks for many positive points in one batch, each of an object of its own.

        Args:
            embedding: of the slice.
            points_xy: float (N, 2), pixels of the slice.
        Returns:
            Logits float32 (N, M, h, w) on the decoder's own grid, see `to_slice`, and predicted IoU (N, M) of the M
            masks that the model has for each point.
        Raises:
            PromptError: the model does not accept points, or one lies outside the slice.
        """
        raise NotImplementedError(f"{type(self).__name__} takes one prompt set at a time; use decode.")

    def to_slice(self, low_res: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """Logits (N, M, h, w) of the decoder's own grid to the slice's pixels (N, M, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} takes one prompt set at a time; use decode.")

    def template_prompts(self, coarse_hw: np.ndarray) -> PromptSet | None:
        """The prompts of both lungs together that this model was tuned with, given a coarse labelmap (H, W).

        None for models that were not; they take prompts of each lung.
        """
        return None

    def check_prompts(self, prompts: PromptSet, size_hw: tuple[int, int]) -> None:
        """Refuse prompts that this model does not accept.

        Raises:
            PromptError: with the model's name and what it accepts.
        """
        accepted = self.capabilities.prompts
        if prompts.is_empty and self.capabilities.needs_prompt:
            raise PromptError(f"Model {self.name} needs a prompt: give a point or a box, or use lung-compact.")
        if prompts.points and "points" not in accepted:
            raise PromptError(f"Model {self.name} accepts boxes only: give a box instead of points.")
        if prompts.mask is not None and "mask" not in accepted:
            raise PromptError(f"Model {self.name} accepts boxes only: give a box instead of a mask.")
        self.check_extent(prompts.extent)
        prompts.check_inside(size_hw)

    def check_extent(self, extent: str) -> None:
        """Refuse an extent of lungs on X-rays, of `structures.EXTENTS`, that this model does not predict.

        Raises:
            PromptError: with the model's name and what it predicts.
        """
        if extent not in self.capabilities.extents:
            raise PromptError(
                f"Model {self.name} does not predict {extent} lungs: give extent="
                f"{' or '.join(self.capabilities.extents)}, or use lung-compact with its own weights."
            )


def scaled_size(size_hw: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns of a slice of `size_hw` pixels whose longest side becomes `side`, aspect kept."""
    height, width = (max(1, round(length * side / max(size_hw))) for length in size_hw)
    return height, width


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

"""What a model of torch offers to training: its network, its parts, and predictions with gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding, ModelView, PromptableModel, scaled_size
from SAMLungSegLib.prompts import PromptSet

if TYPE_CHECKING:
    from torch import Tensor, nn


class TrainableModel(PromptableModel):
    """A promptable model whose weights can be trained.

    Attributes:
        network: with the parts `image_encoder`, `prompt_encoder` and `mask_decoder`.
        input_size: side of the frame that slices are scaled to; None where the weights decide it.
    """

    network: nn.Module
    input_size: int | None = None

    def part(self, name: str) -> nn.Module:
        """A part of the network that training can change; 'adapters' and 'extension' once there are any.

        Raises:
            ModelError: the model has none of that name.
        """
        if name == "extension":
            return self._extension()
        self.check_part(name)
        if name == "adapters":
            from SAMLungSegLib.adapters.base import adapter_in  # torch takes seconds to import

            adapter_in(self.network)
            return self.network.image_encoder.adapters
        return getattr(self.network, name)

    def _extension(self) -> nn.Module:
        if not hasattr(self.network, "extension"):
            raise ModelError(f"Model {self.name} has no extension; let one extend it first, see models.extensions.")
        return self.network.extension

    def check_part(self, name: str) -> None:
        """Refuse a part that training cannot change.

        Raises:
            ModelError: the model has none of that name.
        """
        if name not in self.capabilities.trainable:
            possible = ", ".join(self.capabilities.trainable)
            raise ModelError(f"Model {self.name} has no part '{name}' to train; choose of {possible}.")

    def encode_batch(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        """Encode slices at once, with gradients of the image encoder and its adapters where these are on.

        Raises:
            IntensityError: a slice is not uint8 (H, W).
            ModelError: the encoder of this family is not trained here.
        """
        raise ModelError(f"The image encoder of {self.name} is not trained here; train its mask decoder.")

    def recompute_activations(self, is_on: bool) -> None:
        """Let the image encoder keep less for its gradients and compute it again, or not (activation checkpointing).

        Raises:
            ModelError: the encoder of this family cannot.
        """
        if is_on:
            raise ModelError(f"The image encoder of {self.name} keeps what it computes; leave checkpointing out.")

    def weights_changed(self) -> None:
        """Called after a training has changed weights of the image encoder, for what is derived from them."""

    @abstractmethod
    def decode_batch(self, embeddings: Sequence[Embedding], prompts: Sequence[PromptSet]) -> tuple[Tensor, Tensor]:
        """Predict one prompt set for each of several slices, with gradients of the mask decoder where these are on.

        Prompts are not checked: all sets are of the same kind and number, and empty ones are possible.

        Returns:
            Logits (B, T, h, w) on the decoder's own grid and predicted IoU (B, T) of its T mask tokens, the prompted
            one first.
        """

    def size_in_frame(self, size_hw: tuple[int, int], side: int) -> tuple[int, int]:
        """Rows and columns that a slice takes, at the top left, of the network's frame drawn as `side` x `side`."""
        return scaled_size(size_hw, side)

    def threads(self) -> AbstractContextManager[None]:
        """A block in which torch uses as many threads as suit the network: all there are, unless a family says else."""
        return nullcontext()


def trainable(model: PromptableModel) -> TrainableModel:
    """The model, if it can be trained.

    Raises:
        ModelError: it cannot.
    """
    if model.engine == "onnx":
        raise ModelError(f"Model {model.name} was loaded to predict; give load_model(..., engine='torch') to train it.")
    if not isinstance(model, TrainableModel):
        raise ModelError(f"Model {model.name} cannot be trained here; choose another, or train it where it was made.")
    return model

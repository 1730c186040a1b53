"""Trains adapters on a few slices with prompts and masks: the encoder's own weights are never changed.

The least that a training must do; `training` has augmentation, validation and runs that go on after a stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import adapter_parameters
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.prompts import PromptSet


class Trainee(Protocol):
    """What is needed of a model, see `models.trainable`."""

    network: nn.Module

    def encode_batch(self, views: Sequence[np.ndarray]) -> list[Any]: ...

    def decode_batch(self, embeddings: Sequence[Any], prompts: Sequence[PromptSet]) -> tuple[Tensor, Tensor]: ...

    def size_in_frame(self, size_hw: tuple[int, int], side: int) -> tuple[int, int]: ...


@dataclass(frozen=True, eq=False)
class PromptedSlice:
    """A slice, what the model is shown of it, and what it shall find.

    Attributes:
        grey_hw: uint8 (H, W).
        prompts: of one object, in pixels of the slice.
        mask_hw: bool (H, W) of that object.
    """

    grey_hw: np.ndarray
    prompts: PromptSet
    mask_hw: np.ndarray


def fit_adapters(
    model: Trainee,
    slices: Sequence[PromptedSlice],
    *,
    steps: int,
    batch: int = 2,
    learning_rate: float = 1e-3,
    with_decoder: bool = False,
    seed: int = 0,
) -> list[float]:
    """Train the adapters of a model by Adam on binary cross-entropy and Dice of the prompted masks.

    Args:
        model: with adapters; changed in place.
        slices: that a step draws from, at random; prompts are of the same kind and number in all.
        steps: of the optimiser.
        batch: slices in a step.
        learning_rate: of Adam.
        with_decoder: whether the mask decoder learns too.
        seed: of the draws.
    Returns:
        The loss before each step.
    Raises:
        ModelError: the model has no adapters, its encoder cannot be trained, or there are no slices.
    """
    if not slices or min(steps, batch) < 1:
        raise ModelError(f"{steps} steps of {batch} of {len(slices)} slices are no training; give one at least.")
    parameters = adapter_parameters(model.network)
    if with_decoder:
        parameters += list(model.network.mask_decoder.parameters())
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    rng, losses = np.random.default_rng(seed), []
    with _learning(parameters):
        for _ in range(steps):
            drawn = [slices[index] for index in rng.integers(0, len(slices), batch)]
            loss = _loss(model, drawn)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    return losses


@contextmanager
def _learning(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    for one in parameters:
        one.requires_grad_(True)
    try:
        yield
    finally:
        for one in parameters:
            one.requires_grad_(False)
            one.grad = None


def _loss(model: Trainee, slices: Sequence[PromptedSlice]) -> Tensor:
    embeddings = model.encode_batch([one.grey_hw for one in slices])
    logits, _ = model.decode_batch(embeddings, [one.prompts for one in slices])
    losses = []
    for one, grid in zip(slices, logits[:, 0], strict=True):
        rows, columns = model.size_in_frame(one.mask_hw.shape, grid.shape[-1])
        mask = torch.from_numpy(one.mask_hw.astype(np.float32))[None, None].to(grid.device)
        target = F.interpolate(mask, (rows, columns), mode="area")[0, 0]
        losses.append(_overlap_loss(grid[:rows, :columns], target))
    return torch.stack(losses).mean()


def _overlap_loss(logits: Tensor, target: Tensor) -> Tensor:
    probability = logits.sigmoid()
    dice = 2 * (probability * target).sum() / (probability.sum() + target.sum()).clamp(min=1)
    return F.binary_cross_entropy_with_logits(logits, target) + 1 - dice

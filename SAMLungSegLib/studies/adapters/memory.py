"""What a training step keeps in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MOMENTS = 2  # that Adam keeps of each trained weight


def step_megabytes(network: nn.Module, loss: Callable[[], Tensor]) -> float:
    """Memory of a step: all weights, gradients and Adam's moments of those that are trained, and activations.

    On a graphics card the peak that torch allocates in a step is measured. Elsewhere it is the sum of what is kept
    between forward and backward pass; what layers need for a moment only is not in it.

    Args:
        network: on its device, with gradients on where it is trained.
        loss: of a batch.
    Returns:
        Megabytes (10^6 bytes).
    """
    weights = [*network.parameters(), *network.buffers()]
    trained = [one for one in network.parameters() if one.requires_grad]
    moments = MOMENTS * _bytes(trained)
    if weights[0].device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(weights[0].device)
        loss().backward()
        peak = torch.cuda.max_memory_allocated(weights[0].device)
        network.zero_grad(set_to_none=True)
        return (peak + moments) / 1e6
    own = {one.untyped_storage().data_ptr() for one in weights}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        graph = loss()  # keeps what is noted alive, so that no address is used twice
    activations = sum(kept.values())
    del graph
    return (_bytes(weights) + _bytes(trained) + moments + activations) / 1e6


def _bytes(tensors: list[Tensor]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)

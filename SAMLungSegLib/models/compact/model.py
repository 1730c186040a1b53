"""lung-compact: a small promptable network that knows lungs, behind the interface of all models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from SAMLungSegLib.models.base import Embedding, ModelView, encoder_fingerprint
from SAMLungSegLib.models.capabilities import COMPACT, Capabilities
from SAMLungSegLib.models.compact.decoding import CompactDecoding, Decoded
from SAMLungSegLib.models.compact.frames import BOTH, PROMPTED, FramePrompts, from_frame, prompts_in_frame, to_frame
from SAMLungSegLib.models.compact.layers import fused
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet

POINTS_IN_CACHE = 4  # decoded together on a CPU: 64 take longer by two thirds each


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the calling thread compute on one core.

    The network's operations are so small that the threads of one operation wait for each other longer than they
    compute as soon as the machine has anything else to do: forty times longer on two busy cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class CompactModel(CompactDecoding, TrainableModel):
    """lung-compact by PyTorch, behind the interface of all models."""

    network: CompactNet

    def __init__(
        self,
        net: CompactNet,
        *,
        name: str = "lung-compact",
        device: torch.device | str = "cpu",
        capabilities: Capabilities = COMPACT,
    ) -> None:
        self.device = torch.device(device)
        parts = [part for part, module in net.named_children() if module is not None]
        super().__init__(name, capabilities, int(net.input_size), parts, on_cpu=self.device.type == "cpu")
        self.network = net.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self._encoder = fused(self.network.image_encoder)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the encoder's weights."""
        return encoder_fingerprint(self.network.image_encoder, f"compact {self.frame_size} with deep maps")

    def weights_changed(self) -> None:
        self._encoder = fused(self.network.image_encoder)
        self.__dict__.pop("fingerprint", None)

    @one_thread()
    @torch.inference_mode()
    def encode(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        """Encode slices in one batch. Raises IntensityError for what is not uint8 (H, W)."""
        slices = [ModelView.of(one).grey_hw for one in views]
        features = self._encoder(self._frames(slices))
        return [Embedding(tuple(level[index] for level in features), tuple(s.shape)) for index, s in enumerate(slices)]

    def encode_batch(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        slices = [ModelView.of(one).grey_hw for one in views]
        features = self.network.image_encoder(self._frames(slices))
        return [Embedding(tuple(level[index] for level in features), tuple(s.shape)) for index, s in enumerate(slices)]

    def _frames(self, slices: Sequence[np.ndarray]) -> Tensor:
        frames = torch.from_numpy(np.stack([to_frame(one, self.frame_size) for one in slices])[:, None])
        return frames.to(self.device).contiguous(memory_format=torch.channels_last)

    @one_thread()
    @torch.inference_mode()
    def _decoded(self, embedding: Embedding, prompts: FramePrompts) -> Decoded:
        return _first(self.network.decode(_batched(embedding), *self._tensors(prompts)))

    @one_thread()
    @torch.inference_mode()
    def _whole(self, embedding: Embedding, visible: np.ndarray) -> Decoded:
        return _first(self.network.whole(_batched(embedding), self._on_device(visible)))

    @one_thread()
    @torch.inference_mode()
    def _corrected(
        self, embedding: Embedding, mask: np.ndarray, points_xy: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, float]:
        clicks = self._on_device(points_xy), self._on_device(labels)
        logits, iou = _first(self.network.corrector(_batched(embedding), self._on_device(mask)[None], *clicks))
        return logits[0], float(iou[0])

    def threads(self) -> AbstractContextManager:
        """One, see `one_thread`."""
        return one_thread()

    def decode_batch(self, embeddings: Sequence[Embedding], prompts: Sequence[PromptSet]) -> tuple[Tensor, Tensor]:
        every = [embedding.features for embedding in embeddings]
        features = tuple(torch.stack(level).to(self.device) for level in zip(*every, strict=True))
        parts = [self._prompt_tensors(one, e.size_hw) for one, e in zip(prompts, embeddings, strict=True)]
        points, boxes, masks = zip(*parts, strict=True)
        together = tuple(torch.cat(part) for part in zip(*points, strict=True)) if points[0] is not None else None
        boxes, masks = (torch.cat(part) if part[0] is not None else None for part in (boxes, masks))
        return self.network.decode(features, together, boxes, masks)

    @one_thread()
    @torch.inference_mode()
    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two masks for each point: the object that it shows, and both lungs."""
        prompts = PromptSet(tuple(PointPrompt(tuple(xy)) for xy in points_xy.tolist()))
        self.check_prompts(prompts, embedding.size_hw)
        (coordinates, labels), _, _ = self._prompt_tensors(prompts, embedding.size_hw)
        at_once = POINTS_IN_CACHE if self.device.type == "cpu" else len(points_xy)
        decoded = []
        for points in zip(coordinates[0, :, None].split(at_once), labels[0, :, None].split(at_once), strict=True):
            features = tuple(level.expand(len(points[0]), *level.shape) for level in embedding.features)
            decoded.append(self.network.decode(features, points))
        low_res, iou = (torch.cat(parts)[:, [PROMPTED, BOTH]] for parts in zip(*decoded, strict=True))
        return low_res.cpu().numpy(), iou.clamp(0, 1).cpu().numpy()

    def to_slice(self, low_res: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        return np.stack([from_frame(one, size_hw) for one in low_res])

    def _prompt_tensors(self, prompts: PromptSet, size_hw: tuple[int, int]) -> tuple:
        """Points, boxes and masks in the network's frame, None where not given."""
        return self._tensors(prompts_in_frame(prompts, size_hw, self.frame_size))

    def _tensors(self, given: FramePrompts) -> tuple:
        points = (self._on_device(given.points_xy), self._on_device(given.labels)) if len(given.labels) else None
        box = None if given.box_xyxy is None else self._on_device(given.box_xyxy)
        mask = None if given.mask is None else self._on_device(given.mask)[None]
        return points, box, mask

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array)[None].to(self.device)


def _batched(embedding: Embedding) -> tuple[Tensor, ...]:
    return tuple(level[None] for level in embedding.features)


def _first(outputs: tuple[Tensor, Tensor]) -> Decoded:
    """Logits and IoU of the only image of a batch."""
    logits, iou = outputs
    return logits[0].cpu().numpy(), iou[0].cpu().numpy()

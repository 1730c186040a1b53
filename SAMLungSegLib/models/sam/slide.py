"""Slide-SAM: three neighbouring slices in as red, green and blue, three masks out (Quan et al. 2023, arXiv:2311.10121).

What it has beyond SAM's parts is the model's extension `SlideParts`. It begins as SAM: three slices alike get the masks
that SAM has for a part of an object, a larger part, and the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.masks import stability
from SAMLungSegLib.models.base import Embedding, ModelView
from SAMLungSegLib.models.sam.model import PromptTensors, SamModel
from SAMLungSegLib.prompts import PromptSet

SLICES = 3


class SlideParts(nn.Module):
    """What is added to SAM's network, and those of its layers that learn to see three slices.

    Args:
        network: whose upscaling is copied for the slices below and above, and whose layer for mask prompts takes three
            channels from now on, each at a third of its weights.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.below, self.above = (deepcopy(network.mask_decoder.output_upscaling) for _ in range(2))
        self.patch_embed = network.image_encoder.patch_embed
        one = network.prompt_encoder.mask_downscaling[0]
        self.mask_input = nn.Conv2d(SLICES, one.out_channels, one.kernel_size, one.stride).to(one.weight.device)
        with torch.no_grad():
            self.mask_input.weight.copy_(one.weight.expand(-1, SLICES, -1, -1) / SLICES)
            self.mask_input.bias.copy_(one.bias)
        network.prompt_encoder.mask_downscaling[0] = self.mask_input


@dataclass(frozen=True, eq=False)
class TriplePrediction:
    """One hypothesis of an object in three slices.

    Attributes:
        logits_nhw: float32 (3, H, W) of the slice below, the slice itself and the one above; the object is above 0.
        score: predicted intersection over union.
    """

    logits_nhw: np.ndarray
    score: float

    @property
    def stability(self) -> float:
        """See `masks.stability`."""
        return stability(self.logits_nhw)


class SlideSamModel(SamModel):
    """A SAM that sees a slice with the ones below and above, and predicts the prompted object in all three.

    Slices are scaled from the least to the greatest grey of the three and stretched to the frame. `decode` and all
    that is said of one slice is about the middle one, by the hypothesis with the highest predicted IoU.
    """

    @classmethod
    def of(cls, model: SamModel) -> SlideSamModel:
        """With the network of a SAM, which gets an `extension`.

        Raises:
            ModelError: another family, or adapters that look at other slices by themselves.
        """
        if type(model) is not SamModel:
            raise ModelError(f"Slide-SAM is made of SAM, not of {model.name}; choose one such as sam-vit-b.")
        if model.capabilities.slices_per_input > 1:
            raise ModelError(f"{model.name} has adapters that look at neighbours already; give it none, or LoRA.")
        model.network.extension = SlideParts(model.network)
        return cls(
            model.network, name=model.name, device=model.device, dtype=model.dtype, capabilities=model.capabilities
        )

    @property
    def _slices_per_input(self) -> int:
        return SLICES

    def _to_frames(self, views: Sequence[ModelView]) -> Tensor:
        """One frame of each slice with its neighbours, the lower one first."""
        return torch.stack([self._triple_frame(view.stack(SLICES)) for view in views])

    def _middle(self, features: Tensor) -> Tensor:
        """There is one embedding of the three."""
        return features

    def _triple_frame(self, stack_nhw: np.ndarray) -> Tensor:
        """Uint8 (3, H, W) to the network's input (3, 1024, 1024)."""
        values = torch.from_numpy(stack_nhw.astype(np.float32))[None].to(self.device)
        low, high = values.min(), values.max()
        values = (values - low) * (255 / (high - low).clamp(min=1))
        size = (self.frame_size, self.frame_size)
        frame = F.interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)[0]
        return (frame - self.network.pixel_mean) / self.network.pixel_std

    def size_in_frame(self, size_hw: tuple[int, int], side: int) -> tuple[int, int]:
        return side, side

    def _on_slice(self, low_res: Tensor, size_hw: tuple[int, int]) -> Tensor:
        return F.interpolate(low_res, size_hw, mode="bilinear", align_corners=False)

    def _to_prompt_tensors(self, prompts: PromptSet, size_hw: tuple[int, int]) -> PromptTensors:
        """As of SAM, with x and y scaled by themselves; a mask stands for all three slices."""
        height, width = size_hw
        scale = np.array([self.frame_size / width, self.frame_size / height])
        points = boxes = masks = None
        if prompts.points:
            labels = self._tensor(prompts.point_labels(), torch.int)
            points = (self._tensor(prompts.points_xy() * scale)[None], labels[None])
        if prompts.box is not None:
            boxes = self._tensor(np.array(prompts.box.xyxy) * np.tile(scale, 2))[None]
        if prompts.mask is not None:
            masks = self._to_mask_input(prompts.mask.logits()).expand(-1, SLICES, -1, -1)
        return points, boxes, masks

    def _frame_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """All of it."""
        return self.frame_size, self.frame_size

    @torch.inference_mode()
    def predict_triple(self, embedding: Embedding, prompts: PromptSet) -> list[TriplePrediction]:
        """Three hypotheses of an object that is prompted in the middle slice, the best predicted IoU first.

        Raises:
            PromptError: a prompt outside the slice, or none.
        """
        self.check_prompts(prompts, embedding.size_hw)
        low_res, iou = self._triples(embedding, *self._to_prompt_tensors(prompts, embedding.size_hw))
        logits = self._on_slice(low_res[0], embedding.size_hw).cpu().numpy()
        best_first = iou[0].argsort(descending=True).tolist()
        return [TriplePrediction(logits[index], float(iou[0, index])) for index in best_first]

    def decode_triples(self, embeddings: Sequence[Embedding], prompts: Sequence[PromptSet]) -> tuple[Tensor, Tensor]:
        """All hypotheses for one prompt set in each of several slices, with gradients where these are on.

        Returns:
            Logits (B, 3, 3, h, w) of hypotheses and slices on the decoder's own grid, and predicted IoU (B, 3).
        """
        answers = [
            self._triples(embedding, *self._to_prompt_tensors(one, embedding.size_hw))
            for embedding, one in zip(embeddings, prompts, strict=True)
        ]
        logits, iou = zip(*answers, strict=True)
        return torch.cat(logits), torch.cat(iou)

    def _low_res(
        self,
        embedding: Embedding,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        *,
        multimask_output: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Of the middle slice; all three hypotheses, or the best alone."""
        triples, iou = self._triples(embedding, points, boxes, masks)
        middle = triples[:, :, SLICES // 2]
        if multimask_output:
            return middle, iou
        best = iou.argmax(1)
        every = torch.arange(len(best), device=best.device)
        return middle[every, best][:, None], iou[every, best][:, None]

    def _triples(
        self,
        embedding: Embedding,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, 3, 3, 256, 256) and predicted IoU (N, 3) for N prompts; SAM's first token is left out."""
        decoder, prompt_encoder = self.network.mask_decoder, self.network.prompt_encoder
        sparse, dense = prompt_encoder(points=points, boxes=boxes, masks=masks)
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], 1)
        image = embedding.features[0].to(self.device, torch.float32) + dense
        tokens, image = decoder.transformer(image, prompt_encoder.get_dense_pe().expand_as(image), tokens)
        image = image.transpose(1, 2).unflatten(2, dense.shape[2:])
        weights = [mlp(tokens[:, 1 + number]) for number, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        parts = self.network.extension
        upscaled = torch.stack([one(image) for one in (parts.below, decoder.output_upscaling, parts.above)], 1)
        logits = torch.einsum("nhc,nscyx->nhsyx", torch.stack(weights[1:], 1), upscaled)
        return logits, decoder.iou_prediction_head(tokens[:, 0])[:, 1:]

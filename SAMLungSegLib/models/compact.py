"""lung-compact: a small promptable network that knows lungs.

SAM's own prompt encoder and mask decoder sit around a convolutional pyramid encoder. High-resolution skips of the
encoder join the decoder's upscaling, so the masks come out at half the input resolution instead of a quarter. How large
slices are drawn for the network, its frame, is kept with its weights.
The four mask tokens have fixed meanings: what was prompted (both lungs if nothing was), right lung, left lung, both.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from SAMLungSegLib.models.base import (
    Embedding,
    Prediction,
    PromptableModel,
    check_slice,
    encoder_fingerprint,
    scaled_size,
)
from SAMLungSegLib.prompts import PointPrompt, PromptSet

INPUT_SIZE = 320  # of networks trained from now on
PROMPT_WIDTH = 128
STAGE_WIDTHS = (24, 48, 80, 144, 224)
STAGE_DEPTHS = (1, 2, 3, 4, 3)
HEADS = 8
LARGEST_CROWD = 8
POINTS_IN_CACHE = 4  # decoded together on a CPU: 64 take longer by two thirds each
IOU_SMOOTHING_PX = 16.0
PROMPTED, RIGHT, LEFT, BOTH = range(4)


class ConvNorm(nn.Sequential):
    """Convolution without bias, then batch normalisation: one convolution where the statistics are fixed."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        conv, norm = self
        if norm.training:
            return super().forward(x)
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=conv.groups)


class MixBlock(nn.Module):
    """Residual 5x5 depthwise mixing in space, then mixing of channels at `expansion` times the width."""

    def __init__(self, width: int, expansion: int = 2) -> None:
        super().__init__()
        self.space = ConvNorm(width, width, 5, groups=width)
        self.expand = ConvNorm(width, width * expansion, 1)
        self.project = ConvNorm(width * expansion, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(F.relu(self.expand(self.space(x)), inplace=True)).add_(x)


class PyramidEncoder(nn.Module):
    """Five strided stages and a top-down sum.

    Input (B, 1, S, S) in [-1, 1], S a multiple of 32; output the embedding (B, 128, S/8, S/8) and the skips
    (B, 32, S/4, S/4) and (B, 16, S/2, S/2).
    """

    def __init__(self) -> None:
        super().__init__()
        stages, inputs = [], 1
        for width, depth in zip(STAGE_WIDTHS, STAGE_DEPTHS, strict=True):
            blocks = [MixBlock(width) for _ in range(depth)]
            stages.append(nn.Sequential(ConvNorm(inputs, width, 3, stride=2), nn.ReLU(inplace=True), *blocks))
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(ConvNorm(width, PROMPT_WIDTH, 1) for width in STAGE_WIDTHS[2:])
        self.neck = nn.Sequential(MixBlock(PROMPT_WIDTH), ConvNorm(PROMPT_WIDTH, PROMPT_WIDTH, 1))
        self.skip_quarter = ConvNorm(STAGE_WIDTHS[1], PROMPT_WIDTH // 4, 1)
        self.skip_half = ConvNorm(STAGE_WIDTHS[0], PROMPT_WIDTH // 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        half, quarter, *deep = maps
        laterals = [lateral(level) for lateral, level in zip(self.laterals, deep, strict=True)]
        top = laterals[-1]
        for lateral in reversed(laterals[:-1]):
            top = lateral + F.interpolate(top, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.neck(top), self.skip_quarter(quarter), self.skip_half(half)


def fused(encoder: nn.Module) -> nn.Module:
    """A copy for inference in which each `ConvNorm` is a convolution, so that none is folded anew for every slice."""
    faster = copy.deepcopy(encoder)
    for parent in list(faster.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ConvNorm):
                setattr(parent, name, fuse_conv_bn_eval(*child))
    return faster


class FusedAttention(Attention):
    """SAM's attention by torch's fused kernel."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        projected = (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        heads = (self._separate_heads(tokens, self.num_heads) for tokens in projected)
        return self.out_proj(self._recombine_heads(F.scaled_dot_product_attention(*heads)))


class FusedTransformer(TwoWayTransformer):
    """SAM's transformer of mask tokens and image, with the fused kernel."""

    def __init__(self, width: int) -> None:
        super().__init__(depth=2, embedding_dim=width, num_heads=HEADS, mlp_dim=4 * width)
        for block in self.layers:
            block.self_attn = FusedAttention(width, HEADS)
            block.cross_attn_token_to_image = FusedAttention(width, HEADS, downsample_rate=2)
            block.cross_attn_image_to_token = FusedAttention(width, HEADS, downsample_rate=2)
        self.final_attn_token_to_image = FusedAttention(width, HEADS, downsample_rate=2)


class SkipMaskDecoder(MaskDecoder):
    """SAM's mask decoder whose upscaling takes two skips from the encoder and mixes in space after each."""

    def __init__(self, width: int) -> None:
        super().__init__(
            transformer_dim=width,
            transformer=FusedTransformer(width),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=width,
        )
        self.mix_quarter = MixBlock(width // 4)
        self.mix_half = MixBlock(width // 8)

    def predict_all(
        self, embedding: Tensor, skips: tuple[Tensor, Tensor], position: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, 4, S/2, S/2) and predicted IoU (B, 4) of all mask tokens.

        The predicted IoU is the expected one of the mask's probabilities, corrected by SAM's head for it.

        Args:
            embedding: (B, C, S/8, S/8); skips: (B, C/4, S/4, S/4) and (B, C/8, S/2, S/2).
            position: (1, C, S/8, S/8) positional encoding of the grid.
            sparse: (B, N, C) point and box tokens; dense: (B, C, S/8, S/8) mask prompt.
        """
        batch = embedding.shape[0]
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(batch, -1, -1), sparse], dim=1)
        tokens, image = self.transformer(embedding + dense, position.expand(batch, -1, -1, -1), tokens)
        image = image.transpose(1, 2).reshape(embedding.shape)

        up_quarter, norm, activation, up_half, last_activation = self.output_upscaling
        quarter = self.mix_quarter(activation(norm(up_quarter(image) + skips[0])))
        half = self.mix_half(last_activation(up_half(quarter) + skips[1]))

        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        weights = torch.stack([mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        logits = (weights @ half.flatten(2)).unflatten(2, half.shape[2:])
        expected = torch.logit(expected_iou(logits.detach()), eps=1e-3)
        return logits, torch.sigmoid(expected + self.iou_prediction_head(tokens[:, 0]))


def expected_iou(logits: Tensor) -> Tensor:
    """Intersection over union to be expected if each pixel is as likely lung as its probability says.

    Args:
        logits: (B, C, H, W).
    Returns:
        (B, C), of the answer `logits > 0`: near 1 where every pixel is certain, or where no pixel may be lung.
    """
    inside, probability = logits > 0, logits.float().sigmoid()
    hit = (probability * inside).sum((2, 3))
    union = inside.sum((2, 3)) + (probability * ~inside).sum((2, 3))
    return (hit + IOU_SMOOTHING_PX) / (union + IOU_SMOOTHING_PX)


class CompactNet(nn.Module):
    """The network: `image_encoder`, `prompt_encoder`, `mask_decoder`, as in SAM; any frame that 32 divides.

    `input_size`, the side of the frame that it learned from, is one of its weights.
    """

    input_size: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("input_size", torch.tensor(INPUT_SIZE))
        self.image_encoder = PyramidEncoder()
        self.prompt_encoder = PromptEncoder(
            embed_dim=PROMPT_WIDTH,
            image_embedding_size=(INPUT_SIZE // 8, INPUT_SIZE // 8),
            input_image_size=(INPUT_SIZE, INPUT_SIZE),
            mask_in_chans=16,
        )
        self.mask_decoder = SkipMaskDecoder(PROMPT_WIDTH)

    def decode(
        self,
        features: tuple[Tensor, Tensor, Tensor],
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, 4, S/2, S/2) and IoU (B, 4) for one prompt set per image of the batch.

        Args:
            features: what `image_encoder` returned.
            points: XY (B, N, 2) in pixels of the frame and labels (B, N), 1, 0 or -1 for padding.
            boxes: (B, 4) XYXY in pixels of the frame.
            masks: (B, 1, S/2, S/2) logits.
        """
        embedding, *skips = features
        grid = embedding.shape[-1]
        self.prompt_encoder.image_embedding_size = (grid, grid)
        self.prompt_encoder.input_image_size = (8 * grid, 8 * grid)
        sparse, dense = self.prompt_encoder(points, boxes, masks)
        sparse = sparse.expand(embedding.shape[0], -1, -1)
        dense = dense.expand(embedding.shape[0], -1, -1, -1)
        position = self.prompt_encoder.get_dense_pe()
        return self.mask_decoder.predict_all(embedding, tuple(skips), position, sparse, dense)


def to_input(grey: Tensor, input_size: int) -> Tensor:
    """Grey slices (B, 1, H, W) in 0..255 to the network's frame (B, 1, S, S) in [-1, 1], S the `input_size`.

    The longest side becomes S (antialiased bilinear), the rest is padded with black at the bottom and right.
    """
    height, width = scaled_size(tuple(grey.shape[-2:]), input_size)
    small = F.interpolate(grey, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return F.pad(small, (0, input_size - width, 0, input_size - height)) / 127.5 - 1


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


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CompactModel(PromptableModel):
    """lung-compact behind the interface of all models.

    Without a prompt it answers 'both lungs'. With positive points, a box or a mask it answers about the object that
    they show. Which lung a pixel belongs to comes from the right and left mask tokens in either case.
    """

    answers_without_prompt = True
    tells_sides_apart = True
    encodes_slowly = False

    def __init__(self, net: CompactNet, *, name: str = "lung-compact", device: torch.device | str = "cpu") -> None:
        self.name = name
        self.device = torch.device(device)
        self.input_size = int(net.input_size)
        self.net = net.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        self._encoder = fused(self.net.image_encoder)
        self.slices_at_once = min(usable_cores(), LARGEST_CROWD) if self.device.type == "cpu" else 1

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the encoder's weights."""
        return encoder_fingerprint(self.net.image_encoder, f"compact {self.input_size}")

    @one_thread()
    @torch.inference_mode()
    def encode(self, slices: Sequence[np.ndarray]) -> list[Embedding]:
        """Encode slices in one batch. Raises IntensityError for what is not uint8 (H, W)."""
        for array in slices:
            check_slice(array)
        greys = [torch.from_numpy(np.ascontiguousarray(array)).float()[None, None] for array in slices]
        frames = torch.cat([to_input(grey, self.input_size) for grey in greys])
        features = self._encoder(frames.to(self.device).contiguous(memory_format=torch.channels_last))
        return [Embedding(tuple(level[index] for level in features), tuple(s.shape)) for index, s in enumerate(slices)]

    @one_thread()
    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        self.check_prompts(prompts, embedding.size_hw)
        features = tuple(level[None] for level in embedding.features)
        low_res, iou = self.net.decode(features, *self._prompt_tensors(prompts, embedding.size_hw))
        logits = from_frame(low_res[:, [PROMPTED, RIGHT, LEFT]], embedding.size_hw)[0].cpu().numpy()
        return Prediction(
            logits=logits[0],
            score=float(iou[0, PROMPTED].clamp(0, 1)),
            side_logits=logits[1:],
            low_res_logits=low_res[0, PROMPTED].cpu().numpy(),
        )

    @property
    def mask_decoder(self) -> nn.Module:
        """The decoder of all four mask tokens."""
        return self.net.mask_decoder

    def decode_batch(self, embeddings: Sequence[Embedding], prompts: Sequence[PromptSet]) -> tuple[Tensor, Tensor]:
        every = [embedding.features for embedding in embeddings]
        features = tuple(torch.stack(level).to(self.device) for level in zip(*every, strict=True))
        parts = [self._prompt_tensors(one, e.size_hw) for one, e in zip(prompts, embeddings, strict=True)]
        points, boxes, masks = zip(*parts, strict=True)
        together = tuple(torch.cat(part) for part in zip(*points, strict=True)) if points[0] is not None else None
        boxes, masks = (torch.cat(part) if part[0] is not None else None for part in (boxes, masks))
        return self.net.decode(features, together, boxes, masks)

    @one_thread()
    @torch.inference_mode()
    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[Tensor, Tensor]:
        """Two masks for each point: the object that it shows, and both lungs."""
        prompts = PromptSet(tuple(PointPrompt(tuple(xy)) for xy in points_xy.tolist()))
        self.check_prompts(prompts, embedding.size_hw)
        (coordinates, labels), _, _ = self._prompt_tensors(prompts, embedding.size_hw)
        at_once = POINTS_IN_CACHE if self.device.type == "cpu" else len(points_xy)
        answers = []
        for points in zip(coordinates[0, :, None].split(at_once), labels[0, :, None].split(at_once), strict=True):
            features = tuple(level.expand(len(points[0]), *level.shape) for level in embedding.features)
            answers.append(self.net.decode(features, points))
        low_res, iou = (torch.cat(parts)[:, [PROMPTED, BOTH]] for parts in zip(*answers, strict=True))
        return low_res, iou.clamp(0, 1)

    @one_thread()
    @torch.inference_mode()
    def to_slice(self, low_res: Tensor, size_hw: tuple[int, int]) -> Tensor:
        return from_frame(low_res, size_hw)

    def _prompt_tensors(self, prompts: PromptSet, size_hw: tuple[int, int]) -> tuple:
        """Points, boxes and masks in the network's frame, None where not given."""
        height, width = scaled_size(size_hw, self.input_size)
        scale_xy = np.array([width / size_hw[1], height / size_hw[0]], np.float32)
        points = boxes = masks = None
        if prompts.points:
            points_xy = (prompts.points_xy() + 0.5) * scale_xy - 0.5
            points = (self._on_device(points_xy), self._on_device(prompts.point_labels()))
        if prompts.box is not None:
            corners = np.array(prompts.box.xyxy, np.float32).reshape(2, 2)
            boxes = self._on_device(((corners + 0.5) * scale_xy - 0.5).ravel())
        if prompts.mask is not None:
            masks = mask_to_frame(torch.from_numpy(prompts.mask.logits())[None, None], self.input_size).to(self.device)
        return points, boxes, masks

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array)[None].to(self.device)


def mask_to_frame(logits: Tensor, input_size: int) -> Tensor:
    """Logits (B, 1, H, W) of a slice to the decoder's grid (B, 1, S/2, S/2), S the `input_size`."""
    height, width = scaled_size(tuple(logits.shape[-2:]), input_size)
    small = F.interpolate(logits, (height, width), mode="bilinear", antialias=True, align_corners=False)
    lowest = float(logits.min())
    framed = F.pad(small, (0, input_size - width, 0, input_size - height), value=min(lowest, -10.0))
    return F.avg_pool2d(framed, 2)


def from_frame(low_res: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Logits (B, C, S/2, S/2) to the slice's own pixels (B, C, H, W), bilinear in one step where the grids allow."""
    input_size = 2 * low_res.shape[-1]
    height, width = scaled_size(size_hw, input_size)
    rows, columns = (max(1, round(side / 2)) for side in (height, width))
    planes = low_res.flatten(0, 1)[:, None]  # torch takes thrice as long for three channels as for three images
    if (rows * 2, columns * 2) == (height, width):
        planes = F.interpolate(planes[..., :rows, :columns], size_hw, mode="bilinear", align_corners=False)
    else:
        planes = F.interpolate(planes, (input_size, input_size), mode="bilinear", align_corners=False)
        planes = F.interpolate(planes[..., :height, :width], size_hw, mode="bilinear", align_corners=False)
    return planes[:, 0].unflatten(0, low_res.shape[:2])

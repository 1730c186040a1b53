"""SAM: Meta's Segment Anything Model (Kirillov et al. 2023, arXiv:2304.02643) with ViT-B, ViT-L or ViT-H."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding, Prediction, PromptableModel, check_slice
from SAMLungSegLib.models.checkpoints import apply_weights
from SAMLungSegLib.prompts import PromptSet

ARCHITECTURES = ("vit_b", "vit_l", "vit_h")
BACKGROUND_LOGIT = -10.0
# ViT-H's global attention makes 16 x 4096 x 4096 floats (1 GiB), of which about four copies are alive, and slack
BYTES_PER_SLICE = 6 << 30
LARGEST_BATCH = 8

PromptTensors = tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]


class SamModel(PromptableModel):
    """Answers points, boxes and masks with the numbers of segment_anything's `SamPredictor`.

    The sizes below are those of the official networks: a frame of 1024 x 1024 pixels, an embedding of 256 x 64 x 64
    and logits of 256 x 256.
    """

    def __init__(self, sam: Sam, *, name: str, device: str | torch.device = "cpu") -> None:
        """Wrap a network that is already built.

        Args:
            sam: the network; moved to `device` and set to evaluation.
            name: what messages call the model.
            device: 'cpu', 'cuda' or 'mps'.
        Raises:
            ModelError: the device is not available.
        """
        self.name = name
        self.device = available_device(device)
        self.sam = sam.to(self.device).eval()
        self.frame_size: int = sam.image_encoder.img_size
        self._resize = ResizeLongestSide(self.frame_size)

    @classmethod
    def build(
        cls, architecture: str, state: Mapping[str, Tensor], *, name: str, device: str | torch.device = "cpu"
    ) -> SamModel:
        """Build the network `architecture` ('vit_b', 'vit_l', 'vit_h') with the weights `state`.

        Raises:
            ModelError: unknown architecture, weights that do not fit, or weights of the mask decoder alone.
        """
        if architecture not in ARCHITECTURES:
            raise ModelError(f"There is no architecture {architecture!r}; choose one of {', '.join(ARCHITECTURES)}.")
        sam = sam_model_registry[architecture](checkpoint=None)
        if apply_weights(sam, state, what=name) != "full":
            raise ModelError(
                f"The weights {name} are of a mask decoder alone; load a full {architecture} model first, then these."
            )
        return cls(sam, name=name, device=device)

    def encode(self, slices: Sequence[np.ndarray]) -> list[Embedding]:
        """Encode slices (uint8 (H, W) each, sizes may differ).

        Returns:
            For each slice its embedding, one tensor float32 (256, 64, 64) on the model's device.
        Raises:
            IntensityError: a slice is not uint8 (H, W).
        """
        for array in slices:
            check_slice(array)
        size = self._batch_size()
        embeddings: list[Embedding] = []
        for start in range(0, len(slices), size):
            batch = slices[start : start + size]
            with torch.inference_mode():
                features = self.sam.image_encoder(torch.stack([self._to_frame(array) for array in batch]))
            # cloned outside inference mode: training on embeddings needs tensors that autograd can save
            embeddings += [Embedding((one.clone(),), array.shape) for one, array in zip(features, batch, strict=True)]
        return embeddings

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """Answer one prompt set about an encoded slice.

        Raises:
            PromptError: a prompt that this model cannot answer, or outside the slice.
        """
        self.check_prompts(prompts, embedding.size_hw)
        points, boxes, masks = self._to_prompt_tensors(prompts, embedding.size_hw)
        sparse, dense = self.sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
        low_res, score = self.sam.mask_decoder(
            image_embeddings=embedding.features[0].to(self.device, torch.float32)[None],
            image_pe=self.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return Prediction(
            logits=self._to_slice(low_res, embedding.size_hw)[0, 0].cpu().numpy(),
            score=float(score[0, 0]),
            side_logits=None,
            low_res_logits=low_res[0, 0].cpu().numpy(),
        )

    def _batch_size(self) -> int:
        """Slices to encode at once: what fits a graphics card; one elsewhere, where batching gains nothing."""
        if self.device.type != "cuda":
            return 1
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        return min(LARGEST_BATCH, max(1, free_bytes // BYTES_PER_SLICE))

    def _to_frame(self, array: np.ndarray) -> Tensor:
        """Slice (H, W) to the network's input (3, 1024, 1024): longest side scaled, normalised, padded with 0.

        The one channel is scaled and then spread over the three that `pixel_mean` and `pixel_std` have, which gives
        the same numbers as scaling three equal ones.
        """
        grey = torch.from_numpy(self._resize.apply_image(np.ascontiguousarray(array))).to(self.device)
        return self.sam.preprocess(grey[None])

    def _to_prompt_tensors(self, prompts: PromptSet, size_hw: tuple[int, int]) -> PromptTensors:
        """Points (1, N, 2) with labels (1, N), box (1, 4) and mask (1, 1, 256, 256), in the network's frame."""
        points = boxes = masks = None
        if prompts.points:
            coordinates = self._resize.apply_coords(prompts.points_xy(), size_hw)
            points = (self._tensor(coordinates)[None], self._tensor(prompts.point_labels(), torch.int)[None])
        if prompts.box is not None:
            boxes = self._tensor(self._resize.apply_boxes(np.array(prompts.box.xyxy), size_hw))
        if prompts.mask is not None:
            masks = self._to_mask_input(prompts.mask.logits())
        return points, boxes, masks

    def _to_mask_input(self, logits: np.ndarray) -> Tensor:
        """Logits (H, W) of a slice to the mask prompt (1, 1, 256, 256), by way of the padded frame.

        Going through the frame keeps mask and image aligned when the short side is not a multiple of four there.
        """
        height, width = self._frame_hw(logits.shape)
        grid = self.sam.prompt_encoder.mask_input_size[0]
        scaled = F.interpolate(
            torch.from_numpy(logits)[None, None], (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        padding = (0, self.frame_size - width, 0, self.frame_size - height)
        frame = F.pad(scaled, padding, value=BACKGROUND_LOGIT)
        return F.avg_pool2d(frame, self.frame_size // grid).to(self.device)

    def _to_slice(self, low_res: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Logits (1, 1, 256, 256) to (1, 1, H, W)."""
        return self.sam.postprocess_masks(low_res, self._frame_hw(size_hw), size_hw)

    def _frame_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Size within the frame, padding excluded, of a slice of `size_hw` pixels."""
        return self._resize.get_preprocess_shape(*size_hw, self.frame_size)

    def _tensor(self, array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        # cast before the move: MPS has no float64
        return torch.as_tensor(array, dtype=dtype).to(self.device)


def available_device(device: str | torch.device) -> torch.device:
    """The torch device called `device`.

    Raises:
        ModelError: torch does not know it or this machine does not have it.
    """
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"The device {str(device)!r} is not available on this machine; use 'cpu'.") from error

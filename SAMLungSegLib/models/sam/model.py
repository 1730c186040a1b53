"""SAM: Meta's Segment Anything Model (Kirillov et al. 2023, arXiv:2304.02643) with ViT-B, ViT-L or ViT-H."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from SAMLungSegLib.adapters.base import AdapterHost, EmbeddingAdapter
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, encoder_fingerprint
from SAMLungSegLib.models.capabilities import SAM, Capabilities
from SAMLungSegLib.models.checkpoints import apply_weights
from SAMLungSegLib.models.sam.architectures import CELLS_PER_PATCH, PATCH_SIZE, sam_network
from SAMLungSegLib.models.sam.decoder import make_adaptable
from SAMLungSegLib.models.sam.encoder import TOKENS_AT_ONCE, AdaptableEncoder, FastEncoder, why_not_fast
from SAMLungSegLib.models.sam.organs import OrganHead, organ_head_of
from SAMLungSegLib.models.sam.stock import unlike_stock
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet

BACKGROUND_LOGIT = -10.0
LARGEST_BATCH = 8

logger = logging.getLogger(__name__)

PromptTensors = tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]


class SamModel(TrainableModel):
    """Predicts from points, boxes and masks with the numbers of segment_anything's `SamPredictor`.

    The sizes below are those of the official networks: a frame of 1024 x 1024 pixels, an embedding of 256 x 64 x 64
    and logits of 256 x 256. A smaller `input_size` shrinks all three alike, see `set_input_size`.
    """

    network: Sam
    family_capabilities = SAM

    def __init__(
        self,
        sam: Sam,
        *,
        name: str,
        device: str | torch.device = "cpu",
        input_size: int | None = None,
        dtype: torch.dtype = torch.float32,
        capabilities: Capabilities | None = None,
    ) -> None:
        """Wrap a network that is already built.

        Args:
            sam: the network, from now on the model's own: moved to `device`, set to evaluation and to `input_size`,
                and its image encoder, where it is segment_anything's, made ready for adapters.
            name: what messages call the model.
            device: 'cpu', 'cuda' or 'mps'.
            input_size: side of the frame that slices are scaled to; the network's own if None.
            dtype: precision of the image encoder. torch.bfloat16 and torch.float16 are meant for graphics cards and
                change embeddings by about 0.7 and 0.1 %; the rest of the network stays in float32.
            capabilities: the family's if None.
        Raises:
            ModelError: the device is not available, or the input size does not suit the network.
        """
        self.name = name
        self.device = available_device(device)
        self.dtype = dtype
        self.capabilities = capabilities or self.family_capabilities
        if input_size is not None:
            set_input_size(sam, input_size)
        self.network = sam.to(self.device).eval().requires_grad_(False)
        self.input_size = self.frame_size = int(sam.image_encoder.img_size)
        self._resize = ResizeLongestSide(self.frame_size)
        sam.image_encoder.to(dtype)
        if unlike_stock(sam.image_encoder) is None:
            sam.image_encoder = AdaptableEncoder(sam.image_encoder)
        make_adaptable(sam.mask_decoder)
        self._digest: tuple[object, str] = (None, "")

    @classmethod
    def build(
        cls,
        architecture: str,
        state: Mapping[str, Tensor],
        *,
        name: str,
        device: str | torch.device = "cpu",
        input_size: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> SamModel:
        """Build the network `architecture`, one of `architectures.ARCHITECTURES`, with the weights `state`.

        Raises:
            ModelError: unknown architecture, weights that do not fit, weights of the mask decoder alone, or as in the
                constructor.
        """
        sam = sam_network(architecture)
        if apply_weights(sam, state, what=name) != "full":
            raise ModelError(
                f"The weights {name} are of a mask decoder alone; load a full {architecture} model first, then these."
            )
        return cls(sam, name=name, device=device, input_size=input_size, dtype=dtype)

    @property
    def capabilities(self) -> Capabilities:
        """The family's or those that were given, and what the adapters look at."""
        count, sees_volume = self._slices_per_input, self._sees_volume
        if count == 1 and not sees_volume:
            return self._capabilities
        return replace(self._capabilities, slices_per_input=count, sees_volume=sees_volume)

    @capabilities.setter
    def capabilities(self, value: Capabilities) -> None:
        self._capabilities = value

    @property
    def _slices_per_input(self) -> int:
        encoder = self.network.image_encoder
        return encoder.slices_per_input if isinstance(encoder, AdapterHost) else 1

    @property
    def _sees_volume(self) -> bool:
        encoder = self.network.image_encoder
        return isinstance(encoder, AdapterHost) and encoder.adapter is not None and encoder.adapter.sees_volume

    @property
    def _embedding_adapter(self) -> EmbeddingAdapter | None:
        encoder = self.network.image_encoder
        return encoder.embedding_adapter if isinstance(encoder, AdapterHost) else None

    @property
    def fingerprint(self) -> str:
        """Digest of the encoder's weights, its adapters, its precision, the preprocessing and the input size."""
        encoder = self.network.image_encoder
        settings = f"{type(self).__name__} {self.frame_size} {self.dtype}"
        if isinstance(encoder, AdapterHost) and encoder.adapter is not None:
            settings += f" {encoder.adapter.name} {encoder.adapter.settings}"
        now = (settings, *(_version(one) for one in encoder.state_dict(keep_vars=True).values()))
        if self._digest[0] != now:  # weights may have been trained, and adapters injected, since the last time
            self._digest = (now, encoder_fingerprint(encoder, settings))
        return self._digest[1]

    def encode(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        """Encode slices, whose sizes may differ.

        Returns:
            For each slice its embedding, one tensor float32 (256, 64, 64) on the model's device.
        Raises:
            IntensityError: a slice is not uint8 (H, W).
        """
        size = max(1, self._batch_size() // self._slices_per_input)
        views, embeddings = [ModelView.of(one) for one in views], []
        for start in range(0, len(views), size):
            batch = views[start : start + size]
            with torch.inference_mode():
                features = self._adapted(self._middle(self._encode_frames(self._to_frames(batch))), batch)
            # copied outside inference mode: training on embeddings needs tensors that autograd can save
            copies = [one.to(torch.float32, copy=True) for one in features]
            embeddings += [Embedding((one,), view.grey_hw.shape) for one, view in zip(copies, batch, strict=True)]
        return embeddings

    def encode_batch(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        views = [ModelView.of(one) for one in views]
        features = self._adapted(self._middle(self.network.image_encoder(self._to_frames(views).to(self.dtype))), views)
        return [Embedding((one,), view.grey_hw.shape) for one, view in zip(features, views, strict=True)]

    def recompute_activations(self, is_on: bool) -> None:
        encoder = self.network.image_encoder
        if isinstance(encoder, AdaptableEncoder):
            encoder.is_recomputing = is_on
        else:
            super().recompute_activations(is_on)

    def _to_frames(self, views: Sequence[ModelView]) -> Tensor:
        """All slices that the encoder looks at for each view, those of a view behind each other."""
        count = self._slices_per_input
        stacks = ([view.grey_hw] if count == 1 else view.stack(count) for view in views)
        return torch.stack([self._to_frame(array) for stack in stacks for array in stack])

    def _middle(self, features: Tensor) -> Tensor:
        """Of each view the slice itself."""
        count = self._slices_per_input
        return features[count // 2 :: count]

    def _adapted(self, features: Tensor, views: Sequence[ModelView]) -> Tensor:
        """Embeddings as they go to the mask decoder, in float32."""
        adapter, features = self._embedding_adapter, features.float()
        if adapter is None:
            return features
        parts = [self.size_in_frame(view.grey_hw.shape, features.shape[-1]) for view in views]
        return adapter(features, [view.place for view in views], parts)

    def _encode_frames(self, frames: Tensor) -> Tensor:
        """By the fast way where it gives the encoder's own numbers, else by its own forward."""
        encoder = self.network.image_encoder
        reason = why_not_fast(encoder)
        if reason is None:
            return FastEncoder(encoder)(frames)
        logger.info("Model %s encodes by its encoder's own forward, which is slower, for %s.", self.name, reason)
        return encoder(frames.to(self.dtype))

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: PromptSet) -> Prediction:
        """Predict the mask of one prompt set.

        Raises:
            PromptError: a prompt that this model does not accept, or outside the slice.
        """
        self.check_prompts(prompts, embedding.size_hw)
        points, boxes, masks = self._to_prompt_tensors(prompts, embedding.size_hw)
        (low_res, score), organs = self._with_organs(lambda: self._low_res(embedding, points, boxes, masks))
        return Prediction(
            logits=self._on_slice(low_res, embedding.size_hw)[0, 0].cpu().numpy(),
            score=float(score[0, 0]),
            low_res_logits=low_res[0, 0].cpu().numpy(),
            organ_probabilities={} if organs is None else self.organ_head.probabilities(organs[0]),
        )

    @property
    def organ_head(self) -> OrganHead | None:
        """What names the organ of a mask; None where nothing does."""
        return organ_head_of(self.network)

    def _with_organs(self, decode: Callable[[], tuple[Tensor, Tensor]]) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """What `decode` gives, and of the same pass the logits (B, organs) of a head, where there is one."""
        if self.organ_head is None:
            return decode(), None
        with self.organ_head.reading(self.network.mask_decoder) as read:
            return decode(), read()

    def organ_logits(self, embeddings: Sequence[Embedding], prompts: Sequence[PromptSet]) -> Tensor:
        """What the organ head makes of one prompt set for each of several slices, with gradients where these are on.

        Returns:
            Logits (B, organs).
        Raises:
            ModelError: the model has no organ head.
        """
        if self.organ_head is None:
            raise ModelError(f"Model {self.name} names no organs; load weights that were trained by organ-token.")
        found = []
        for embedding, one in zip(embeddings, prompts, strict=True):
            tensors = self._to_prompt_tensors(one, embedding.size_hw)
            with self.organ_head.reading(self.network.mask_decoder) as read:
                self._low_res(embedding, *tensors)
                found.append(read())
        return torch.cat(found)

    def decode_batch(self, embeddings: Sequence[Embedding], prompts: Sequence[PromptSet]) -> tuple[Tensor, Tensor]:
        answers = [
            self._low_res(embedding, *self._to_prompt_tensors(one, embedding.size_hw))
            for embedding, one in zip(embeddings, prompts, strict=True)
        ]
        return tuple(torch.cat(part) for part in zip(*answers, strict=True))

    @torch.inference_mode()
    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Three masks for each point: usually a whole, a part and a part of that."""
        self.check_prompts(PromptSet(tuple(PointPrompt(tuple(xy)) for xy in points_xy.tolist())), embedding.size_hw)
        coordinates = self._tensor(self._resize.apply_coords(points_xy, embedding.size_hw))[:, None]
        labels = torch.ones(len(points_xy), 1, dtype=torch.int, device=self.device)
        low_res, iou = self._low_res(embedding, (coordinates, labels), multimask_output=True)
        return low_res.cpu().numpy(), iou.cpu().numpy()

    @torch.inference_mode()
    def to_slice(self, low_res: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        return self._on_slice(torch.from_numpy(low_res).to(self.device), size_hw).cpu().numpy()

    def _on_slice(self, low_res: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Logits (N, M, 256, 256) to (N, M, H, W), bilinear by way of the frame."""
        height, width = size_hw
        longest = max(size_hw)
        if self.frame_size in (longest, 2 * longest):  # half of the frame falls on the same straight lines
            square = F.interpolate(low_res, (longest, longest), mode="bilinear", align_corners=False)
            return square[..., :height, :width]
        return self.network.postprocess_masks(low_res, self._frame_hw(size_hw), size_hw)

    def _low_res(
        self,
        embedding: Embedding,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        *,
        multimask_output: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, 256, 256) and predicted IoU (N, M) for N prompts in the network's frame; M is 1 or 3."""
        sparse, dense = self.network.prompt_encoder(points=points, boxes=boxes, masks=masks)
        return self.network.mask_decoder(
            image_embeddings=embedding.features[0].to(self.device, torch.float32)[None],
            image_pe=self.network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
        )

    def _batch_size(self) -> int:
        """Slices to encode at once: what fits a graphics card; elsewhere more than one only where frames are small."""
        if self.device.type != "cuda":
            return max(1, TOKENS_AT_ONCE // (self.frame_size // PATCH_SIZE) ** 2)
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        return min(LARGEST_BATCH, max(1, free_bytes // self.capabilities.encoder_bytes))

    def _to_frame(self, array: np.ndarray) -> Tensor:
        """Slice (H, W) to the network's input (3, 1024, 1024): longest side scaled, normalised, padded with 0.

        The one channel is scaled and then spread over the three that `pixel_mean` and `pixel_std` have, which gives
        the same numbers as scaling three equal ones.
        """
        grey = torch.from_numpy(self._resize.apply_image(np.ascontiguousarray(array))).to(self.device)
        frame = torch.zeros(3, self.frame_size, self.frame_size, device=self.device)
        height, width = grey.shape
        frame[:, :height, :width] = grey
        frame[:, :height, :width].sub_(self.network.pixel_mean).div_(self.network.pixel_std)
        return frame

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
        grid = self.network.prompt_encoder.mask_input_size[0]
        scaled = F.interpolate(
            torch.from_numpy(logits)[None, None], (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        padding = (0, self.frame_size - width, 0, self.frame_size - height)
        frame = F.pad(scaled, padding, value=BACKGROUND_LOGIT)
        return F.avg_pool2d(frame, self.frame_size // grid).to(self.device)

    def _frame_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Size within the frame, padding excluded, of a slice of `size_hw` pixels."""
        return self._resize.get_preprocess_shape(*size_hw, self.frame_size)

    def _tensor(self, array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        # cast before the move: MPS has no float64
        return torch.as_tensor(array, dtype=dtype).to(self.device)


def set_input_size(sam: Sam, size: int) -> None:
    """Let `sam` take frames of size x size pixels instead of those that it was trained with, usually 1024.

    Time falls faster than the number of pixels (ViT-B on a CPU: 512 takes a fifth of 1024, 256 an eighteenth), and so
    does detail: the decoder's logits have a quarter of `size` along each axis, 4 pixels of the frame a cell. The image
    encoder interpolates what it has learnt about positions, but not about the size that things have in patches, so
    that masks differ from those at full size; how much depends on weights and images and must be measured on them.

    Raises:
        ModelError: not a multiple of the patch size, or larger than the network's own.
    """
    own = sam.image_encoder.img_size
    if size % PATCH_SIZE or not PATCH_SIZE <= size <= own:
        raise ModelError(
            f"The input size {size} does not suit the network; give a multiple of {PATCH_SIZE} up to {own}, such as "
            f"{own // 2}."
        )
    grid = size // PATCH_SIZE
    sam.image_encoder.img_size = size
    sam.prompt_encoder.input_image_size = (size, size)
    sam.prompt_encoder.image_embedding_size = (grid, grid)
    sam.prompt_encoder.mask_input_size = (CELLS_PER_PATCH * grid, CELLS_PER_PATCH * grid)


def _version(tensor: Tensor) -> tuple[int, int | None]:
    """What changes when a tensor is replaced or written into."""
    return tensor.data_ptr(), None if tensor.is_inference() else tensor._version


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

"""MedSAM's training (Ma et al. 2024, doi:10.1038/s41467-024-44824-z): encoder and decoder, boxes, whole frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F  # noqa: N812
from monai.losses import DiceLoss
from torch import Tensor

from SAMLungSegLib.adaptation.method import Method, decoded, frame_targets, register_method
from SAMLungSegLib.adaptation.prompts import BOXES
from SAMLungSegLib.adaptation.slices import ObjectExample
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.extensions import extend
from SAMLungSegLib.models.extensions.medsam_frames import MedSamFrames
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import BoxPrompt, PromptSet
from SAMLungSegLib.prompts.reference import tight_box

FRAME = 1024  # in which the jitter is measured


@register_method
@dataclass(frozen=True, kw_only=True)
class MedSam(Method):
    """Trains image encoder and mask decoder; the prompt encoder stays as it is.

    Attributes:
        jitter_px: each side of the reference's box is moved outwards by 0 to so many whole pixels of a frame of 1024.
    """

    name = "medsam"
    title = "image encoder and mask decoder, by boxes, slices prepared as MedSAM's"
    source = "Ma et al. 2024, MedSAM, doi:10.1038/s41467-024-44824-z"
    smallest_part_voxels = 1000
    smallest_part_px = 100

    weight_decay: float = 0.01
    jitter_px: int = 20

    def __post_init__(self) -> None:
        others = [kind for kind in self.prompts if kind not in BOXES]
        if others or self.jitter_px < 0:
            raise SettingsError(
                f"MedSAM learns by boxes that are moved by 0 pixels or more, not by {', '.join(others) or 'fewer'}; "
                f"choose prompts of {', '.join(BOXES)}, and a jitter of 0 or more."
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """Encoder and decoder."""
        return ("image_encoder", "mask_decoder")

    @property
    def prompt_kinds(self) -> tuple[str, ...]:
        """Boxes."""
        return self.prompts or BOXES

    def model_for(self, model: TrainableModel) -> TrainableModel:
        """MedSAM itself, or a SAM that sees slices as MedSAM does."""
        return model if isinstance(model, MedSamModel) else extend(model, MedSamFrames())

    def loss(
        self, model: TrainableModel, examples: Sequence[ObjectExample], rng: np.random.Generator, stage: int
    ) -> Tensor:
        """Dice (of probabilities, squared) and cross-entropy of the logits in the whole frame."""
        side = model.input_size or FRAME
        prompts = [PromptSet(box=moved_box(one.mask_hw, rng, self.jitter_px, side)) for one in examples]
        return whole_frame_loss(decoded(model, examples, prompts), frame_targets(model, examples, side))


def moved_box(mask_hw: np.ndarray, rng: np.random.Generator, jitter_px: int, side: int) -> BoxPrompt:
    """The box round a mask, each side moved outwards by 0 to `jitter_px` whole pixels of a frame of 1024, both too.

    Args:
        mask_hw: bool (H, W), not empty.
        rng: of the moves.
        jitter_px: the longest move, less where the frame is smaller.
        side: of the square frame that the slice is stretched to.
    Returns:
        In pixels of the slice, within it.
    """
    height, width = mask_hw.shape
    in_frame = rng.integers(0, jitter_px + 1, 4) * side / FRAME
    moves = in_frame * np.array([-width, -height, width, height]) / side
    box = np.array(tight_box(mask_hw).xyxy) + moves
    return BoxPrompt(tuple(np.clip(box, 0, (width, height, width, height)).tolist()))


def whole_frame_loss(low_res: Tensor, targets: Tensor) -> Tensor:
    """Dice (sigmoid, squared denominator) plus binary cross-entropy, means over objects.

    Args:
        low_res: logits (B, h, w), scaled to the frame here (bilinear).
        targets: float (B, S, S) of 0 and 1.
    """
    logits = F.interpolate(low_res[:, None], targets.shape[-2:], mode="bilinear", align_corners=False)
    overlap = DiceLoss(sigmoid=True, squared_pred=True)(logits, targets[:, None])
    return overlap + F.binary_cross_entropy_with_logits(logits, targets[:, None])

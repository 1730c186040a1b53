"""MedSAM: SAM's ViT-B trained on medical images with boxes (Ma et al. 2024, doi:10.1038/s41467-024-44824-z).

Slices enter it in another way than in SAM. The preprocessing is that of the authors' `MedSAM_Inference.py`
(github.com/bowang-lab/MedSAM): scikit-image's bicubic resize with anti-aliasing to a square, cut down to whole grey
values, then min-max. Logits rather than probabilities are interpolated to the slice, as in the authors' training.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from skimage.transform import resize
from torch import Tensor

from SAMLungSegLib.models.capabilities import MEDSAM
from SAMLungSegLib.models.sam.model import PromptTensors, SamModel
from SAMLungSegLib.prompts import PromptSet


class MedSamModel(SamModel):
    """Predicts from one box per prompt set; the object is where the logits exceed 0 (a probability of 0.5)."""

    family_capabilities = MEDSAM

    def _to_frame(self, array: np.ndarray) -> Tensor:
        """Slice (H, W) to the network's input (3, 1024, 1024) in [0, 1]: stretched to a square, nothing padded.

        One channel is resized instead of three equal ones: 20 times faster, the same but for one grey level in about
        one pixel of a million.
        """
        side = self.frame_size
        square = resize(array, (side, side), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
        low, high = int(square.min()), int(square.max())
        grey = (square - low) / max(high - low, 1)
        return torch.from_numpy(grey.astype(np.float32)).to(self.device).expand(3, side, side)

    def _to_prompt_tensors(self, prompts: PromptSet, size_hw: tuple[int, int]) -> PromptTensors:
        """Box (1, 4), x and y scaled independently."""
        height, width = size_hw
        box = np.array(prompts.box.xyxy) / (width, height, width, height) * self.frame_size
        return None, self._tensor(box)[None], None

    def size_in_frame(self, size_hw: tuple[int, int], side: int) -> tuple[int, int]:
        return side, side

    def _on_slice(self, low_res: Tensor, size_hw: tuple[int, int]) -> Tensor:
        return F.interpolate(low_res, size_hw, mode="bilinear", align_corners=False)

"""Random changes of the user's own examples: those that the phases of a recipe make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from SAMLungSegLib.adapters.place import SmallVolume
from SAMLungSegLib.intensity import Modality
from SAMLungSegLib.models.base import scaled_size
from SAMLungSegLib.models.compact.network import INPUT_SIZE
from SAMLungSegLib.training.augment import LUNG_LEVEL, LUNG_WIDTH, STRENGTHS, training_transforms
from SAMLungSegLib.training.data.examples import Example, resized_planes, with_planes

NONE = "none"
AUGMENTATIONS = (NONE, *STRENGTHS)


class ExampleChanges:
    """Changes examples of the user's own at random, as a recipe's phase changes its images.

    Args:
        strength: one of `STRENGTHS`.
        side: of the square that a slice is drawn into before, as the network draws it.
    """

    def __init__(self, strength: str, side: int = INPUT_SIZE) -> None:
        self.side, self.transforms = side, training_transforms(strength, side)

    def __call__(self, example: Example, seed: int) -> Example:
        """A changed example, its longest side as the square's; unchanged but for that where no lung would be left.

        Neighbouring slices, and all of its volume, are changed as the slice itself.
        """
        changed = self._changed(example, seed)
        if example.stack_nhw is not None:
            changed = replace(changed, stack_nhw=self._alike(example, example.stack_nhw, seed))
        if example.place is not None:
            volume = example.place.volume
            moved = SmallVolume(lambda: self._alike(example, _slices_like(example, volume.cube), seed))
            changed = replace(changed, place=replace(example.place, volume=moved))
        return changed

    def _alike(self, example: Example, slices: Iterable[np.ndarray], seed: int) -> np.ndarray:
        """Other slices (H, W) of the same size, changed as the example."""
        return np.stack([self._changed(replace(example, grey_hw=grey_hw), seed).grey_hw for grey_hw in slices])

    def _changed(self, example: Example, seed: int) -> Example:
        height, width = scaled_size(example.grey_hw.shape, self.side)
        planes = resized_planes(example, (height, width))
        square = F.pad(planes / 255, (0, self.side - width, 0, self.side - height))
        image, lungs = square[:1], square[1:]
        sample = {
            "image": _as_acquired(image, example.modality),
            "label": torch.cat([lungs, torch.zeros_like(image)]),
            "modality": example.modality,
        }
        self.transforms.set_random_state(seed)
        changed = self.transforms(sample)
        pixels = torch.cat([changed["image"], changed["label"][:2]])[:, :height, :width].clip(0, 1) * 255
        result = with_planes(example, pixels)
        return result if result.lung_hw.any() else with_planes(example, planes)


def _slices_like(example: Example, cube: np.ndarray) -> Iterator[np.ndarray]:
    """Slices of the cube of a volume in the size of the example."""
    for slice_hw in torch.from_numpy(cube.astype(np.float32)):
        drawn = F.interpolate(slice_hw[None, None], example.grey_hw.shape, mode="bilinear", align_corners=False)
        yield drawn[0, 0].round().byte().numpy()


def _as_acquired(image: Tensor, modality: Modality) -> Tensor:
    """Greys in 0..1 as `RandomWindow` expects them: HU of CT, as if seen through the lung window, else 0..255."""
    return LUNG_LEVEL + (image - 0.5) * LUNG_WIDTH if modality == "CT" else image * 255

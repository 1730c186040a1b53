"""Batches drawn from a pack at random, changed at random: the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose
from torch.utils.data import WeightedRandomSampler

from SAMLungSegLib.training.augment import RandomWindow, training_transforms
from SAMLungSegLib.training.data.packs import visible_of_whole


@dataclass(frozen=True)
class Drawing:
    """What is drawn of a pack.

    Attributes:
        data: the pack's columns.
        indices: int (N,), the examples that may be drawn.
        weights: float (N,), how often each is, relative to the others.
        as_visible: whether masks of whole lungs are read as what they say of the visible fields.
    """

    data: Mapping[str, np.ndarray]
    indices: np.ndarray
    weights: np.ndarray
    as_visible: bool = True

    @classmethod
    def by_group(
        cls,
        data: Mapping[str, np.ndarray],
        indices: np.ndarray,
        groups: np.ndarray,
        weight_of: Mapping[str, float],
        *,
        as_visible: bool = True,
    ) -> Drawing:
        """Each group as often as its weight says, its examples alike; groups without a weight are never drawn.

        Args:
            groups: str (N,), of the indices.
        """
        names, counts = np.unique(groups, return_counts=True)
        one_of = {name: weight_of.get(str(name), 0.0) / count for name, count in zip(names, counts, strict=True)}
        weights = np.array([one_of[name] for name in groups])
        return cls(data, indices[weights > 0], weights[weights > 0], as_visible)

    def batches(self, images: int, size: int, strength: str, seed: int, workers: int) -> Iterator[dict]:
        """Batches of `size` examples, of so many images together, changed by a strength of `training_transforms`."""
        changes = training_transforms(strength, self.data["images"].shape[-1])
        transforms = Compose([self._sample, changes]).set_random_state(seed)
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        return iter(
            DataLoader(
                Dataset(self.indices.tolist(), transforms),
                batch_size=size,
                sampler=WeightedRandomSampler(self.weights.tolist(), images, generator=generator),
                num_workers=workers,
                drop_last=True,
                generator=generator,
            )
        )

    def _sample(self, index: int) -> dict:
        label = self.data["labels"][index].astype(np.float32) / 255
        is_whole = self.data["extents"][index] == "whole"
        if is_whole and self.as_visible:
            label = visible_of_whole(label)
        return {
            "image": torch.from_numpy(self.data["images"][index][None].astype(np.float32)),
            "label": torch.from_numpy(label),
            "modality": str(self.data["modalities"][index]),
            "sides_known": bool(self.data["sides_known"][index]),
            "is_whole": bool(is_whole),
        }


def unchanged(data: Mapping[str, np.ndarray], index: int) -> torch.Tensor:
    """The image of an example as it is, (1, 1, S, S) in 0..1."""
    image = torch.from_numpy(data["images"][index][None].astype(np.float32))
    grey = RandomWindow(jitter=0.0)({"image": image, "modality": str(data["modalities"][index])})["image"]
    return grey[None]

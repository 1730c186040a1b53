"""Random changes of the training images, in MONAI transforms.

Samples are dictionaries: `image` float32 (1, H, W), HU for CT and 0..255 for X-rays until `RandomWindow`, 0..1 after
it; `label` float32 (3, H, W), shares of right lung, left lung and unknown.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import (
    Compose,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandCoarseDropoutd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandomizableTransform,
)
from scipy import ndimage

LUNG_LEVEL, LUNG_WIDTH = -600.0, 1500.0


class RandomWindow(RandomizableTransform, MapTransform):
    """Grey values in 0..1: CT through a window around the lung window, X-rays through random percentile-like limits."""

    def __init__(self, jitter: float = 1.0) -> None:
        RandomizableTransform.__init__(self)
        MapTransform.__init__(self, ["image"])
        self.jitter = jitter

    def __call__(self, data: dict) -> dict:
        change = self.R.uniform(-1, 1, 2) * self.jitter
        if data["modality"] == "CT":
            width = LUNG_WIDTH * (1 + 0.2 * change[1])
            low = LUNG_LEVEL + 120 * change[0] - width / 2
        else:
            low, width = 20 * change[0], 255 + 40 * change[1]
        return {**data, "image": ((data["image"] - low) / width).clip(0, 1)}


class RandomConsolidation(RandomizableTransform, MapTransform):
    """Denser lung painted inside the lungs; the label stays lung, as a radiologist would draw it.

    Either soft blobs of any density, or, on CT, all that lies beyond a wavy line, mostly in the dependent part, as
    dense as tissue: then only the shape of the chest tells where the lung ends.
    """

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, ["image"])

    def __call__(self, data: dict) -> dict:
        lung = np.asarray(data["label"][:2].sum(0))
        self.randomize(None)
        if not self._do_transform or lung.sum() < 500:
            return data
        ripple = ndimage.gaussian_filter(self.R.standard_normal(lung.shape).astype(np.float32), 4) * 6
        is_ct = data["modality"] == "CT"
        if is_ct and self.R.uniform() < 0.5:
            share = self._beyond_a_line(np.asarray(data["label"][self.R.randint(2)]), ripple) * self.R.uniform(0.8, 1.0)
            density = self.R.uniform(0.86, 0.97)
        else:
            share = self._blobs(lung, ripple) * self.R.uniform(0.4, 1.0)
            density = self.R.uniform(0.7, 0.97) if is_ct else self.R.uniform(0.5, 0.85)
        dense = torch.from_numpy((density + 0.02 * self.R.standard_normal(lung.shape)).astype(np.float32))
        image = data["image"]
        return {**data, "image": image + torch.from_numpy(share.astype(np.float32)) * (dense - image).clip(min=0)}

    def _beyond_a_line(self, lung: np.ndarray, ripple: np.ndarray) -> np.ndarray:
        """A tenth to a half of one lung, mostly its lower part in the image."""
        rows, columns = np.indices(lung.shape, dtype=np.float32)
        angle = self.R.normal(0, 0.6) if self.R.uniform() < 0.8 else self.R.uniform(0, 2 * np.pi)
        depth = rows * np.cos(angle) + columns * np.sin(angle) + 8 * ripple
        inside = lung > 0.5
        if not inside.any():
            return np.zeros_like(lung)
        line = np.quantile(depth[inside], 1 - self.R.uniform(0.1, 0.5))
        return lung / (1 + np.exp(np.clip(line - depth, -20, 20)))

    def _blobs(self, lung: np.ndarray, ripple: np.ndarray) -> np.ndarray:
        blobs = np.zeros(lung.shape, np.float32)
        rows, columns = np.nonzero(lung > 0.5)
        grid_rows, grid_columns = np.indices(lung.shape, dtype=np.float32)
        for _ in range(self.R.randint(1, 4)):
            at = self.R.randint(len(rows))
            radii = self.R.uniform(6, 40, 2)
            distance = ((grid_rows - rows[at]) / radii[0]) ** 2 + ((grid_columns - columns[at]) / radii[1]) ** 2
            blobs = np.maximum(blobs, 1 / (1 + np.exp(8 * (np.sqrt(distance) - 1 + 0.3 * ripple))))
        return blobs * lung


class RandomFlip(RandomizableTransform, MapTransform):
    """Mirror left-right, exchanging the sides' labels, and CT now and then top-bottom (prone)."""

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, ["image", "label"])

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        image, label = data["image"], data["label"]
        if self._do_transform:
            image, label = image.flip(-1), label.flip(-1)[[1, 0, 2]]
        if data["modality"] == "CT" and self.R.uniform() < 0.15:
            image, label = image.flip(-2), label.flip(-2)
        return {**data, "image": image, "label": label}


class RandomInvert(RandomizableTransform, MapTransform):
    """Exchange black and white, as an X-ray whose photometric interpretation was ignored."""

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, ["image"])

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        is_inverted = self._do_transform and data["modality"] == "XRAY"
        return {**data, "image": 1 - data["image"]} if is_inverted else data


def training_transforms() -> Compose:
    """All random changes, in order."""
    both = ["image", "label"]
    return Compose(
        [
            RandomWindow(),
            RandomFlip(prob=0.5),
            RandAffined(
                both,
                prob=0.9,
                rotate_range=0.25,
                shear_range=(0.1, 0.1),
                translate_range=(24, 24),
                scale_range=((-0.25, 0.25), (-0.25, 0.25)),
                mode="bilinear",
                padding_mode="zeros",
                cache_grid=True,
                spatial_size=(256, 256),
            ),
            RandomConsolidation(prob=0.45),
            RandAdjustContrastd("image", prob=0.6, gamma=(0.6, 1.7)),
            RandGaussianSmoothd("image", prob=0.15, sigma_x=(0.3, 1.3), sigma_y=(0.3, 1.3)),
            RandGaussianNoised("image", prob=0.3, std=0.06),
            RandCoarseDropoutd("image", prob=0.15, holes=1, max_holes=4, spatial_size=8, max_spatial_size=40),
            RandomInvert(prob=0.05),
        ]
    )

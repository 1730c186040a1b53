"""Random changes of the training images, in MONAI transforms.

Samples are dictionaries: `image` float32 (1, H, W), HU for CT and 0..255 for X-rays until `RandomWindow`, 0..1 after
it; `label` float32 (3, H, W), soft labels of right lung, left lung and unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapTransform,
    OneOf,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandCoarseDropoutd,
    RandGaussianNoised,
    RandGaussianSharpend,
    RandGaussianSmoothd,
    RandGridDistortiond,
    RandHistogramShiftd,
    Randomizable,
    RandomizableTransform,
    Transform,
)

from SAMLungSegLib.models.base import scaled_size
from SAMLungSegLib.models.compact.network import INPUT_SIZE
from SAMLungSegLib.training.synthetic_findings import (
    RandomAir,
    RandomChange,
    RandomConsolidation,
    RandomDevices,
    RandomEffusion,
)

LUNG_LEVEL, LUNG_WIDTH = -600.0, 1500.0


@dataclass(frozen=True)
class Strength:
    """How far images are changed; see `training_transforms`. Angles in radians, `shift` as a fraction of the side."""

    window: float = 0.0
    affine: float = 0.0
    rotation: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    bend: float = 0.0
    consolidation: float = 0.0
    effusion: float = 0.0
    air: float = 0.0
    devices: float = 0.0
    contrast: float = 0.0
    gamma: tuple[float, float] = (1.0, 1.0)
    style: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    noise_sd: float = 0.0
    holes: float = 0.0
    invert: float = 0.0
    collimation: float = 0.0
    turn: float = 0.0
    crop: float = 0.0


STRONG = Strength(
    window=1.0,
    affine=0.9,
    rotation=0.25,
    shear=0.10,
    shift=0.094,
    scale=0.25,
    bend=0.25,
    consolidation=0.45,
    effusion=0.20,
    air=0.35,
    devices=0.15,
    contrast=0.6,
    gamma=(0.6, 1.7),
    style=0.25,
    blur=0.15,
    noise=0.30,
    noise_sd=0.06,
    holes=0.15,
    invert=0.05,
    collimation=0.10,
    turn=0.07,
    crop=0.10,
)
MILD = Strength(
    window=0.7,
    affine=0.8,
    rotation=0.14,
    shear=0.06,
    shift=0.055,
    scale=0.15,
    bend=0.10,
    consolidation=0.25,
    effusion=0.20,
    air=0.20,
    devices=0.15,
    contrast=0.5,
    gamma=(0.7, 1.5),
    style=0.15,
    blur=0.07,
    noise=0.15,
    noise_sd=0.04,
    holes=0.07,
    invert=0.05,
    collimation=0.10,
    turn=0.07,
    crop=0.10,
)
WHITE_LUNGS = replace(MILD, consolidation=0.9)
LIGHT_CT = replace(MILD, consolidation=0.30, effusion=0.14, style=0.0)
PLAIN = Strength(window=1.0, affine=0.9, rotation=0.14, shift=0.031, scale=0.13)
# by modality, how often which changes are made
STRENGTHS: dict[str, dict[str, dict[Strength, float]]] = {
    "strong": {"CT": {STRONG: 1.0}, "XRAY": {STRONG: 1.0}},
    "mild": {"CT": {MILD: 1.0}, "XRAY": {MILD: 1.0}},
    "light": {"CT": {LIGHT_CT: 1.0}, "XRAY": {PLAIN: 0.55, MILD: 0.25, WHITE_LUNGS: 0.20}},
    "mixed": {
        "CT": {LIGHT_CT: 0.5, MILD: 0.3, STRONG: 0.2},
        "XRAY": {PLAIN: 0.35, MILD: 0.40, STRONG: 0.25},
    },
    "plain": {"CT": {PLAIN: 1.0}, "XRAY": {PLAIN: 1.0}},
}


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


class RandomFlip(RandomChange):
    """Mirror left-right, exchanging the sides' labels, and CT now and then top-bottom (prone)."""

    changed_keys = ("image", "label")

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        image, label = data["image"], data["label"]
        if self._do_transform:
            image, label = image.flip(-1), label.flip(-1)[[1, 0, 2]]
        if data["modality"] == "CT" and self.R.uniform() < 0.15:
            image, label = image.flip(-2), label.flip(-2)
        return {**data, "image": image, "label": label}


class RandomInvert(RandomChange):
    """Exchange black and white, as an X-ray whose photometric interpretation was ignored."""

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        is_inverted = self._do_transform and data["modality"] == "XRAY"
        return {**data, "image": 1 - data["image"]} if is_inverted else data


class RandomTurn(RandomChange):
    """A quarter turn either way, as the image of a patient who lies on the side."""

    changed_keys = ("image", "label")

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        if not self._do_transform:
            return data
        times = int(self.R.choice([1, 3]))
        return {**data, **{key: torch.rot90(data[key], times, (-2, -1)) for key in self.keys}}


class RandomCollimation(RandomChange):
    """Nothing but black, at times white, outside a random rectangle; there is no lung where there is no image."""

    changed_keys = ("image", "label")

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        if not self._do_transform:
            return data
        height, width = data["image"].shape[-2:]
        top, bottom, left, right = (self.R.uniform(0, 0.15, 4) * [height, height, width, width]).astype(int)
        inside = torch.zeros(1, height, width)
        inside[:, top : height - bottom, left : width - right] = 1
        border = float(self.R.uniform() < 0.3)
        return {**data, "image": data["image"] * inside + border * (1 - inside), "label": data["label"] * inside}


class RandomFieldOfView(RandomChange):
    """One lung alone in view, cut off beside the mediastinum, or a chest cut off anywhere; drawn to fill the frame."""

    changed_keys = ("image", "label")

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        columns = [np.flatnonzero(one) for one in (np.asarray(data["label"][:2]) > 0.5).any(axis=1)]
        if not self._do_transform or not all(one.size for one in columns) or not data.get("sides_known", False):
            return data
        height, width = data["image"].shape[-2:]
        middle = sum(one.mean() for one in columns) / 2
        start, stop = 0, width
        if self.R.uniform() < 0.7:
            cut = int(np.clip(middle + self.R.normal(0, 0.03) * width, width // 5, width - width // 5))
            start, stop = (0, cut) if self.R.uniform() < 0.5 else (cut, width)
        else:
            start, stop = int(self.R.uniform(0, 0.3) * width), int(self.R.uniform(0.7, 1) * width)
        top, bottom = int(self.R.uniform(0, 0.1) * height), int(self.R.uniform(0.9, 1) * height)
        return {**data, **{key: _filling(data[key][:, top:bottom, start:stop], height) for key in self.keys}}


def _filling(part: torch.Tensor, side: int) -> torch.Tensor:
    """A part (C, H, W) of an image as the network is shown it: scaled to its frame, at the top left."""
    height, width = scaled_size(tuple(part.shape[-2:]), side)
    plane = torch.as_tensor(part)[None].float()
    scaled = F.interpolate(plane, (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    return F.pad(scaled, (0, side - width, 0, side - height))


class ByModality(Randomizable, Transform):
    """Changes of their own for CT and for X-rays."""

    def __init__(self, changes: dict[str, Compose]) -> None:
        self.changes = changes

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> ByModality:
        super().set_random_state(seed, state)
        for changes in self.changes.values():
            changes.set_random_state(self.R.randint(2**31))
        return self

    def __call__(self, data: dict) -> dict:
        return self.changes[data["modality"]](data)


def training_transforms(strength: str = "strong", side: int = INPUT_SIZE) -> ByModality:
    """All random changes, in order.

    Args:
        strength: one of `STRENGTHS`; 'mild' towards the end of a training, when borders are to become exact, 'light' at
            its very end: most X-rays as in 'plain', which changes no more than place, size and brightness, so that
            borders take the manner of their readers, and a fifth with painted consolidations, which no reader's manner
            tells; 'mixed' for what learns on a finished network.
        side: of the images in pixels.
    """
    return ByModality({modality: _one_of(odds, side) for modality, odds in STRENGTHS[strength].items()})


def _one_of(odds: dict[Strength, float], side: int) -> OneOf:
    return OneOf([_changes(much, side) for much in odds], weights=[*odds.values()])


def _changes(much: Strength, side: int) -> Compose:
    both = ["image", "label"]
    scale = side / INPUT_SIZE
    sigma = 0.3 * scale, 1.3 * scale
    return Compose(
        [
            RandomWindow(much.window),
            RandomFlip(prob=0.5),
            RandAffined(
                both,
                prob=much.affine,
                rotate_range=much.rotation,
                shear_range=(much.shear,) * 2,
                translate_range=(much.shift * side,) * 2,
                scale_range=((-much.scale, much.scale),) * 2,
                mode="bilinear",
                padding_mode="zeros",
                cache_grid=True,
                spatial_size=(side, side),
            ),
            RandGridDistortiond(both, prob=much.bend, num_cells=4, distort_limit=0.25, padding_mode="zeros"),
            RandomConsolidation(prob=much.consolidation),
            RandomEffusion(prob=much.effusion),
            RandomAir(prob=much.air),
            RandomDevices(prob=much.devices),
            RandHistogramShiftd("image", prob=much.style, num_control_points=(4, 8)),
            RandBiasFieldd("image", prob=much.style, coeff_range=(0.0, 0.2)),
            RandGaussianSharpend("image", prob=much.style / 2),
            RandAdjustContrastd("image", prob=much.contrast, gamma=much.gamma),
            RandGaussianSmoothd("image", prob=much.blur, sigma_x=sigma, sigma_y=sigma),
            RandGaussianNoised("image", prob=much.noise, std=much.noise_sd),
            RandCoarseDropoutd(
                "image",
                prob=much.holes,
                holes=1,
                max_holes=4,
                spatial_size=round(8 * scale),
                max_spatial_size=round(40 * scale),
            ),
            RandomInvert(prob=much.invert),
            RandomCollimation(prob=much.collimation),
            RandomTurn(prob=much.turn),
            RandomFieldOfView(prob=much.crop),
            # some of the above make tensors of their own kind out of everything; a batch needs all alike
            EnsureTyped([*both, "sides_known", "is_whole"], track_meta=False, allow_missing_keys=True),
        ]
    )

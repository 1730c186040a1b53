"""Random changes of the training images, in MONAI transforms.

Samples are dictionaries: `image` float32 (1, H, W), HU for CT and 0..255 for X-rays until `RandomWindow`, 0..1 after
it; `label` float32 (3, H, W), shares of right lung, left lung and unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapTransform,
    RandAdjustContrastd,
    RandAffined,
    RandBiasFieldd,
    RandCoarseDropoutd,
    RandGaussianNoised,
    RandGaussianSharpend,
    RandGaussianSmoothd,
    RandGridDistortiond,
    RandHistogramShiftd,
    RandomizableTransform,
)
from scipy import ndimage
from skimage.draw import bezier_curve, disk, polygon

LUNG_LEVEL, LUNG_WIDTH = -600.0, 1500.0


@dataclass(frozen=True)
class Strength:
    """How far images are changed; see `training_transforms`. Angles in radians, lengths in pixels of 256."""

    window: float
    affine: float
    rotation: float
    shear: float
    shift: int
    scale: float
    bend: float
    consolidation: float
    air: float
    contrast: float
    gamma: tuple[float, float]
    style: float
    blur: float
    noise: float
    noise_sd: float
    holes: float


STRENGTHS = {
    "strong": Strength(
        window=1.0,
        affine=0.9,
        rotation=0.25,
        shear=0.10,
        shift=24,
        scale=0.25,
        bend=0.25,
        consolidation=0.45,
        air=0.35,
        contrast=0.6,
        gamma=(0.6, 1.7),
        style=0.25,
        blur=0.15,
        noise=0.30,
        noise_sd=0.06,
        holes=0.15,
    ),
    "mild": Strength(
        window=0.7,
        affine=0.8,
        rotation=0.14,
        shear=0.06,
        shift=14,
        scale=0.15,
        bend=0.10,
        consolidation=0.25,
        air=0.20,
        contrast=0.5,
        gamma=(0.7, 1.5),
        style=0.15,
        blur=0.07,
        noise=0.15,
        noise_sd=0.04,
        holes=0.07,
    ),
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


def _ripple(random: np.random.RandomState, size_hw: tuple[int, int]) -> np.ndarray:
    """Smooth noise around 0 with an SD of 0.4, to make lines wavy and blobs ragged."""
    return ndimage.gaussian_filter(random.standard_normal(size_hw).astype(np.float32), 4) * 6


def _depth(angle: float, waves: np.ndarray) -> np.ndarray:
    """How far each pixel lies along a direction, which is down in the image at angle 0; `waves` are added."""
    rows, columns = np.indices(waves.shape, dtype=np.float32)
    return rows * np.cos(angle) + columns * np.sin(angle) + waves


class RandomConsolidation(RandomizableTransform, MapTransform):
    """Denser lung painted inside the lungs; the label stays lung, as a radiologist would draw it.

    Either soft blobs of any density, or all of one lung that lies beyond a wavy line, mostly its dependent part, as
    dense as tissue: then only the shape of the chest tells where the lung ends. On X-rays this hides the borders of
    heart and diaphragm as well.
    """

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, ["image"])

    def __call__(self, data: dict) -> dict:
        lung = np.asarray(data["label"][:2].sum(0))
        self.randomize(None)
        if not self._do_transform or lung.sum() < 500:
            return data
        ripple = _ripple(self.R, lung.shape)
        is_ct = data["modality"] == "CT"
        if self.R.uniform() < 0.5:
            one = np.asarray(data["label"][self.R.randint(2)])
            reach = one if is_ct else ndimage.gaussian_filter(ndimage.grey_dilation(one, self.R.randint(3, 16)), 1.5)
            share = self._beyond_a_line(one, ripple) * reach * self.R.uniform(0.8, 1.0)
            density = self.R.uniform(0.86, 0.97) if is_ct else self.R.uniform(0.7, 0.97)
        else:
            share = self._blobs(lung, ripple) * self.R.uniform(0.4, 1.0)
            density = self.R.uniform(0.7, 0.97) if is_ct else self.R.uniform(0.5, 0.85)
        dense = torch.from_numpy((density + 0.02 * self.R.standard_normal(lung.shape)).astype(np.float32))
        image = data["image"]
        return {**data, "image": image + torch.from_numpy(share.astype(np.float32)) * (dense - image).clip(min=0)}

    def _beyond_a_line(self, lung: np.ndarray, ripple: np.ndarray) -> np.ndarray:
        """1 beyond, 0 before a line that cuts off a tenth to a half of one lung, mostly its lower part in the image."""
        angle = self.R.normal(0, 0.6) if self.R.uniform() < 0.8 else self.R.uniform(0, 2 * np.pi)
        depth = _depth(angle, self.R.uniform(0, 8) * ripple)
        inside = lung > 0.5
        if not inside.any():
            return np.zeros_like(lung)
        line = np.quantile(depth[inside], 1 - self.R.uniform(0.1, 0.5))
        return 1 / (1 + np.exp(np.clip(line - depth, -20, 20)))

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


class RandomAir(RandomizableTransform, MapTransform):
    """Air outside the lungs of an X-ray, as dark as a lung or of any other grey; the label stays as it is.

    Beside the body the air that is there changes its grey, or more of it is painted beyond a wavy line that does not
    reach the lungs, as between chest and arm; below a lung comes a bubble, as in the stomach or the colon.
    """

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, ["image"])

    def __call__(self, data: dict) -> dict:
        lungs = np.asarray(data["label"][:2]) > 0.5
        self.randomize(None)
        if not self._do_transform or data["modality"] != "XRAY" or not lungs.any():
            return data
        image = np.asarray(data["image"][0])
        lung = lungs.any(0)
        is_clear = ndimage.distance_transform_edt(~lung) > 4
        ripple = _ripple(self.R, image.shape)
        kind = self.R.randint(3)
        if kind == 0:
            share = self._air_around(image, lung, is_clear)
        elif kind == 1:
            share = self._beyond_a_line(lung, ripple)
        else:
            share = self._bubble(lungs, ripple)
        like_lung = np.quantile(image[lung], self.R.uniform(0.05, 0.6))
        level = like_lung if self.R.uniform() < 0.6 else self.R.uniform(0, 0.9)
        texture = 0.1 * (image - image.mean()) + self.R.uniform(0, 0.02) * self.R.standard_normal(image.shape)
        share = ndimage.gaussian_filter(share.astype(np.float32), self.R.uniform(0.5, 2)) * is_clear
        change = share * (level + texture - image)
        return {**data, "image": data["image"] + torch.from_numpy(change.astype(np.float32))}

    def _air_around(self, image: np.ndarray, lung: np.ndarray, is_clear: np.ndarray) -> np.ndarray:
        dark = (image < np.quantile(image[lung], 0.2)) & is_clear
        pieces = ndimage.label(np.pad(dark, 1, constant_values=True))[0]
        return (pieces == pieces[0, 0])[1:-1, 1:-1]

    def _beyond_a_line(self, lung: np.ndarray, ripple: np.ndarray) -> np.ndarray:
        angle = self.R.randint(4) * np.pi / 2 + self.R.uniform(0.15, 0.35) * np.pi  # to a corner of the image
        depth = _depth(angle, self.R.uniform(0, 4) * ripple)
        nearest, corner = depth[lung].max(), depth.max()
        line = nearest + self.R.uniform(0.05, 0.8) * (corner - nearest)
        return (depth > line) & (depth < line + self.R.uniform(10, 120))

    def _bubble(self, lungs: np.ndarray, ripple: np.ndarray) -> np.ndarray:
        sides = [side for side in lungs if side.any()]
        lung_rows, lung_columns = np.nonzero(sides[self.R.randint(len(sides))])
        middle = (lung_rows.max() + self.R.uniform(-10, 40), self.R.uniform(lung_columns.min(), lung_columns.max()))
        radii = self.R.uniform(5, 28, 2)
        rows, columns = np.indices(ripple.shape, dtype=np.float32)
        bubble = np.hypot((rows - middle[0]) / radii[0], (columns - middle[1]) / radii[1]) < 1 + 0.3 * ripple
        fluid_level = middle[0] + self.R.uniform(-0.3, 1) * radii[0]
        return bubble & (rows < fluid_level) if self.R.uniform() < 0.3 else bubble


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


class RandomTurn(RandomizableTransform, MapTransform):
    """A quarter turn either way, as the image of a patient who lies on the side."""

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, ["image", "label"])

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        if not self._do_transform:
            return data
        times = int(self.R.choice([1, 3]))
        return {**data, **{key: torch.rot90(data[key], times, (-2, -1)) for key in self.keys}}


class RandomCollimation(RandomizableTransform, MapTransform):
    """Nothing but black, at times white, outside a random rectangle; there is no lung where there is no image."""

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, ["image", "label"])

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


class RandomDevices(RandomizableTransform, MapTransform):
    """Tubes, electrodes and a pacemaker's box painted over an X-ray, brighter than what lies below."""

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, ["image"])

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        if not self._do_transform or data["modality"] != "XRAY":
            return data
        size_hw = tuple(data["image"].shape[-2:])
        painted = np.zeros(size_hw, np.float32)
        for _ in range(self.R.randint(1, 4)):
            shape = [self._tube, self._electrode, self._box][self.R.choice(3, p=[0.5, 0.35, 0.15])](size_hw)
            painted = np.maximum(painted, shape * np.float32(self.R.uniform(0.2, 0.6)))
        painted = torch.from_numpy(ndimage.gaussian_filter(painted, 0.6))
        return {**data, "image": (data["image"] + painted).clip(max=1)}

    def _points(self, size_hw: tuple[int, int], count: int) -> np.ndarray:
        return (self.R.uniform(0.1, 0.9, (count, 2)) * size_hw).astype(int)

    def _tube(self, size_hw: tuple[int, int]) -> np.ndarray:
        canvas = np.zeros(size_hw, bool)
        first, bend, last = self._points(size_hw, 3)
        canvas[bezier_curve(*first, *bend, *last, weight=1.0, shape=size_hw)] = True
        return ndimage.binary_dilation(canvas, iterations=self.R.randint(1, 3))

    def _electrode(self, size_hw: tuple[int, int]) -> np.ndarray:
        canvas = self._tube(size_hw) if self.R.uniform() < 0.5 else np.zeros(size_hw, bool)
        canvas[disk(self._points(size_hw, 1)[0], self.R.uniform(3, 7), shape=size_hw)] = True
        return canvas

    def _box(self, size_hw: tuple[int, int]) -> np.ndarray:
        canvas = np.zeros(size_hw, bool)
        middle, half, angle = self._points(size_hw, 1)[0], self.R.uniform(6, 16, 2), self.R.uniform(0, np.pi)
        corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * half
        turned = corners @ [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] + middle
        canvas[polygon(*turned.T, shape=size_hw)] = True
        return canvas


def training_transforms(strength: str = "strong") -> Compose:
    """All random changes, in order.

    Args:
        strength: one of `STRENGTHS`; 'mild' for the end of a training, when borders are to become exact.
    """
    both, much = ["image", "label"], STRENGTHS[strength]
    return Compose(
        [
            RandomWindow(much.window),
            RandomFlip(prob=0.5),
            RandAffined(
                both,
                prob=much.affine,
                rotate_range=much.rotation,
                shear_range=(much.shear,) * 2,
                translate_range=(much.shift,) * 2,
                scale_range=((-much.scale, much.scale),) * 2,
                mode="bilinear",
                padding_mode="zeros",
                cache_grid=True,
                spatial_size=(256, 256),
            ),
            RandGridDistortiond(both, prob=much.bend, num_cells=4, distort_limit=0.25, padding_mode="zeros"),
            RandomConsolidation(prob=much.consolidation),
            RandomAir(prob=much.air),
            RandomDevices(prob=0.15),
            RandHistogramShiftd("image", prob=much.style, num_control_points=(4, 8)),
            RandBiasFieldd("image", prob=much.style, coeff_range=(0.0, 0.2)),
            RandGaussianSharpend("image", prob=much.style / 2),
            RandAdjustContrastd("image", prob=much.contrast, gamma=much.gamma),
            RandGaussianSmoothd("image", prob=much.blur, sigma_x=(0.3, 1.3), sigma_y=(0.3, 1.3)),
            RandGaussianNoised("image", prob=much.noise, std=much.noise_sd),
            RandCoarseDropoutd("image", prob=much.holes, holes=1, max_holes=4, spatial_size=8, max_spatial_size=40),
            RandomInvert(prob=0.05),
            RandomCollimation(prob=0.10),
            RandomTurn(prob=0.07),
            # some of the above make tensors of their own kind out of everything; a batch needs all alike
            EnsureTyped([*both, "sides_known"], track_meta=False, allow_missing_keys=True),
        ]
    )

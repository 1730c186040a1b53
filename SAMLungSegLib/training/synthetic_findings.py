"""Random changes that paint into images what the few of a training hardly show: consolidations, fluid, air, devices.

Samples are as in `SAMLungSegLib.training.augment`, with grey values in 0..1.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import MapTransform, RandomizableTransform
from scipy import ndimage
from skimage.draw import bezier_curve, disk, polygon


def _ripple(random: np.random.RandomState, size_hw: tuple[int, int]) -> np.ndarray:
    """Smooth noise around 0 with an SD of 0.4, to make lines wavy and blobs ragged."""
    return ndimage.gaussian_filter(random.standard_normal(size_hw).astype(np.float32), 4) * 6


def _depth(angle: float, waves: np.ndarray) -> np.ndarray:
    """How far each pixel lies along a direction, which is down in the image at angle 0; `waves` are added."""
    rows, columns = np.indices(waves.shape, dtype=np.float32)
    return rows * np.cos(angle) + columns * np.sin(angle) + waves


def _beyond(depth: np.ndarray, inside: np.ndarray, fraction: float, sharpness: float = 1.0) -> np.ndarray:
    """1 beyond, 0 before the depth that cuts off this fraction of the pixels inside."""
    line = np.quantile(depth[inside], 1 - fraction)
    return 1 / (1 + np.exp(np.clip(sharpness * (line - depth), -20, 20)))


def _brightened(image: torch.Tensor, fraction: np.ndarray, grey: np.ndarray) -> torch.Tensor:
    """The image (1, H, W) with so much of a grey as the fraction says, where that is brighter."""
    fraction, grey = (torch.from_numpy(plane.astype(np.float32)) for plane in (fraction, grey))
    return image + fraction * (grey - image).clip(min=0)


class RandomChange(RandomizableTransform, MapTransform):
    """Base of the changes that happen with a probability."""

    changed_keys: tuple[str, ...] = ("image",)

    def __init__(self, prob: float) -> None:
        RandomizableTransform.__init__(self, prob)
        MapTransform.__init__(self, self.changed_keys)


class RandomConsolidation(RandomChange):
    """Denser lung painted inside the lungs; the label stays lung, as a radiologist would draw it.

    Either soft blobs of any density, or all of one lung that lies beyond a wavy line, mostly its dependent part, as
    dense as tissue: then only the shape of the chest tells where the lung ends. On X-rays this hides the borders of
    heart and diaphragm as well.
    """

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
            fraction = self._beyond_a_line(one, ripple) * reach * self.R.uniform(0.8, 1.0)
            density = self.R.uniform(0.86, 0.97) if is_ct else self.R.uniform(0.7, 0.97)
        else:
            fraction = self._blobs(lung, ripple) * self.R.uniform(0.4, 1.0)
            density = self.R.uniform(0.7, 0.97) if is_ct else self.R.uniform(0.5, 0.85)
        dense = density + 0.02 * self.R.standard_normal(lung.shape)
        return {**data, "image": _brightened(data["image"], fraction, dense)}

    def _beyond_a_line(self, lung: np.ndarray, ripple: np.ndarray) -> np.ndarray:
        """1 beyond, 0 before a line that cuts off a tenth to a half of one lung, mostly its lower part in the image."""
        angle = self.R.normal(0, 0.6) if self.R.uniform() < 0.8 else self.R.uniform(0, 2 * np.pi)
        depth = _depth(angle, self.R.uniform(0, 8) * ripple)
        inside = lung > 0.5
        if not inside.any():
            return np.zeros_like(lung)
        return _beyond(depth, inside, self.R.uniform(0.1, 0.5))

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


class RandomEffusion(RandomChange):
    """Fluid painted where one lung of a CT was, beyond a smooth hollow line, mostly in its dependent part: not lung.

    Without it, a network that has learned from `RandomConsolidation` takes effusions for lung.
    """

    changed_keys = ("image", "label")

    def __call__(self, data: dict) -> dict:
        self.randomize(None)
        image, label = data["image"], data["label"]
        lung = np.asarray(label[self.R.randint(2)])
        inside = lung > 0.5
        if not self._do_transform or data["modality"] != "CT" or not inside.any():
            return data
        angle = self.R.normal(0, 0.5)
        across = _depth(angle + np.pi / 2, np.zeros_like(lung))
        hollow = ((across - across[inside].mean()) / (across[inside].std() + 1)) ** 2
        waves = self.R.uniform(0, 2) * _ripple(self.R, lung.shape)
        depth = _depth(angle, waves + self.R.uniform(0, 12) * hollow)
        reach = ndimage.gaussian_filter(ndimage.grey_dilation(lung, 5), 1)
        fraction = reach * _beyond(depth, inside, self.R.uniform(0.05, 0.5), sharpness=2)
        fluid = self.R.uniform(0.88, 0.95) + 0.01 * self.R.standard_normal(lung.shape)
        kept = torch.from_numpy(1 - fraction.astype(np.float32))
        return {**data, "image": _brightened(image, fraction, fluid), "label": torch.cat([label[:2] * kept, label[2:]])}


class RandomAir(RandomChange):
    """Air outside the lungs of an X-ray, as dark as a lung or of any other grey; the label stays as it is.

    Beside the body the air that is there changes its grey, or more of it is painted beyond a wavy line that does not
    reach the lungs, as between chest and arm; below a lung comes a bubble, as in the stomach or the colon.
    """

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
            fraction = self._air_around(image, lung, is_clear)
        elif kind == 1:
            fraction = self._beyond_a_line(lung, ripple)
        else:
            fraction = self._bubble(lungs, ripple)
        like_lung = np.quantile(image[lung], self.R.uniform(0.05, 0.6))
        level = like_lung if self.R.uniform() < 0.6 else self.R.uniform(0, 0.9)
        texture = 0.1 * (image - image.mean()) + self.R.uniform(0, 0.02) * self.R.standard_normal(image.shape)
        fraction = ndimage.gaussian_filter(fraction.astype(np.float32), self.R.uniform(0.5, 2)) * is_clear
        change = fraction * (level + texture - image)
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


class RandomDevices(RandomChange):
    """Tubes, electrodes and a pacemaker's box painted over an X-ray, brighter than what lies below."""

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

"""Ways in which images arrive corrupted, to measure what a model makes of them.

Each takes a grey slice, uint8 (H, W), and its lung mask, bool (H, W), and returns both as they would look then: masks
move with the image, and there is no lung where there is no image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.draw import disk, line
from skimage.transform import rotate

from SAMLungSegLib.modality import Modality

Pair = tuple[np.ndarray, np.ndarray]
Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], Pair]


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt an image.

    Attributes:
        name: for tables.
        change: does it.
        modalities: that it happens to.
    """

    name: str
    change: Change
    modalities: tuple[Modality, ...] = ("CT", "XRAY")


def _grey(function: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Change:
    """A change of grey levels in 0..1, which leaves the mask alone."""

    def change(grey: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
        changed = function(grey.astype(np.float32) / 255, rng)
        return np.rint(np.clip(changed, 0, 1) * 255).astype(np.uint8), mask

    return change


def _window(gain: float, shift: float) -> Change:
    return _grey(lambda grey, _: (grey - 0.5) * gain + 0.5 + shift)


def _noise(sd: float) -> Change:
    return _grey(lambda grey, rng: grey + rng.normal(0, sd, grey.shape))


def _coarse(times: int) -> Change:
    def change(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        small = ndimage.zoom(grey, 1 / times, order=1, grid_mode=True, mode="nearest")
        factors = np.divide(grey.shape, small.shape)
        return ndimage.zoom(small, factors, order=1, grid_mode=True, mode="nearest")

    return _grey(change)


def _turned(degrees: float) -> Change:
    def change(grey: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
        turned = rotate(grey.astype(float), degrees, order=1, mode="constant", preserve_range=True)
        lung = rotate(mask.astype(float), degrees, order=0, mode="constant", preserve_range=True) > 0.5
        return np.rint(turned).astype(np.uint8), lung

    return change


def _on_the_side(grey: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    return np.rot90(grey).copy(), np.rot90(mask).copy()


def _cropped(fraction: float) -> Change:
    def change(grey: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
        rows, columns = (round(fraction * side) for side in grey.shape)
        inside = (slice(rows, -rows), slice(columns, -columns))
        return grey[inside].copy(), mask[inside].copy()

    return change


def _padded(fraction: float) -> Change:
    def change(grey: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
        widths = [(round(fraction * side),) * 2 for side in grey.shape]
        return np.pad(grey, widths), np.pad(mask, widths)

    return change


def _collimated(value: int) -> Change:
    def change(grey: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
        rows, columns = (round(0.06 * side) for side in grey.shape)
        inside = np.zeros(grey.shape, bool)
        inside[rows:-rows, columns:-columns] = True
        return np.where(inside, grey, np.uint8(value)), mask & inside

    return change


def _with_devices(grey: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Pair:
    """Three electrodes with their leads and a tube, as bright as metal."""
    drawn = np.zeros(grey.shape, bool)
    for _ in range(3):
        place = rng.uniform(0.25, 0.75, 2) * grey.shape
        drawn[disk(tuple(place), 0.018 * grey.shape[0], shape=grey.shape)] = True
        end = (0, int(rng.uniform(0.2, 0.8) * grey.shape[1]))
        drawn[line(*place.astype(int), *end)] = True
    middle = grey.shape[1] // 2
    drawn[line(0, middle, int(0.45 * grey.shape[0]), middle)] = True
    drawn = ndimage.binary_dilation(drawn, iterations=max(1, round(0.004 * grey.shape[0])))
    return np.where(drawn, np.maximum(grey, 235), grey).astype(np.uint8), mask


CORRUPTIONS = (
    Corruption("window 30 % narrower", _window(1.43, 0.0)),
    Corruption("window 30 % wider", _window(0.77, 0.0)),
    Corruption("a tenth brighter", _window(1.0, 0.1)),
    Corruption("a tenth darker", _window(1.0, -0.1)),
    Corruption("gamma 0.6", _grey(lambda grey, _: grey**0.6)),
    Corruption("gamma 1.7", _grey(lambda grey, _: grey**1.7)),
    Corruption("black and white exchanged", _grey(lambda grey, _: 1 - grey), ("XRAY",)),
    Corruption("noise, SD 5 %", _noise(0.05)),
    Corruption("noise, SD 10 %", _noise(0.10)),
    Corruption("blurred, sigma 2 pixels", _grey(lambda grey, _: ndimage.gaussian_filter(grey, 2))),
    Corruption("a quarter of the resolution", _coarse(4)),
    Corruption("turned by 10 degrees", _turned(10)),
    Corruption("turned by 25 degrees", _turned(25)),
    Corruption("lying on the side (90 degrees)", _on_the_side),
    Corruption("a tenth cut off each side", _cropped(0.10)),
    Corruption("black margins of a quarter", _padded(0.25)),
    Corruption("collimated, black border", _collimated(0), ("XRAY",)),
    Corruption("collimated, white border", _collimated(255), ("XRAY",)),
    Corruption("electrodes and a tube", _with_devices, ("XRAY",)),
)

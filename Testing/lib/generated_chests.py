"""Generated chests of the usual size, which takes seconds, made once for all tests of a process."""

from __future__ import annotations

from functools import cache

import numpy as np

from SAMLungSegLib.phantom import Phantom, chest_ct, chest_xray


@cache
def generated_ct(seed: int = 0) -> Phantom:
    """`chest_ct` of the seed; nobody can change it."""
    phantom = chest_ct(seed)
    _keep_as_they_are(phantom.hu_kji, phantom.labelmap_kji, phantom.ijk_to_ras)
    return phantom


@cache
def generated_xray(seed: int = 0, size_hw: tuple[int, int] = (512, 512)) -> tuple[np.ndarray, np.ndarray]:
    """`chest_xray` of that chest: the image and its lungs; nobody can change them."""
    image, labels = chest_xray(generated_ct(seed), size_hw)
    _keep_as_they_are(image, labels)
    return image, labels


def _keep_as_they_are(*arrays: np.ndarray) -> None:
    for array in arrays:
        array.flags.writeable = False

"""Small sets of images with masks and a small SAM in the registry, shared by the tests of tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from tiny_sams import tiny_sam

from SAMLungSegLib.models.checkpoints import file_sha256
from SAMLungSegLib.models.registry import MODELS


def chest(seed: int, size_hw: tuple[int, int] = (96, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Grey picture uint8 with two dark ovals, and the bool mask of these."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size_hw) / np.array(size_hw).reshape(2, 1, 1)
    mask = np.zeros(size_hw, bool)
    for middle in (0.28, 0.72):
        x, y = np.array([middle, 0.5]) + rng.uniform(-0.03, 0.03, 2)
        half_x, half_y = rng.uniform(0.12, 0.17), rng.uniform(0.25, 0.38)
        mask |= ((columns - x) / half_x) ** 2 + ((rows - y) / half_y) ** 2 < 1
    grey = np.where(mask, 60, 170) + rng.normal(0, 12, size_hw)
    return grey.clip(0, 255).astype(np.uint8), mask


def write_set(folder: Path, count: int, *, first_seed: int = 0) -> Path:
    """A folder with images/ and masks/ of `count` chests, named chest_00 and so on."""
    for number in range(count):
        grey, mask = chest(first_seed + number)
        write_png(folder / "images" / f"chest_{number:02d}.png", grey)
        write_png(folder / "masks" / f"chest_{number:02d}.png", mask.astype(np.uint8) * 255)
    return folder


def write_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def register_tiny_sam(monkeypatch: pytest.MonkeyPatch, cache: Path, sam: Callable[[], Sam] = tiny_sam) -> None:
    """Let 'sam-vit-b' be a network of random weights with frames of 256, whose file lies in `cache`."""
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(cache))
    spec = MODELS["sam-vit-b"]
    path = cache / "models" / spec.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(sam().state_dict(), path)
    monkeypatch.setitem(MODELS, spec.name, replace(spec, sha256=file_sha256(path)))
    monkeypatch.setitem(sam_model_registry, spec.architecture, lambda checkpoint=None: tiny_sam())

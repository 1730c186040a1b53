"""Image files that are segmented in a moment, and their results: for tests of the command and of what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.cli import main
from SAMLungSegLib.phantom import chest_ct, chest_xray


def write_images(folder: Path, direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> Path:
    """A CT of six slices, chest.nii.gz, with these directions (of ITK), and an X-ray, frontal.png; the folder."""
    image = sitk.GetImageFromArray(chest_ct(seed=0, size_kji=(6, 64, 64), spacing_mm=(50.0, 6.0, 6.0)).hu_kji)
    image.SetSpacing((6, 6, 50))
    image.SetDirection(direction)
    sitk.WriteImage(image, str(folder / "chest.nii.gz"))
    picture, _ = chest_xray(chest_ct(seed=0, size_kji=(48, 64, 64), spacing_mm=(6.0, 6.0, 6.0)), (128, 128))
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(folder / "frontal.png"))
    return folder


def run(*arguments: object) -> int:
    """The command, in this process; its exit code."""
    return main([str(argument) for argument in arguments])


def labels(path: Path) -> np.ndarray:
    """The values of a labelmap file."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))

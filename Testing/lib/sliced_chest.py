"""A small generated chest, reformats of it, and a model that counts what it is asked: for tests of single slices."""

from __future__ import annotations

import numpy as np
import torch

from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.volume import ReformattedSlice, Volume, axial_plane, reformat_volume

RIGHT, ANTERIOR, SUPERIOR = np.eye(3)
MIDDLE = 8


class BoxModel(PromptableModel):
    """Answers with the prompted box, or a square of 41 pixels and a single pixel at the first point; counts slices."""

    name, device = "box", torch.device("cpu")

    def __init__(self) -> None:
        self.encoded: list[np.ndarray] = []
        self.asked: list[PromptSet] = []

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        self.encoded += slices
        return [Embedding((), image.shape) for image in slices]

    def decode(self, embedding, prompts):
        self.check_prompts(prompts, embedding.size_hw)
        self.asked.append(prompts)
        logits = np.full(embedding.size_hw, -5.0, np.float32)
        left, top, right, bottom = prompts.box.xyxy if prompts.box else (10, 10, 50, 50)
        logits[int(np.ceil(top)) : int(bottom) + 1, int(np.ceil(left)) : int(right) + 1] = 5.0
        if not prompts.box:
            x, y = prompts.points[0].xy
            logits[round(y), round(x)] = 5.0
        return Prediction(logits, 0.5, logits)


def sliced_chest() -> Volume:
    """Sixteen slices, of which MIDDLE is one in the middle."""
    phantom = chest_ct(seed=0, size_kji=(16, 128, 128), spacing_mm=(20.0, 3.0, 3.0))
    return Volume(phantom.hu_kji, phantom.ijk_to_ras, "phantom")


def cut_through(volume: Volume, ijk: tuple[float, ...], normal=SUPERIOR) -> ReformattedSlice:
    point = volume.ijk_to_ras[:3, :3] @ ijk + volume.ijk_to_ras[:3, 3]
    return reformat_volume(volume.size_kji, volume.ijk_to_ras, normal, point)


def axial_cut(volume: Volume, n: int) -> ReformattedSlice:
    """The n-th slice that the volume is segmented by."""
    plane = axial_plane(volume)
    _, to_column, to_row = plane.nxy_to_ras_matrix[:3, :3].T
    return reformat_volume(volume.size_kji, volume.ijk_to_ras, np.cross(to_column, to_row), plane.nxy_to_ras((n, 0, 0)))

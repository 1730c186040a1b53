"""A model family of one's own: what CONTRIBUTING says must be added is enough."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cohorts import chest_hu
from safetensors.torch import save_file
from torch import nn

from SAMLungSegLib import load_model, segment
from SAMLungSegLib.models import torch_loading
from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.models.registry import CACHE_VARIABLE, MODELS, ModelSpec
from SAMLungSegLib.prompts import PromptSet


class Level(nn.Module):
    """A network of the three usual parts and one number: the grey level below which is lung."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.Linear(1, 1, bias=False)
        self.prompt_encoder = self.mask_decoder = nn.Identity()

    @property
    def level(self) -> float:
        return self.image_encoder.weight.item()


class LevelModel(PromptableModel):
    def __init__(self, network: Level, *, name: str, device: torch.device, capabilities: Capabilities) -> None:
        self.network, self.name, self.device, self.capabilities = network, name, device, capabilities

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        return [Embedding((one,), one.shape) for one in slices]

    def decode(self, embedding, prompts: PromptSet) -> Prediction:
        logits = np.where(embedding.features[0] < self.network.level, 5, -5).astype(np.float32)
        return Prediction(logits, 0.9, logits)


@pytest.fixture
def family(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    spec = ModelSpec(
        "level", "level", "one", "Lung is dark", "http://localhost/", "level.safetensors", 0, None, "CC0",
        Capabilities(prompts=(), needs_prompt=False),
    )  # fmt: skip
    monkeypatch.setitem(MODELS, spec.name, spec)
    monkeypatch.setitem(torch_loading.FAMILIES, spec.family, LevelModel)
    monkeypatch.setitem(torch_loading.NETWORKS, spec.family, lambda architecture: Level())
    (tmp_path / "models").mkdir()
    save_file({"image_encoder.weight": torch.tensor([[100.0]])}, tmp_path / "models" / spec.file_name)
    return spec


def test_it_loads_by_name_with_its_weights_and_segments(family):
    model = load_model(family.name, device="cpu")
    assert isinstance(model, LevelModel) and model.network.level == 100
    lungs = segment(chest_hu(), ijk_to_ras=np.diag([-6.0, -6, 40, 1]), model=model).labelmap_kji
    expected = chest_hu() == -850  # the window's grey is 0 there, and far above 100 in tissue
    assert (lungs > 0)[expected].mean() > 0.95 and (lungs > 0)[~expected].mean() < 0.01
    assert set(np.unique(lungs)) == {0, 1, 2}

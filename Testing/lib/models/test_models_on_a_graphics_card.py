"""What users run on a graphics card: lungs and prompted slices come out as on the processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sams import grey, relative_error, tiny_sam

from SAMLungSegLib import segment
from SAMLungSegLib.errors import is_out_of_memory, memory_advice
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet

CARD = "cuda"
SMALL_SAM = Path(__file__).resolve().parents[2] / "models" / "sam-vit-tiny.safetensors"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card here"),
]


def oblique_chest() -> tuple[np.ndarray, np.ndarray]:
    """A coarse chest whose axes are turned by 10 degrees and whose first one runs to the patient's right."""
    chest = chest_ct(seed=7, size_kji=(24, 112, 128), spacing_mm=(12.0, 3.2, 3.0))
    angle = np.radians(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = chest.hu_kji.shape[2] - 1
    return chest.hu_kji[:, :, ::-1].copy(), turn @ chest.ijk_to_ras @ flip


@pytest.mark.parametrize(
    ("name", "weights", "engine"), [("lung-compact", None, "torch"), ("sam-vit-tiny", SMALL_SAM, None)]
)
def test_the_lungs_of_an_oblique_flipped_chest_are_those_of_the_processor(name, weights, engine):
    if weights is not None and not weights.is_file():
        pytest.skip(f"{weights} is in the repository only")
    hu, ijk_to_ras = oblique_chest()
    found = []
    for device in ("cpu", CARD):
        model = load_model(name, weights=weights, device=device, engine=engine)
        found.append(segment(hu, ijk_to_ras=ijk_to_ras, model=model).labelmap_kji)
    for label in (1, 2):
        assert (found[0] == label).sum() > 1000
        assert dice(found[0] == label, found[1] == label) >= 0.999


@pytest.mark.parametrize("prompts", [
    PromptSet((PointPrompt((40.0, 30.0)), PointPrompt((10.0, 60.0), positive=False))),
    PromptSet(box=BoxPrompt((10.0, 20.0, 70.0, 55.0))),
], ids=["points", "box"])  # fmt: skip
def test_a_prompted_slice_has_the_logits_of_the_processor(prompts, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    found = []
    for device in ("cpu", CARD):
        model = SamModel(tiny_sam(), name="sam-vit-b", device=device)
        found.append(model.decode(model.encode([grey((64, 80))])[0], prompts).logits)
    assert relative_error(found[1], found[0]) <= 1e-3


def test_a_card_whose_memory_is_full_is_told_as_such():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50, device=CARD)
    assert is_out_of_memory(raised.value)
    assert "choose the device cpu" in memory_advice(raised.value)

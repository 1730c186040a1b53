"""From a name and a checkpoint to a model that answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model, loading, torch_loading
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.capabilities import SAM
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.engines import is_installed

ENGINES = (pytest.param("onnx", marks=pytest.mark.skipif(not is_installed("onnx"), reason="no ONNX Runtime")), "torch")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {name: value.clone() for name, value in CompactNet().state_dict().items()}


def weights_of(model: PromptableModel) -> dict[str, np.ndarray]:
    """All weights of a network, whatever runs it."""
    if model.engine == "onnx":
        return dict(model.state)
    return {name: value.numpy() for name, value in model.network.state_dict().items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_whole_network_replaces_the_registrys_weights(state, tmp_path, engine):
    save_file(state, tmp_path / "own.safetensors")
    loaded = load_model("lung-compact", weights=tmp_path / "own.safetensors", device="cpu", engine=engine)
    assert all(np.array_equal(value, weights_of(loaded)[name]) for name, value in state.items())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_decoder_alone_is_put_on_top_of_the_registrys_encoder(state, tmp_path, engine):
    decoder = {name.removeprefix("mask_decoder."): v for name, v in state.items() if name.startswith("mask_decoder.")}
    torch.save({"state_dict": decoder}, tmp_path / "decoder.pth")
    loaded = weights_of(load_model("lung-compact", weights=tmp_path / "decoder.pth", device="cpu", engine=engine))
    plain = weights_of(load_model("lung-compact", device="cpu", engine=engine))
    for name, value in loaded.items():
        assert np.array_equal(value, state[name] if name.startswith("mask_decoder.") else plain[name]), name


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_of_another_network_are_refused_with_the_keys(state, tmp_path, engine):
    wrong = {name: value for name, value in state.items() if "stages.0" not in name}
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(ModelError, match=r"missing \(image_encoder.stages.0"):
        load_model("lung-compact", weights=tmp_path / "wrong.safetensors", device="cpu", engine=engine)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match="lung-compact, sam-vit-b"):
        load_model("sam-vit-z")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ModelError, match="not available"):
        load_model("lung-compact", device="cuda:99")


@pytest.mark.parametrize("options", [{"input_size": 128}, {"dtype": torch.bfloat16}], ids=str)
def test_options_of_sams_encoder_are_refused_by_the_compact_network(options):
    with pytest.raises(ModelError, match=f"lung-compact has no {next(iter(options))} to choose"):
        load_model("lung-compact", device="cpu", **options)


def test_options_of_sams_encoder_reach_it(monkeypatch):
    """With a constructor that records instead of a network of 90 million weights."""

    class Recorded:
        engine = "torch"

        def __init__(self, _net, **options):
            self.seen, self.device = options, options["device"]

    monkeypatch.setitem(torch_loading.FAMILIES, "sam", Recorded)
    monkeypatch.setitem(torch_loading.NETWORKS, "sam", lambda _architecture: torch.nn.Identity())
    monkeypatch.setattr(loading, "registry_state", lambda _loader, _spec: {})
    monkeypatch.setattr(torch_loading, "apply_weights", lambda *_args, **_options: "full")
    seen = load_model("sam-vit-b", device="cpu", input_size=512, dtype=torch.bfloat16).seen
    assert seen == {
        "name": "sam-vit-b", "device": torch.device("cpu"), "input_size": 512, "dtype": torch.bfloat16,
        "capabilities": SAM,
    }  # fmt: skip

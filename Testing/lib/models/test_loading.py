"""From a name and a checkpoint to a model that answers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model, loading
from SAMLungSegLib.models.capabilities import SAM
from SAMLungSegLib.models.compact.network import CompactNet


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return {name: value.clone() for name, value in CompactNet().state_dict().items()}


def test_a_whole_network_replaces_the_registrys_weights(state, tmp_path):
    save_file(state, tmp_path / "own.safetensors")
    loaded = load_model("lung-compact", weights=tmp_path / "own.safetensors", device="cpu").network.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in state.items())


def test_a_decoder_alone_is_put_on_top_of_the_registrys_encoder(state, tmp_path):
    decoder = {name.removeprefix("mask_decoder."): v for name, v in state.items() if name.startswith("mask_decoder.")}
    torch.save({"state_dict": decoder}, tmp_path / "decoder.pth")
    loaded = load_model("lung-compact", weights=tmp_path / "decoder.pth", device="cpu").network.state_dict()
    plain = load_model("lung-compact", device="cpu").network.state_dict()
    for name, value in loaded.items():
        assert torch.equal(value, state[name] if name.startswith("mask_decoder.") else plain[name]), name


def test_weights_of_another_network_are_refused_with_the_keys(state, tmp_path):
    wrong = {name: value for name, value in state.items() if "stages.0" not in name}
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(ModelError, match=r"missing \(image_encoder.stages.0"):
        load_model("lung-compact", weights=tmp_path / "wrong.safetensors", device="cpu")


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
        def __init__(self, _net, **options):
            self.seen, self.device = options, options["device"]

    monkeypatch.setitem(loading.FAMILIES, "sam", Recorded)
    monkeypatch.setitem(loading.NETWORKS, "sam", lambda _architecture: torch.nn.Identity())
    monkeypatch.setattr(loading, "registry_state", lambda _spec: {})
    monkeypatch.setattr(loading, "apply_weights", lambda *_args, **_options: "full")
    seen = load_model("sam-vit-b", device="cpu", input_size=512, dtype=torch.bfloat16).seen
    assert seen == {
        "name": "sam-vit-b", "device": torch.device("cpu"), "input_size": 512, "dtype": torch.bfloat16,
        "capabilities": SAM,
    }  # fmt: skip

"""Weights: files that do harm, state dicts that do and do not fit."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.checkpoints import apply_weights, load_state_dict

# ---- reading


STATE = {"a.weight": torch.arange(4.0), "a.steps": torch.tensor(3)}


def assert_is_state(state):
    assert set(state) == set(STATE)
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)
    assert state["a.weight"].dtype == torch.float32
    assert state["a.steps"].dtype == torch.int64


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_every_kind_of_weights_file_is_read(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save(STATE, path)
    assert_is_state(load_state_dict(path))


def test_the_old_format_of_torch_is_read(tmp_path):
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_is_state(load_state_dict(tmp_path / "w.pth"))


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "sam.", "model.", "module.sam."])
def test_wrappers_and_common_prefixes_are_taken_off(tmp_path, wrapper, prefix):
    content = {wrapper: {prefix + key: value for key, value in STATE.items()}, "epoch": 3}
    torch.save(content, tmp_path / "w.pth")
    assert_is_state(load_state_dict(tmp_path / "w.pth"))


def test_a_prefix_that_only_some_keys_have_stays(tmp_path):
    torch.save({"model.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w.pth")
    assert set(load_state_dict(tmp_path / "w.pth")) == {"model.a", "b"}


def test_half_precision_becomes_float32(tmp_path):
    save_file({"a.weight": STATE["a.weight"].half(), "a.steps": STATE["a.steps"]}, tmp_path / "w.safetensors")
    assert_is_state(load_state_dict(tmp_path / "w.safetensors"))


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("bare", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, bare):
    target, path = str(tmp_path / "owned"), tmp_path / "w.pth"
    content = {"a": torch.zeros(1), "b": Evil(target)}
    path.write_bytes(pickle.dumps(content, protocol=2)) if bare else torch.save(content, path)
    with pytest.raises(ModelError, match=r"was not loaded.*could run code"):
        load_state_dict(path)
    assert not os.path.exists(target)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.bin", b"", "not a weights file; give a .safetensors"),
        ("w.pth", b"", r"is empty \(0 bytes\), it is damaged"),
        ("w.pth", b"<html>", "damaged"),
        ("w.pth", b"PK\x05\x06" + bytes(18), "damaged"),
        ("w.safetensors", b"no", "damaged"),
    ],
)
def test_a_file_that_is_not_weights_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load_state_dict(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_with_a_short_reason(tmp_path):
    torch.save({"a": torch.zeros(10_000)}, tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:20_000])
    with pytest.raises(ModelError, match=r"cannot be read as weights .*damaged") as caught:
        load_state_dict(tmp_path / "w.pth")
    assert "miniz" not in str(caught.value)


def test_the_warnings_of_torch_are_not_passed_on(tmp_path, recwarn):
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil(str(tmp_path / "owned")), protocol=4))
    with pytest.raises(ModelError, match="could run code"):
        load_state_dict(tmp_path / "w.pth")
    assert recwarn.list == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    torch.save(STATE | {"b.weight": torch.tensor([1.0, value])}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth hold values that are not finite, such as in 'b\.weight'"):
        load_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{}, [1], torch.zeros(2), {"a": 1}, {"a": [torch.zeros(1)]}])
def test_content_that_is_not_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"holds no weights|is not a state dict: 'a'"):
        load_state_dict(tmp_path / "w.pth")


def test_absent_weights_are_reported(tmp_path):
    with pytest.raises(ModelError, match=r"no weights at .*w\.pth"):
        load_state_dict(tmp_path / "w.pth")


# ---- applying


class Network(nn.Module):
    """The three parts that SAM and the compact network share."""

    def __init__(self):
        super().__init__()
        self.image_encoder = nn.Sequential(nn.Linear(2, 3))
        self.prompt_encoder = nn.Sequential(nn.Embedding(1, 3))
        self.mask_decoder = nn.ModuleDict({"transformer": nn.Linear(3, 3), "iou_token": nn.Embedding(1, 3)})


def filled(part="", value=7.0):
    return {key: torch.full_like(v, value) for key, v in Network().state_dict().items() if key.startswith(part)}


def changed_parts(before, network):
    return {key.partition(".")[0] for key, value in network.state_dict().items() if not value.equal(before[key])}


def apply_and_compare(state):
    network = Network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    scope = apply_weights(network, state, what="w.pth")
    return scope, changed_parts(before, network)


def test_a_full_state_loads_every_part():
    assert apply_and_compare(filled()) == ("full", {"image_encoder", "prompt_encoder", "mask_decoder"})


def test_decoder_weights_load_into_the_decoder_alone():
    assert apply_and_compare(filled("mask_decoder.")) == ("decoder", {"mask_decoder"})


def test_bare_decoder_keys_load_into_the_decoder_alone():
    state = {key.removeprefix("mask_decoder."): value for key, value in filled("mask_decoder.").items()}
    assert set(state) == {"transformer.weight", "transformer.bias", "iou_token.weight"}
    assert apply_and_compare(state) == ("decoder", {"mask_decoder"})


def test_prompt_encoder_weights_beside_the_decoders_are_loaded_too():
    state = filled("mask_decoder.") | filled("prompt_encoder.")
    assert apply_and_compare(state) == ("decoder", {"mask_decoder", "prompt_encoder"})


def test_an_encoder_without_the_rest_is_refused_and_nothing_is_loaded():
    network = Network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ModelError, match=r"w\.pth do not fit Network: 4 missing \(prompt_encoder\.0\.weight, "):
        apply_weights(network, filled("image_encoder."), what="w.pth")
    assert changed_parts(before, network) == set()


def test_differences_are_named_with_counts_and_both_shapes():
    state = filled()
    del state["mask_decoder.iou_token.weight"]
    state["mask_decoder.transformer.weight"] = torch.zeros(7, 256)
    state |= {f"adapter.{index}": torch.zeros(1) for index in range(5)}
    with pytest.raises(ModelError) as caught:
        apply_weights(Network(), state, what="w.pth")
    assert str(caught.value) == (
        "The weights w.pth do not fit Network: 1 missing (mask_decoder.iou_token.weight); "
        "5 unexpected (adapter.0, ...); "
        "1 of another shape (mask_decoder.transformer.weight is (7, 256), expected (3, 3)). "
        "Give weights of the same architecture."
    )


def test_weights_of_something_else_are_refused():
    with pytest.raises(ModelError, match=r"another network: 3 missing .*; 1 unexpected \(fc\.weight\)"):
        apply_weights(Network(), {"fc.weight": torch.zeros(2, 2)}, what="resnet.pth")

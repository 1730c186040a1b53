"""lung-compact as ONNX files for other programs, and files of graphs that cannot be used."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.checkpoints import file_sha256
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.compact.frames import to_frame
from SAMLungSegLib.models.compact.onnx_model import FEATURES
from SAMLungSegLib.models.exported import save_onnx
from SAMLungSegLib.models.onnx_graphs import Graphs
from SAMLungSegLib.models.registry import bundled_file
from SAMLungSegLib.models.tuned import PromptRecipe
from SAMLungSegLib.prompts import BoxPrompt, PromptSet
from SAMLungSegLib.training.decoder import decoder_state
from SAMLungSegLib.training.export import export_decoder

onnxruntime = pytest.importorskip("onnxruntime")


def run(path, **inputs):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)


def test_the_files_alone_give_what_the_model_gives(tmp_path, capsys):
    assert main(["models", "export", "-o", str(tmp_path / "made")]) == 0
    parts = ("encoder", "decoder", "whole", "corrector")
    encoder, decoder, whole, _ = files = [tmp_path / "made" / f"lung-compact_{part}.onnx" for part in parts]
    assert "\n".join(f"Written: {file}" for file in files) in capsys.readouterr().out

    grey = np.add.outer(np.arange(200), np.arange(160)).clip(0, 255).astype(np.uint8)
    features = run(encoder, image=to_frame(grey, 320)[None, None])
    logits, iou = run(
        decoder,
        **dict(zip(FEATURES[:3], features, strict=False)),
        point_coords=np.array([[[31.5, 47.5], [159.5, 191.5]]], np.float32),  # 320 / 200 = 1.6
        point_labels=np.array([[2, 3]], np.float32),
        mask_input=np.zeros((1, 1, 160, 160), np.float32),
        has_mask_input=np.zeros(1, np.float32),
    )
    model = load_model(device="cpu", engine="onnx")
    box = PromptSet(box=BoxPrompt((19.5, 29.5, 99.5, 119.5)))
    expected = model.decode(model.encode([grey])[0], box)
    assert np.abs(logits[0, 0] - expected.low_res_logits).max() < 1e-4
    assert iou[0, 0] == pytest.approx(expected.score, abs=1e-5)
    deep = dict(zip(FEATURES[1:], features[1:], strict=True))
    whole_logits, _ = run(whole, **deep, visible_masks=logits)
    expected = model.decode(model.encode([grey])[0], replace(box, extent="whole"))
    assert np.abs(whole_logits[0, 0] - expected.low_res_logits).max() < 1e-4


def test_their_metadata_says_what_they_are_and_how_images_are_prepared(tmp_path):
    encoder, *_ = save_onnx(tmp_path)
    facts = onnxruntime.InferenceSession(encoder).get_modelmeta().custom_metadata_map
    assert facts["model"] == "lung-compact" and facts["frame"] == "320"
    assert facts["weights_sha256"] == file_sha256(bundled_file("lung-compact.safetensors"))
    assert "CC BY-NC-SA" in facts["licence"]
    assert "antialiased bilinear" in json.loads(facts["preprocessing"])["image"]


@pytest.fixture
def tuned(tmp_path):
    """A decoder that differs from its base in one weight, with a box and a threshold of 0.7."""
    base = BaseCheckpoint()
    model = base.load("cpu")
    state = dict(decoder_state(model))
    state["iou_token.weight"] = state["iou_token.weight"] + 1
    return export_decoder(tmp_path / "mine.safetensors", base, model, state, PromptRecipe("box"), 0.7, {"data": []})


def test_a_tuned_decoder_gives_what_it_gives_by_pytorch(tuned):
    grey = np.add.outer(np.arange(90), np.arange(70)).astype(np.uint8)
    prompts = PromptSet(box=BoxPrompt((10, 12, 50, 60)))
    mine, theirs, plain = (
        model.decode(model.encode([grey])[0], prompts).logits
        for model in (
            load_model(weights=tuned, device="cpu", engine="onnx"),
            load_model(weights=tuned, device="cpu", engine="torch"),
            load_model(device="cpu", engine="onnx"),
        )
    )
    assert np.abs(mine - theirs).max() < 1e-4 < np.abs(mine - plain).max()


def test_a_tuned_decoder_is_exported_with_its_weights_threshold_and_prompts(tuned, tmp_path):
    files = {path.stem.rpartition("_")[2]: path for path in save_onnx(tmp_path / "made", weights=tuned)}
    session = onnxruntime.InferenceSession(files["decoder"])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["threshold"]) == 0.7 and json.loads(facts["prompts"])["kind"] == "box"
    assert facts["weights_sha256"] == file_sha256(tuned)
    assert files["decoder"].read_bytes() != save_onnx(tmp_path / "plain")[1].read_bytes()


def test_a_model_without_graphs_is_not_exported(tmp_path):
    with pytest.raises(ModelError, match="sam-vit-b is not exported here"):
        save_onnx(tmp_path, "sam-vit-b")


@pytest.mark.parametrize("content", [b"", b"no archive", None], ids=["empty", "text", "without index"])
def test_damaged_graphs_are_refused(tmp_path, content):
    path = tmp_path / "some.graphs"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("encoder.onnx", b"")
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"some.graphs are damaged .* install SAMLungSeg again"):
        Graphs(path)

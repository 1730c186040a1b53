"""lung-compact by ONNX Runtime gives what it gives by PyTorch, on every kind of prompt and on any number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from SAMLungSegLib.errors import ModelError, PromptError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.checkpoints import OPTIONAL_PARTS
from SAMLungSegLib.models.compact.frames import prompts_in_frame, to_frame
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.compact.onnx_model import GRAPHS_FILE, CompactOnnxModel
from SAMLungSegLib.models.onnx_graphs import bundled_graphs
from SAMLungSegLib.models.registry import bundled_file
from SAMLungSegLib.models.trainable import trainable
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet

pytest.importorskip("onnxruntime")


TOLERANCE = 1e-4
POINTS = (PointPrompt((60, 90)), PointPrompt((150, 120)), PointPrompt((110, 20), positive=False))
BOX = BoxPrompt((30, 40, 110, 180))
MASK = MaskPrompt(np.add.outer(np.arange(256), np.arange(220)) < 200)
PROMPTS = {
    "none": PromptSet(),
    "a point": PromptSet(POINTS[:1]),
    "points": PromptSet(POINTS),
    "a box": PromptSet(box=BOX),
    "points and a box": PromptSet(POINTS, BOX),
    "a mask": PromptSet(mask=MASK),
    "a point and a mask": PromptSet(POINTS[:1], mask=MASK),
    "all": PromptSet(POINTS, BOX, MASK),
    "whole lungs": PromptSet(extent="whole"),
    "a whole lung in a box": PromptSet(box=BOX, extent="whole"),
    "points and a mask of whole lungs": PromptSet(POINTS, mask=MASK, extent="whole"),
}


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """A generated X-ray."""
    return chest_xray(chest_ct(0, size_kji=(16, 64, 64), spacing_mm=(16, 6, 6)), (256, 220))[0]


@pytest.fixture(scope="module")
def onnx() -> CompactOnnxModel:
    return load_model(device="cpu", engine="onnx")


@pytest.fixture(scope="module")
def pytorch() -> PromptableModel:
    return load_model(device="cpu", engine="torch")


def test_lung_compact_runs_by_onnx_runtime_unless_something_else_is_asked_for(onnx, pytorch):
    assert isinstance(load_model(device="cpu"), CompactOnnxModel)
    assert (onnx.engine, pytorch.engine) == ("onnx", "torch")
    assert (onnx.device.type, str(onnx.device)) == ("cpu", "cpu")


def test_a_model_that_was_loaded_to_predict_is_not_trained(onnx):
    with pytest.raises(ModelError, match=r"loaded to predict; give load_model\(..., engine='torch'\)"):
        trainable(onnx)


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_logits_and_scores_agree_on_every_kind_of_prompt(onnx, pytorch, grey, prompts):
    mine, theirs = (model.decode(model.encode([grey])[0], prompts) for model in (onnx, pytorch))
    assert np.abs(theirs.logits).max() > 3
    assert np.abs(mine.logits - theirs.logits).max() < TOLERANCE
    assert np.abs(mine.low_res_logits - theirs.low_res_logits).max() < TOLERANCE
    assert mine.score == pytest.approx(theirs.score, abs=1e-5)
    assert mine.structure_logits.keys() == theirs.structure_logits.keys()
    for key, logits in mine.structure_logits.items():
        assert np.abs(logits - theirs.structure_logits[key]).max() < TOLERANCE


def test_masks_of_many_points_agree(onnx, pytorch, grey):
    points_xy = np.array([[60.0, 90], [150, 120], [110, 20]])
    found = [model.decode_points(model.encode([grey])[0], points_xy) for model in (onnx, pytorch)]
    for mine, theirs in zip(*found, strict=True):
        assert mine.shape == theirs.shape and np.abs(mine - theirs).max() < TOLERANCE
    assert onnx.to_slice(found[0][0], (256, 220)).shape == (3, 2, 256, 220)


def test_a_point_outside_the_slice_is_refused(onnx, grey):
    with pytest.raises(PromptError, match="outside the slice"):
        onnx.decode(onnx.encode([grey])[0], PromptSet((PointPrompt((400, 2)),)))


def test_weights_that_learned_in_another_frame_are_shown_slices_of_that_size(onnx, grey):
    model = CompactOnnxModel(onnx.state | {"input_size": np.array(256)})
    embedding = model.encode([grey])[0]
    skips, deep = [(32, 64, 64), (16, 128, 128)], [(80, 32, 32), (144, 16, 16), (224, 8, 8)]
    assert [one.shape for one in embedding.features] == [(128, 32, 32), *skips, *deep]
    net = CompactNet().eval()
    net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in onnx.state.items()})
    with torch.inference_mode():
        expected, _ = net.decode(net.image_encoder(torch.from_numpy(to_frame(grey, 256))[None, None]))
    found = model.decode(embedding, PromptSet()).low_res_logits
    assert np.abs(found - expected[0, 0].numpy()).max() < TOLERANCE


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_weights_without_branches_predict_visible_lungs_and_obey_clicks_all_the_same(tmp_path, grey, engine):
    from safetensors.numpy import load_file, save_file

    full = load_file(bundled_file("lung-compact.safetensors"))
    earlier = {name: one for name, one in full.items() if not name.startswith(OPTIONAL_PARTS)}
    assert len(earlier) < len(full)
    save_file(earlier, tmp_path / "earlier.safetensors")
    model = load_model(weights=tmp_path / "earlier.safetensors", device="cpu", engine=engine)
    embedding = model.encode([grey])[0]
    lungs = model.decode(embedding, PromptSet())
    click = PointPrompt((110, 128), not lungs.logits[128, 110] > 0)
    clicked = model.decode(embedding, PromptSet((click,), mask=MaskPrompt(lungs.logits)))
    assert (clicked.logits[128, 110] > 0) == click.positive
    with pytest.raises(PromptError, match="does not predict whole lungs"):
        model.decode(embedding, PromptSet(extent="whole"))


def test_results_are_the_same_to_the_bit_on_any_number_of_threads(onnx, grey):
    def predicted(_turn: int) -> bytes:
        return onnx.decode(onnx.encode([grey])[0], PROMPTS["all"]).logits.tobytes()

    alone = predicted(0)
    for workers in (2, 4):
        with ThreadPoolExecutor(workers) as pool:
            assert set(pool.map(predicted, range(2 * workers))) == {alone}


def test_a_batch_gives_to_the_bit_what_single_slices_give(onnx, grey):
    slices = [grey, 255 - grey, grey[:100]]
    for one, several in zip([onnx.encode([s])[0] for s in slices], onnx.encode(slices), strict=True):
        assert several.size_hw == one.size_hw
        assert all(np.array_equal(a, b) for a, b in zip(one.features, several.features, strict=True))


def test_the_encoders_weights_name_an_embedding_and_the_decoders_do_not(onnx, pytorch):
    def with_changed(name: str) -> CompactOnnxModel:
        return CompactOnnxModel(onnx.state | {name: onnx.state[name] + 1})

    assert with_changed("mask_decoder.iou_token.weight").fingerprint == onnx.fingerprint
    assert with_changed("image_encoder.stages.0.0.0.weight").fingerprint != onnx.fingerprint
    assert onnx.fingerprint != pytorch.fingerprint


def test_the_shipped_graphs_are_of_the_network_as_it_is_and_take_their_weights_from_the_shipped_file():
    """Where this fails the network has changed: write the graphs anew, as `compact.onnx_export` says."""
    from safetensors import safe_open

    graphs, state = bundled_graphs(GRAPHS_FILE), CompactNet().state_dict()
    assert {key: one.shape for key, one in graphs.state.items()} == {
        key: tuple(one.shape) for key, one in state.items()
    }
    with safe_open(bundled_file("lung-compact.safetensors"), framework="np") as file:
        assert set(file.keys()) == graphs.state.keys()
    used = {name for graph in graphs.names for name in graphs.weights_of(graph)}
    unused = {key for key in graphs.state if key not in used and not key.endswith("num_batches_tracked")}
    # attention's key bias adds the same to all that it chooses from: see `onnx_export.FewTokensAttention`
    assert {key for key in unused if not key.endswith("token_to_image.k_proj.bias")} == {"input_size"}


@pytest.mark.parametrize("name", PROMPTS)
def test_what_is_exported_computes_what_the_network_computes(pytorch, grey, name):
    pytest.importorskip("onnx")
    from SAMLungSegLib.models.compact.onnx_export import Decoder, prepared
    from SAMLungSegLib.models.compact.onnx_model import with_corners

    prompts = prompts_in_frame(PROMPTS[name], grey.shape, 320)
    features = tuple(level[None] for level in pytorch.encode([grey])[0].features)
    points, labels = (torch.from_numpy(one)[None] for one in with_corners(prompts))
    mask = torch.zeros(1, 1, 160, 160) if prompts.mask is None else torch.from_numpy(prompts.mask)[None, None]
    has_mask = torch.tensor([float(prompts.mask is not None)])
    with torch.inference_mode():
        logits, iou = Decoder(prepared(pytorch.network))(*features[:3], points, labels, mask, has_mask)
        expected, expected_iou = pytorch.network.decode(features, *pytorch._prompt_tensors(PROMPTS[name], grey.shape))
    assert (logits - expected).abs().max() < TOLERANCE
    assert (iou - expected_iou).abs().max() < 1e-5

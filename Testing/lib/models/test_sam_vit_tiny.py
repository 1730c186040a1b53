"""The small SAM: its size, its numbers, and its weights, which nobody offers for download."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from tiny_sams import grey, relative_error, with_random_positions

from SAMLungSegLib.adapters import adapter_from, adapter_names
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.checkpoints import fetch, verify
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.models.sam.architectures import sam_network
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.training.promptable_prompts import decode_all

NAME = "sam-vit-tiny"
CHEST = grey((150, 200))
POINTS = PromptSet((PointPrompt((60.0, 40.0)), PointPrompt((150.0, 90.0), positive=False)))
BOX = PromptSet(box=BoxPrompt((20.0, 30.0, 120.0, 140.0)))


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return with_random_positions(sam_network("vit_tiny")).eval()


@pytest.fixture
def weights(sam, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mine.safetensors"
    save_file({name: value.contiguous() for name, value in sam.state_dict().items()}, path)
    return path


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def test_the_image_encoder_has_as_many_parameters_as_its_formula_says(sam):
    width, head, channels = 192, 64, 128
    mlp = linear(width, 4 * width) + linear(4 * width, width)
    block = 4 * width + linear(width, 3 * width) + linear(width, width) + mlp
    windowed, whole = 2 * (2 * 8 - 1) * head, 2 * (2 * 16 - 1) * head  # relative positions
    patches = 3 * 16 * 16 * width + width + 16 * 16 * width
    neck = width * channels + 2 * channels + 9 * channels * channels + 2 * channels
    expected = patches + 12 * block + 8 * windowed + 4 * whole + neck
    assert sum(one.numel() for one in sam.image_encoder.parameters()) == expected == 5_738_944
    assert sum(one.numel() for one in sam.parameters()) == 6_498_560


def test_a_model_has_the_numbers_of_segment_anythings_own_predictor(sam, weights):
    predictor = SamPredictor(sam)
    predictor.set_image(np.repeat(CHEST[..., None], 3, -1))
    model = load_model(NAME, weights=weights, device="cpu")
    (embedding,) = model.encode([CHEST])  # by the fast encoder
    assert embedding.features[0].shape == (128, 16, 16)
    assert relative_error(embedding.features[0].numpy(), predictor.get_image_embedding()[0].numpy()) < 1e-5
    for prompts, given in (
        (POINTS, {"point_coords": POINTS.points_xy(), "point_labels": POINTS.point_labels()}),
        (BOX, {"box": np.array(BOX.box.xyxy)}),
    ):
        _, scores, low_res = predictor.predict(**given, multimask_output=False)
        found = model.decode(embedding, prompts)
        assert found.low_res_logits.shape == (64, 64)
        assert found.logits.shape == CHEST.shape
        assert relative_error(found.low_res_logits, low_res[0]) < 1e-4
        assert found.score == pytest.approx(float(scores[0]), abs=1e-4)


def test_many_images_are_decoded_at_once_as_segment_anything_decodes_one(sam):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 128, 16, 16, generator=generator)
    points = torch.rand(2, 3, 2, generator=generator) * 255, torch.tensor([[1, 0, 1], [1, 1, 1]])
    masks = torch.randn(2, 1, 64, 64, generator=generator)
    with torch.no_grad():
        logits, iou = decode_all(sam, features, points, masks=masks, guesses=True)
        for index in range(2):
            one = slice(index, index + 1)
            sparse, dense = sam.prompt_encoder((points[0][one], points[1][one]), None, masks[one])
            for is_many, tokens in ((False, slice(0, 1)), (True, slice(1, 4))):
                expected = sam.mask_decoder(features[one], sam.prompt_encoder.get_dense_pe(), sparse, dense, is_many)
                assert relative_error(logits[one, tokens].numpy(), expected[0].numpy()) < 1e-5
                assert relative_error(iou[one, tokens].numpy(), expected[1].numpy()) < 1e-5


@pytest.mark.parametrize("method", adapter_names())
def test_every_adapter_is_the_identity_at_its_start(sam, method):
    model = SamModel(sam_network("vit_tiny"), name=NAME)
    model.network.load_state_dict(sam.state_dict())
    before = model.encode([CHEST])[0].features[0]
    adapter_from(method, {}).inject(model.network)
    (embedding,) = model.encode([CHEST])
    assert relative_error(embedding.features[0].numpy(), before.numpy()) < 1e-5
    assert np.isfinite(model.decode(embedding, BOX).logits).all()


def test_weights_of_a_decoder_alone_lie_on_top_of_those_in_the_cache(sam, weights, tmp_path):
    cached = tmp_path / "cache" / "models" / "sam-vit-tiny.safetensors"
    decoder = tmp_path / "decoder.safetensors"
    save_file({name: 2 * value for name, value in sam.mask_decoder.state_dict().items()}, decoder)
    with pytest.raises(ModelError, match="are not on this machine; give them with --weights"):
        load_model(NAME, weights=decoder, device="cpu")
    cached.parent.mkdir(parents=True)
    cached.write_bytes(weights.read_bytes())
    assert verify(model_spec(NAME)) == "unverified"
    model = load_model(NAME, weights=decoder, device="cpu")
    own, base = model.network.mask_decoder.iou_token.weight, sam.mask_decoder.iou_token.weight
    assert torch.equal(own, 2 * base)


def test_without_weights_it_is_said_where_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path))
    advice = r"give them with --weights FILE, or train them with 'samlungseg train sam-vit-tiny DATA -o OUT'"
    for action in (lambda: load_model(NAME), lambda: fetch(model_spec(NAME)), ModelChoice(NAME).weights_sha256):
        with pytest.raises(ModelError, match=advice):
            action()
    assert main(["models", "list"]) == 0
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith(NAME))
    assert "to be trained" in line


def test_weights_of_the_users_own_are_all_that_decides_beside_the_prompter(weights):
    assert set(ModelChoice(NAME, weights).weights_sha256()) == {"lung-compact", "own"}


def test_another_size_than_the_frame_is_possible_below_it(weights):
    model = load_model(NAME, weights=weights, device="cpu", input_size=128)
    (embedding,) = model.encode([CHEST])
    assert model.decode(embedding, BOX).low_res_logits.shape == (32, 32)
    with pytest.raises(ModelError, match="give a multiple of 16 up to 256, such as 128"):
        load_model(NAME, weights=weights, device="cpu", input_size=512)

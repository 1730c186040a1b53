"""lung-compact by PyTorch: prompts, and that it answers through the interface of all models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling.transformer import Attention

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.models.compact.layers import ConvNorm, expected_iou, fused
from SAMLungSegLib.models.compact.model import CompactModel
from SAMLungSegLib.models.compact.network import CompactNet, FusedAttention, SkipMaskDecoder
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet

SIZES = [(256, 256), (512, 512), (300, 200), (101, 333), (17, 640)]


@pytest.fixture(scope="module")
def model() -> CompactModel:
    torch.manual_seed(0)
    return CompactModel(CompactNet())


def grey(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, size_hw).astype(np.uint8)


def test_a_network_answers_in_the_frame_that_its_weights_name():
    """Weights that learned at 256 pixels are shown slices of that size, whatever is trained now."""
    net, other = CompactNet(), CompactNet()
    net.load_state_dict(other.state_dict() | {"input_size": torch.tensor(256)})
    model = CompactModel(net)
    embedding = model.encode([grey((300, 200))])[0]
    assert embedding.features[0].shape == (128, 32, 32)
    box = PromptSet(points=(PointPrompt((3, 4)),), box=BoxPrompt((2, 3, 12, 14)))
    assert model.decode(embedding, box).low_res_logits.shape == (128, 128)
    assert model.fingerprint != CompactModel(other).fingerprint


def test_a_network_has_the_size_that_can_be_shipped():
    parameters = sum(parameter.numel() for parameter in CompactNet().parameters())
    assert 2 * parameters < 25e6


def test_the_decoder_is_sams_with_all_its_parts():
    decoder = CompactNet().mask_decoder
    assert isinstance(decoder, SkipMaskDecoder)
    assert decoder.num_mask_tokens == 4
    assert len(decoder.output_hypernetworks_mlps) == 4


def used(net: torch.nn.Module) -> torch.nn.Module:
    """With normalisation as after a training: statistics, scales and shifts of all kinds."""
    for norm in net.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (norm.running_mean, -1.0, 1.0),
                (norm.running_var, 0.3, 3.0),
                (norm.weight, 0.5, 1.5),
                (norm.bias, -0.5, 0.5),
            ):
                torch.nn.init.uniform_(tensor, low, high)
    return net


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 6)])
def test_with_fixed_statistics_one_convolution_gives_what_convolution_and_normalisation_give(stride, groups):
    torch.manual_seed(0)
    layer = used(ConvNorm(6, 12, 5, stride, groups)).eval()
    x = torch.randn(2, 6, 20, 17)
    conv, norm = layer
    expected = norm(conv(x))
    assert torch.allclose(layer(x), expected, atol=1e-5)
    layer(x).square().mean().backward()
    found = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    expected.square().mean().backward()
    assert all(torch.allclose(one, p.grad, atol=1e-5) for one, p in zip(found, layer.parameters(), strict=True))


def test_in_training_the_statistics_are_those_of_the_batch_and_learned():
    layer = ConvNorm(3, 4, 1)
    y = layer(torch.randn(8, 3, 10, 10))
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert layer[1].num_batches_tracked == 1


def test_the_fused_encoder_gives_what_the_encoder_gives_and_leaves_it_alone():
    torch.manual_seed(0)
    encoder = used(CompactNet().image_encoder).eval().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    frame = torch.randn(1, 1, 64, 64)
    for level, expected in zip(fused(encoder)(frame), encoder(frame), strict=True):
        assert torch.allclose(level, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in fused(encoder).modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_fused_attention_gives_the_numbers_of_segment_anything():
    torch.manual_seed(0)
    fast, stock = FusedAttention(32, 4, downsample_rate=2), Attention(32, 4, downsample_rate=2)
    stock.load_state_dict(fast.state_dict())
    few, many = torch.randn(2, 7, 32), torch.randn(2, 100, 32)
    for q, k in ((few, many), (many, few), (few, few)):
        assert torch.allclose(fast(q, k, k), stock(q, k, k), atol=1e-6)


def test_the_expected_overlap_follows_from_the_probabilities():
    certain, empty = torch.full((10, 10), -50.0), torch.full((10, 10), -50.0)
    certain[2:6, 2:6] = 50
    likely = torch.full((10, 10), -50.0)
    likely[:4] = np.log(0.75 / 0.25)  # 40 pixels that are lung with a probability of 3/4: 30 to be expected
    doubtful = torch.full((10, 10), -np.log(3))  # 100 that are not taken, but are lung with 1/4
    found = expected_iou(torch.stack([certain, empty, likely, doubtful])[None])
    expected = torch.tensor([[1.0, 1.0, (30 + 16) / (40 + 16), 16 / (25 + 16)]])
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_predicted_overlap_is_the_expected_one_unless_the_head_corrects_it():
    net = CompactNet()
    head = net.mask_decoder.iou_prediction_head.layers[-1]
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    features = net.eval().image_encoder(torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0)))
    logits, iou = net.decode(features)
    assert torch.allclose(iou, expected_iou(logits).clamp(1e-3, 1 - 1e-3), atol=1e-6)
    torch.nn.init.constant_(head.bias, -1.0)
    assert (net.decode(features)[1] < iou).all()


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize(
    "prompts",
    [
        PromptSet(),
        PromptSet(points=(PointPrompt((3, 4)), PointPrompt((10, 12), positive=False))),
        PromptSet(box=BoxPrompt((2, 3, 12, 14))),
        PromptSet(points=(PointPrompt((3, 4)),), box=BoxPrompt((2, 3, 12, 14))),
    ],
    ids=["none", "points", "box", "points and box"],
)
def test_every_prompt_is_answered_in_the_slices_own_pixels(model, size_hw, prompts):
    prediction = model.decode(model.encode([grey(size_hw)])[0], prompts)
    assert prediction.logits.shape == size_hw
    assert {key: one.shape for key, one in prediction.structure_logits.items()} == {
        "right_lung": size_hw,
        "left_lung": size_hw,
    }
    assert prediction.low_res_logits.shape == (int(model.network.input_size) // 2,) * 2
    assert 0 <= prediction.score <= 1
    assert np.isfinite(prediction.logits).all()


@pytest.mark.parametrize("box", [None, BoxPrompt((2, 3, 60, 50))])
def test_points_without_a_mask_show_an_object_to_the_decoder_alone(model, box):
    """Prompts that a decoder was tuned with are of this kind: nobody clicked there."""
    embedding = model.encode([grey((60, 90))])[0]
    prompts = PromptSet((PointPrompt((5, 5)), PointPrompt((70, 30), False)), box)
    with torch.inference_mode():
        low_res, _ = model.decode_batch([embedding], [prompts])
    expected = model.to_slice(low_res[:, :1].numpy(), (60, 90))[0, 0]
    assert np.abs(model.decode(embedding, prompts).logits - expected).max() < 1e-5


def test_a_prediction_given_back_as_mask_is_changed_by_a_click_that_disagrees_and_by_no_other(model):
    embedding = model.encode([grey((60, 90))])[0]
    first = model.decode(embedding, PromptSet())
    is_lung, mask = bool(first.logits[5, 5] > 0), MaskPrompt(first.logits)
    agreed = model.decode(embedding, PromptSet((PointPrompt((5, 5), is_lung),), mask=mask))
    changed = model.decode(embedding, PromptSet((PointPrompt((5, 5), not is_lung),), mask=mask))
    assert np.array_equal(agreed.logits, first.logits)
    assert (changed.logits[5, 5] > 0) != is_lung


def test_prompts_change_the_answer_and_order_of_points_does_not(model):
    embedding = model.encode([grey((256, 256))])[0]
    points = (PointPrompt((30, 40)), PointPrompt((200, 90), positive=False))
    first = model.decode(embedding, PromptSet(points=points)).logits
    again = model.decode(embedding, PromptSet(points=points[::-1])).logits
    assert np.abs(first - again).max() < 1e-4
    assert np.abs(first - model.decode(embedding, PromptSet()).logits).max() > 1e-4


def test_a_batch_gives_what_single_slices_give(model):
    slices = [grey((256, 256)), 255 - grey((256, 256)), grey((100, 240))]
    for one, several in zip([model.encode([s])[0] for s in slices], model.encode(slices), strict=True):
        assert several.size_hw == one.size_hw
        for mine, theirs in zip(one.features, several.features, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-4)


def test_a_point_outside_the_slice_is_refused(model):
    embedding = model.encode([grey((20, 30))])[0]
    with pytest.raises(PromptError, match="outside the slice"):
        model.decode(embedding, PromptSet(points=(PointPrompt((40, 2)),)))

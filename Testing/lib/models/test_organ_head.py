"""The class token beside SAM's own: which organ a mask is of, from the pass that gives the mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything import SamPredictor
from segment_anything.modeling import TwoWayTransformer
from tiny_sams import WIDTH, grey, tiny_sam
from torch import nn

from SAMLungSegLib.adapters.medical import MedSa
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.base import Prediction
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.sam.organs import add_organ_head, organ_head_of
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet

ORGANS = ("pancreas", "kidney", "liver")
GREY = grey((96, 128))
PROMPTS = (
    PromptSet((PointPrompt((40.0, 30.0)),)),
    PromptSet(box=BoxPrompt((10.0, 20.0, 70.0, 90.0))),
    PromptSet(
        (PointPrompt((40.0, 30.0)), PointPrompt((5.0, 5.0), positive=False)), BoxPrompt((10.0, 20.0, 70.0, 90.0))
    ),
    PromptSet(mask=MaskPrompt(GREY > 128)),
)


def model_with_organs() -> SamModel:
    model = SamModel(tiny_sam(), name="tiny")
    torch.manual_seed(3)
    for parameter in add_organ_head(model.network, ORGANS).parameters():
        nn.init.normal_(parameter, std=0.4)
    return model


@pytest.fixture(scope="module")
def named() -> SamModel:
    return model_with_organs()


@pytest.mark.parametrize("prompts", PROMPTS, ids=("point", "box", "points and box", "mask"))
def test_masks_and_scores_are_those_without_the_token_to_the_last_bit(named, prompts):
    plain = SamModel(tiny_sam(), name="tiny")
    expected = plain.decode(plain.encode([GREY])[0], prompts)
    got = named.decode(named.encode([GREY])[0], prompts)
    assert np.array_equal(got.logits, expected.logits) and got.score == expected.score
    assert expected.organ is None and expected.organ_probabilities == {}


def test_masks_are_those_of_segment_anything(named):
    predictor = SamPredictor(tiny_sam().eval())
    predictor.set_image(np.repeat(GREY[..., None], 3, axis=-1))
    expected, _, _ = predictor.predict(
        np.array([[40.0, 30.0]]), np.array([1]), multimask_output=False, return_logits=True
    )
    assert np.abs(named.decode(named.encode([GREY])[0], PROMPTS[0]).logits - expected[0]).max() <= 1e-6


def test_a_prediction_names_its_organ_with_probabilities_that_add_up_to_one(named):
    prediction = named.decode(named.encode([GREY])[0], PROMPTS[0])
    assert tuple(prediction.organ_probabilities) == ORGANS
    assert sum(prediction.organ_probabilities.values()) == pytest.approx(1)
    assert prediction.organ == max(ORGANS, key=prediction.organ_probabilities.get)
    empty = np.zeros((1, 1), np.float32)
    assert Prediction(empty, 0.5, empty, organ_probabilities={"liver": 0.2, "spleen": 0.8}).organ == "spleen"


def test_the_token_gives_what_a_decoder_gives_that_has_it_among_its_tokens_unseen_by_them(named):
    """By SAM's own attention with a mask that hides the last token from all others."""
    embedding = named.encode([GREY])[0]
    network, head = named.network, named.organ_head
    points, boxes, masks = named._to_prompt_tensors(PROMPTS[2], embedding.size_hw)
    sparse, dense = network.prompt_encoder(points=points, boxes=boxes, masks=masks)
    decoder = network.mask_decoder
    tokens = torch.cat((decoder.iou_token.weight, decoder.mask_tokens.weight, sparse[0], head.token.weight))[None]
    with torch.no_grad():
        out = _masked_transformer(
            decoder.transformer,
            embedding.features[0][None] + dense,
            network.prompt_encoder.get_dense_pe(),
            tokens,
        )
        expected = torch.softmax(head.classifier(out[:, -1])[0], 0)
    got = named.decode(embedding, PROMPTS[2]).organ_probabilities
    assert np.allclose(list(got.values()), expected.numpy(), atol=1e-6)


def _masked_transformer(transformer: TwoWayTransformer, image, positions, tokens):
    def attend(layer, q, k, v, hidden: bool):
        heads = [
            part(one).unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
            for part, one in ((layer.q_proj, q), (layer.k_proj, k), (layer.v_proj, v))
        ]
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool)
        if hidden:
            mask[:, -1] = False
            mask[-1, -1] = q is k  # among the tokens themselves it sees itself
        mixed = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return layer.out_proj(mixed.transpose(1, 2).flatten(2))

    keys, key_pe = image.flatten(2).transpose(1, 2), positions.flatten(2).transpose(1, 2)
    queries = tokens
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.norm1(attend(layer.self_attn, queries, queries, queries, True))
        else:
            q = queries + tokens
            queries = layer.norm1(queries + attend(layer.self_attn, q, q, queries, True))
        q, k = queries + tokens, keys + key_pe
        queries = layer.norm2(queries + attend(layer.cross_attn_token_to_image, q, k, keys, False))
        queries = layer.norm3(queries + layer.mlp(queries))
        q = queries + tokens
        keys = layer.norm4(keys + attend(layer.cross_attn_image_to_token, k, q, queries, True))
    last = attend(transformer.final_attn_token_to_image, queries + tokens, keys + key_pe, keys, False)
    return transformer.norm_final_attn(queries + last)


def test_its_loss_is_the_cross_entropy_and_moves_token_and_head_alone():
    model = model_with_organs()
    embedding = model.encode([GREY])[0]
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.organ_head.requires_grad_(True)
    loss = F.cross_entropy(model.organ_logits([embedding], PROMPTS[:1]), torch.tensor([1]))
    by_hand = -float(np.log(model.decode(embedding, PROMPTS[0]).organ_probabilities["kidney"]))
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-5)
    loss.backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in model.organ_head.parameters())
    torch.optim.SGD([one for one in model.network.parameters() if one.grad is not None], lr=0.1).step()
    moved = {name for name, value in model.network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"extension.{name}" for name, _ in model.organ_head.named_parameters()}
    model.organ_head.requires_grad_(False)
    assert F.cross_entropy(model.organ_logits([embedding], PROMPTS[:1]), torch.tensor([1])) < loss.detach()


def test_all_organs_are_equally_probable_before_anything_is_learned():
    model = SamModel(tiny_sam(), name="tiny")
    add_organ_head(model.network, ORGANS)
    prediction = model.decode(model.encode([GREY])[0], PROMPTS[1])
    assert list(prediction.organ_probabilities.values()) == pytest.approx([1 / 3] * 3)


def test_the_head_has_as_many_parameters_as_its_layers_say(named):
    width, organs = WIDTH, len(ORGANS)
    expected = width + 2 * (width * width + width) + width * organs + organs
    assert sum(one.numel() for one in named.organ_head.parameters()) == expected


def test_no_hooks_stay_after_a_prediction(named):
    named.decode(named.encode([GREY])[0], PROMPTS[0])
    assert not any(one._forward_pre_hooks for one in named.network.modules())


def test_adapters_of_the_decoder_act_on_the_token_too(named):
    model = model_with_organs()
    before = model.decode(model.encode([GREY])[0], PROMPTS[0]).organ_probabilities
    torch.manual_seed(4)
    MedSa(slices=1).inject(model.network)
    unchanged = model.decode(model.encode([GREY])[0], PROMPTS[0]).organ_probabilities
    assert np.allclose(list(unchanged.values()), list(before.values()), atol=1e-6)
    for name, parameter in model.network.image_encoder.adapters.named_parameters():
        if name.startswith("decoder_"):
            nn.init.normal_(parameter, std=0.5)
    changed = model.decode(model.encode([GREY])[0], PROMPTS[0]).organ_probabilities
    assert not np.allclose(list(changed.values()), list(before.values()), atol=1e-3)


@pytest.mark.parametrize("organs", [(), ("liver",), ("liver", "liver")])
def test_organs_that_cannot_be_told_apart_are_refused(organs):
    model = SamModel(tiny_sam(), name="tiny")
    with pytest.raises(ModelError, match="none can be told from another"):
        add_organ_head(model.network, organs)
    assert organ_head_of(model.network) is None


def test_a_second_token_and_another_decoder_are_refused(named):
    with pytest.raises(ModelError, match="has a class token or another extension already"):
        add_organ_head(named.network, ORGANS)
    with pytest.raises(ModelError, match="is not segment_anything's own"):
        add_organ_head(nn.Module(), ORGANS)
    plain = SamModel(tiny_sam(), name="tiny")
    with pytest.raises(ModelError, match="names no organs"):
        plain.organ_logits(plain.encode([GREY]), PROMPTS[:1])

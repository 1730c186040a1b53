"""MedSAM: its own preprocessing and prompts, against a plain re-computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from skimage.transform import resize
from torch import nn

from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet

WIDTH, SIDE = 32, 1024
SIZES = [(90, 120), (64, 64), (1100, 300)]
BOX = (10, 3, 60, 55.5)


class PatchEncoder(nn.Module):
    """Stands in for the image encoder: one strided convolution, 1024 x 1024 to 64 x 64."""

    img_size = SIDE

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 16, 16)
        self.inputs = []

    def forward(self, x):
        self.inputs.append(x)
        return self.patches(x)


@pytest.fixture(scope="module")
def model() -> MedSamModel:
    torch.manual_seed(0)
    prompts = PromptEncoder(
        embed_dim=WIDTH, image_embedding_size=(64, 64), input_image_size=(SIDE, SIDE), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, mlp_dim=64, num_heads=8)
    decoder = MaskDecoder(transformer_dim=WIDTH, transformer=transformer, iou_head_hidden_dim=WIDTH)
    return MedSamModel(Sam(PatchEncoder(), prompts, decoder), name="medsam-vit-b")


def grey(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(30, 200, size_hw).astype(np.uint8)


@torch.no_grad()
def recomputed(sam: Sam, image: np.ndarray, box_xyxy) -> np.ndarray:
    """Logits (H, W) from three equal channels, step by step as the method is described."""
    height, width = image.shape
    rgb = np.stack([image] * 3, axis=-1)
    square = resize(rgb, (SIDE, SIDE), order=3, preserve_range=True, anti_aliasing=True).astype(np.uint8)
    scaled = (square - square.min()) / (square.max() - square.min())
    features = sam.image_encoder.patches(torch.tensor(scaled).float().permute(2, 0, 1)[None])
    left, top, right, bottom = box_xyxy
    box = torch.tensor([[left / width, top / height, right / width, bottom / height]]) * SIDE
    sparse, dense = sam.prompt_encoder(points=None, boxes=box, masks=None)
    low_res, _ = sam.mask_decoder(features, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False)
    return nn.functional.interpolate(low_res, (height, width), mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_answers_are_those_of_the_plain_computation(model, size_hw):
    image = grey(size_hw)
    [embedding] = model.encode([image])
    prediction = model.decode(embedding, PromptSet(box=BoxPrompt(BOX)))
    expected = recomputed(model.network, image, BOX)
    assert prediction.logits.shape == size_hw
    assert prediction.low_res_logits.shape == (256, 256)
    assert np.abs(prediction.logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_input_is_stretched_to_the_whole_square_and_scaled_to_zero_to_one(model):
    image = np.full((90, 120), 50, np.uint8)
    image[:, 60:] = 150
    model.network.image_encoder.inputs.clear()
    model.encode([image])
    [frame] = model.network.image_encoder.inputs
    assert frame.shape == (1, 3, SIDE, SIDE)
    assert (frame.min(), frame.max()) == (0, 1)
    assert frame[0, 0, -1, -1] == 1, "nothing is padded: the last pixel of the slice is the last of the square"
    assert torch.all(frame[0, 0, :, :480] < 0.1)
    assert torch.all(frame[0, 0, :, 544:] > 0.9)
    assert torch.equal(frame[:, 0], frame[:, 1])
    assert torch.equal(frame[:, 0], frame[:, 2])


def test_a_uniform_slice_becomes_black_instead_of_not_a_number(model):
    model.network.image_encoder.inputs.clear()
    model.encode([np.full((9, 12), 77, np.uint8)])
    assert torch.all(model.network.image_encoder.inputs[0] == 0)


def test_the_box_is_scaled_in_x_and_y_independently(model):
    points, boxes, masks = model._to_prompt_tensors(PromptSet(box=BoxPrompt((64, 32, 128, 64))), (128, 256))
    assert points is None
    assert masks is None
    assert boxes.tolist() == [[256, 256, 512, 512]]


def test_only_boxes_are_answered(model):
    [embedding] = model.encode([grey((64, 64))])
    box = BoxPrompt(BOX)
    refused = {
        "accepts boxes only": PromptSet(points=(PointPrompt((3, 3)),), box=box),
        "boxes only.*instead of a mask": PromptSet(box=box, mask=MaskPrompt(np.zeros((64, 64), bool))),
        "needs a prompt": PromptSet(),
    }
    for message, prompts in refused.items():
        with pytest.raises(PromptError, match=message):
            model.decode(embedding, prompts)

"""SAM: the numbers of segment_anything's own predictor."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import PromptEncoder, Sam
from tiny_sams import FRAME, WIDTH, grey, relative_error, tiny_sam, with_random_positions

from SAMLungSegLib.errors import IntensityError, ModelError, PromptError
from SAMLungSegLib.models.base import Embedding
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel, set_input_size
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet

TOLERANCE = 1e-5
SIZES = [(256, 256), (200, 310), (333, 100), (64, 64), (128, 99), (401, 630)]
POINTS = (PointPrompt((20.0, 31.5)), PointPrompt((50, 12), positive=False), PointPrompt((0, 0)))
BOX = BoxPrompt((10.5, 3, 60, 55.25))
PROMPTS = {
    "one point": PromptSet(points=POINTS[:1]),
    "points of both signs": PromptSet(points=POINTS),
    "box": PromptSet(box=BOX),
    "points and box": PromptSet(points=POINTS, box=BOX),
}


def tiny_sam_at(size: int) -> Sam:
    """`tiny_sam` made anew for frames of another size: positions interpolated, a prompt encoder of that size."""
    sam, grid = tiny_sam(), size // 16
    encoder = sam.image_encoder
    planes = encoder.pos_embed.detach().permute(0, 3, 1, 2)
    smaller = F.interpolate(planes, (grid, grid), mode="bicubic", antialias=True).permute(0, 2, 3, 1)
    encoder.pos_embed, encoder.img_size = torch.nn.Parameter(smaller), size
    prompts = PromptEncoder(
        embed_dim=WIDTH, image_embedding_size=(grid, grid), input_image_size=(size, size), mask_in_chans=16
    )
    prompts.load_state_dict(sam.prompt_encoder.state_dict())
    return Sam(encoder, prompts, sam.mask_decoder).eval()


@pytest.fixture(scope="module")
def model() -> SamModel:
    return SamModel(tiny_sam(), name="tiny")


@pytest.fixture(scope="module")
def small_model() -> SamModel:
    return SamModel(tiny_sam(), name="small", input_size=128)


@pytest.fixture(scope="module")
def small_predictor() -> SamPredictor:
    return SamPredictor(tiny_sam_at(128))


def answer_of_predictor(predictor: SamPredictor, prompts: PromptSet, mask_input: np.ndarray | None = None):
    """Logits (H, W), score and low-resolution logits, by way of `predict_torch`."""
    size, transform = predictor.original_size, predictor.transform
    points = labels = boxes = masks = None
    if prompts.points:
        points = torch.tensor(transform.apply_coords(prompts.points_xy(), size), dtype=torch.float32)[None]
        labels = torch.tensor(prompts.point_labels())[None]
    if prompts.box:
        boxes = torch.tensor(transform.apply_boxes(np.array(prompts.box.xyxy), size), dtype=torch.float32)
    if mask_input is not None:
        masks = torch.tensor(mask_input)[None, None]
    logits, score, low_res = predictor.predict_torch(
        points, labels, boxes, masks, multimask_output=False, return_logits=True
    )
    return logits[0, 0].numpy(), float(score[0, 0]), low_res[0, 0].numpy()


def assert_same_answer(prediction, expected):
    logits, score, low_res = expected
    assert prediction.logits.shape == logits.shape
    assert prediction.logits.dtype == np.float32
    assert relative_error(prediction.logits, logits) <= TOLERANCE
    assert relative_error(prediction.low_res_logits, low_res) <= TOLERANCE
    assert prediction.score == pytest.approx(score, rel=TOLERANCE)
    assert not prediction.structure_logits


# ---- the tiny network


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_answers_are_those_of_sams_own_predictor(model, size_hw, prompts):
    image = grey(size_hw)
    predictor = SamPredictor(model.network)
    predictor.set_image(np.repeat(image[..., None], 3, axis=-1))
    [embedding] = model.encode([image])
    assert relative_error(embedding.features[0].numpy(), predictor.features[0].numpy()) <= TOLERANCE
    assert_same_answer(model.decode(embedding, prompts), answer_of_predictor(predictor, prompts))


@pytest.mark.parametrize("is_bool", [True, False])
@pytest.mark.parametrize(
    ("size_hw", "valid_hw"), [((256, 256), (64, 64)), ((256, 128), (64, 32)), ((64, 256), (16, 64))]
)
def test_a_mask_prompt_is_averaged_onto_the_logit_grid_and_padded_with_background(model, size_hw, valid_hw, is_bool):
    """The slice fills the frame at scale 1, so that each of the 64 x 64 cells is the mean of 4 x 4 pixels."""
    image = grey(size_hw)
    array = image > 99 if is_bool else image.astype(np.float32) / 8 - 16
    logits = np.where(array, 10, -10) if is_bool else array
    mask_input = np.full((64, 64), -10, dtype=np.float32)
    rows, columns = valid_hw
    mask_input[:rows, :columns] = logits.reshape(rows, 4, columns, 4).mean(axis=(1, 3))

    predictor = SamPredictor(model.network)
    predictor.set_image(np.repeat(image[..., None], 3, axis=-1))
    [embedding] = model.encode([image])
    for prompts in (PromptSet(mask=MaskPrompt(array)), PromptSet(points=POINTS, box=BOX, mask=MaskPrompt(array))):
        expected = answer_of_predictor(predictor, prompts, mask_input)
        assert_same_answer(model.decode(embedding, prompts), expected)


def test_a_mask_prompt_stays_aligned_when_the_slice_is_scaled(model):
    """On a ramp the value is the coordinate: cell j of 64 covers frame pixels 4j..4j+3, scaled by 333/256."""
    ramp = np.tile(np.arange(333, dtype=np.float32), (100, 1))
    cells = model._to_mask_input(ramp)[0, 0, 5].numpy()
    expected = (4 * np.arange(64) + 2) * 333 / 256 - 0.5
    assert np.allclose(cells[2:-2], expected[2:-2], atol=0.02)


def test_a_mask_prompt_changes_the_answer(model):
    [embedding] = model.encode([grey((64, 64))])
    with_mask = PromptSet(points=POINTS, mask=MaskPrompt(np.tri(64, dtype=bool)))
    without = model.decode(embedding, PromptSet(points=POINTS))
    assert relative_error(model.decode(embedding, with_mask).logits, without.logits) > 1e-3


def test_slices_of_different_sizes_are_encoded_as_if_alone(model, monkeypatch):
    slices = [grey(size) for size in SIZES]
    alone = [model.encode([array])[0] for array in slices]
    monkeypatch.setattr(model, "_batch_size", lambda: 2)
    together = model.encode(slices)
    assert [embedding.size_hw for embedding in together] == SIZES
    for one, other in zip(alone, together, strict=True):
        assert relative_error(other.features[0].numpy(), one.features[0].numpy()) <= TOLERANCE


@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_at_a_smaller_input_size_prompts_and_answers_stay_in_slice_pixels(
    small_model, small_predictor, size_hw, prompts
):
    """The same answers as of a network that was made for that size."""
    image = grey(size_hw)
    small_predictor.set_image(np.repeat(image[..., None], 3, axis=-1))
    [embedding] = small_model.encode([image])
    assert embedding.features[0].shape == (WIDTH, 8, 8)
    assert relative_error(embedding.features[0].numpy(), small_predictor.features[0].numpy()) <= TOLERANCE
    assert_same_answer(small_model.decode(embedding, prompts), answer_of_predictor(small_predictor, prompts))


def test_at_a_smaller_input_size_a_mask_prompt_fills_the_smaller_grid(small_model, small_predictor):
    """A square slice on the grid of 32 x 32 logits: each cell is the mean of 4 x 4 pixels of the frame."""
    image, mask = grey((128, 128)), grey((128, 128)) > 99
    small_predictor.set_image(np.repeat(image[..., None], 3, axis=-1))
    mask_input = np.where(mask, 10, -10).astype(np.float32).reshape(32, 4, 32, 4).mean(axis=(1, 3))
    prompts = PromptSet(points=POINTS, mask=MaskPrompt(mask))
    [embedding] = small_model.encode([image])
    assert_same_answer(
        small_model.decode(embedding, prompts), answer_of_predictor(small_predictor, prompts, mask_input)
    )


@pytest.mark.parametrize("size", [0, -16, 100, 257, 272], ids=str)
def test_an_input_size_that_does_not_suit_is_refused(size):
    with pytest.raises(ModelError, match=f"input size {size} does not suit.*multiple of 16 up to 256, such as 128"):
        set_input_size(tiny_sam(), size)


def test_medsam_takes_a_smaller_input_size_too():
    model = MedSamModel(tiny_sam(), name="medsam", input_size=128)
    [embedding] = model.encode([grey((90, 120))])
    prediction = model.decode(embedding, PromptSet(box=BOX))
    assert embedding.features[0].shape == (WIDTH, 8, 8)
    assert prediction.low_res_logits.shape == (32, 32)
    assert prediction.logits.shape == (90, 120)


def test_half_precision_is_the_encoders_alone(model):
    half = SamModel(tiny_sam(), name="half", dtype=torch.bfloat16)
    dtypes = {parameter.dtype for parameter in half.network.mask_decoder.parameters()}
    [embedding], [exact] = half.encode([grey((64, 64))]), model.encode([grey((64, 64))])
    assert dtypes == {torch.float32}
    assert embedding.features[0].dtype == torch.float32
    assert 0 < relative_error(embedding.features[0].numpy(), exact.features[0].numpy()) < 3e-2
    answers = [one.decode(embedding, PROMPTS["box"]).logits for one in (half, model)]
    assert np.array_equal(*answers)


def test_whatever_changes_embeddings_changes_the_fingerprint():
    other_weights = tiny_sam()
    other_weights.image_encoder.pos_embed.data += 1
    other_decoder = tiny_sam()
    other_decoder.mask_decoder.iou_token.weight.data += 1
    plain = SamModel(tiny_sam(), name="a").fingerprint
    assert SamModel(deepcopy(other_decoder), name="b").fingerprint == plain
    others = [
        SamModel(other_weights, name="a"),
        SamModel(tiny_sam(), name="a", input_size=128),
        SamModel(tiny_sam(), name="a", dtype=torch.float16),
        SamModel(tiny_sam(), name="a", dtype=torch.bfloat16),
        MedSamModel(tiny_sam(), name="a"),
    ]
    assert len({plain, *(one.fingerprint for one in others)}) == 6


def test_no_slices_give_no_embeddings(model):
    assert model.encode([]) == []


def test_an_embedding_has_no_batch_axis_and_can_be_trained_on(model):
    [embedding] = model.encode([grey((64, 64))])
    [features] = embedding.features
    assert features.shape == (WIDTH, FRAME // 16, FRAME // 16)
    weight = torch.ones(1, requires_grad=True)
    (features * weight).sum().backward()
    assert weight.grad == pytest.approx(float(features.sum()), rel=1e-3)


def test_a_stored_embedding_in_half_precision_is_accepted(model):
    [embedding] = model.encode([grey((64, 64))])
    stored = Embedding((embedding.features[0].half(),), embedding.size_hw)
    full = model.decode(embedding, PROMPTS["box"])
    assert relative_error(model.decode(stored, PROMPTS["box"]).logits, full.logits) < 5e-3


@pytest.mark.parametrize("array", [np.zeros((8, 8)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8), np.uint8)])
def test_what_is_not_a_grey_slice_is_refused(model, array):
    with pytest.raises(IntensityError, match=r"expected uint8 \(H, W\); apply a window"):
        model.encode([array])


def test_prompts_are_checked(model):
    [embedding] = model.encode([grey((64, 64))])
    with pytest.raises(PromptError, match="tiny needs a prompt"):
        model.decode(embedding, PromptSet())
    with pytest.raises(PromptError, match="outside"):
        model.decode(embedding, PromptSet(points=(PointPrompt((64, 3)),)))


def test_a_device_that_is_not_there_is_refused():
    absent = "mps" if torch.cuda.is_available() else "cuda"
    for device in (absent, "abacus"):
        with pytest.raises(ModelError, match=f"device '{device}' is not available.*use 'cpu'"):
            SamModel(tiny_sam(), name="tiny", device=device)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ModelError, match="no architecture 'vit_x'; choose one of vit_b, vit_l, vit_h"):
        SamModel.build("vit_x", {}, name="x")


# ---- the real size


@pytest.fixture(scope="module")
def real():
    """ViT-B with random weights, a wide slice encoded by us and by SAM's predictor: the only two encoder runs."""
    torch.manual_seed(0)
    state = with_random_positions(sam_model_registry["vit_b"]()).state_dict()
    model = SamModel.build("vit_b", state, name="sam-vit-b")
    image = grey((401, 630))
    predictor = SamPredictor(model.network)
    predictor.set_image(np.repeat(image[..., None], 3, axis=-1))
    [embedding] = model.encode([image])
    return model, predictor, embedding


@pytest.mark.slow
def test_vit_b_encodes_as_sams_own_predictor(real):
    _, predictor, embedding = real
    assert embedding.features[0].shape == (256, 64, 64)
    assert relative_error(embedding.features[0].numpy(), predictor.features[0].numpy()) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*PROMPTS, "mask", "points, box and mask"])
@pytest.mark.parametrize("size_hw", [(401, 630), (512, 512)], ids=str)
def test_vit_b_answers_as_sams_own_predictor(real, size_hw, kind):
    """The decoder does not care what was encoded: the wide slice's embedding serves the square one too."""
    model, predictor, embedding = real
    predictor.original_size = size_hw
    predictor.input_size = predictor.transform.get_preprocess_shape(*size_hw, 1024)
    logits = np.random.default_rng(2).normal(0, 5, size_hw).astype(np.float32)
    prompts = {
        **PROMPTS,
        "mask": PromptSet(mask=MaskPrompt(logits)),
        "points, box and mask": PromptSet(points=POINTS, box=BOX, mask=MaskPrompt(logits)),
    }[kind]
    mask_input = None if prompts.mask is None else model._to_mask_input(logits)[0, 0].numpy()
    prediction = model.decode(Embedding(embedding.features, size_hw), prompts)
    assert_same_answer(prediction, answer_of_predictor(predictor, prompts, mask_input))


@pytest.mark.slow
def test_decoder_weights_alone_do_not_make_a_model(real):
    model, _, _ = real
    with pytest.raises(ModelError, match="of a mask decoder alone; load a full vit_b model first"):
        SamModel.build("vit_b", model.network.mask_decoder.state_dict(), name="tuned")

"""ClickSAM's two stages on a small SAM: prompts, targets, weights; scores by one click and by many."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adaptation_sets import ORGANS, shape_data, tiny_model
from tiny_sams import tiny_sam
from tuning_sets import chest

from SAMLungSegLib.adaptation.method import method_from
from SAMLungSegLib.adaptation.methods.clicksam import (
    ONE_CLICK,
    REFERENCE_CLICKS,
    ClickSam,
    click_scores,
    reference_clicks,
)
from SAMLungSegLib.adaptation.run import encoded
from SAMLungSegLib.adaptation.slices import ObjectExample, ObjectSlice
from SAMLungSegLib.adaptation.task import AdaptationTask, AdaptConfig
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.prompts.simulated_users import clicksam_user
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings


def example(labels_hw: np.ndarray, organ: int = 1, grey_hw: np.ndarray | None = None) -> ObjectExample:
    grey_hw = np.zeros(labels_hw.shape, np.uint8) if grey_hw is None else grey_hw
    return ObjectExample(ObjectSlice("image", 0, "set", "patient", grey_hw, labels_hw), organ)


def chest_example(seed: int) -> ObjectExample:
    grey, mask = chest(seed)
    return example(mask.astype(np.uint8), grey_hw=grey)


@pytest.fixture
def model() -> SamModel:
    return SamModel(tiny_sam(), name="tiny")


@pytest.fixture
def given(model, monkeypatch) -> list[PromptSet]:
    """The prompts of every prediction with gradients."""
    sets, decode = [], model.decode_batch

    def decode_batch(embeddings, prompts):
        sets.extend(prompts)
        return decode(embeddings, prompts)

    monkeypatch.setattr(model, "decode_batch", decode_batch)
    return sets


def test_stage_1_has_one_click_inside_the_object_and_stage_2_clicks_on_the_prediction_from_it(model, given):
    examples = [chest_example(seed) for seed in range(3)]
    ClickSam().loss(model, examples, np.random.default_rng(0), stage=0)
    first = given[:]
    assert [len(one.points) for one in first] == [1, 1, 1]
    assert all(
        one.mask_hw[int(y), int(x)] for one, sets in zip(examples, first, strict=True) for x, y in [sets.points[0].xy]
    )
    given.clear()
    ClickSam().loss(model, examples, np.random.default_rng(0), stage=1)
    for one, before, after in zip(examples, first, given, strict=True):
        [embedding] = model.encode([one.slice.view])
        prediction = model.decode(embedding, before).logits > 0
        clicks = clicksam_user(prediction, one.mask_hw, [(before.points[0].xy, True)])
        assert [(point.xy, point.positive) for point in after.points] == [*clicks] and len(clicks) > 1


def test_the_click_of_stage_1_stays_where_the_prediction_is_right(model, monkeypatch):
    mask = chest(0)[1]
    logits = np.where(mask, 5.0, -5.0).astype(np.float32)
    monkeypatch.setattr(model, "decode", lambda embedding, prompts: Prediction(logits, 1.0, logits))
    first = PromptSet((PointPrompt((22.0, 48.0)),))
    assert reference_clicks(model, Embedding((), mask.shape), mask, first) == first


def test_clicks_reach_the_network_as_x_y_in_its_frame(model):
    labels = np.zeros((64, 128), np.uint8)
    labels[20, 100] = 1
    seen = []
    hook = model.network.prompt_encoder.register_forward_pre_hook(
        lambda _module, _inputs, named: seen.append(named["points"]), with_kwargs=True
    )
    ClickSam().loss(model, [example(labels)], np.random.default_rng(0), stage=0)
    hook.remove()
    [(points_xy, point_labels)] = seen
    assert points_xy.tolist() == [[[200, 40]]], "128 pixels to 256"
    assert point_labels.tolist() == [[1]]


def test_the_loss_is_dice_of_squares_and_cross_entropy_on_the_decoders_grid(model):
    one = chest_example(0)
    loss = ClickSam().loss(model, [one], np.random.default_rng(3), stage=0).item()
    point = np.argwhere(one.mask_hw)[np.random.default_rng(3).choice(one.mask_hw.sum(), 1)][0]
    prompts = PromptSet((PointPrompt((float(point[1]), float(point[0]))),))
    logits = model.decode_batch(model.encode([one.slice.view]), [prompts])[0][0, 0].numpy()
    rows = (np.arange(64) + 0.5) * 96 // 64  # 96 x 80 pixels are 64 x 53 in a frame drawn as 64 x 64
    columns = (np.arange(53) + 0.5) * 80 // 53
    target = np.zeros((64, 64))
    target[:, :53] = one.mask_hw[np.ix_(rows.astype(int), columns.astype(int))]
    p = 1 / (1 + np.exp(-logits.astype(float)))
    dice = 1 - (2 * (p * target).sum() + 1e-5) / ((p**2).sum() + target.sum() + 1e-5)
    entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    assert loss == pytest.approx(dice + entropy, rel=1e-4)


@pytest.mark.parametrize("stage", [0, 1])
def test_the_mask_decoder_alone_gets_gradients(model, stage):
    method = ClickSam()
    trained = method.prepare(model, ["lung"])
    for group in method.parameters(model, trained, stage):
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    method.loss(model, [chest_example(0)], np.random.default_rng(0), stage).backward()
    moved = {name.split(".")[0] for name, one in model.network.named_parameters() if one.grad is not None}
    assert moved == {"mask_decoder"}


def test_stage_2_begins_with_the_weights_that_stage_1_ends_with_and_a_new_adam(tmp_path, monkeypatch):
    method, model = ClickSam(batch=3, learning_rate=1e-3), tiny_model()
    data = shape_data()
    task = AdaptationTask(model, method, method.prepare(model, ORGANS), encoded(model, data), AdaptConfig(steps=4))
    steps, ends, loss = [], [], ClickSam.loss

    def noted(self, model, examples, rng, stage):
        steps.append((stage, len(examples), weights(model)))
        return loss(self, model, examples, rng, stage)

    monkeypatch.setattr(ClickSam, "loss", noted)
    monkeypatch.setattr(task, "record", lambda row: ends.append(weights(model)))
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    trainer = Trainer(task, TrainerSettings(task.config.epochs, "last"), tmp_path / "run.pt")
    trainer.run()
    assert [(stage, count) for stage, count, _ in steps] == [(0, 3), (0, 3), (1, 1), (1, 1)]
    assert torch.equal(steps[2][2], ends[1]) and not torch.equal(steps[2][2], steps[0][2])
    assert {int(one["step"]) for one in trainer.optimizer.state.values()} == {2}, "of stage 2 alone"
    moved = {name for name, value in model.network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("mask_decoder.") for name in moved)


def weights(model: SamModel) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.network.mask_decoder.parameters()).detach().clone()


def test_batches_are_as_published():
    method = method_from("clicksam")
    assert method.learning_rate == 1e-5 and isinstance(
        method.optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1e-5}]), torch.optim.Adam
    )
    assert (method.batch_size(4, 0), method.batch_size(4, 1)) == (32, 1)
    assert method_from("clicksam:batch=8").batch_size(4, 0) == 8
    with pytest.raises(SettingsError, match="0 objects"):
        method_from("clicksam:batch=0")


# ---- scores


class HalfFound(PromptableModel):
    """Finds the left half of what it should by one point, all but one column by more."""

    name, device = "half", torch.device("cpu")
    capabilities = Capabilities()

    def encode(self, views):
        return [Embedding((), ModelView.of(one).grey_hw.shape) for one in views]

    def decode(self, embedding, prompts):
        mask = np.zeros(embedding.size_hw, bool)
        mask[10:50, 10 : 30 if len(prompts.points) == 1 else 49] = True
        logits = np.where(mask, 5.0, -5.0).astype(np.float32)
        return Prediction(logits, 1.0, logits)


def test_scores_are_those_of_one_click_and_of_clicks_from_the_reference():
    labels = np.zeros((256, 256), np.uint8)
    labels[10:50, 10:50] = 2  # 1600 pixels, half of them found by one click: Dice 2 * 800 / 2400, IoU 800 / 1600
    table = click_scores(HalfFound(), [example(labels, organ=2)]).set_index("prompts")
    assert table.loc[ONE_CLICK, ["organ", "clicks"]].tolist() == [2, 1]
    assert table.loc[ONE_CLICK, ["dice", "iou"]].tolist() == pytest.approx([1600 / 2400, 0.5])
    # 800 pixels that are right get no click, so that the 800 that are missed get one: still one click, and no more
    assert table.loc[REFERENCE_CLICKS, "clicks"] == 1
    labels[10:50, 10:50] = 0
    labels[10:50, 10:80] = 2  # 2800 pixels, 800 found: the 2000 that are missed get one click, the others none
    table = click_scores(HalfFound(), [example(labels, organ=2)]).set_index("prompts")
    assert table.loc[REFERENCE_CLICKS, "clicks"] == 1
    labels[10:50, 10:130] = 2  # 4000 missed: two clicks, and 40 x 39 = 1560 of 4800 are found then
    table = click_scores(HalfFound(), [example(labels, organ=2)]).set_index("prompts")
    assert table.loc[REFERENCE_CLICKS, "clicks"] == 2
    assert table.loc[REFERENCE_CLICKS, ["dice", "iou"]].tolist() == pytest.approx([3120 / 6360, 1560 / 4800])


def test_the_first_click_is_the_same_for_every_model():
    one = chest_example(0)
    prompts = []

    class Noted(HalfFound):
        def decode(self, embedding, given):
            prompts.append(given)
            return super().decode(embedding, given)

    for _ in range(2):
        click_scores(Noted(), [one])
    half = len(prompts) // 2
    assert prompts[:half] == prompts[half:]

"""Slide-SAM's training: its loss by hand, its prompts, what learns, and what fine-tuning adds to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from adaptation_sets import ORGANS, shape_data, shapes, slice_of, tiny_model
from tiny_sams import relative_error
from tuning_sets import register_tiny_sam

from SAMLungSegLib.adaptation import AdaptConfig, ObjectExample, ReadingOptions, method_from, read_data
from SAMLungSegLib.adaptation.methods.slide_sam import (
    SlideSam,
    inner_point,
    noisy_box,
    triple_loss,
    triple_targets,
    widen,
)
from SAMLungSegLib.adaptation.run import reading_for
from SAMLungSegLib.adaptation.task import AdaptationTask
from SAMLungSegLib.adapters.base import adapter_in, adapter_state
from SAMLungSegLib.adapters.lora import Lora
from SAMLungSegLib.adapters.medical import MedSa
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError, SettingsError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import ModelView
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.sam.slide import SlideSamModel
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings

ALL = torch.tensor([[True, True, True]])
ONE = torch.zeros(1, 3, 2, 2, dtype=torch.float64)  # four pixels a slice
ONE[:, :, 0] = 1


def hypotheses(*values: float) -> torch.Tensor:
    """Logits (1, 3, 3, 2, 2): of each hypothesis the same everywhere."""
    return torch.tensor(values, dtype=torch.float64)[None, :, None, None, None].expand(1, 3, 3, 2, 2).clone()


# ---- the loss


def test_the_loss_is_that_of_the_best_hypothesis():
    """Logits 0: p .5 everywhere. Focal .2 x .25 x log 2; Dice 1 - (2 x 3 + 1) / (12 + 1), for 6 of 12 are wanted.

    Its mask is empty, so that its true IoU is 0 and the error of a predicted .3 is .09. The others predict wrongly.
    """
    logits = hypotheses(0, 9, -9)
    iou = torch.tensor([[0.3, 0.7, 0.1]], dtype=torch.float64)
    expected = 20 * 0.2 * 0.25 * np.log(2) + 1 - 7 / 13 + 0.09
    assert float(triple_loss(logits, iou, ONE, ALL)) == pytest.approx(expected)


def test_of_several_hypotheses_the_least_loss_counts_wherever_it_is():
    right = torch.where(ONE > 0, 9.0, -9.0)[:, None]
    wrong = -right
    for place in range(3):
        logits = torch.cat([right if number == place else wrong for number in range(3)], 1)
        iou = torch.zeros(1, 3, dtype=torch.float64)
        iou[0, place] = 1
        assert float(triple_loss(logits, iou, ONE, ALL)) < 0.01
        assert float(triple_loss(logits, 1 - iou, ONE, ALL)) == pytest.approx(1, abs=0.01)  # the IoU's error alone


def test_slices_without_labels_do_not_count():
    labelled = torch.tensor([[False, True, False]])
    logits, iou = hypotheses(0, 9, -9), torch.zeros(1, 3, dtype=torch.float64)
    expected = triple_loss(logits, iou, ONE, labelled)
    other = ONE.clone()
    other[:, 0], other[:, 2] = 1, 0
    logits[:, :, 2] = 5
    logits.requires_grad_(True)
    found = triple_loss(logits, iou, other, labelled)
    assert found.item() == pytest.approx(expected.item())
    found.backward()
    assert logits.grad[:, :, [0, 2]].abs().max() == 0 and logits.grad[:, 0, 1].abs().min() > 0
    assert logits.grad[:, 1:].abs().max() == 0


def test_the_true_iou_is_that_of_the_mask_over_all_slices_with_labels():
    """All 12 pixels are predicted, 6 are wanted: .5, which is predicted: no error."""
    iou = torch.full((1, 3), 0.5, dtype=torch.float64)
    logits = hypotheses(0.1, 0.1, 0.1)
    without = triple_loss(logits, iou, ONE, ALL)
    assert float(triple_loss(logits, iou + 0.2, ONE, ALL) - without) == pytest.approx(0.04)


def test_losses_of_objects_are_averaged():
    logits, iou = torch.cat([hypotheses(0, 0, 0), hypotheses(2, 2, 2)]), torch.zeros(2, 3, dtype=torch.float64)
    both = triple_loss(logits, iou, ONE.expand(2, -1, -1, -1), ALL.expand(2, -1))
    each = [triple_loss(logits[[one]], iou[[one]], ONE, ALL) for one in (0, 1)]
    assert float(both) == pytest.approx(float(sum(each)) / 2)


def test_targets_are_the_organ_in_all_three_slices_and_in_the_middle_alone_without_their_labels():
    one = slice_of(2000, 3)
    targets, labelled = triple_targets([ObjectExample(one, 2), ObjectExample(slice_of(2000), 2)], 32)
    assert targets.shape == (2, 3, 32, 32) and labelled.tolist() == [[True] * 3, [False, True, False]]
    assert torch.equal(targets[0, 1], targets[1, 1])
    for place in range(3):
        share = (one.stack_labels_nhw[place] == 2).mean()
        assert float(targets[0, place].mean()) == pytest.approx(share, abs=0.02)


def test_each_step_adds_the_loss_of_a_point_and_of_a_box(monkeypatch):
    task, drawn = task_of("slide-sam"), []
    original = SlideSamModel.decode_triples

    def noted(self, embeddings, prompts):
        drawn.append(prompts)
        return original(self, embeddings, prompts)

    monkeypatch.setattr(SlideSamModel, "decode_triples", noted)
    monkeypatch.setattr("SAMLungSegLib.adaptation.methods.slide_sam.triple_loss", lambda *_: torch.tensor(2.0))
    examples = [one for some in task.data.training[:2] for one in some.examples()]
    loss = task.method.loss(task.model, examples, np.random.default_rng(0), 0)
    assert float(loss) == 4
    points, boxes = drawn
    assert len(points) == len(boxes) == len(examples) == 4
    assert all(len(one.points) == 1 and one.box is None for one in points)
    assert all(not one.points and one.box is not None for one in boxes)


# ---- prompts


def test_a_box_moves_as_a_whole_and_by_20_pixels_at_most():
    """100 x 60 pixels: a deviate of 0.8; 4000 pixels wide: of 40, cut at 20."""
    rng = np.random.default_rng(0)
    mask = np.zeros((100, 200), bool)
    mask[20:80, 50:150] = True
    boxes = np.array([noisy_box(mask, rng).box.xyxy for _ in range(400)])
    assert np.allclose(boxes[:, 2] - boxes[:, 0], 100) and np.allclose(boxes[:, 3] - boxes[:, 1], 60)
    moved = boxes[:, :2] - (50, 20)
    assert np.allclose(moved.std(0), 0.8, rtol=0.15) and abs(np.corrcoef(moved.T)[0, 1]) < 0.15
    wide = np.ones((4000, 4000), bool)
    far = np.array([noisy_box(wide, rng).box.xyxy[:2] for _ in range(20)])
    assert np.abs(far).max() == 20


def test_a_point_lies_anywhere_in_the_object():
    mask = np.zeros((5, 6), bool)
    mask[1, 2], mask[4, 5] = True, True
    rng = np.random.default_rng(0)
    found = {inner_point(mask, rng).points[0].xy for _ in range(40)}
    assert found == {(2.0, 1.0), (5.0, 4.0)}


# ---- what learns


def task_of(text: str, model=None) -> AdaptationTask:
    method = method_from(text)
    learner = method.model_for(model or tiny_model())
    torch.manual_seed(0)
    trained = method.prepare(learner, ORGANS)
    return AdaptationTask(learner, method, trained, shape_data(3), AdaptConfig(steps=2))


def trained(task: AdaptationTask, folder) -> set[str]:
    """Names of the weights that a training has moved."""
    before = {name: value.clone() for name, value in task.model.network.state_dict().items()}
    Trainer(task, TrainerSettings(task.config.epochs, "last"), folder / "adaptation.pt").run()
    after = task.model.network.state_dict()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def test_lora_patch_embedding_and_decoder_learn_and_neck_and_prompt_encoder_do_not(tmp_path):
    moved = trained(task_of("slide-sam:learning_rate=1e-2"), tmp_path)
    starts = {name.split(".")[0] + "." + name.split(".")[1] for name in moved}
    assert starts == {
        "image_encoder.adapters",
        "image_encoder.patch_embed",
        "extension.patch_embed",
        "extension.below",
        "extension.above",
        *(name for name in starts if name.startswith("mask_decoder")),
    }
    assert "mask_decoder.output_upscaling.0.weight" in moved


def test_rates_and_decay_are_the_papers():
    method = method_from("slide-sam")
    assert (method.learning_rate, method.weight_decay, method.rank) == (5e-6, 1e-4, 8)
    task = task_of("slide-sam")
    assert adapter_in(task.model.network) == Lora(rank=8, alpha=8.0)
    [group] = task.optimizer(0).param_groups
    assert (group["lr"], group["weight_decay"]) == (5e-6, 1e-4)
    with pytest.raises(SettingsError, match="of rank 0 is not possible"):
        method_from("slide-sam:rank=0")


# ---- fine-tuning


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """Weights of slide-sam that have learned anything."""
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    model = load_model("sam-vit-b", device="cpu")
    method = method_from("slide-sam:rank=2")
    learner = method.model_for(model)
    method.prepare(learner, ORGANS)
    torch.manual_seed(5)
    for group in method.parameters(learner, method_parts(method, learner), 0):
        for one in group["params"]:
            one.data += 0.05 * torch.randn_like(one)
    return method.export(tmp_path / "slide.safetensors", learner, BaseCheckpoint("sam-vit-b"), {})


def method_parts(method: SlideSam, model: SlideSamModel) -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict({name: model.part(name) for name in method.parts})


def triple(model: SlideSamModel) -> np.ndarray:
    view = slice_of(2000, 3)
    [embedding] = model.encode([view.view])
    return model.predict_triple(embedding, noisy_box(view.labels_hw == 2, np.random.default_rng(0)))[0].logits_nhw


def test_what_was_trained_loads_as_a_model_of_three_slices(earlier):
    model = load_model("sam-vit-b", weights=earlier, device="cpu")
    assert isinstance(model, SlideSamModel) and adapter_in(model.network) == Lora(rank=2, alpha=2.0)
    grey = slice_of(0).grey_hw
    assert model.encode([ModelView(grey)])[0].size_hw == grey.shape


def test_fine_tuning_moves_one_added_rank_and_begins_where_the_earlier_ended(earlier, tmp_path):
    task = task_of(f"slide-sam:finetune={earlier},finetune_rate=1e-2", load_model("sam-vit-b", device="cpu"))
    assert adapter_in(task.model.network) == Lora(rank=3, alpha=3.0)
    before, start = adapter_state(task.model.network), triple(task.model)
    assert relative_error(start, triple(load_model("sam-vit-b", weights=earlier, device="cpu"))) <= 1e-5
    [group] = task.optimizer(0).param_groups
    assert (group["lr"], group["weight_decay"]) == (pytest.approx(1e-2), 0)
    moved = trained(task, tmp_path)
    assert moved and all(name.startswith("image_encoder.adapters.") for name in moved)
    for name, value in adapter_state(task.model.network).items():
        old, new = (one if ".down." in name else one.T for one in (before[name], value))
        assert torch.equal(old[:2], new[:2]) and not torch.equal(old[2:], new[2:])
    path = task.method.export(tmp_path / "tuned.safetensors", task.model, BaseCheckpoint("sam-vit-b"), {})
    again = load_model("sam-vit-b", weights=path, device="cpu")
    assert np.array_equal(triple(again), triple(task.model))
    assert relative_error(triple(again), start) > 1e-4


def test_only_weights_of_this_method_on_the_same_model_are_fine_tuned(earlier, tmp_path):
    model = load_model("sam-vit-b", device="cpu")
    with pytest.raises(ModelError, match="holds no weights of slide-sam with their card; give some to finetune"):
        method_from(f"slide-sam:finetune={tmp_path / 'none.safetensors'}").model_for(model)
    model.network.image_encoder.blocks[0].norm1.bias.data += 1
    with pytest.raises(ModelError, match="was trained on other weights of sam-vit-b"):
        method_from(f"slide-sam:finetune={earlier}").model_for(model)
    other = tiny_model()
    MedSa().inject(other.network)
    with pytest.raises(ModelError, match="'med-sa' cannot be fine-tuned by slide-sam"):
        widen(other.network)


# ---- from data


def write_volumes(folder: Path, count: int = 8) -> Path:
    """Volumes of five slices of 64 x 80 pixels: a disc in all of them, and 4 pixels of another object in slice 2."""
    for number in range(count):
        drawn = [shapes(number) for _ in range(5)]
        greys, labels = (np.stack(part) for part in zip(*drawn, strict=True))
        labels[labels == 2] = 0
        labels[2, :2, :2] = 2
        for kind, array in (("images", greys.astype(np.int16)), ("masks", labels)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.0, 4.0))
            (folder / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(folder / kind / f"volume_{number}.nii.gz"))
    return folder


def test_small_structures_are_not_learned_and_neighbours_come_along(tmp_path):
    """.14 % of 5120 pixels are 7.2: 4 are too few to learn from, but not to be judged by."""
    reading = reading_for(method_from("slide-sam"), ReadingOptions("1 disc 2 bar", smallest_px=1))
    data = read_data(write_volumes(tmp_path), reading)
    assert {one.organs for one in data.training} == {(1,)}
    assert {one.organs for one in data.held_out} == {(1,), (1, 2)}
    one = data.training[0]
    assert one.stack_nhw.shape == one.stack_labels_nhw.shape == (3, 64, 80)
    assert np.array_equal(one.stack_nhw[1], one.grey_hw) and one.place is None
    with_volume = read_data(tmp_path, reading_for(method_from("segment-any-bone"), ReadingOptions("1 disc 2 bar")))
    places = [one.place for one in with_volume.training[:5]]
    assert [place.index for place in places] == list(range(5)) and len({id(one.volume) for one in places}) == 1
    assert with_volume.training[0].view.place is places[0]
    without = reading_for(method_from("segment-any-bone:depth=false"), ReadingOptions("1 disc 2 bar"))
    assert read_data(tmp_path, without).training[0].place is None


def test_the_command_trains_and_judges_three_slices(tmp_path, monkeypatch, capsys):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    data = write_volumes(tmp_path / "data")
    options = ("--model", "sam-vit-b", "--device", "cpu", "--input-size", "128", "--organs", "1 disc", "--steps", "2")
    assert main(["adapt", str(data), "--method", "slide-sam", "-o", str(tmp_path / "out"), *options]) == 0
    table = pd.read_csv(tmp_path / "out" / "held_out.csv")
    assert {*table["prompt"]} == {"box", "point"} and (tmp_path / "out" / "comparison.json").is_file()

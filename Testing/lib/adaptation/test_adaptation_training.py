"""How any method is trained: gradients added up or computed again, an end by the clock, stages; and MedSAM's loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from adaptation_sets import ORGANS, shape_data, slice_of, tiny_model
from tiny_sams import relative_error, tiny_sam
from torch import nn

from SAMLungSegLib.adaptation import AdaptationData, AdaptConfig, Method, method_from
from SAMLungSegLib.adaptation.method import frame_targets, register_method
from SAMLungSegLib.adaptation.methods.medsam import moved_box, whole_frame_loss
from SAMLungSegLib.adaptation.prompts import PROMPT_KINDS, accepted_kinds, prompts_of
from SAMLungSegLib.adaptation.task import AdaptationTask, Drawn, fixed_prompts
from SAMLungSegLib.errors import ModelError, SettingsError
from SAMLungSegLib.models.extensions import extend, extension_from, register_extension
from SAMLungSegLib.models.extensions.base import extension_of
from SAMLungSegLib.models.extensions.medsam_frames import MedSamFrames
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.training.trainer import Trainer, TrainerSettings


def task_of(name="lora", data: AdaptationData | None = None, model=None, **config) -> AdaptationTask:
    method = method_from(name)
    model = model or tiny_model()
    torch.manual_seed(0)
    learner = method.model_for(model)
    return AdaptationTask(
        learner, method, method.prepare(learner, ORGANS), data or shape_data(method.slices_per_input),
        AdaptConfig(**({} if "minutes" in config else {"steps": 4}) | config),
    )  # fmt: skip


def gradients(task: AdaptationTask, batch: Drawn) -> dict[str, torch.Tensor]:
    task.optimizer(0)
    pieces = task.pieces(batch)
    for piece in pieces:
        (task.loss(task.predict(piece), piece) / len(pieces)).backward()
    return {name: one.grad.clone() for name, one in task.network.named_parameters() if one.grad is not None}


def assert_same(one, other, most=1e-6):
    assert one.keys() == other.keys() and one
    largest = max(float(value.abs().max()) for value in one.values())
    assert max(float((value - other[name]).abs().max()) for name, value in one.items()) <= most * largest


# ---- memory


@pytest.mark.parametrize("name", ["lora", "med-sa", "full", "medsam"])
def test_gradients_are_the_same_where_activations_are_computed_again(name):
    found = []
    for is_on in (False, True):
        task = task_of(name)
        task.model.recompute_activations(is_on)
        batch = next(iter(task.batches(0)))
        found.append(gradients(task, batch))
    assert_same(*found)


def test_computing_again_keeps_less():
    """What a step holds on to for its gradients, counted in bytes as torch saves it."""
    kept = []
    for is_on in (False, True):
        task, total = task_of("lora"), 0
        task.model.recompute_activations(is_on)
        task.optimizer(0)

        def count(tensor):
            nonlocal total
            total += tensor.nelement() * tensor.element_size()
            return tensor

        batch = next(iter(task.batches(0)))
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            task.predict(task.pieces(batch)[0])
        kept.append(total)
    assert kept[1] < 0.6 * kept[0]


def test_a_model_that_cannot_compute_again_says_so():
    from SAMLungSegLib.models import load_model

    model = load_model("lung-compact", device="cpu", engine="torch")
    with pytest.raises(ModelError, match="lung-compact keeps what it computes; leave checkpointing out"):
        model.recompute_activations(True)


def test_gradients_of_small_batches_add_up_to_those_of_a_large_one(monkeypatch):
    fixed = [prompts_of(slice_of(0).examples()[0].mask_hw, "box", np.random.default_rng(0))]
    monkeypatch.setattr("SAMLungSegLib.adaptation.method.prompts_of", lambda *_: fixed[0])
    task = task_of(batch=2, accumulate=2)
    drawn = next(iter(task.batches(0)))
    assert len(drawn.examples) == 4 and [len(one.examples) for one in task.pieces(drawn)] == [2, 2]
    whole = task_of(batch=4)
    assert [len(one.examples) for one in whole.pieces(drawn)] == [4]
    assert_same(gradients(task, drawn), gradients(whole, drawn), most=1e-5)


# ---- what the best weights are chosen by


def test_objects_of_the_validation_part_are_prompted_by_each_kind_in_turn(monkeypatch):
    task, asked = task_of("decoder"), []
    score = type(task.method).score

    def noted(self, model, embedding, example, prompts):
        asked.append((example, prompts))
        return score(self, model, embedding, example, prompts)

    monkeypatch.setattr(type(task.method), "score", noted)
    task.validate()
    assert len(asked) == 4  # two slices with a disc and a bar each
    kinds = ("centre", "point", "points", "box")
    assert [prompts for _, prompts in asked] == [
        fixed_prompts(one, kind) for (one, _), kind in zip(asked, kinds, strict=True)
    ]


# ---- how long


@pytest.mark.parametrize(
    ("steps", "per_epoch", "epochs"), [(1, 1, 1), (4, 1, 4), (25, 3, 9), (500, 50, 10), (5000, 50, 100)]
)
def test_there_are_ten_epochs_or_epochs_of_fifty_steps(steps, per_epoch, epochs):
    config = AdaptConfig(steps=steps)
    assert (config.epoch_steps, config.epochs) == (per_epoch, epochs)
    task = task_of(steps=steps)
    assert sum(1 for epoch in range(epochs) for _ in task.batches(epoch)) == steps


@pytest.mark.parametrize(
    "settings", [{}, {"steps": 3, "minutes": 1.0}, {"steps": 0}, {"minutes": -1.0}, {"steps": 1, "batch": 0}]
)
def test_what_is_no_training_is_refused(settings):
    with pytest.raises(SettingsError, match="give"):
        AdaptConfig(**settings)


class Clock:
    """Every step takes six seconds."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 6.0
        return self.now


def test_a_training_by_the_clock_ends_by_it(tmp_path, monkeypatch):
    monkeypatch.setattr("SAMLungSegLib.adaptation.task.time", Clock())
    task = task_of("decoder", minutes=2.0)
    history = Trainer(task, TrainerSettings(task.config.epochs), tmp_path / "adaptation.pt").run().history
    assert [row["seconds"] for row in history[:-1]] == [history[0]["seconds"]] * (len(history) - 1)
    assert sum(row["seconds"] for row in history[:-1]) < 120 <= sum(row["seconds"] for row in history)


def test_slices_are_drawn_by_their_weights_and_of_each_one_organ():
    from dataclasses import replace

    data = shape_data()
    heavy = replace(data, training=(data.training[0], *(replace(one, weight=1e-9) for one in data.training[1:])))
    drawn = [one for step in task_of(data=heavy, steps=20, batch=1).batches(0) for one in step.examples]
    assert {one.slice.image for one in drawn} == {"image_0"}
    task = task_of(data=heavy, steps=200, batch=1)
    organs = [one.organ for epoch in range(10) for step in task.batches(epoch) for one in step.examples]
    assert 70 <= organs.count(1) <= 130


def test_stages_and_groups_of_rates_are_the_methods_own(tmp_path):
    from SAMLungSegLib.adaptation.methods.plain import Full

    class Staged(Full):
        name, stages = "staged", 2

        def parameters(self, model, trained, stage):
            part = "mask_decoder" if stage == 0 else "prompt_encoder"
            return [{"params": [*trained[part].parameters()], "scale": 0.5}]

        def rate(self, step, progress):
            return 1 - progress

    model, method = tiny_model(), Staged(learning_rate=1e-3)
    task = AdaptationTask(model, method, method.prepare(model, ORGANS), shape_data(), AdaptConfig(steps=4))
    assert [task.stage(epoch) for epoch in range(4)] == [0, 0, 1, 1]
    assert [group["lr"] for group in task.optimizer(1).param_groups] == [5e-4]
    moving = {name for name, one in task.network.named_parameters() if one.requires_grad}
    assert moving and all(name.startswith("prompt_encoder.") for name in moving)
    assert [task.rate(0, step) for step in (0, 1, 2)] == [1.0, 0.75, 0.5]


# ---- prompts


def test_prompts_for_measuring_are_the_same_every_time_and_for_training_they_are_drawn():
    example = slice_of(0).examples()[0]
    assert fixed_prompts(example, "points") == fixed_prompts(example, "points")
    assert fixed_prompts(example, "point") != fixed_prompts(slice_of(1).examples()[0], "point")


def test_each_model_is_prompted_as_it_can_be():
    sam, medsam = tiny_model(), tiny_model(MedSamModel)
    assert accepted_kinds(sam) == PROMPT_KINDS and accepted_kinds(medsam) == ("box", "larger-box")
    with pytest.raises(SettingsError, match="not prompted by points; choose of box, larger-box"):
        accepted_kinds(medsam, ("points",))
    with pytest.raises(SettingsError, match="not prompted by clicks; choose of centre, point"):
        accepted_kinds(sam, ("clicks", "box"))


# ---- MedSAM


def test_the_box_is_moved_outwards_by_up_to_twenty_pixels_of_a_frame_of_1024():
    mask = np.zeros((100, 200), bool)
    mask[40:60, 80:120] = True
    rng = np.random.default_rng(0)
    boxes = np.array([moved_box(mask, rng, 20, 512).xyxy for _ in range(400)])
    moves = (boxes - (80, 40, 120, 60)) * (-1, -1, 1, 1) * (512 / 200, 512 / 100, 512 / 200, 512 / 100) * 2
    assert np.allclose(moves, moves.round())  # whole pixels of 1024
    assert {*moves.round().astype(int).ravel().tolist()} == set(range(21))
    assert moved_box(np.ones((10, 10), bool), rng, 20, 1024).xyxy == (0, 0, 10, 10)


def test_medsams_loss_is_dice_of_squares_and_cross_entropy():
    logits = torch.zeros(1, 2, 2)
    targets = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    dice = 1 - 2 * (2 * 0.5) / (4 * 0.25 + 2)
    assert float(whole_frame_loss(logits, targets)) == pytest.approx(dice + np.log(2), abs=1e-4)


def test_targets_fill_the_frame_of_medsam_and_the_top_of_sams():
    one = slice_of(0).examples()[1]
    wide, square = (frame_targets(model, [one], 128)[0] for model in (tiny_model(), tiny_model(MedSamModel)))
    assert wide[:102].any() and not wide[102:].any()  # of 64 x 80 pixels
    rows = torch.where(square.any(1))[0]
    assert (int(rows[0]), int(rows[-1])) == (20, 99)  # rows 10 to 49 of 64


def test_a_sam_is_trained_with_slices_as_medsam_sees_them():
    model = tiny_model()
    medsam = method_from("medsam").model_for(model)
    assert isinstance(medsam, MedSamModel) and medsam.network is model.network
    grey = slice_of(0).grey_hw
    own = tiny_model(MedSamModel)
    got, expected = (one.encode([grey])[0].features[0] for one in (medsam, own))
    assert relative_error(got.numpy(), expected.numpy()) <= 1e-6
    assert method_from("medsam").model_for(own) is own
    with pytest.raises(SettingsError, match="MedSAM learns by boxes"):
        method_from("medsam:prompts=points")


# ---- what there is, and what may be added


def test_a_method_or_an_extension_of_a_name_that_there_is_is_refused():
    with pytest.raises(SettingsError, match="There is a method 'decoder' already"):
        register_method(type("Other", (Method,), {"name": "decoder"}))
    with pytest.raises(ModelError, match="There is an extension 'medsam-frames' already"):
        register_extension("medsam-frames")(MedSamFrames)


def test_a_model_has_one_extension_and_says_which():
    model = tiny_model()
    with pytest.raises(ModelError, match="has no extension"):
        extension_of(model)
    extended = extend(model, MedSamFrames())
    assert extension_of(extended) == MedSamFrames() and isinstance(extended.part("extension"), nn.Module)
    with pytest.raises(ModelError, match="has the extension 'medsam-frames' already"):
        extend(model, MedSamFrames())
    with pytest.raises(ModelError, match="no extension 'wings'; known are"):
        extension_from("wings", {})
    with pytest.raises(ModelError, match="'medsam-frames' has no setting 'size'; it has none"):
        extension_from("medsam-frames", {"size": 3})


def test_the_encoder_without_adapters_gives_the_stock_numbers_whether_it_computes_again_or_not():
    stock, model = tiny_sam(), tiny_model(input_size=256)
    frames = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    model.network.image_encoder.requires_grad_(True)
    for is_on in (False, True):
        model.recompute_activations(is_on)
        assert torch.equal(model.network.image_encoder(frames), stock.image_encoder(frames))

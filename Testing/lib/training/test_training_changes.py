"""Random changes of the training images: what each does, and how often a strength makes them."""

from __future__ import annotations

import pytest
import torch
from monai.data import list_data_collate

from SAMLungSegLib.training.augment import (
    STRENGTHS,
    RandomCollimation,
    RandomFlip,
    RandomInvert,
    RandomTurn,
    RandomWindow,
    training_transforms,
)
from SAMLungSegLib.training.synthetic_findings import RandomAir, RandomConsolidation, RandomDevices, RandomEffusion


def sample(modality: str = "CT") -> dict:
    image = torch.full((1, 64, 64), -600.0 if modality == "CT" else 127.5)
    label = torch.zeros(3, 64, 64)
    label[0, 10:50, 5:25] = 1
    label[1, 10:50, 40:60] = 1
    return {"image": image, "label": label, "modality": modality}


def test_the_middle_of_the_window_is_middle_grey():
    assert torch.allclose(RandomWindow(jitter=0.0)(sample())["image"], torch.tensor(0.5))
    assert torch.allclose(RandomWindow(jitter=0.0)(sample("XRAY"))["image"], torch.tensor(0.5))


def test_a_mirrored_image_exchanges_the_sides_labels():
    flipped = RandomFlip(prob=1.0)(sample("XRAY"))["label"]
    assert flipped[0, 20, 10] == 1 and flipped[1, 20, 50] == 1
    assert flipped[0].sum() == 40 * 20


def test_consolidations_brighten_lung_only_and_leave_labels_alone():
    before = {**sample(), "image": torch.full((1, 64, 64), 0.1)}
    after = RandomConsolidation(prob=1.0).set_random_state(3)(before)
    changed = (after["image"] - before["image"]).abs()[0] > 1e-6
    assert changed.any()
    assert not changed[before["label"][:2].sum(0) == 0].any()
    assert torch.equal(after["label"], before["label"])


def test_a_white_lung_on_an_xray_hides_the_borders_around_it():
    """Beyond a line everything is as white as tissue, inside the lung and a little outside of it."""
    before = {**sample("XRAY"), "image": torch.full((1, 64, 64), 0.1)}
    lung = before["label"][:2].sum(0) > 0
    is_hidden = []
    for seed in range(20):
        after = RandomConsolidation(prob=1.0).set_random_state(seed)(before)
        assert torch.equal(after["label"], before["label"])
        white = after["image"][0] > 0.5
        is_hidden.append(bool((white & lung).any() and (white & ~lung).any()))
    assert 4 < sum(is_hidden) < 16


def test_fluid_on_ct_is_white_and_no_longer_lung():
    before = {**sample(), "image": torch.full((1, 64, 64), 0.1)}
    for seed in range(10):
        after = RandomEffusion(prob=1.0).set_random_state(seed)(before)
        lost = (before["label"] - after["label"])[:2].sum(0) > 0.5
        assert 0.02 < lost.sum() / (40 * 40) < 0.4
        assert (after["image"][0, lost] > 0.4).all()
        kept = after["label"][:2].sum(0) > 0.99
        assert kept.sum() > 800 and (after["image"][0, kept] < 0.2).all()
    assert RandomEffusion(prob=1.0)({**before, "modality": "XRAY"})["label"] is before["label"]


def test_painted_air_lies_outside_the_lungs_and_leaves_labels_alone():
    """A bright body with dark lungs, black above it: air gets grey, comes nearer, or lies as a bubble below a lung."""
    before = {**sample("XRAY"), "image": torch.full((1, 64, 64), 0.8)}
    lung = before["label"][:2].sum(0) > 0
    before["image"][0, lung] = 0.2
    before["image"][0, :4] = 0.0
    is_grey, is_bubble = [], []
    for seed in range(40):
        after = RandomAir(prob=1.0).set_random_state(seed)(before)
        assert torch.equal(after["label"], before["label"])
        assert torch.equal(after["image"][0, lung], before["image"][0, lung])
        is_grey.append(bool((after["image"][0, 0] > 0.1).all()))
        is_bubble.append(bool((after["image"][0, 54:, 5:60] < 0.5).any()))
    assert sum(is_grey) > 4 and sum(is_bubble) > 4
    assert torch.equal(RandomAir(prob=1.0)({**before, "modality": "CT"})["image"], before["image"])


def test_only_xrays_are_inverted():
    xray = {**sample("XRAY"), "image": torch.full((1, 4, 4), 0.2)}
    assert torch.allclose(RandomInvert(prob=1.0)(xray)["image"], torch.tensor(0.8))
    ct = {**sample("CT"), "image": torch.full((1, 4, 4), 0.2)}
    assert torch.allclose(RandomInvert(prob=1.0)(ct)["image"], torch.tensor(0.2))


def test_a_turned_image_keeps_its_labels_with_it():
    before = {**sample("XRAY"), "image": sample()["label"][:1].clone()}
    after = RandomTurn(prob=1.0).set_random_state(0)(before)
    assert torch.equal(after["image"], after["label"][:1])
    assert not torch.equal(after["image"], before["image"])
    assert after["label"].sum() == before["label"].sum()


def test_there_is_no_lung_outside_the_collimation():
    before = {**sample("XRAY"), "image": torch.full((1, 64, 64), 0.5), "label": torch.ones(3, 64, 64)}
    after = RandomCollimation(prob=1.0).set_random_state(1)(before)
    outside = after["image"] != 0.5
    assert outside.any() and not outside[:, 20:44, 20:44].any()
    assert torch.equal(after["label"][0] == 0, outside[0])


def test_devices_brighten_xrays_only_and_leave_labels_alone():
    before = {**sample("XRAY"), "image": torch.full((1, 64, 64), 0.3)}
    after = RandomDevices(prob=1.0).set_random_state(2)(before)
    assert after["image"].dtype == torch.float32
    assert (after["image"] >= before["image"]).all() and (after["image"] > before["image"]).any()
    assert torch.equal(after["label"], before["label"])
    assert torch.equal(RandomDevices(prob=1.0)({**before, "modality": "CT"})["image"], before["image"])


@pytest.mark.parametrize("strength", STRENGTHS)
def test_all_changes_together_keep_sizes_and_kinds_so_that_samples_make_a_batch(strength):
    transforms = training_transforms(strength).set_random_state(4)
    label = torch.zeros(3, 320, 320)
    label[0, 40:200, 20:100] = label[1, 40:200, 150:230] = 1
    changed = []
    for modality in ["CT", "XRAY"] * 20:
        image = torch.full((1, 320, 320), -600.0 if modality == "CT" else 127.5) + torch.rand(1, 320, 320)
        changed.append(transforms({"image": image, "label": label, "modality": modality, "sides_known": True}))
    batch = list_data_collate(changed)
    for key, channels in (("image", 1), ("label", 3)):
        assert batch[key].shape == (40, channels, 320, 320)
        assert batch[key].dtype == torch.float32


@pytest.mark.slow
def test_light_changes_leave_most_xrays_as_they_were_but_change_ct_as_mild_ones_do():
    def share_of_even_lungs(strength: str, modality: str) -> float:
        grey = torch.full((1, 320, 320), -600.0 if modality == "CT" else 127.5)
        label = torch.zeros(3, 320, 320)
        label[0, 50:270, 30:130] = label[1, 50:270, 190:290] = 1
        before = {**sample(modality), "image": grey, "label": label}
        transforms = training_transforms(strength).set_random_state(4)
        after = [transforms(before)["image"][0, 70:250, 70:250] for _ in range(100)]
        return sum(float(image.max() - image.min()) < 1e-3 for image in after) / 100

    assert share_of_even_lungs("light", "XRAY") > 0.6
    for strength, modality in (("light", "CT"), ("mild", "CT"), ("mild", "XRAY")):
        assert share_of_even_lungs(strength, modality) < 0.55


@pytest.mark.slow
def test_light_changes_often_paint_consolidations_into_xrays():
    def share_of_white_lungs(strength: str) -> float:
        label = torch.zeros(3, 320, 320)
        label[0, 60:260, 40:130] = label[1, 60:260, 190:280] = 1
        before = {**sample("XRAY"), "image": torch.full((1, 320, 320), 25.0), "label": label}
        transforms = training_transforms(strength).set_random_state(4)
        after = [transforms(before) for _ in range(100)]
        white = [one["image"][0][one["label"][:2].sum(0) > 0.9].float().quantile(0.95) > 0.35 for one in after]
        return sum(white) / 100

    assert share_of_white_lungs("plain") == 0
    assert share_of_white_lungs("light") > 0.15


def test_light_changes_move_the_window_of_ct_as_mild_ones_do():
    def typical_change(strength: str) -> float:
        before = {**sample(), "image": torch.full((1, 320, 320), -600.0), "label": torch.zeros(3, 320, 320)}
        transforms = training_transforms(strength).set_random_state(4)
        images = torch.stack([transforms(before)["image"] for _ in range(30)])
        return float((images[:, 0, 130:190, 130:190].mean((1, 2)) - 0.5).abs().median())

    assert 0.7 * typical_change("mild") < typical_change("light")

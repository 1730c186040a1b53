"""Training in small: the data set, augmentation, simulated prompts, the loop, the export."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.data import list_data_collate

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.models.checkpoints import load_state_dict
from SAMLungSegLib.models.compact import CompactNet
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.training import Phase, TrainingConfig, data_facts, export, pack, train, trained_network
from SAMLungSegLib.training.augment import (
    STRENGTHS,
    RandomCollimation,
    RandomFlip,
    RandomInvert,
    RandomTurn,
    RandomWindow,
    training_transforms,
)
from SAMLungSegLib.training.data import is_trained_on, paired_examples, phantom_examples, sides_are_plausible, split_of
from SAMLungSegLib.training.objective import iou_loss, segmentation_loss
from SAMLungSegLib.training.painting import RandomAir, RandomConsolidation, RandomDevices, RandomEffusion
from SAMLungSegLib.training.prompting import BatchPrompts, PromptSampler

TINY = TrainingConfig(
    phases=(Phase(1, side=160), Phase(1, augmentation="mild", frozen_norm=True)),
    epoch_images=8,
    batch=4,
    workers=0,
    iou_epochs=1,
    threads=1,
)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    """A folder laid out like the real sets, with generated X-rays."""
    folder = tmp_path_factory.mktemp("data") / "cxr_montgomery"
    phantom = chest_ct(seed=1, size_kji=(32, 96, 96), spacing_mm=(10.0, 4.0, 4.0))
    image, labelmap = chest_xray(phantom, (128, 128))
    for index in range(12):
        for kind, array in (("images", image), ("masks", (labelmap > 0).astype(np.uint8) * 255)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / kind / f"{index}.png"))
    return folder.parent


@pytest.fixture(scope="module")
def packed(data_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    pack(data_folder, path, phantoms=1)
    return path


# ---- data


def test_the_split_depends_on_the_name_alone_and_has_its_shares():
    names = [f"image_{number}" for number in range(4000)]
    splits = [split_of(name) for name in names]
    assert splits == [split_of(name) for name in names]
    assert abs(splits.count("test") / 4000 - 0.15) < 0.02
    assert abs(splits.count("validation") / 4000 - 0.10) < 0.02


def test_a_pack_holds_images_labels_and_splits(packed):
    with np.load(packed, allow_pickle=False) as data:
        assert data["images"].shape == (23, 320, 320) and data["images"].dtype == np.int16
        assert data["labels"].shape == (23, 3, 320, 320) and data["labels"].dtype == np.uint8
        assert sorted(set(data["sets"])) == ["cxr_montgomery", "phantom_ct", "phantom_xray"]
        right, left = (data["labels"][0][side] for side in (0, 1))
        assert np.nonzero(right)[1].mean() < np.nonzero(left)[1].mean()
        assert data["images"][data["modalities"] == "CT"].min() >= -1400


def test_the_card_names_the_sets_and_their_terms(packed):
    rows = {row["set"]: row for row in data_facts(packed, TINY)}
    assert rows["phantom_ct"]["used"] == "10 of 10 slices"
    assert "Jaeger" in rows["cxr_montgomery"]["terms"]


def test_a_folder_without_sets_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="No image set was found"):
        pack(tmp_path, tmp_path / "pack.npz")


def test_real_masks_are_told_apart_into_right_and_left(shared_data):
    examples = [example for example, _ in zip(paired_examples(shared_data / "ct_kmader"), range(12), strict=False)]
    assert all(example.sides_known for example in examples)
    assert all(example.image.min() < -900 for example in examples), "HU, not HU + 1024"


def test_a_mask_on_one_side_only_has_no_plausible_sides():
    labelmap = np.zeros((10, 10), np.uint8)
    labelmap[2:8, 1:4] = 1
    assert not sides_are_plausible(labelmap)


def test_a_phantom_is_seen_from_all_three_sides():
    examples = {example.name.rsplit("_", 1)[0].split("_")[-1]: example for example in phantom_examples(1)}
    coronal, sagittal = examples["coronal"], examples["sagittal"]
    assert coronal.sides_known and not sagittal.sides_known
    right, left = (np.nonzero(coronal.labelmap == side)[1].mean() for side in (1, 2))
    assert right < left
    assert len(set(np.unique(sagittal.labelmap)) - {0}) == 1, "a sagittal slice holds one lung"
    lung_hu, outside_hu = (coronal.image[mask].mean() for mask in (coronal.labelmap > 0, coronal.labelmap == 0))
    assert lung_hu < -600 < outside_hu


def test_a_phantom_is_seen_on_an_xray_too():
    [xray] = [example for example in phantom_examples(1) if example.modality == "XRAY"]
    assert xray.set_name == "phantom_xray" and xray.sides_known
    right, left = (np.nonzero(xray.labelmap == side)[1].mean() for side in (1, 2))
    assert right < left
    rows = np.nonzero(xray.labelmap.any(axis=1))[0]
    between = xray.image[rows.min() : rows.max(), round((right + left) / 2)]
    assert np.median(xray.image[xray.labelmap > 0]) < 0.8 * np.median(between), "lung is darker than the mediastinum"


def test_a_recipe_that_holds_a_set_out_learns_from_nothing_of_it():
    sets = np.array(["cxr_montgomery", "cxr_montgomery", "cxr_shenzhen", "cxr_shenzhen", "cxr_shenzhen"])
    splits = np.array(["train", "test", "train", "validation", "test"])
    assert is_trained_on(sets, splits, TrainingConfig()).tolist() == [True, False, True, False, False]
    held_out = TrainingConfig(held_out_sets=("cxr_montgomery",))
    assert is_trained_on(sets, splits, held_out).tolist() == [False, False, True, False, True]
    shares = TrainingConfig(shares={"cxr_montgomery": 1.0})
    assert is_trained_on(sets, splits, shares).tolist() == [True, False, False, False, False]


# ---- augmentation


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


def test_light_changes_leave_most_xrays_as_they_were_but_change_ct_as_mild_ones_do():
    def share_of_even_lungs(strength: str, modality: str) -> float:
        grey = torch.full((1, 320, 320), -600.0 if modality == "CT" else 127.5)
        label = torch.zeros(3, 320, 320)
        label[0, 50:270, 30:130] = label[1, 50:270, 190:290] = 1
        before = {**sample(modality), "image": grey, "label": label}
        transforms = training_transforms(strength).set_random_state(4)
        after = [transforms(before)["image"][0, 70:250, 70:250] for _ in range(200)]
        return sum(float(image.max() - image.min()) < 1e-3 for image in after) / 200

    assert share_of_even_lungs("light", "XRAY") > 0.6
    for strength, modality in (("light", "CT"), ("mild", "CT"), ("mild", "XRAY")):
        assert share_of_even_lungs(strength, modality) < 0.55


def test_light_changes_often_paint_consolidations_into_xrays():
    def share_of_white_lungs(strength: str) -> float:
        label = torch.zeros(3, 320, 320)
        label[0, 60:260, 40:130] = label[1, 60:260, 190:280] = 1
        before = {**sample("XRAY"), "image": torch.full((1, 320, 320), 25.0), "label": label}
        transforms = training_transforms(strength).set_random_state(4)
        after = [transforms(before) for _ in range(200)]
        white = [one["image"][0][one["label"][:2].sum(0) > 0.9].float().quantile(0.95) > 0.35 for one in after]
        return sum(white) / 200

    assert share_of_white_lungs("plain") == 0
    assert share_of_white_lungs("light") > 0.15


def test_light_changes_move_the_window_of_ct_as_mild_ones_do():
    def typical_change(strength: str) -> float:
        before = {**sample(), "image": torch.full((1, 320, 320), -600.0), "label": torch.zeros(3, 320, 320)}
        transforms = training_transforms(strength).set_random_state(4)
        images = torch.stack([transforms(before)["image"] for _ in range(30)])
        return float((images[:, 0, 130:190, 130:190].mean((1, 2)) - 0.5).abs().median())

    assert 0.7 * typical_change("mild") < typical_change("light")


# ---- prompts


def test_sampled_prompts_are_about_their_target():
    shares = torch.zeros(8, 2, 256, 256)
    shares[:, 0, 50:200, 20:100] = 1
    shares[:, 1, 50:200, 150:230] = 1
    sampler = PromptSampler(0)
    for _ in range(10):
        target, wanted = sampler.targets(shares, torch.ones(8, dtype=torch.bool))
        prompts = sampler.prompts(shares, wanted)
        for row, mask in zip(prompts.points, target[:, 0], strict=True):
            for (x, y), positive in row:
                assert bool(mask[int(y), int(x)]) == positive


def test_rows_of_points_are_padded_with_not_a_point():
    points_xy, labels = BatchPrompts([[((3.0, 4.0), True)], []]).point_tensors()
    assert points_xy.shape == (2, 1, 2)
    assert labels.tolist() == [[1], [-1]]
    assert BatchPrompts([[], []]).point_tensors() is None


def test_a_correction_clicks_into_the_missed_lung():
    target = torch.zeros(1, 1, 256, 256)
    target[..., 100:140, 100:140] = 1
    known = torch.ones_like(target, dtype=torch.bool)
    for seed in range(5):
        prompts = PromptSampler(seed).corrected(BatchPrompts([[]]), torch.full((1, 1, 128, 128), -5.0), target, known)
        if prompts.masks is None:
            ((x, y), positive) = prompts.points[0][0]
            assert positive and 110 < x < 130 and 110 < y < 130


def test_an_answer_is_corrected_again_with_all_clicks_and_the_newest_mask():
    target = torch.zeros(1, 1, 256, 256)
    target[..., 100:140, 100:140] = 1
    known, sampler = torch.ones_like(target, dtype=torch.bool), PromptSampler(0)
    first = sampler.corrected(BatchPrompts([[]]), torch.full((1, 1, 128, 128), -5.0), target, known)
    newest = torch.full((1, 1, 128, 128), -4.0)
    for seed in range(10):
        second = PromptSampler(seed).corrected(first, newest, target, known)
        assert second.points[0][: len(first.points[0])] == first.points[0]
        assert len(second.points[0]) > len(first.points[0])
        assert second.masks is newest


# ---- losses


def test_the_loss_is_small_for_the_truth_and_ignores_the_unknown():
    target = torch.zeros(1, 1, 64, 64)
    target[..., 10:40, 10:40] = 1
    valid = torch.ones_like(target)
    valid[..., 50:, :] = 0
    logits = target * 40 - 20
    good = segmentation_loss(logits, target, valid)
    logits[..., 50:, :] = 20
    assert torch.isclose(segmentation_loss(logits, target, valid), good)
    assert good < 0.01 < 1 < segmentation_loss(-logits, target, valid)


def test_the_predicted_overlap_is_compared_with_the_true_one():
    logits = torch.full((1, 1, 4, 4), -1.0)
    logits[..., :2] = 1
    target = torch.zeros(1, 1, 4, 4)
    target[..., :1] = 1
    valid = torch.ones_like(target)
    assert float(iou_loss(logits, target, valid, torch.tensor([[0.5]]))) == pytest.approx(0.0, abs=1e-6)
    assert float(iou_loss(logits, target, valid, torch.tensor([[1.0]]))) == pytest.approx(0.25)


# ---- the loop


@pytest.mark.slow
def test_training_resumes_where_it_stopped_and_exports_what_loads(packed, tmp_path):
    whole = train(packed, tmp_path / "whole", TINY)
    stopped = TrainingConfig(**{**vars(TINY)})
    run = tmp_path / "stopped"
    train_one_epoch_then_stop(packed, run, stopped)
    resumed = train(packed, run, stopped)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value.float(), resumed.state_dict()[name].float(), atol=1e-5), name
    path = export(trained_network(run), tmp_path / "model", TINY, {"data": data_facts(packed, TINY), "scores": []})
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["size_bytes"] == path.stat().st_size < 25e6
    CompactNet().load_state_dict(load_state_dict(path))
    assert "research use only" in path.with_suffix(".md").read_text(encoding="utf-8")


def train_one_epoch_then_stop(packed, folder, config):
    """Interrupt a run after its first checkpoint."""
    from SAMLungSegLib.training import loop

    class StopError(Exception):
        pass

    original = loop.TrainingRun.close_epoch

    def close_and_stop(self, epoch, loss):
        original(self, epoch, loss)
        raise StopError

    loop.TrainingRun.close_epoch = close_and_stop
    try:
        with pytest.raises(StopError):
            train(packed, folder, config)
    finally:
        loop.TrainingRun.close_epoch = original

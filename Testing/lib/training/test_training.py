"""Training in small: the data set, simulated prompts, the loop, the export."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.models.checkpoints import load_state_dict
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.training import Phase, TrainingConfig, data_facts, export_network, pack, train, trained_network
from SAMLungSegLib.training.data import packs
from SAMLungSegLib.training.data.cases import sides_are_plausible
from SAMLungSegLib.training.data.packs import LabelledSlice, is_trained_on, paired_examples, phantom_examples
from SAMLungSegLib.training.data.splits import split_of
from SAMLungSegLib.training.losses import iou_loss, segmentation_loss
from SAMLungSegLib.training.prompt_policies import BatchPrompts, PromptSampler
from SAMLungSegLib.training.trainer import Trainer

TINY = TrainingConfig(
    phases=(Phase(1, side=160), Phase(1, augmentation="mild", frozen_norm=True)),
    epoch_images=4,
    batch=2,
    workers=0,
    iou_epochs=1,
    threads=1,
)
RESUMED = replace(TINY, whole_epochs=1, corrector_epochs=1)


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
def of_phantom() -> list[LabelledSlice]:
    return list(phantom_examples(1))


@pytest.fixture(scope="module")
def packed(data_folder, of_phantom, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "phantom_examples", {1: of_phantom}.__getitem__)
        pack(data_folder, path, phantoms=1)
    return path


@pytest.fixture(scope="module")
def stopped_run(packed, tmp_path_factory):
    """The folder of a run that ended after its first epoch; to be copied."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    train_one_epoch_then_stop(packed, folder, RESUMED)
    return folder


# ---- data


def test_the_split_depends_on_the_name_alone_and_has_its_shares():
    names = [f"image_{number}" for number in range(4000)]
    splits = [split_of(name) for name in names]
    assert splits == [split_of(name) for name in names]
    assert abs(splits.count("test") / 4000 - 0.15) < 0.02
    assert abs(splits.count("validation") / 4000 - 0.10) < 0.02


def test_a_pack_holds_images_labels_and_splits(packed):
    with np.load(packed, allow_pickle=False) as data:
        assert data["images"].shape == (24, 320, 320) and data["images"].dtype == np.int16
        assert data["labels"].shape == (24, 3, 320, 320) and data["labels"].dtype == np.uint8
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


def test_a_phantom_is_seen_from_all_three_sides(of_phantom):
    examples = {example.name.rsplit("_", 1)[0].split("_")[-1]: example for example in of_phantom}
    coronal, sagittal = examples["coronal"], examples["sagittal"]
    assert coronal.sides_known and not sagittal.sides_known
    right, left = (np.nonzero(coronal.labelmap == side)[1].mean() for side in (1, 2))
    assert right < left
    assert len(set(np.unique(sagittal.labelmap)) - {0}) == 1, "a sagittal slice holds one lung"
    lung_hu, outside_hu = (coronal.image[mask].mean() for mask in (coronal.labelmap > 0, coronal.labelmap == 0))
    assert lung_hu < -600 < outside_hu


def test_a_phantom_is_seen_on_an_xray_too(of_phantom):
    xray, other = [example for example in of_phantom if example.modality == "XRAY"]
    assert (xray.extent, other.extent) == ("visible", "whole") and np.array_equal(xray.image, other.image)
    hidden = (xray.labelmap == 0) & (other.labelmap > 0)
    assert not ((xray.labelmap > 0) & (other.labelmap == 0)).any(), "what is visible lies within the whole"
    assert 0.05 < hidden.sum() / (other.labelmap > 0).sum() < 0.4
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
    config = TrainingConfig(sampling_weights={"cxr_montgomery": 1.0})
    assert is_trained_on(sets, splits, config).tolist() == [True, False, False, False, False]


# ---- prompts


def test_sampled_prompts_are_about_their_target():
    soft_labels = torch.zeros(8, 2, 256, 256)
    soft_labels[:, 0, 50:200, 20:100] = 1
    soft_labels[:, 1, 50:200, 150:230] = 1
    sampler = PromptSampler(0)
    for _ in range(10):
        target, wanted = sampler.targets(soft_labels, torch.ones(8, dtype=torch.bool))
        prompts = sampler.prompts(soft_labels, wanted)
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
def test_training_resumes_where_it_stopped_and_exports_what_loads(packed, stopped_run, tmp_path):
    config = RESUMED
    whole = train(packed, tmp_path / "whole", config)
    run = shutil.copytree(stopped_run, tmp_path / "stopped")
    resumed = train(packed, run, config)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value.float(), resumed.state_dict()[name].float(), atol=1e-5), name
    rounded = pd.read_csv(run / "history.csv")
    assert rounded["epoch"].tolist() == [0, 1, 2, 3, 4] and rounded.equals(
        pd.read_csv(tmp_path / "whole" / "history.csv")
    )
    facts = {"data": data_facts(packed, config), "scores": []}
    path = export_network(trained_network(run, config), tmp_path / "model", config, facts)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["size_bytes"] == path.stat().st_size < 25e6
    CompactNet().load_state_dict(load_state_dict(path))
    assert trained_network(run, TINY).corrector is None, "a recipe that trains no branches ships none"
    assert "research use only" in path.with_suffix(".md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_training_of_an_earlier_version_goes_on(packed, stopped_run, tmp_path):
    config = replace(TINY, iou_epochs=0)
    whole = train(packed, tmp_path / "whole", config)
    shutil.copytree(stopped_run, tmp_path / "old")  # epochs that come later do not change the first one
    path = tmp_path / "old" / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    torch.save({name: saved[name] for name in ("net", "averaged", "optimizer", "steps")} | {"epoch": 0}, path)
    resumed = train(packed, tmp_path / "old", config)
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
    assert pd.read_csv(tmp_path / "old" / "history.csv").equals(pd.read_csv(tmp_path / "whole" / "history.csv"))
    assert not (tmp_path / "old" / "checkpoint.pt.earlier").exists()


def train_one_epoch_then_stop(packed, folder, config):
    """Interrupt a run after its first checkpoint."""

    class StopError(Exception):
        pass

    original = Trainer.save

    def save_and_stop(self):
        original(self)
        raise StopError

    Trainer.save = save_and_stop
    try:
        with pytest.raises(StopError):
            train(packed, folder, config)
    finally:
        Trainer.save = original

"""Decoder tuning: the prompts, what is trained, how it goes on, and the verdict on held-out images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai.losses import DiceFocalLoss
from scipy import ndimage
from tiny_sams import tiny_sam
from tuning_sets import chest, register_tiny_sam, write_png, write_set

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.compact.model import CompactModel
from SAMLungSegLib.models.compact.network import CompactNet
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.models.tuned import PromptRecipe
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.training import decoder
from SAMLungSegLib.training.data.cases import Windowing, paired_cases
from SAMLungSegLib.training.data.examples import Example, encode_examples, read_examples
from SAMLungSegLib.training.data.splits import split_by_name
from SAMLungSegLib.training.decoder import TunedDecoder, TuningConfig, dice_column, tune_decoder
from SAMLungSegLib.training.losses import TuningLoss
from SAMLungSegLib.training.prompt_policies import PromptPolicy, check_kind, recipe_of_training
from SAMLungSegLib.training.scores import compared
from SAMLungSegLib.training.trainer import Trainer

TWO_POINTS = ((0.28, 0.5), (0.72, 0.5))


def compact_model() -> CompactModel:
    torch.manual_seed(3)
    return CompactModel(CompactNet())


MODELS = {
    "lung-compact": compact_model,
    "sam": lambda: SamModel(tiny_sam(), name="sam"),
    "medsam": lambda: MedSamModel(tiny_sam(), name="medsam"),
}


def examples(count: int, first_seed: int = 0) -> list[Example]:
    """Chests whose left half of the picture is the right lung."""
    made = []
    for number in range(count):
        grey, mask = chest(first_seed + number)
        labels = mask * np.where(np.arange(mask.shape[1]) < mask.shape[1] // 2, 1, 2)
        made.append(Example(f"chest_{first_seed + number}", 0, grey, labels.astype(np.uint8)))
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path / "cache"))


# ---- prompts


def test_mean_points_are_the_middles_of_what_the_training_masks_share():
    def with_lungs(*columns: slice) -> Example:
        labels = np.zeros((128, 128), np.uint8)
        for number, span in enumerate(columns, start=1):
            labels[50:71, span] = number  # 21 rows, 21 columns: the middle is (60, first column + 10)
        return Example("a", 0, labels, labels)

    shared = with_lungs(slice(20, 41), slice(80, 101))
    single = with_lungs(slice(20, 41))  # a minority: its lung is not in the mean
    recipe = recipe_of_training("points", [shared, shared, single])
    # Pixel 30 of 128 covers 30/128 to 31/128; drawn at 256 its two halves are equally deep.
    assert recipe.mean_points == pytest.approx(np.array([(30.5, 60.5), (90.5, 60.5)]) / 128, abs=0.5 / 128)
    assert recipe_of_training("box", [shared]).mean_points == ()


def test_relative_points_are_put_at_pixel_centres_of_a_slice_of_any_size():
    prompts = PromptRecipe("points", ((0.5, 0.25), (1.0, 0.0))).prompts((40, 20))
    assert prompts.points_xy().tolist() == [[9.5, 9.5], [19.5, -0.5]]
    assert prompts.box is None


def test_boxes_grow_by_at_most_the_jitter_and_are_the_same_each_time_they_are_measured_with():
    example = examples(1)[0]
    rows, columns = np.nonzero(example.lung_hw)
    policy = PromptPolicy(PromptRecipe("box"), jitter_px=16)
    most = 16 * 96 / 256
    rng = np.random.default_rng(0)
    for _ in range(20):
        left, top, right, bottom = policy.draw(example, rng).box.xyxy
        assert 0 <= columns.min() - left <= most and 0 <= right - columns.max() - 1 <= most
        assert 0 <= rows.min() - top <= most and 0 <= bottom - rows.max() - 1 <= most
    assert policy.fixed(example) == policy.fixed(example) != policy.draw(example, rng)


def test_medsam_is_not_tuned_to_points():
    with pytest.raises(SettingsError, match="cannot be tuned to prompts 'points'; choose box"):
        check_kind(MODELS["medsam"](), "points")


# ---- the batched prediction


@pytest.mark.parametrize("family", ["lung-compact", "sam"])
def test_a_batch_is_answered_as_each_slice_alone(family):
    model = MODELS[family]()
    greys = [chest(0, (96, 80))[0], chest(1, (64, 96))[0]]
    embeddings = model.encode(greys)
    prompts = [PromptRecipe("points", TWO_POINTS).prompts(grey.shape) for grey in greys]
    with torch.no_grad():
        logits, iou = model.decode_batch(embeddings, prompts)
    assert logits.shape[1] == iou.shape[1] == (4 if family == "lung-compact" else 1)
    for number, (embedding, one) in enumerate(zip(embeddings, prompts, strict=True)):
        alone = model.decode(embedding, one)
        assert np.allclose(logits[number, 0].numpy(), alone.low_res_logits, atol=1e-4)


@pytest.mark.parametrize("family", MODELS)
def test_the_target_lies_where_the_answer_shows_the_slice(family):
    """A mask given as logits in the network's frame comes back as itself on the slice."""
    model = MODELS[family]()
    for size_hw in ((96, 80), (60, 120)):
        grey, mask = chest(0, size_hw)
        (one,) = encode_examples(model, [Example("a", 0, grey, mask.astype(np.uint8))])
        logits = torch.nn.functional.avg_pool2d(one.target.any(0)[None, None].float() * 20 - 10, 2)
        if family != "lung-compact":
            logits = torch.nn.functional.avg_pool2d(logits, 2)
        back = model.to_slice(logits.numpy(), size_hw)[0, 0] > 0
        assert 2 * np.sum(back & mask) / (back.sum() + mask.sum()) > 0.97


# ---- the loss


def test_the_loss_is_monais_on_the_prompted_token():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 1, 256, 256), torch.zeros(2, 2, 256, 256)
    target[:, 0, 40:90, 40:90], target[:, 1, 40:90, 140:190] = 1, 1
    both = target.amax(1, keepdim=True)
    for kind, sigmoid in (("sigmoid", True), ("raw_logits", False)):
        loss = TuningLoss(kind)((logits, torch.zeros(2, 1)), target, torch.tensor([True, False]))
        assert float(loss) == pytest.approx(float(DiceFocalLoss(sigmoid=sigmoid)(logits, both)), rel=1e-6)


def test_right_and_left_tokens_count_only_where_the_reference_tells_the_sides():
    torch.manual_seed(0)
    target = torch.zeros(1, 2, 256, 256)
    target[:, 0, 40:90, 40:90] = 1
    for sides_known in (True, False):
        logits = torch.randn(1, 4, 64, 64, requires_grad=True)
        loss = TuningLoss("sigmoid")((logits, torch.zeros(1, 4)), target, torch.tensor([sides_known]))
        loss.backward()
        has_gradient = logits.grad.abs().amax((0, 2, 3)) > 0
        assert has_gradient.tolist() == [True, sides_known, sides_known, True]


def test_sides_are_known_only_of_two_lungs_with_the_right_one_at_the_left_of_the_picture():
    model, (good,) = MODELS["sam"](), examples(1)
    swapped = np.where(good.labels_hw > 0, 3 - good.labels_hw, 0).astype(np.uint8)
    single = np.where(good.labels_hw == 1, good.labels_hw, 0).astype(np.uint8)
    variants = [good, *(Example("a", 0, good.grey_hw, labels) for labels in (swapped, single))]
    assert [one.sides_known for one in encode_examples(model, variants)] == [True, False, False]


# ---- the training


@pytest.mark.parametrize(("family", "kind"), [("lung-compact", "points"), ("sam", "both"), ("medsam", "box")])
def test_gradients_reach_the_mask_decoder_and_nothing_else(family, kind, tmp_path, monkeypatch):
    model = MODELS[family]()
    network = model.network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    encoded = encode_examples(model, examples(4))
    monkeypatch.setattr(model, "encode", lambda slices: pytest.fail("a slice was encoded again"))
    policy = PromptPolicy(PromptRecipe(kind, TWO_POINTS if kind != "box" else ()))
    config = TuningConfig(epochs=1, learning_rate=1e-3)
    tuned = tune_decoder(model, encoded[:2], encoded[2:], policy, config, tmp_path)
    others = [part for name, part in network.named_children() if name != "mask_decoder"]
    assert all(parameter.grad is None for part in others for parameter in part.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    changed = [name for name, value in tuned.state.items() if not torch.equal(value, before[f"mask_decoder.{name}"])]
    assert any("transformer" in name for name in changed) and any("hypernetworks" in name for name in changed)


def test_a_tuning_that_was_stopped_goes_on_and_gives_the_same_numbers(tmp_path, monkeypatch):
    model = MODELS["sam"]()
    encoded = encode_examples(model, examples(5))
    policy, config = PromptPolicy(PromptRecipe("both", TWO_POINTS)), TuningConfig(epochs=4, learning_rate=1e-3)
    whole = tune_decoder(model, encoded[:3], encoded[3:], policy, config, tmp_path / "whole")

    original, folder = Trainer.save, tmp_path / "stopped"

    def save_and_stop(self):
        original(self)
        if len(self.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        tune_decoder(model, encoded[:3], encoded[3:], policy, config, folder)
    monkeypatch.setattr(Trainer, "save", original)
    monkeypatch.setattr(Trainer, "train_epoch", counting(epochs := [], Trainer.train_epoch))
    resumed = tune_decoder(model, encoded[:3], encoded[3:], policy, config, folder)
    assert epochs == [2, 3]
    assert resumed.history == whole.history and resumed.epoch == whole.epoch
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.state.items())

    epochs.clear()
    tune_decoder(model, encoded[:2], encoded[3:], policy, config, folder)
    assert epochs == [0, 1, 2, 3], "other data: anew"


def counting(numbers, original):
    def epoch(self, number):
        numbers.append(number)
        original(self, number)

    return epoch


def test_training_stops_after_the_patience_and_keeps_the_best_epoch(tmp_path, monkeypatch):
    model = MODELS["sam"]()
    encoded = encode_examples(model, examples(3))
    dice = iter([0.5, 0.7, 0.6, 0.65, 0.69, 0.9])
    scripted = {dice_column(threshold): 0.1 for threshold in decoder.THRESHOLDS}
    monkeypatch.setattr(decoder.DecoderTask, "validate", lambda self: {**scripted, dice_column(0.6): next(dice)})
    policy = PromptPolicy(PromptRecipe("box"))
    tuned = tune_decoder(model, encoded[:2], encoded[2:], policy, TuningConfig(epochs=9, patience=3), tmp_path)
    assert (len(tuned.history), tuned.epoch, tuned.threshold) == (5, 1, 0.6)


def test_the_lowest_of_equal_thresholds_is_taken():
    row = {dice_column(threshold): 0.8 for threshold in decoder.THRESHOLDS} | {dice_column(0.5): 0.7}
    assert TunedDecoder({}, [row], 0).threshold == 0.55


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"learning_rate": 0.0}, {"loss": "dice"}, {"patience": -1}, {"weight_decay": float("inf")}],
    ids=str,
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(SettingsError, match=r"Tuning: \w+ is .*, expected|no loss"):
        TuningConfig(**wrong)


# ---- data


def test_the_split_holds_a_fifth_out_whatever_the_order_and_never_overlaps():
    names = [f"image_{number}" for number in range(40)]
    split = split_by_name(names)
    assert split == split_by_name(names[::-1])
    assert [len(part) for part in (split.training, split.validation, split.held_out)] == [24, 8, 8]
    assert {*split.training, *split.validation, *split.held_out} == set(names)
    assert [len(part) for part in vars(split_by_name(names[:8])).values()] == [3, 2, 3]
    with pytest.raises(VolumeError, match="There are 7 images with masks; tuning needs at least 8"):
        split_by_name(names[:7])


def test_of_volumes_evenly_spread_slices_with_lung_are_taken(tmp_path):
    hu, labels = np.full((12, 32, 32), 40, np.int16), np.zeros((12, 32, 32), np.uint8)
    labels[3:10, 8:24, 4:12], labels[3:10, 8:24, 20:28] = 2, 1
    hu[labels > 0] = -800
    for folder, array in (("images", hu), ("masks", labels)):
        (tmp_path / folder).mkdir()
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((2.0, 1.0, 5.0))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # stored from left to right and from back to front
        sitk.WriteImage(image, str(tmp_path / folder / "case.nii.gz"))
    cases = paired_cases(tmp_path / "images", tmp_path / "masks")
    found = read_examples(cases, Windowing(), slices_each=3)
    assert [one.number for one in found] == [3, 6, 9]
    middle = found[1]
    assert middle.grey_hw[middle.lung_hw].max() < middle.grey_hw[~middle.lung_hw].min()
    assert np.nonzero(middle.labels_hw == 1)[1].mean() < np.nonzero(middle.labels_hw == 2)[1].mean()


def test_images_are_drawn_at_256_for_the_study():
    found = read_examples_of_array(*chest(0, (100, 200)), side=256)
    assert found.grey_hw.shape == found.labels_hw.shape == (256, 256)
    assert found.lung_hw.mean() == pytest.approx(chest(0, (100, 200))[1].mean(), abs=0.005)


def read_examples_of_array(grey, mask, side):
    from SAMLungSegLib.training.data.examples import _resized

    labels = mask * np.where(np.arange(mask.shape[1]) < mask.shape[1] // 2, 1, 2)
    return _resized(Example("a", 0, grey, labels.astype(np.uint8)), side)


# ---- the verdict


def test_a_comparison_tells_difference_interval_and_certainty():
    before = pd.Series([0.80, 0.82, 0.84, 0.81, 0.83, 0.85, 0.80, 0.82])
    better = compared(before, before + 0.02 + 0.001 * np.arange(8))
    assert better.difference == pytest.approx(0.0235)
    assert 0.02 < better.low < 0.0235 < better.high < 0.027
    assert better.p_value == pytest.approx(2 / 2**8) and better.is_certain  # all 8 of one sign, both tails
    few = compared(before[:4], before[:4] + 0.02 + 0.001 * np.arange(4))
    assert few.is_better and not few.is_certain and "may be chance" in few.to_text()
    assert "fewer than 6 are never sure" in few.to_text() and "never sure" not in better.to_text()
    one = compared(before[:1], before[:1] + 0.02)
    assert "difference +0.0200 (one has no interval; may be chance" in one.to_text() and "95 %" not in one.to_text()
    same = compared(before, before)
    assert not same.is_better and same.p_value == 1 and "no improvement" in same.to_text()


def tune_command(folder, *more):
    folders = ("--images", str(folder / "images"), "--masks", str(folder / "masks"))
    return main(["tune", *folders, "--device", "cpu", *more])


def test_a_decoder_that_is_better_is_adopted_with_its_card_and_pictures(tmp_path, monkeypatch, capsys):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    data, out = write_set(tmp_path / "data", 10), tmp_path / "out"
    options = ("--model", "sam-vit-b", "--epochs", "4", "--learning-rate", "1e-3")
    assert tune_command(data, "-o", str(out), *options) == 0
    text = capsys.readouterr().out
    assert "Adopted" in text and "Dice on 3 held-out images" in text and "--weights" in text
    expected = {"comparison.png", "learning_curve.png", "held_out.csv", "history.csv", "comparison.json", "run"}
    assert {path.name for path in out.iterdir()} == expected | {"sam-vit-b-tuned.safetensors", "sam-vit-b-tuned.json"}
    table = pd.read_csv(out / "held_out.csv")
    model = load_model("sam-vit-b", weights=out / "sam-vit-b-tuned.safetensors", device="cpu")
    for row in table.itertuples():
        grey, mask = chest(int(row.image.removeprefix("chest_")))
        prediction = model.decode(model.encode([grey])[0], PromptSet()).logits > 0
        score = 2 * np.sum(prediction & mask) / (prediction.sum() + mask.sum())
        assert score == pytest.approx(row.dice_after, abs=0.01)  # embeddings were rounded to float16
    assert tune_command(data, "-o", str(out), *options) == 2
    assert "add --overwrite" in capsys.readouterr().err


def test_a_decoder_that_is_not_better_is_not_written_and_the_command_ends_well(tmp_path, monkeypatch, capsys):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    data, out = write_set(tmp_path / "data", 8), tmp_path / "out"
    options = ("--model", "sam-vit-b", "--prompts", "box", "--epochs", "1", "--learning-rate", "1e-9")
    assert tune_command(data, "-o", str(out), *options) == 0
    assert "Not adopted" in capsys.readouterr().out
    assert (out / "comparison.png").is_file() and not list(out.glob("*.safetensors"))


@pytest.mark.parametrize("kind", ["none", "points"])
def test_lung_compact_learns_another_readers_borders_and_still_tells_the_sides(kind, tmp_path, capsys):
    data, out = write_set(tmp_path / "data", 8), tmp_path / "out"
    for number in range(8):
        narrower = ndimage.binary_erosion(chest(number)[1], iterations=4)
        write_png(data / "masks" / f"chest_{number:02d}.png", narrower.astype(np.uint8) * 255)
    assert tune_command(data, "-o", str(out), "--prompts", kind, "--epochs", "6") == 0
    assert "Adopted" in capsys.readouterr().out
    table = pd.read_csv(out / "held_out.csv")
    assert (table["dice_after"] > table["dice_before"] + 0.02).all()
    model = load_model(weights=out / "lung-compact-tuned.safetensors", device="cpu")
    grey, mask = chest(99)
    sides = [*model.decode(model.encode([grey])[0], PromptSet()).structure_logits.values()]
    right = (sides[0] >= sides[1])[mask]
    assert right[np.nonzero(mask)[1] < 40].mean() > 0.95 > 0.05 > right[np.nonzero(mask)[1] >= 40].mean()


# ---- bad input


def test_bad_folders_and_masks_are_refused_in_one_line(tmp_path, capsys):
    data = write_set(tmp_path / "data", 8)
    out = ("-o", str(tmp_path / "out"))
    assert tune_command(tmp_path / "none", *out) == 2
    assert "is not a folder" in capsys.readouterr().err

    few = write_set(tmp_path / "few", 5)
    assert tune_command(few, *out) == 2
    assert "There are 5 images" in capsys.readouterr().err

    (data / "masks" / "chest_03.png").rename(data / "masks" / "other.png")
    assert tune_command(data, *out) == 2
    assert "image" in (text := capsys.readouterr().err) and "no partner" in text
    (data / "masks" / "other.png").rename(data / "masks" / "chest_03.png")

    write_png(data / "masks" / "chest_03.png", np.zeros((96, 80), np.uint8))
    assert tune_command(data, *out) == 2
    assert "chest_03.png is empty" in capsys.readouterr().err

    write_png(data / "masks" / "chest_03.png", np.ones((40, 40), np.uint8))
    assert tune_command(data, *out) == 2
    assert "chest_03" in (text := capsys.readouterr().err) and text.count("\n") == 1


def test_empty_folders_are_refused(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert tune_command(tmp_path, "-o", str(tmp_path / "out")) == 2
    assert "0 image(s) and 0 mask(s)" in capsys.readouterr().err

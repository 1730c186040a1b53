"""The quality study on sets whose masks hold whole lungs, with places that nobody knows."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import PromptError, VolumeError
from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.studies.quality.references import drawing_extent, reference_slices
from SAMLungSegLib.studies.quality.study import CORRUPTIONS, accuracy_table, measure_quality
from SAMLungSegLib.training.data.cases import study_cases

SIZE = (80, 100)
VISIBLE = np.zeros(SIZE, bool)
VISIBLE[20:60, 10:40] = VISIBLE[20:60, 60:90] = True
WHOLE = VISIBLE.copy()
WHOLE[60:70, 10:40] = WHOLE[60:70, 60:90] = True  # 3000 pixels, of which 2400 are visible
DEVICE = np.zeros(SIZE, bool)
DEVICE[20:40, 60:90] = True  # 600 pixels


class KnowsExtents(PromptableModel):
    """Predicts the visible lungs or the whole ones, as it is told."""

    name, device = "extents", torch.device("cpu")

    def __init__(self, extents=("visible", "whole")):
        self.capabilities = Capabilities(needs_prompt=False, extents=extents)

    def encode(self, views):
        return [Embedding((), ModelView.of(one).grey_hw.shape) for one in views]

    def decode(self, embedding, prompts):
        mask = WHOLE if prompts.extent == "whole" else VISIBLE
        if embedding.size_hw != SIZE:  # a corrupted image
            mask = np.ones(embedding.size_hw, bool)
        logits = np.where(mask, 5.0, -5.0).astype(np.float32)
        return Prediction(logits, 1.0, logits)


def write_set(folder, mask, names=("one",)):
    for kind, array in (("images", WHOLE * np.uint8(200)), ("masks", mask.astype(np.uint8))):
        (folder / kind).mkdir(parents=True)
        for name in names:
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / kind / f"{name}.png"))
    return folder


@pytest.fixture
def whole_set(tmp_path):
    """Whole lungs, 1, half of the left one under a device, 2."""
    return write_set(tmp_path / "cxr_v7_covid", WHOLE + DEVICE.astype(np.uint8))


def test_a_device_in_masks_of_whole_lungs_is_neither_lung_nor_background(whole_set):
    (one,) = reference_slices(study_cases(whole_set)[0])
    assert np.array_equal(one.lung_hw, WHOLE & ~DEVICE) and np.array_equal(one.ignored_hw, DEVICE)
    assert one.dice(WHOLE) == one.dice(WHOLE & ~DEVICE) == one.jaccard(WHOLE) == 1
    assert one.dice(VISIBLE) == pytest.approx(2 * 1800 / (2400 + 1800))
    assert np.array_equal(one.wrong_in(VISIBLE), WHOLE & ~VISIBLE)


def test_in_masks_of_other_sets_every_value_is_lung(tmp_path):
    (one,) = reference_slices(study_cases(write_set(tmp_path / "cxr_mine", WHOLE + DEVICE.astype(np.uint8)))[0])
    assert np.array_equal(one.lung_hw, WHOLE) and not one.ignored_hw.any()


def test_whole_lungs_are_measured_against_masks_of_whole_lungs(whole_set):
    quality = measure_quality(study_cases(whole_set), KnowsExtents(), extent="whole")
    row = accuracy_table(quality.images).iloc[0]
    assert (row["subset"], row["extent"], row["images"]) == ("cxr_v7_covid", "whole", 1)
    assert row["dice_mean"] == row["jaccard_mean"] == 1
    assert quality.clicks["dice"].tolist() == [1] * 11 and quality.corrections["dice"].item() == 1
    padded = quality.corrupted.set_index("corruption").loc["black margins of a quarter", "dice"]
    assert padded == pytest.approx(2 * 2400 / (120 * 150 - 600 + 2400)), "what is ignored moves with the image"
    assert len(quality.corrupted) == len(CORRUPTIONS)


def test_a_model_without_whole_lungs_is_refused(whole_set):
    with pytest.raises(PromptError, match="does not predict whole lungs"):
        measure_quality(study_cases(whole_set), KnowsExtents(("visible",)), extent="whole")


def test_sets_are_measured_for_what_their_masks_hold(tmp_path, whole_set):
    for name in ("cxr_montgomery", "cxr_mine", "ct_kmader"):
        write_set(tmp_path / name, VISIBLE)
    cases = study_cases(tmp_path)
    kept = {extent: {case.subset for case in drawing_extent(cases, extent)} for extent in ("visible", "whole")}
    assert kept["visible"] == {"cxr_montgomery", "cxr_mine", "ct_kmader"}
    assert kept["whole"] == {"cxr_mine", "cxr_v7_covid"}, "of one's own images the option says it"
    with pytest.raises(VolumeError, match=r"No masks of cxr_v7_covid hold the visible lung fields.*--extent whole"):
        drawing_extent(study_cases(whole_set), "visible")


def test_images_without_lung_are_told(tmp_path):
    empty = write_set(tmp_path / "cxr_mine", np.zeros(SIZE, bool))
    with pytest.raises(VolumeError, match="None of the 1 images has a slice with lung"):
        measure_quality(study_cases(empty), KnowsExtents())


def test_the_command_says_that_no_set_has_whole_lungs(tmp_path, capsys):
    write_set(tmp_path / "cxr_montgomery", VISIBLE)
    assert main(["study", "quality", str(tmp_path), "-o", str(tmp_path / "out"), "--extent", "whole"]) != 0
    assert "No masks of cxr_montgomery hold whole lungs" in capsys.readouterr().err

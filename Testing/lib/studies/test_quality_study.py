"""How good a model is: tables by hand, corrupted images, the whole study on a generated X-ray."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.models import load_model
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.studies.quality.corruptions import CORRUPTIONS
from SAMLungSegLib.studies.quality.report import write_quality_report
from SAMLungSegLib.studies.quality.study import (
    accuracy_table,
    bottom_decile,
    calibration_table,
    corrupted_table,
    measure_quality,
)
from SAMLungSegLib.training.data.cases import study_cases

MOVING = {
    "turned by 10 degrees",
    "turned by 25 degrees",
    "lying on the side (90 degrees)",
    "a tenth cut off each side",
    "black margins of a quarter",
    "collimated, black border",
}


def images(dice, predicted_iou=None):
    return pd.DataFrame(
        {
            "subset": "set",
            "extent": "visible",
            "image": [f"image_{number}" for number in range(len(dice))],
            "dice": dice,
            "jaccard": [value / (2 - value) for value in dice],
            "predicted_iou": predicted_iou or [0.9] * len(dice),
        }
    )


# ---- tables


def test_the_bottom_decile_is_a_tenth_of_the_images_but_one_at_least():
    assert bottom_decile(np.arange(1.0, 21.0)) == 1.5
    assert bottom_decile(np.array([0.9, 0.5, 0.7])) == 0.5


def test_the_accuracy_table_has_mean_spread_and_extremes():
    row = accuracy_table(images([0.8, 1.0])).iloc[0]
    assert (row["images"], row["dice_mean"], row["dice_min"], row["dice_worst_tenth"]) == (2, 0.9, 0.8, 0.8)
    assert row["dice_sd"] == pytest.approx(0.1 * 2**0.5)
    assert row["jaccard_mean"] == pytest.approx((0.8 / 1.2 + 1) / 2)


def test_a_flag_counts_what_it_finds():
    table = calibration_table(images([0.5, 0.9, 0.99, 0.98], [0.7, 0.95, 0.84, 0.99])).set_index("predicted IoU below")
    row = table.loc[0.85]
    assert row["flagged"] == 2
    assert row["dice_flagged"] == pytest.approx((0.5 + 0.99) / 2)
    assert row["dice_others"] == pytest.approx((0.9 + 0.98) / 2)
    assert row["poor_found"] == 0.5, "two are poor, one of them is flagged"


# ---- corrupted images


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda corruption: corruption.name)
def test_a_spoilt_image_keeps_its_kind_and_its_mask_stays_on_it(corruption):
    mask = np.zeros((120, 100), bool)
    mask[20:90, 15:45] = True
    grey = np.where(mask, 200, 40).astype(np.uint8)
    corrupted, lung = corruption.change(grey, mask, np.random.default_rng(0))
    assert corrupted.dtype == np.uint8 and lung.dtype == bool and corrupted.shape == lung.shape
    assert not np.array_equal(corrupted, grey)
    if corruption.name in MOVING:
        assert np.mean((corrupted > 120) == lung) > 0.98
    else:
        assert corruption.name.startswith("collimated") or np.array_equal(lung, mask)


def test_the_table_of_spoilt_images_is_in_the_order_of_the_corruptions():
    names = [CORRUPTIONS[4].name, CORRUPTIONS[0].name, CORRUPTIONS[4].name]
    corrupted = pd.DataFrame({"subset": "set", "corruption": names, "loss": [0.1, 0.2, 0.3]})
    table = corrupted_table(corrupted)
    assert table["corruption"].tolist() == [CORRUPTIONS[0].name, CORRUPTIONS[4].name]
    assert table["set"].tolist() == pytest.approx([0.2, 0.2])


# ---- the whole


@pytest.mark.slow
def test_a_model_is_measured_and_reported_on_a_generated_xray(tmp_path):
    image, labelmap = chest_xray(chest_ct(seed=1, size_kji=(32, 96, 96), spacing_mm=(10.0, 4.0, 4.0)), (160, 160))
    for kind, array in (("images", image), ("masks", (labelmap > 0).astype(np.uint8) * 255)):
        (tmp_path / "cxr_own" / kind).mkdir(parents=True)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "cxr_own" / kind / "one.png"))
    cases, model = study_cases(tmp_path), load_model("lung-compact", device="cpu")
    quality = measure_quality(cases, model)
    assert quality.images["dice"].item() > 0.8
    assert quality.clicks["clicks"].tolist() == list(range(11))
    assert len(quality.corrupted) == len(CORRUPTIONS)
    assert np.allclose(quality.corrupted["loss"], quality.images["dice"].item() - quality.corrupted["dice"])
    files = write_quality_report(quality, tmp_path / "report", basis="Model x.", cases=cases, model=model)
    assert all(path.stat().st_size > 0 for path in files)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Model x." in page and page.count("data:image/png") == 4
    assert "What clicks and masks do" in page and "all_of_3_obeyed" in page
    table = pd.read_csv(tmp_path / "report" / "corrections.csv")
    assert table.columns[:3].tolist() == ["subset", "predictions", "images"]
    assert table["first_obeyed"].tolist() == [1.0] * len(table)
